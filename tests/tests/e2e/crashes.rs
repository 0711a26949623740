//! `kill -9` of slon and of PostgreSQL while rows are copied and written.

use std::time::{Duration, Instant};

use rand::Rng;
use trunkline_tests::{Cluster, Writers, test_seed};

const PACE: Duration = Duration::from_millis(5);
/// Rows to copy, enough for a crash to fall into the copy.
const BULK: &str = "create table bulk (id int primary key, v text)";

#[tokio::test(flavor = "multi_thread")]
async fn slons_killed_at_random_during_copy_and_load() {
    let seed = test_seed("slons_killed_at_random_during_copy_and_load");
    let mut random = seed.generator(1000);
    let cluster = Cluster::new("slonkill", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.run_on_all(BULK).await;
    cluster
        .run(
            1,
            "insert into bulk select i, repeat('x', 100) from generate_series(1, 200000) i",
        )
        .await;
    cluster.establish().await;
    let mut tables = Writers::TABLE_NAMES.to_vec();
    tables.push(r#""public"."bulk""#);
    cluster.create_set(1, 1, &tables, &Writers::SEQUENCE_NAMES).await;
    let writers = Writers::start(&cluster, &[1], 8, PACE, seed);

    let murder = async {
        let end = Instant::now() + Duration::from_secs(12);
        let mut kills = 0;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..900))).await;
            let node = random.random_range(1..=3);
            cluster.kill_slon(node);
            kills += 1;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
            cluster.start_slon(node);
        }
        println!("{kills} slons killed");
    };
    let subscribe = async {
        cluster.subscribe(1, 1, 1, 2).await;
        cluster.subscribe(1, 1, 2, 3).await;
    };
    tokio::join!(murder, subscribe);
    let outcome = writers.finish().await;
    cluster.assert_all_equal().await;
    for node in [1, 2, 3] {
        outcome.assert_nothing_lost(&cluster, node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_killed_at_random_during_copy_and_load() {
    let seed = test_seed("servers_killed_at_random_during_copy_and_load");
    let mut random = seed.generator(1000);
    let cluster = Cluster::on_own_servers("pgkill", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.run_on_all(BULK).await;
    cluster
        .run(
            1,
            "insert into bulk select i, repeat('x', 100) from generate_series(1, 200000) i",
        )
        .await;
    cluster.establish().await;
    let mut tables = Writers::TABLE_NAMES.to_vec();
    tables.push(r#""public"."bulk""#);
    cluster.create_set(1, 1, &tables, &Writers::SEQUENCE_NAMES).await;
    let writers = Writers::start(&cluster, &[1], 8, PACE, seed);

    // Subscribed without slonik's help while servers die: a script is one connection and may fail with its server, so it
    // is sent before, and what is waited for is the state.
    cluster
        .slonik("subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);")
        .await
        .succeeds();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
        let node = random.random_range(1..=3);
        cluster.server(node).kill();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        cluster.server(node).start().unwrap_or_else(|error| panic!("{error}"));
    }
    cluster.caught_up_within(Duration::from_secs(90)).await;
    cluster.subscribe(1, 1, 2, 3).await;
    for node in [1, 2, 3] {
        cluster.server(node).kill();
        cluster.server(node).start().unwrap_or_else(|error| panic!("{error}"));
    }
    let outcome = writers.finish().await;
    cluster.assert_all_equal().await;
    for node in [1, 2, 3] {
        outcome.assert_nothing_lost(&cluster, node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_numbers_are_not_given_twice_after_a_crash_right_behind_init_cluster() {
    // The servers of the tests run with wal_level = minimal, which is what it takes.
    let cluster = Cluster::on_own_servers("crash_numbers", 1).await;
    cluster
        .slonik("init cluster (id = 1, comment = 'one');\nsync (id = 1);\n")
        .await
        .succeeds();
    cluster.server(1).kill();
    cluster.server(1).start().unwrap_or_else(|error| panic!("{error}"));
    cluster.slonik("sync (id = 1);\n").await.succeeds();
}
