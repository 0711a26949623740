//! Eight writers with random transactions while the cluster is worked on.

use std::time::Duration;

use trunkline_tests::{Cluster, Connection, PATIENCE, Writers, test_seed, wait_until};

/// Pause of each writer between transactions.
const PACE: Duration = Duration::from_millis(5);

async fn journal_grows(connection: &Connection, rows: i64) {
    let start: i64 = connection.value("select count(*) from journal").await;
    wait_until("new rows in the journal", PATIENCE, async || {
        let now: i64 = connection.value("select count(*) from journal").await;
        if now >= start + rows {
            Ok(())
        } else {
            Err(format!("{} of {rows}", now - start))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribe_unsubscribe_and_subscribe_again_under_load() {
    let seed = test_seed("subscribe_unsubscribe_and_subscribe_again_under_load");
    let cluster = Cluster::new("underload", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    let writers = Writers::start(&cluster, &[1], 8, PACE, seed);
    let origin = cluster.connect(1).await;
    journal_grows(&origin, 50).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    journal_grows(&origin, 50).await;
    cluster.unsubscribe(1, 3).await;
    journal_grows(&origin, 50).await;
    cluster.subscribe(1, 1, 1, 3).await;
    cluster.unsubscribe(1, 2).await;
    journal_grows(&origin, 50).await;
    cluster.subscribe(1, 1, 3, 2).await;
    journal_grows(&origin, 50).await;
    let outcome = writers.finish().await;
    cluster.assert_all_equal().await;
    for node in [1, 2, 3] {
        outcome.assert_nothing_lost(&cluster, node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_moves_under_load_lose_no_acknowledged_write() {
    let seed = test_seed("ten_moves_under_load_lose_no_acknowledged_write");
    let cluster = Cluster::new("moves", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    let writers = Writers::start(&cluster, &[1, 2, 3], 8, PACE, seed);
    // To the neighbour and back, then round over the cascaded node.
    for (from, to) in [
        (1, 2),
        (2, 1),
        (1, 2),
        (2, 1),
        (1, 2),
        (2, 3),
        (3, 1),
        (1, 3),
        (3, 2),
        (2, 1),
    ] {
        cluster.move_set(1, from, to).await;
        journal_grows(&cluster.connect(to).await, 20).await;
    }
    let outcome = writers.finish().await;
    cluster.assert_all_equal().await;
    for node in [1, 2, 3] {
        outcome.assert_nothing_lost(&cluster, node).await;
    }
}
