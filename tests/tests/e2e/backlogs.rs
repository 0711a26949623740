//! Windows of many chunks: read ahead, folded while the server works, forwarded by a second session.

use std::time::Duration;

use rand::Rng;
use trunkline_tests::{Cluster, PATIENCE, test_seed, wait_until};

const TABLES: &str = "create table item (id int primary key, a int, v text);
                      create table hot (id int primary key, n int);
                      create table pair (id int primary key, u int unique)";
const NAMES: [&str; 3] = [r#""public"."item""#, r#""public"."hot""#, r#""public"."pair""#];

/// Node 1 feeds 2, which feeds 3.
async fn chain(test: &str) -> Cluster {
    let cluster = Cluster::new(test, 3).await;
    cluster.run_on_all(TABLES).await;
    cluster
        .run(1, "insert into hot select i, 0 from generate_series(1, 5) i")
        .await;
    cluster
        .run(1, "insert into pair select i, i from generate_series(1, 40000) i")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &NAMES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
}

/// Sixty thousand changes in one transaction: more than two chunks hold.
const MANY: &str = "begin;
    insert into item select i, i, 'row ' || i from generate_series(1, 30000) i;
    update item set a = a + 1 where id % 2 = 0;
    update hot set n = n + 1;
    delete from item where id % 3 = 0;
    update hot set n = n + 1;
    insert into item select i, null, null from generate_series(3, 3000, 3) i;
    commit";

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_many_chunks_reaches_the_subscriber_of_a_subscriber() {
    let cluster = chain("backlog").await;
    cluster.run(1, MANY).await;
    // Unique values passed on from row to row: the net change is refused, the rows are applied in their order.
    cluster
        .run(
            1,
            "begin; update pair set u = -u; update pair set u = 40001 + u where id % 2 = 0; commit",
        )
        .await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_rows_of_an_attempt_that_died_are_not_forwarded_twice() {
    let cluster = chain("leftovers").await;
    cluster.assert_all_equal().await;
    cluster.stop_slon(2);
    cluster.run(1, MANY).await;
    // As if slon 2 had died between the commits of its two sessions: part of the rows are in the log already.
    let (one, two) = (cluster.connect(1).await, cluster.connect(2).await);
    let columns = "log_origin, log_txid, log_tableid, log_actionseq, log_tablenspname, log_tablerelname, log_cmdtype,
                   log_cmdupdncols, log_cmdargs";
    let rows = one
        .column::<String>(&cluster.sql(
            "select format('(%s,%s,%s,%s,%L,%L,%L,%s,%L)', log_origin, log_txid, log_tableid, log_actionseq,
                           log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs)
               from @NAMESPACE@.sl_log_1 where log_origin = 1 order by log_actionseq desc limit 100",
        ))
        .await;
    assert_eq!(rows.len(), 100);
    two.run(&cluster.sql(&format!(
        "insert into @NAMESPACE@.sl_log_1 ({columns}) values {}",
        rows.join(",")
    )))
    .await;
    cluster.start_slon(2);
    cluster.assert_all_equal().await;
    let twice: i64 = two
        .value(&cluster.sql(
            "select count(*) from (select from @NAMESPACE@.sl_log_1 where log_origin = 1
                                    group by log_actionseq having count(*) > 1) as d",
        ))
        .await;
    assert_eq!(twice, 0, "log rows stored twice on node 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_window_is_forwarded_by_a_session_of_its_own() {
    let cluster = chain("beside").await;
    cluster.assert_all_equal().await;
    cluster.stop_slon(2);
    cluster.run(1, MANY).await;
    cluster.start_slon(2);
    cluster.assert_all_equal().await;
    let two = cluster.connect(2).await;
    let (logged, with_an_event): (i64, i64) = (
        two.value(&cluster.sql("select count(*) from @NAMESPACE@.sl_log_1 where log_origin = 1"))
            .await,
        two.value(&cluster.sql(
            "select count(*) from @NAMESPACE@.sl_log_1
              where log_origin = 1 and xmin::text in (select e.xmin::text from @NAMESPACE@.sl_event e where e.ev_origin = 1)",
        ))
        .await,
    );
    assert!(logged > 50_000, "{logged} rows in the log of node 2");
    assert_eq!(with_an_event, 0, "rows logged by the session that applied them");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_rows_of_a_group_that_fails_at_its_commit_are_removed_before_they_come_again() {
    let cluster = chain("commitfails").await;
    cluster.assert_all_equal().await;
    cluster.stop_slon(2);
    let two = cluster.connect(2).await;
    two.run(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not yet'; end $$;
         create constraint trigger refuse after insert on hot deferrable initially deferred
             for each row execute procedure refuse();
         alter table hot enable always trigger refuse",
    )
    .await;
    let refused = MANY.replace("commit", "insert into hot values (6, 0); commit");
    cluster.run(1, &refused).await;
    cluster.start_slon(2);
    // Committed by the session beside, while the one that applies cannot commit.
    let logged = cluster.sql("select count(*) from @NAMESPACE@.sl_log_1 where log_origin = 1");
    wait_until("log rows of a failed group on node 2", PATIENCE, async || {
        let rows: i64 = two.value(&logged).await;
        if rows > 50_000 {
            Ok(())
        } else {
            Err(format!("{rows} rows"))
        }
    })
    .await;
    two.run("drop trigger refuse on hot; drop function refuse()").await;
    cluster.assert_all_equal().await;
    let twice: i64 = two
        .value(&cluster.sql(
            "select count(*) from (select from @NAMESPACE@.sl_log_1 where log_origin = 1
                                    group by log_actionseq having count(*) > 1) as d",
        ))
        .await;
    assert_eq!(twice, 0, "log rows stored twice on node 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slon_killed_in_the_middle_of_a_backlog_loses_and_doubles_nothing() {
    let seed = test_seed("a_slon_killed_in_the_middle_of_a_backlog_loses_and_doubles_nothing");
    let mut random = seed.generator(1);
    let cluster = chain("backlogkill").await;
    cluster.stop_slon(2);
    cluster.run(1, MANY).await;
    cluster
        .run(
            1,
            "insert into item select i, i, repeat('y', 50) from generate_series(100001, 220000) i",
        )
        .await;
    for _ in 0..6 {
        cluster.start_slon(2);
        tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
        cluster.kill_slon(2);
    }
    cluster.start_slon(2);
    cluster.assert_all_equal().await;
}
