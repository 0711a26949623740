//! What slon does by the clock: SYNC events, cleanup, log switch, monitoring.

use std::time::Duration;

use trunkline_tests::{Cluster, PATIENCE, wait_until};

const TABLE: &str = "create table counted (id int primary key, v text)";

/// One node, a set with one table, a slon with these options.
async fn origin(test: &str, options: &[&str]) -> Cluster {
    let cluster = Cluster::new(test, 1).await;
    cluster.run(1, TABLE).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &["public.counted"], &[]).await;
    cluster.start_slon_with(1, options);
    wait_until("the first SYNC", PATIENCE, async || {
        let log = cluster.with_slon(1, |slon| slon.log());
        if log.contains("(First, ") { Ok(()) } else { Err(log) }
    })
    .await;
    cluster
}

async fn syncs(cluster: &Cluster) -> i64 {
    let statement = cluster.sql("select count(*) from @NAMESPACE@.sl_event where ev_origin = 1 and ev_type = 'SYNC'");
    cluster.connect(1).await.value(&statement).await
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_by_change_and_by_time() {
    let cluster = origin("bytime", &["-d", "2", "-s", "100", "-t", "300"]).await;
    let before = syncs(&cluster).await;
    wait_until("five SYNCs of an idle node", PATIENCE, async || {
        let now = syncs(&cluster).await;
        if now >= before + 5 {
            Ok(())
        } else {
            Err(format!("{before}, now {now}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_long_after_the_change_gets_its_sync() {
    // No SYNC by time helps here.
    let cluster = origin("late", &["-d", "2", "-t", "0"]).await;
    let writer = cluster.connect(1).await;
    let visible = cluster.sql(
        "select exists (select from @NAMESPACE@.sl_event e, (select log_txid from @NAMESPACE@.sl_log_1 \
         union all select log_txid from @NAMESPACE@.sl_log_2 order by 1 desc limit 1) l \
         where e.ev_type = 'SYNC' and pg_catalog.txid_visible_in_snapshot(l.log_txid, e.ev_snapshot))",
    );
    for (number, savepoint) in [(1, false), (2, true), (3, false)] {
        let before = syncs(&cluster).await;
        writer.run("begin").await;
        if savepoint {
            writer.run("savepoint a").await;
        }
        writer
            .run(&format!("insert into counted values ({number}, 'late')"))
            .await;
        wait_until("the SYNC that comes too early", PATIENCE, async || {
            if syncs(&cluster).await > before {
                Ok(())
            } else {
                Err(before.to_string())
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        writer.run("commit").await;
        wait_until("a SYNC that sees the commit", Duration::from_secs(10), async || {
            if cluster.connect(1).await.value(&visible).await {
                Ok(())
            } else {
                Err(cluster.with_slon(1, |slon| slon.log()))
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_and_log_switch_keep_the_tables_small() {
    let cluster = origin("cleanup", &["-d", "2", "-t", "500", "--cleanup-interval=2", "-c", "1"]).await;
    let node = cluster.connect(1).await;
    node.run("insert into counted select i, 'x' from generate_series(1, 1000) i")
        .await;
    let rows =
        cluster.sql("select (select count(*) from @NAMESPACE@.sl_log_1) + (select count(*) from @NAMESPACE@.sl_log_2)");
    assert_eq!(node.value::<i64>(&rows).await, 1000);
    wait_until("the log is emptied", PATIENCE, async || {
        let left: i64 = node.value(&rows).await;
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left}\n{}", cluster.with_slon(1, |slon| slon.log())))
        }
    })
    .await;
    let old = cluster.sql(
        "select count(*) from @NAMESPACE@.sl_event where ev_type = 'SYNC' and ev_timestamp < now() - interval '20 s'",
    );
    assert_eq!(node.value::<i64>(&old).await, 0);
    let log = cluster.with_slon(1, |slon| slon.log());
    assert!(log.contains(" seconds for cleanupEvent()\n"), "{log}");
    assert!(
        log.contains(" seconds for vacuuming ") || log.contains(" seconds for analyzing "),
        "{log}"
    );
    assert!(!log.contains("is left out"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn components_say_what_they_do() {
    let cluster = Cluster::new("components", 2).await;
    cluster.establish().await;
    cluster.caught_up().await;
    let node = cluster.connect(1).await;
    let pid = cluster.with_slon(1, |slon| slon.pid());
    let statement = cluster.sql(&format!(
        "select co_actor from @NAMESPACE@.sl_components where co_pid = {pid} and co_activity <> '' order by 1"
    ));
    wait_until("rows of all parts", PATIENCE, async || {
        let actors: Vec<String> = node.column(&statement).await;
        let expected = [
            "local_cleanup",
            "local_listen",
            "local_monitor",
            "local_sync",
            "remoteWorkerThread_2",
        ];
        if expected.iter().all(|actor| actors.iter().any(|found| found == actor)) {
            Ok(())
        } else {
            Err(format!("{actors:?}"))
        }
    })
    .await;
}
