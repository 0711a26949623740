//! Sets move while slonik, slons, servers and connections break: nothing is lost, and there is one writer at a time.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use trunkline_tests::{Beat, Cluster, PATIENCE, Pulse, SlonikRun, test_seed, wait_until};

const PACE: Duration = Duration::from_millis(5);

/// What breaks.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    Slonik,
    Slon(i32),
    FrozenSlon(i32),
    Connections(i32),
    Server(i32),
    FrozenServer(i32),
}

impl Fault {
    fn random(random: &mut StdRng, old: i32, new: i32, own_servers: bool) -> Self {
        let node = if random.random_bool(0.5) { old } else { new };
        match random.random_range(0..if own_servers { 8 } else { 6 }) {
            0 => Self::Nothing,
            1 | 2 => Self::Slonik,
            3 => Self::Slon(node),
            4 => Self::FrozenSlon(node),
            5 => Self::Connections(node),
            6 => Self::Server(node),
            _ => Self::FrozenServer(node),
        }
    }

    /// Breaks it, and mends it after a while.
    async fn happen(self, cluster: &Cluster, after: Duration, mended_after: Duration) {
        tokio::time::sleep(after).await;
        match self {
            Self::Nothing | Self::Slonik => {}
            Self::Slon(node) => {
                cluster.kill_slon(node);
                tokio::time::sleep(mended_after).await;
                cluster.start_slon(node);
            }
            Self::FrozenSlon(node) => {
                cluster.with_slon(node, |slon| slon.signal(Signal::SIGSTOP));
                tokio::time::sleep(mended_after).await;
                cluster.with_slon(node, |slon| slon.signal(Signal::SIGCONT));
            }
            Self::Connections(node) => cluster.disconnect_all(node).await,
            Self::Server(node) => {
                cluster.server(node).kill();
                tokio::time::sleep(mended_after).await;
                cluster.server(node).start().unwrap();
            }
            Self::FrozenServer(node) => {
                cluster.server(node).freeze();
                tokio::time::sleep(mended_after).await;
                cluster.server(node).thaw();
            }
        }
    }
}

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

/// One switch with a fault in it, brought to its end as an operator would.
async fn broken_switch(cluster: &Cluster, old: i32, new: i32, fault: Fault, after: Duration, mended_after: Duration) {
    let script = switch(old, new);
    let run = async {
        if matches!(fault, Fault::Slonik) {
            cluster.slonik_killed_after(after, &script).await
        } else {
            cluster.slonik(&script).await
        }
    };
    let (run, ()): (SlonikRun, ()) = tokio::join!(run, fault.happen(cluster, after, mended_after));
    println!(
        "{old} -> {new}, {fault:?} after {after:?}: slonik ended with {}",
        run.status
    );
    for _ in 0..3 {
        let (origin, locked) = state(cluster, old).await;
        if origin != old {
            break;
        }
        let unlock = format!("unlock set (id = 1, origin = {old});\n");
        let again = if locked { unlock + &script } else { script.clone() };
        cluster.slonik(&again).await;
    }
    wait_until(&format!("node {new} is the origin"), PATIENCE, async || {
        match state(cluster, new).await {
            (origin, _) if origin == new => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
}

async fn switches_with_faults(cluster: &Cluster, random: &mut StdRng, rounds: usize, own_servers: bool) {
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
        let fault = Fault::random(random, old, new, own_servers);
        let after = Duration::from_millis(random.random_range(0..250));
        let mended_after = Duration::from_millis(random.random_range(50..800));
        broken_switch(cluster, old, new, fault, after, mended_after).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_broken_at_random_lose_nothing() {
    let seed = test_seed("switches_broken_at_random_lose_nothing");
    let mut random = seed.generator(0);
    let cluster = Cluster::new("switchfault", 3).await;
    switches_with_faults(&cluster, &mut random, 4, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make soak"]
async fn switches_broken_at_random_with_servers_that_die_and_freeze() {
    let seed = test_seed("switches_broken_at_random_with_servers_that_die_and_freeze");
    let mut random = seed.generator(0);
    let cluster = Cluster::on_own_servers("switchserver", 3).await;
    switches_with_faults(&cluster, &mut random, 10, true).await;
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
    println!(
        "RESULT | controlled switch | {} ms | 0 of {} |",
        gap.as_millis(),
        Beat::of_node(&beats, 1).len()
    );
    // The machine is busy with other tests; on a quiet one it is a tenth of that.
    assert!(gap < Duration::from_secs(3), "writers were kept out for {gap:?}");
}
