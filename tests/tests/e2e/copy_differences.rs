//! A copy that keeps what is equal: right under load, and quick.

use std::time::Duration;

use trunkline_tests::{Cluster, PATIENCE, Writers, test_seed, wait_until};

/// Copies of set 1 that the slon of node 2 has logged.
fn copies(cluster: &Cluster) -> usize {
    cluster.with_slon(2, |slon| slon.log().matches("copy_set 1 done in ").count())
}

/// Has the next copy of set 1 to node 2 keep its rows.
async fn keep_rows(cluster: &Cluster) {
    cluster
        .run(
            2,
            &cluster.sql("insert into @NAMESPACE@.tl_keep_rows (kr_set) values (1)"),
        )
        .await;
}

#[tokio::test]
async fn a_copy_that_keeps_rows_is_right_under_load_whatever_was_there() {
    let seed = test_seed("a_copy_that_keeps_rows_is_right_under_load_whatever_was_there");
    let cluster = Cluster::new("keep_rows", 2).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    let writers = Writers::start(&cluster, &[1], 2, Duration::from_millis(4), seed);
    cluster.subscribe(1, 1, 1, 2).await;
    for strange in [
        "update accounts set balance = balance + 1 where id % 7 = 0; delete from accounts where id % 11 = 0;
         insert into accounts values (-1, 'nobody', 0); delete from pairs where label in ('label 0-1', 'label 0-2');
         insert into pairs values (-1, -1, 'label 0-1'), (-2, -2, 'label 0-2')",
        "truncate accounts; update journal set id = id + 1000000 where id % 2 = 0",
        "select 1",
    ] {
        cluster.unsubscribe(1, 2).await;
        cluster.run(2, strange).await;
        keep_rows(&cluster).await;
        cluster.subscribe(1, 1, 1, 2).await;
    }
    // A copy is logged after its commit.
    wait_until("node 2 to have logged four copies", PATIENCE, async || {
        let logged = copies(&cluster);
        if logged == 4 {
            Ok(())
        } else {
            Err(format!("{logged} so far"))
        }
    })
    .await;
    writers.finish().await;
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn a_copy_of_differences_transfers_what_differs_and_nothing_else() {
    let cluster = Cluster::new("fraction", 2).await;
    cluster
        .run_on_all(
            "create table documents (id bigint primary key, owner text not null, changed timestamptz not null, body text);
             create index documents_owner on documents (owner); create index documents_changed on documents (changed)",
        )
        .await;
    // Workers that build an index together write temporary files, which are not the subject here.
    cluster
        .run_on_all(
            "do $$ begin if current_setting('server_version_num')::int >= 110000 then
               execute format('alter database %I set max_parallel_maintenance_workers = 0', current_database());
             end if; end $$",
        )
        .await;
    let rows = 40_000;
    let every = 40;
    let changed = rows / every;
    cluster
        .run(
            1,
            &format!(
                "insert into documents select i, 'owner ' || i::bigint * 7919 % 100000, timestamptz '2026-01-01' + i * interval '1 second',
                        repeat(md5(i::text), 28) from generate_series(1, {rows}) i"
            ),
        )
        .await;
    cluster.run(1, "analyze documents").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."documents""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.unsubscribe(1, 2).await;
    cluster
        .run(1, &format!("update documents set owner = 'new' where id % {every} = 0"))
        .await;
    keep_rows(&cluster).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let log = cluster.with_slon(2, |slon| slon.log());
    let line = log
        .lines()
        .find(|line| line.contains("rows differed"))
        .expect("slon compared the table");
    // Beside other tests times say little (`make rejoin-figures` takes them); what travelled says the same.
    let moved = format!("{changed} deleted, {changed} copied");
    assert!(line.contains(&moved), "{line}");
    let looked_at: i64 = line
        .split_once("found among ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .expect("slon says how many rows it looked at");
    assert!(looked_at <= 2 * 20 * changed, "{line}");
    // And no server wrote the table to disk once more to group its rows.
    for node in [1, 2] {
        let written: i64 = cluster
            .connect(node)
            .await
            .value("select temp_bytes from pg_stat_database where datname = current_database()")
            .await;
        assert!(written < 1 << 20, "{written} bytes of temporary files on node {node}");
    }
    cluster.assert_all_equal().await;
}
