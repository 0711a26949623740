//! Switches, failovers and returns in random turns: each node is origin, provider, lost and back again, often within a second.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use trunkline_tests::{
    Beat, Cluster, PATIENCE, Pulse, SlonctlRun, Writers, print_outcome, run_slonctl, saved_inserts, test_seed,
    wait_until,
};

const NODES: [i32; 3] = [1, 2, 3];
/// Set 1 has the pulse, set 2 the writers' tables.
const SETS: [i32; 2] = [1, 2];

/// How an origin is lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    ServerKilled,
    ServerFrozen,
    /// Its server goes on and accepts writes: nobody there knows yet.
    OnlySlonKilled,
}

/// Three nodes under load and what is known of them.
struct Turns {
    cluster: Cluster,
    random: StdRng,
    config: tempfile::TempPath,
    saved: tempfile::TempDir,
    /// Rows of `pulse` that were listed as lost.
    listed: BTreeSet<i64>,
}

impl Turns {
    async fn slonctl(&self, arguments: &[&str]) -> SlonctlRun {
        let config = self.config.to_str().expect("UTF-8");
        run_slonctl(&[&["--config", config], arguments].concat()).await
    }

    fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        *these.choose(&mut self.random).expect("there is one")
    }

    async fn pause(&mut self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..milliseconds))).await;
    }

    /// Who is origin of a set by the account of `node`.
    async fn origin(&self, set: i32, node: i32) -> i32 {
        let sql = format!("select set_origin from @NAMESPACE@.sl_set where set_id = {set}");
        self.cluster.connect(node).await.value(&self.cluster.sql(&sql)).await
    }

    /// One or all sets get another origin.
    async fn switch(&mut self) {
        let to = self.one_of(&NODES).to_string();
        let mut arguments = vec!["switch", "--to", &to, "-f"];
        // Sets of different origins do not move together.
        let together = self.origin(1, 1).await == self.origin(2, 1).await;
        match self.random.random_range(0..3) {
            0 if together => {}
            1 => arguments.extend(["--set", "2"]),
            _ => arguments.extend(["--set", "1"]),
        }
        println!("turn: {}", arguments.join(" "));
        let run = self.slonctl(&arguments).await;
        let idle = run.status.code() == Some(3) && run.transcript().contains("is the origin of all sets already");
        assert!(run.status.success() || idle, "{}", run.transcript());
    }

    /// A subscriber gets a set from the other subscriber, or from its origin again.
    async fn reprovide(&mut self) {
        let set = self.one_of(&SETS);
        let origin = self.origin(set, 1).await;
        let receivers: Vec<i32> = NODES.into_iter().filter(|id| *id != origin).collect();
        let receiver = self.one_of(&receivers);
        let providers: Vec<i32> = NODES.into_iter().filter(|id| *id != receiver).collect();
        let provider = self.one_of(&providers);
        println!("turn: node {receiver} gets set {set} from node {provider}");
        // Two subscribers that get a set from each other would get it from nobody.
        let statement = |provider, receiver| {
            format!(
                "subscribe set (id = {set}, provider = {provider}, receiver = {receiver}, forward = yes);\n\
                 wait for event (origin = {origin}, confirmed = all, wait on = {origin}, timeout = 120);\n"
            )
        };
        let mut script = String::new();
        if provider != origin {
            script.push_str(&statement(origin, provider));
        }
        script.push_str(&statement(provider, receiver));
        self.cluster.slonik(&script).await.succeeds();
    }

    fn lose(&self, node: i32, loss: Loss) {
        match loss {
            Loss::ServerKilled => self.cluster.server(node).kill(),
            Loss::ServerFrozen => self.cluster.server(node).freeze(),
            Loss::OnlySlonKilled => self.cluster.kill_slon(node),
        }
    }

    /// Makes a lost node answer again, with a slon.
    fn revive(&self, node: i32, loss: Loss) {
        match loss {
            Loss::ServerKilled => self.cluster.server(node).start().expect("the server starts"),
            Loss::ServerFrozen => self.cluster.server(node).thaw(),
            Loss::OnlySlonKilled => self.cluster.start_slon(node),
        }
    }

    async fn fail_over(&mut self, failed: i32) {
        let node = failed.to_string();
        let mut arguments = vec![
            "failover",
            "--failed",
            &node,
            "-f",
            "--although-alive",
            "--verify",
            "none",
        ];
        if self.random.random_bool(0.3) {
            arguments.push("--drop-node");
        }
        println!("turn: {}", arguments.join(" "));
        let run = self.slonctl(&arguments).await.exits(0);
        println!("turn: failed over in {:.1} s", run.elapsed.as_secs_f64());
    }

    /// Takes a lost node back; its slon is started again whenever it ends, as a supervisor does.
    async fn rejoin(&mut self, node: i32, loss: Loss) {
        self.revive(node, loss);
        let status = self.cluster.with_slon(node, |slon| slon.wait(PATIENCE));
        assert_eq!(status.code(), Some(3), "slon of node {node} stays out");
        let directory = self.saved.path().join(format!("{}", self.random.random::<u64>()));
        std::fs::create_dir(&directory).expect("a directory can be made");
        let name = node.to_string();
        let save = directory.to_str().expect("UTF-8");
        let mut arguments = vec!["rejoin", "--node", &name, "--save", save, "--end-writers"];
        match self.random.random_range(0..6) {
            0 => arguments.push("--every-row"),
            1 => arguments.push("--full"),
            2 => arguments.extend(["--verify", "none"]),
            _ => {}
        }
        println!("turn: {}", arguments.join(" "));
        let done = AtomicBool::new(false);
        let rejoin = async {
            let run = self.slonctl(&arguments).await;
            done.store(true, Ordering::Relaxed);
            run
        };
        let supervision = async {
            while !done.load(Ordering::Relaxed) {
                if self.cluster.with_slon(node, |slon| slon.ended().is_some()) {
                    self.cluster.kill_slon(node);
                    self.cluster.start_slon(node);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (run, ()) = tokio::join!(rejoin, supervision);
        run.exits(0);
        self.note_listed(&directory, node).await;
    }

    /// Adds what the return of `node` has listed as lost; nothing of that may be there.
    async fn note_listed(&mut self, directory: &Path, node: i32) {
        let listed = saved_inserts(directory, "public.pulse");
        let origin = self.origin(1, node).await;
        let there = Pulse::rows(&self.cluster, origin).await;
        let kept: Vec<_> = listed.intersection(&there).collect();
        assert!(kept.is_empty(), "listed as lost, but node {origin} has them: {kept:?}");
        println!("turn: {} rows are listed as lost", listed.len());
        self.listed.extend(listed);
    }

    /// An origin is lost and given up, now and then its successor as well; both come back.
    async fn failure(&mut self) {
        let losses = [Loss::ServerKilled, Loss::ServerFrozen, Loss::OnlySlonKilled];
        let set = self.one_of(&SETS);
        let first = self.origin(set, 1).await;
        let loss = self.one_of(&losses);
        println!("turn: node {first} is lost: {loss:?}");
        self.lose(first, loss);
        self.pause(300).await;
        self.fail_over(first).await;
        let mut absent = vec![(first, loss)];
        let survivors: Vec<i32> = NODES.into_iter().filter(|id| *id != first).collect();
        if self.random.random_bool(0.3) {
            self.pause(1_000).await;
            let second = self.origin(set, survivors[0]).await;
            let loss = self.one_of(&losses);
            println!("turn: node {second} is lost as well: {loss:?}");
            self.lose(second, loss);
            self.pause(300).await;
            self.fail_over(second).await;
            absent.insert(self.random.random_range(0..2), (second, loss));
        }
        self.pause(1_500).await;
        for (node, loss) in absent {
            self.rejoin(node, loss).await;
            self.pause(500).await;
        }
    }

    /// One node takes writes, and subscribers have what the origins have, while all go on.
    async fn check(&self) {
        let origin = self.origin(1, 1).await;
        assert_eq!(
            Pulse::writable(&self.cluster).await,
            [origin],
            "one node accepts writes"
        );
        let active = self
            .cluster
            .sql("select count(*) from @NAMESPACE@.sl_subscribe where sub_active");
        let connection = self.cluster.connect(origin).await;
        wait_until("every node has both sets", PATIENCE, async || {
            match connection.value::<i64>(&active).await {
                4 => Ok(()),
                count => Err(format!("{count} subscriptions are active")),
            }
        })
        .await;
        self.slonctl(&["verify"]).await.exits(0);
    }
}

async fn random_turns(test: &str, name: &str, turns: usize) {
    let seed = test_seed(test);
    let cluster = Cluster::on_own_servers(name, 3).await;
    Pulse::prepare(&cluster).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    cluster
        .create_set(2, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    for set in SETS {
        for receiver in [2, 3] {
            cluster.subscribe(set, 1, 1, receiver).await;
        }
    }
    let config = cluster.slonctl_file(&[]);
    let pulse = Pulse::start(&cluster, &[&NODES, &[3, 2, 1]], Duration::from_millis(5));
    let writers = Writers::start(&cluster, &NODES, 2, Duration::from_millis(8), seed);
    let mut state = Turns {
        cluster,
        random: seed.generator(100),
        config,
        saved: tempfile::tempdir().expect("a directory can be made"),
        listed: BTreeSet::new(),
    };
    for _ in 0..turns {
        state.pause(400).await;
        match state.random.random_range(0..8) {
            0..=1 => state.switch().await,
            2 => state.reprovide().await,
            _ => state.failure().await,
        }
        // A turn begins while the one before is still settling, now and then.
        if state.random.random_bool(0.5) {
            state.check().await;
        }
    }
    writers.finish().await;
    let beats = pulse.finish().await;
    state.check().await;
    state.cluster.assert_all_equal().await;
    let there = Pulse::rows(&state.cluster, state.origin(1, 1).await).await;
    let gone: Vec<i64> = beats
        .iter()
        .map(|beat| beat.id)
        .filter(|id| !there.contains(id))
        .collect();
    let unlisted: Vec<_> = gone.iter().filter(|id| !state.listed.contains(id)).collect();
    assert!(unlisted.is_empty(), "acknowledged, lost and not listed: {unlisted:?}");
    print_outcome(
        &format!("{turns} random turns of switch, failover and rejoin under load"),
        "nodes equal whenever looked at, and in the end; what is lost is listed; the longest pause of all",
        Some(Beat::longest_gap(&beats)),
        &format!("{} of {}, all listed", gone.len(), beats.len()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn random_turns_of_switch_failover_and_rejoin_keep_nodes_equal() {
    let test = "random_turns_of_switch_failover_and_rejoin_keep_nodes_equal";
    random_turns(test, "turns", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn many_random_turns_of_switch_failover_and_rejoin_keep_nodes_equal() {
    let test = "many_random_turns_of_switch_failover_and_rejoin_keep_nodes_equal";
    random_turns(test, "turnsmany", 40).await;
}
