//! Failovers that are killed, or lose another node on the way.

use std::time::{Duration, Instant};

use rand::Rng;
use trunkline_tests::{Beat, Cluster, PATIENCE, Pulse, test_seed, wait_until};

use super::{PACE, assert_losses_known, cluster_with, first_on, origin_of, outcome};

/// slonik is killed again and again at random moments of a failover; run once more, it finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_killed_at_random_finishes_when_run_again() {
    let seed = test_seed("a_failover_killed_at_random_finishes_when_run_again");
    let mut random = seed.generator(0);
    let mut cluster = cluster_with(Cluster::new("killed", 4).await, &[(1, 2), (1, 3), (2, 4)]).await;
    let behind = random.random_bool(0.6);
    if behind {
        cluster.stop_slon(2);
    }
    let pulse = Pulse::start(&cluster, &[&[1, 2, 3]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    cluster.kill_slon(1);
    cluster.close(1).await;
    if behind {
        cluster.start_slon(2);
    }
    let script = "failover (id = 1, backup node = 2);";
    for _ in 0..random.random_range(1..5) {
        let time = Duration::from_millis(random.random_range(5..400));
        cluster.slonik_killed_after(time, script).await;
        if random.random_bool(0.3) {
            let node = random.random_range(2..=4);
            cluster.kill_slon(node);
            cluster.start_slon(node);
        }
        if random.random_bool(0.2) {
            cluster.disconnect_all(random.random_range(2..=4)).await;
        }
    }
    cluster.slonik(script).await.succeeds();
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.assert_all_equal().await;
    for node in [2, 3, 4] {
        assert_eq!(origin_of(&cluster, node, 1).await, 2);
    }
    assert!(
        Beat::of_node(&beats, 3).is_empty(),
        "a node other than the backup node has accepted writes"
    );
    cluster.reopen(1).await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[2, 3, 4]).await;
    let refused = first_on(&beats, 2, lost_at);
    outcome(
        "slonik killed at random, four times at most",
        "run again, it goes on where it stopped",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}

/// Node 4 counts the dead leader as the origin already; the backup node, node 2, does not know that it led.
async fn leader_dies_heard_by_node_4(test: &str, forward: bool) -> Cluster {
    let mut cluster = cluster_with(Cluster::new(test, 4).await, &[(1, 2), (1, 3), (1, 4)]).await;
    if !forward {
        let again = "subscribe set (id = 1, provider = 1, receiver = 4, forward = no);\n\
                     wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);";
        cluster.slonik(again).await.succeeds();
    }
    // Node 3 has most.
    cluster.stop_slon(2);
    cluster.stop_slon(4);
    let pulse = Pulse::start(&cluster, &[&[1, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.kill_slon(1);
    cluster.close(1).await;
    cluster.start_slon(4);
    let heard = wait_until(
        "node 4 takes node 3 for the origin",
        PATIENCE,
        async || match origin_of(&cluster, 4, 1).await {
            3 => Ok(()),
            origin => Err(format!("it takes node {origin}")),
        },
    );
    // slonik ends with the select.
    tokio::select! {
        run = cluster.slonik("failover (id = 1, backup node = 2);") => panic!("{}", run.transcript()),
        () = heard => {}
    }
    cluster.kill_slon(3);
    cluster.close(3).await;
    assert_eq!(origin_of(&cluster, 2, 1).await, 1, "this shows nothing");
    cluster.start_slon(2);
    let again = cluster
        .slonik("failover (node = (id = 1, backup node = 2), node = (id = 3, backup node = 2));")
        .await
        .succeeds();
    println!("{}", again.transcript());
    cluster
        .slonik("drop node (id = '1,3', event node = 2);")
        .await
        .succeeds();
    for node in [2, 4] {
        assert_eq!(origin_of(&cluster, node, 1).await, 2, "by the word of node {node}");
    }
    cluster.run(2, "insert into pulse (id, node) values (-7, 2)").await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.lose(3);
    let kept = Pulse::rows(&cluster, 2).await;
    assert!(kept.is_superset(&Beat::of_node(&beats, 2)));
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_and_only_another_survivor_has_heard_of_it() {
    let cluster = leader_dies_heard_by_node_4("heard", true).await;
    cluster.assert_all_equal().await;
}

/// What it has heard is void, and what it has more than the others stays in its tables alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_and_only_one_that_does_not_forward_has_heard_of_it() {
    let cluster = leader_dies_heard_by_node_4("unheard", false).await;
    let active = cluster.sql("select count(*) from @NAMESPACE@.sl_subscribe");
    assert_eq!(cluster.connect(2).await.value::<i64>(&active).await, 0);
    let (kept, there) = (Pulse::rows(&cluster, 2).await, Pulse::rows(&cluster, 4).await);
    assert!(there.difference(&kept).next().is_some(), "this shows nothing");
}

/// While survivors take over, one of them dies as well, perhaps the one that leads.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_dies_during_a_failover_at_random() {
    let seed = test_seed("another_node_dies_during_a_failover_at_random");
    let mut random = seed.generator(0);
    let mut cluster = cluster_with(Cluster::new("domino", 4).await, &[(1, 2), (1, 3), (1, 4)]).await;
    // Node 3 leads more often than not.
    cluster.stop_slon(2);
    let pulse = Pulse::start(&cluster, &[&[1, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    cluster.kill_slon(1);
    cluster.close(1).await;
    cluster.start_slon(2);
    let delay = Duration::from_millis(random.random_range(0..500));
    let first = cluster.slonik_killed_after(delay + Duration::from_secs(4), "failover (id = 1, backup node = 2);");
    let death = async {
        tokio::time::sleep(delay).await;
        cluster.kill_slon(3);
        cluster.close(3).await;
    };
    let (first, ()) = tokio::join!(first, death);
    println!("node 3 dies after {delay:?}\n{}", first.transcript());
    let again = cluster
        .slonik("failover (node = (id = 1, backup node = 2), node = (id = 3, backup node = 2));")
        .await
        .succeeds();
    println!("{}", again.transcript());
    cluster
        .slonik("drop node (id = '1,3', event node = 2);")
        .await
        .succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.lose(3);
    cluster.assert_all_equal().await;
    for node in [2, 4] {
        assert_eq!(origin_of(&cluster, node, 1).await, 2);
    }
    let kept = Pulse::rows(&cluster, 2).await;
    assert!(
        kept.is_superset(&Beat::of_node(&beats, 2)),
        "writes acknowledged by node 2 are lost"
    );
    let of_origin = Beat::of_node(&beats, 1);
    outcome(
        "another survivor dies meanwhile, perhaps the one that leads",
        "run again with both named",
        first_on(&beats, 2, lost_at),
        of_origin.len(),
        of_origin.difference(&kept).count(),
    );
}
