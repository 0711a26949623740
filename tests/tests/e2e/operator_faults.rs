//! `slonctl switch` and `slonctl failover` while servers die or freeze and the network breaks: run again, they finish.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use trunkline_tests::{
    Beat, Blow, Cluster, Fault, Network, PATIENCE, Pulse, Slonctl, print_outcome, run_slonctl, test_seed, wait_until,
};

const PACE: Duration = Duration::from_millis(5);

/// Three nodes on servers of their own with ways that can break; nodes 2 and 3 get set 1 from node 1.
async fn three_nodes(name: &str) -> (Cluster, Network) {
    let mut cluster = Cluster::on_own_servers(name, 3).await;
    let network = Network::around(&mut cluster).await;
    Pulse::prepare(&cluster).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 1, 3).await;
    (cluster, network)
}

/// Every blow that does something.
fn blows() -> Vec<Blow> {
    [&Blow::PROCESSES[1..], &Blow::NETWORK, &Blow::SERVERS].concat()
}

/// Runs slonctl while a fault happens, and kills it now and then as well.
async fn broken_run(cluster: &Cluster, network: &Network, random: &mut StdRng, fault: Fault, arguments: &[&str]) {
    let dies = random.random_bool(0.25);
    let dies = dies.then(|| Duration::from_millis(random.random_range(50..900)));
    println!("{fault:?}, slonctl is killed after {dies:?}");
    let slonctl = Slonctl::start(arguments);
    let run = async {
        if let Some(after) = dies {
            tokio::time::sleep(after).await;
            slonctl.signal_if_running(Signal::SIGKILL);
        }
        slonctl.finish().await
    };
    let (run, ()) = tokio::join!(run, fault.happen(cluster, Some(network)));
    println!("{}", run.transcript());
}

async fn broken_switches(test: &str, name: &str, rounds: usize) {
    let seed = test_seed(test);
    let mut random = seed.generator(0);
    let (cluster, network) = three_nodes(name).await;
    let file = cluster.slonctl_file(&[]);
    let config = file.to_str().expect("UTF-8");
    let pulse = Pulse::start(&cluster, &[&[1, 2, 3], &[3, 2, 1]], PACE);
    let mut origin = 1;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let others: Vec<i32> = (1..=3).filter(|id| *id != origin).collect();
        let to = others[random.random_range(0..others.len())];
        println!("from node {origin} to node {to}");
        let node = to.to_string();
        let arguments = ["--config", config, "switch", "--to", &node, "-f", "--max-outage", "30s"];
        let fault = Fault::random(&mut random, &blows(), &[origin, to, 1, 2, 3], 900);
        broken_run(&cluster, &network, &mut random, fault, &arguments).await;
        let resume = [&arguments[..], &["--resume"]].concat();
        wait_until("the switch is done", PATIENCE, async || {
            let run = run_slonctl(&resume).await;
            if run.status.success() || run.stdout.contains("is the origin of all sets already") {
                Ok(())
            } else {
                Err(run.transcript())
            }
        })
        .await;
        origin = to;
        assert_eq!(Pulse::writable(&cluster).await, [origin], "one node accepts writes");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let beats = pulse.finish().await;
    cluster.assert_all_equal().await;
    let rows = Pulse::rows(&cluster, origin).await;
    let lost: Vec<i64> = beats
        .iter()
        .map(|beat| beat.id)
        .filter(|id| !rows.contains(id))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    print_outcome(
        &format!("{rounds} times `slonctl switch`, servers, slons, network or slonctl break meanwhile"),
        "run again with `--resume`, each finishes; one writer at a time; the longest pause of all",
        Some(Beat::longest_gap(&beats)),
        &format!("0 of {}", beats.len()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_of_slonctl_broken_at_random_lose_nothing() {
    broken_switches("switches_of_slonctl_broken_at_random_lose_nothing", "opfaults", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn many_switches_of_slonctl_broken_at_random_lose_nothing() {
    let test = "many_switches_of_slonctl_broken_at_random_lose_nothing";
    broken_switches(test, "opfaultsmany", 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_slonctl_broken_at_random_finishes_and_lists_what_is_lost() {
    let test = "a_failover_of_slonctl_broken_at_random_finishes_and_lists_what_is_lost";
    let seed = test_seed(test);
    let mut random = seed.generator(0);
    let (mut cluster, network) = three_nodes("opfailfaults").await;
    let file = cluster.slonctl_file(&[]);
    let config = file.to_str().expect("UTF-8");
    let pulse = Pulse::start(&cluster, &[&[1, 2], &[1, 3, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    let frozen = random.random_bool(0.5);
    println!("node 1 is {}", if frozen { "frozen" } else { "killed" });
    if frozen {
        cluster.server(1).freeze();
    } else {
        cluster.server(1).kill();
    }
    let arguments = ["--config", config, "failover", "--failed", "1", "--to", "2", "-f"];
    for _ in 0..2 {
        let fault = Fault::random(&mut random, &blows(), &[2, 2, 3], 900);
        broken_run(&cluster, &network, &mut random, fault, &arguments).await;
    }
    wait_until("the failover is finished", PATIENCE, async || {
        let run = run_slonctl(&arguments).await;
        let origin = cluster.sql("select set_origin from @NAMESPACE@.sl_set");
        let origin: i32 = cluster.connect(2).await.value(&origin).await;
        if run.status.success() || origin == 2 {
            Ok(())
        } else {
            Err(run.transcript())
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    if frozen {
        cluster.server(1).thaw();
    } else {
        cluster.server(1).start().unwrap();
    }
    let status = cluster.with_slon(1, |slon| slon.wait(PATIENCE));
    assert_eq!(status.code(), Some(3), "{}", cluster.with_slon(1, |slon| slon.log()));
    let beats = pulse.finish().await;
    assert_eq!(Pulse::writable(&cluster).await, [2], "one node accepts writes");
    let run = run_slonctl(&["--config", config, "--json", "lost", "--node", "1"]).await;
    let listed: std::collections::BTreeSet<i64> = run
        .json()
        .iter()
        .filter(|line| line["change"] == "insert")
        .map(|line| line["new"]["id"].as_str().unwrap().parse().unwrap())
        .collect();
    let (there, here) = (Pulse::rows(&cluster, 1).await, Pulse::rows(&cluster, 2).await);
    let missing = there.difference(&here).copied().collect();
    assert_eq!(listed, missing, "{}", run.transcript());
    cluster.lose(1);
    cluster.assert_all_equal().await;
    let gone = |beat: &&Beat| !here.contains(&beat.id);
    for beat in beats.iter().filter(gone) {
        assert!(
            listed.contains(&beat.id),
            "row {} acknowledged by node {} is lost and not listed",
            beat.id,
            beat.node
        );
    }
    let taken = beats.iter().find(|beat| beat.node == 2 && beat.at > lost_at);
    print_outcome(
        &format!(
            "`slonctl failover` of {} origin; survivors' servers, slons, network or slonctl break meanwhile",
            if frozen { "a frozen" } else { "a killed" }
        ),
        "run again until it finishes; `slonctl lost` lists what is lost",
        taken.map(|beat| beat.at - lost_at),
        &format!(
            "{} of {}",
            beats.iter().filter(gone).count(),
            Beat::of_node(&beats, 1).len()
        ),
    );
}
