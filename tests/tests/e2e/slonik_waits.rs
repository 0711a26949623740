//! Waiting: for a copy, for whoever stands in the way, and saying who that is.

use std::time::Duration;

use trunkline_tests::{Cluster, wait_until};

const TABLES: [&str; 1] = [r#""public"."item""#];

async fn with_set(test: &str, nodes: i32) -> Cluster {
    let cluster = Cluster::new(test, nodes).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster
        .run(1, "insert into item select i, 'v' || i from generate_series(1, 1000) i")
        .await;
    cluster
}

const SUBSCRIBE: &str = "subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);\n";

#[tokio::test(flavor = "multi_thread")]
async fn wait_for_event_after_subscribe_set_waits_for_the_copy() {
    let cluster = with_set("wait_copy", 2).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    // The copy needs the table for itself.
    let reader = cluster.connect(2).await;
    reader.run("begin; lock table item in access exclusive mode").await;
    cluster
        .slonik(&format!(
            "{SUBSCRIBE}wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 3);\n"
        ))
        .await
        .fails()
        .says("to be confirmed on node 2")
        .says("timeout exceeded while waiting for event confirmation");
    reader.run("rollback").await;
    cluster
        .slonik("wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    assert_eq!(
        cluster.connect(2).await.value::<i64>("select count(*) from item").await,
        1000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_names_the_table_that_is_missing_on_the_subscriber() {
    let cluster = with_set("wait_missing", 2).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.run(2, "drop table item").await;
    let run = cluster
        .slonik(&format!(
            "{SUBSCRIBE}wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 15);\n"
        ))
        .await
        .fails();
    let line = run
        .stdout
        .lines()
        .find(|line| line.contains("item") && line.contains("node 2"));
    assert!(
        line.is_some_and(|line| line.contains("does not exist")),
        "{}",
        run.transcript()
    );
    cluster.run(2, "create table item (id int primary key, v text)").await;
    cluster
        .slonik("wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_says_that_nobody_serves_a_node() {
    let cluster = with_set("wait_no_slon", 2).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon(1);
    cluster
        .slonik("sync (id = 1);\nwait for event (origin = 1, confirmed = all, wait on = 1, timeout = 3);\n")
        .await
        .fails()
        .says("no slon serves node 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_waits_by_itself_and_goes_on_when_the_slons_start() {
    let cluster = with_set("wait_automatic", 2).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    let script = "create set (id = 1, origin = 1);\n\
                  set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public.item');\n\
                  subscribe set (id = 1, provider = 1, receiver = 2);\n\
                  wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n";
    let (run, ()) = tokio::join!(cluster.slonik(script), async {
        let node = cluster.connect(1).await;
        let waiting = cluster.sql("select count(*) from @NAMESPACE@.sl_table");
        wait_until(
            "the script came to `subscribe set`",
            Duration::from_secs(30),
            async || match node.value::<i64>(&waiting).await {
                1 => Ok(()),
                count => Err(format!("{count} tables")),
            },
        )
        .await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        cluster.start_slon(1);
        cluster.start_slon(2);
    });
    run.succeeds().says("waiting for events  (2,");
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_set_names_the_transactions_it_waits_for() {
    let cluster = with_set("wait_lock", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.run(1, "create table other (id int)").await;

    // A transaction that wrote to a table of the set holds up the lock itself.
    let writer = cluster.connect(1).await;
    writer.run("begin; update item set v = 'mine' where id = 1").await;
    let (run, ()) = tokio::join!(cluster.slonik("lock set (id = 1, origin = 1);\n"), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.run("commit").await;
    });
    run.succeeds().says("update item set v = 'mine'");
    cluster.slonik("unlock set (id = 1, origin = 1);\n").await.succeeds();

    // One that wrote elsewhere is older than the lock.
    writer.run("begin; insert into other values (42)").await;
    let (run, ()) = tokio::join!(cluster.slonik("lock set (id = 1, origin = 1);\n"), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.run("commit").await;
    });
    run.succeeds()
        .says("insert into other values (42)")
        .says("idle in transaction");
    assert!(
        writer
            .try_run("insert into item values (5000, 'too late')")
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_set_waits_for_the_copies() {
    let cluster = with_set("wait_merge", 2).await;
    cluster.run_on_all("create table more (id int primary key)").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.create_set(2, 1, &[r#""public"."more""#], &[]).await;
    let reader = cluster.connect(2).await;
    reader.run("begin; lock table more in access exclusive mode").await;
    let script = "subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);\n\
                  merge set (id = 1, add id = 2, origin = 1);\n\
                  wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n";
    let (run, ()) = tokio::join!(cluster.slonik(script), async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        reader.run("rollback").await;
    });
    run.succeeds()
        .says("subscription in progress before mergeSet. waiting")
        .says("set 2 is still being copied to node 2");
    cluster.assert_all_equal().await;
}
