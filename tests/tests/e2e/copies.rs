//! First copies among other things that go on: other sets, moves, drops, cascades.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_tests::{Cluster, wait_until};

const TABLES: &str =
    "create table a (id bigserial primary key, v text); create table b (id bigint primary key, v text)";

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_one_set_loses_nothing_of_another() {
    let cluster = Cluster::new("copies", 2).await;
    cluster.run_on_all(TABLES).await;
    cluster
        .run(1, "insert into b select i, 'b' from generate_series(1, 2000) i")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."a""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (connection, stop) = (cluster.connect(1).await, Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                connection.run("insert into a (v) values ('x')").await;
            }
        }));
    }
    for _ in 0..4 {
        cluster.subscribe(2, 1, 1, 2).await;
        cluster.unsubscribe(2, 2).await;
    }
    cluster.subscribe(2, 1, 1, 2).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_does_not_move_while_a_copy_is_outstanding() {
    let cluster = Cluster::new("outstanding", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(3, "drop table b").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik("subscribe set (id = 1, provider = 1, receiver = 3, forward = yes); lock set (id = 1, origin = 1);")
        .await
        .succeeds();
    cluster
        .slonik("move set (id = 1, old origin = 1, new origin = 2);")
        .await
        .fails()
        .says("subscriptions in progress");
    cluster.slonik("unlock set (id = 1, origin = 1);").await.succeeds();
    cluster.run(3, "create table b (id bigint primary key, v text)").await;
    cluster.run(1, "insert into b values (1, 'one')").await;
    cluster.assert_all_equal().await;
    cluster.move_set(1, 1, 2).await;
    cluster.run(2, "insert into b values (2, 'two')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_feeds_others_keeps_forwarding() {
    let cluster = Cluster::new("feeding", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
        .slonik("subscribe set (id = 1, provider = 1, receiver = 2, forward = no);")
        .await
        .fails()
        .says("must forward");
    cluster.run(1, "insert into b values (1, 'one')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_set_ends_a_cascaded_copy_that_waits() {
    let cluster = Cluster::new("ended", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(3, "drop table b").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."a""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik("subscribe set (id = 1, provider = 2, receiver = 3, forward = yes);")
        .await
        .succeeds();
    let third = cluster.connect(3).await;
    let troubles = cluster.sql("select count(*) from @NAMESPACE@.tl_trouble where tr_message like '%does not exist%'");
    wait_until(
        "node 3 says what it lacks",
        Duration::from_secs(30),
        async || match third.value::<i64>(&troubles).await {
            0 => Err("no trouble yet".to_owned()),
            _ => Ok(()),
        },
    )
    .await;
    cluster
        .slonik(
            "drop set (id = 1, origin = 1); wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);",
        )
        .await
        .succeeds();
    cluster.subscribe(2, 1, 1, 3).await;
    cluster.run(1, "insert into a (v) values ('goes on')").await;
    cluster.assert_all_equal().await;
}
