//! Sets move while slonik, slons, servers and connections break: nothing is lost, and there is one writer at a time.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use trunkline_tests::{
    Beat, Blow, Cluster, Fault, Network, PATIENCE, Pulse, SlonikRun, print_outcome, test_seed, wait_until,
};

const PACE: Duration = Duration::from_millis(5);

fn switch(old: i32, new: i32) -> String {
    format!(
        "lock set (id = 1, origin = {old});\n\
         wait for event (origin = {old}, confirmed = {new}, wait on = {old}, timeout = 60);\n\
         move set (id = 1, old origin = {old}, new origin = {new});\n\
         wait for event (origin = {old}, confirmed = {new}, wait on = {old}, timeout = 60);\n"
    )
}

/// Origin of the set and whether it is locked, as the old origin sees it.
async fn state(cluster: &Cluster, node: i32) -> (i32, bool) {
    let connection = cluster.connect(node).await;
    let row = connection
        .query_one(
            &cluster.sql("select set_origin, set_locked is not null from @NAMESPACE@.sl_set where set_id = 1"),
            &[],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// One switch with a fault in it, brought to its end as an operator would. `dies`: when slonik is killed.
async fn broken_switch(
    cluster: &Cluster,
    network: Option<&Network>,
    (old, new): (i32, i32),
    fault: Fault,
    dies: Option<Duration>,
) {
    let script = switch(old, new);
    let run = async {
        match dies {
            Some(after) => cluster.slonik_killed_after(after, &script).await,
            None => cluster.slonik(&script).await,
        }
    };
    println!("{old} -> {new}, {fault:?}, slonik is killed after {dies:?}");
    let (run, ()): (SlonikRun, ()) = tokio::join!(run, fault.happen(cluster, network));
    println!("slonik ended with {} after {:?}", run.status, run.elapsed);
    for _ in 0..3 {
        let (origin, locked) = state(cluster, old).await;
        if origin != old {
            break;
        }
        let unlock = format!("unlock set (id = 1, origin = {old});\n");
        let again = if locked { unlock + &script } else { script.clone() };
        let run = cluster.slonik(&again).await;
        println!("again, {} after {:?}", run.status, run.elapsed);
    }
    wait_until(&format!("node {new} is the origin"), PATIENCE, async || {
        match state(cluster, new).await {
            (origin, _) if origin == new => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
}

/// Moves the set to and fro, each time with one of the blows, or with slonik killed.
async fn switches_with_faults(
    cluster: &Cluster,
    network: Option<&Network>,
    random: &mut StdRng,
    rounds: usize,
    blows: &[Blow],
) {
    Pulse::prepare(cluster).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    // The new origin gets the set directly, or behind the third node.
    let chain = random.random_bool(0.5);
    cluster.subscribe(1, 1, 1, 3).await;
    cluster.subscribe(1, 1, if chain { 3 } else { 1 }, 2).await;
    let pulse = Pulse::start(cluster, &[&[1, 2], &[2, 1]], PACE);
    let (mut old, mut new) = (1, 2);
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let fault = Fault::random(random, blows, &[old, old, new, new, 3], 250);
        let dies = Duration::from_millis(random.random_range(0..250));
        let dies = random.random_bool(0.25).then_some(dies);
        broken_switch(cluster, network, (old, new), fault, dies).await;
        (old, new) = (new, old);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let beats = pulse.finish().await;
    cluster.assert_all_equal().await;
    let rows = Pulse::rows(cluster, old).await;
    let lost: Vec<i64> = beats
        .iter()
        .map(|beat| beat.id)
        .filter(|id| !rows.contains(id))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // Each node writes in one stretch after the other: nobody writes while another does.
    let changes: i64 = cluster
        .connect(old)
        .await
        .value(
            "select count(*) from (select node <> lag(node) over (order by at) as changed from pulse) c where changed",
        )
        .await;
    assert!(
        changes <= i64::try_from(rounds).unwrap(),
        "{rounds} switches, and {changes} changes of the node that was written to"
    );
    let what = if network.is_some() {
        "servers killed and frozen, network cut, reset, half-open, slow, slonik killed"
    } else {
        "slonik, slons or connections killed at random"
    };
    print_outcome(
        &format!("{rounds} switches, {what}"),
        "run again, each finishes; one writer at a time; the longest pause of all",
        Some(Beat::longest_gap(&beats)),
        &format!("0 of {}", beats.len()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_broken_at_random_lose_nothing() {
    let seed = test_seed("switches_broken_at_random_lose_nothing");
    let mut random = seed.generator(0);
    let cluster = Cluster::new("switchfault", 3).await;
    switches_with_faults(&cluster, None, &mut random, 4, &Blow::PROCESSES).await;
}

/// Servers are killed and frozen, and the ways between them break.
async fn switches_with_every_fault(test: &str, rounds: usize) {
    let seed = test_seed(test);
    let mut random = seed.generator(0);
    let mut cluster = Cluster::on_own_servers("switchserver", 3).await;
    let network = Network::around(&mut cluster).await;
    let blows = [&Blow::NETWORK[..], &Blow::SERVERS].concat();
    switches_with_faults(&cluster, Some(&network), &mut random, rounds, &blows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_broken_at_random_by_servers_and_network_lose_nothing() {
    switches_with_every_fault("switches_broken_at_random_by_servers_and_network_lose_nothing", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make soak"]
async fn many_switches_broken_at_random_lose_nothing() {
    switches_with_every_fault("many_switches_broken_at_random_lose_nothing", 16).await;
}

/// What the pages on a maintenance window promise: the pause that writers see.
#[tokio::test(flavor = "multi_thread")]
async fn a_controlled_switch_pauses_writers_briefly() {
    let cluster = Cluster::new("pause", 2).await;
    Pulse::prepare(&cluster).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let pulse = Pulse::start(&cluster, &[&[1, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    cluster.slonik(&switch(1, 2)).await.succeeds();
    println!("the script took {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let beats = pulse.finish().await;
    cluster.assert_all_equal().await;
    let gap = Beat::longest_gap(&beats);
    print_outcome(
        "controlled switch",
        "the set moves",
        Some(gap),
        &format!("0 of {}", Beat::of_node(&beats, 1).len()),
    );
    // The machine is busy with other tests; on a quiet one it is a tenth of that.
    assert!(gap < Duration::from_secs(3), "writers were kept out for {gap:?}");
}
