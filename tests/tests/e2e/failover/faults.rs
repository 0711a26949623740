//! Failovers while more breaks than the origin: survivors' servers die and freeze, the ways between them break, slonik is killed.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom as _;
use trunkline_tests::{Beat, Blow, Cluster, Fault, Network, PATIENCE, Pulse, test_seed, wait_until};

use super::{PACE, assert_fenced, assert_losses_known, cluster_with, first_on, origin_of, outcome};

/// How the origin is lost. When it is back, it must not accept writes.
const WAYS: [Blow; 5] = [
    Blow::ServerKilled,
    Blow::ServerQuit,
    Blow::ServerFrozen,
    Blow::Dropped,
    Blow::HalfOpen,
];

/// One failover; `tries` of the statement are broken before it is left in peace.
async fn broken_failover(test: &str, name: &str, tries: usize) {
    let seed = test_seed(test);
    let mut random = seed.generator(0);
    let mut cluster = Cluster::on_own_servers(name, 4).await;
    let network = Network::around(&mut cluster).await;
    let mut cluster = cluster_with(cluster, &[(1, 2), (1, 3), (2, 4)]).await;
    let pulse = Pulse::start(&cluster, &[&[1, 2], &[1, 2, 3, 4]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    let blow = Fault {
        blow: *WAYS.choose(&mut random).unwrap(),
        node: 1,
        after: Duration::ZERO,
        lasts: Duration::ZERO,
    };
    let how = match blow.blow {
        Blow::ServerKilled => "server killed",
        Blow::ServerQuit => "server shut down at once",
        Blow::ServerFrozen => "server frozen",
        Blow::Dropped => "cut off",
        _ => "its packets swallowed",
    };
    println!("node 1 is lost: {how}");
    blow.strike(&cluster, Some(&network)).await;
    let script = "failover (id = 1, backup node = 2);";
    let blows = [&Blow::PROCESSES[1..], &Blow::NETWORK, &Blow::SERVERS].concat();
    for _ in 0..tries {
        let fault = Fault::random(&mut random, &blows, &[2, 2, 3, 4], 400);
        let dies = Duration::from_millis(random.random_range(5..800));
        let dies = if random.random_bool(0.3) { dies } else { PATIENCE };
        println!("{fault:?}, slonik is killed after {dies:?}");
        let run = cluster.slonik_killed_after(dies, script);
        let (run, ()) = tokio::join!(run, fault.happen(&cluster, Some(&network)));
        println!("slonik ended with {} after {:?}", run.status, run.elapsed);
    }
    // Whoever was hurt last may still be on its way back.
    wait_until("the failover is finished", PATIENCE, async || {
        let run = cluster.slonik(script).await;
        if run.status.success() {
            Ok(())
        } else {
            Err(run.transcript())
        }
    })
    .await;
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    blow.mend(&cluster, Some(&network));
    // Its slon has gone on all the time, and learns what has become of its node.
    assert_fenced(&cluster, 1, 2).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.assert_all_equal().await;
    for node in [2, 3, 4] {
        assert_eq!(origin_of(&cluster, node, 1).await, 2);
    }
    for node in [3, 4] {
        assert!(
            Beat::of_node(&beats, node).is_empty(),
            "node {node} is not the backup node and has accepted writes"
        );
    }
    let lost = assert_losses_known(&cluster, &beats, 1, &[2, 3, 4]).await;
    let refused = first_on(&beats, 2, lost_at);
    outcome(
        &format!(
            "origin lost ({how}), {tries} times more breaks meanwhile: survivors' servers, slons, the network, slonik"
        ),
        "run again until it finishes; the old origin keeps writers out when it is back",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_broken_at_random_by_servers_and_network_finishes_when_run_again() {
    let test = "a_failover_broken_at_random_by_servers_and_network_finishes_when_run_again";
    broken_failover(test, "failfault", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make soak"]
async fn a_failover_broken_at_random_many_times_finishes_when_run_again() {
    let test = "a_failover_broken_at_random_many_times_finishes_when_run_again";
    broken_failover(test, "failmany", 6).await;
}
