//! `slonctl switch`: it moves the set and proves it, or leaves everything as it was.
//!
//! On servers of their own: `lock set` waits for every older transaction of a server, also for those of other tests.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rand::Rng;
use trunkline_tests::{
    Cluster, Connection, PATIENCE, Slonctl, Writers, program, run_slonctl, run_slonik, slonik_string, test_seed,
    wait_until,
};

const TABLES: [&str; 1] = [r#""public"."item""#];

/// Node 1 with a set that nodes 2 and 3 get from it.
async fn star(test: &str) -> Cluster {
    let cluster = Cluster::on_own_servers(test, 3).await;
    cluster
        .run_on_all("create table item (id int primary key, v text); create table aside (id int)")
        .await;
    cluster.run(1, "insert into item values (1, 'v')").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 1, 3).await;
    cluster
}

/// Panics unless node `id` takes a write to the set.
async fn accepts_a_write(cluster: &Cluster, id: i32) {
    let connection = cluster.connect(id).await;
    connection
        .run("set lock_timeout to '5s'; update item set v = v || '.' where id = 1")
        .await;
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_under_load_loses_nothing_and_tells_its_hooks_what_happens() {
    let seed = test_seed("a_switch_under_load_loses_nothing_and_tells_its_hooks_what_happens");
    let cluster = Cluster::on_own_servers("switch_load", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let told = directory.path().join("told");
    let tell = format!(
        "echo \"$TRUNKLINE_STEP $TRUNKLINE_ROLE node $TRUNKLINE_NODE set $TRUNKLINE_SETS \
         from $TRUNKLINE_OLD_ORIGIN to $TRUNKLINE_NEW_ORIGIN\" >> {}; echo seen",
        told.display()
    );
    let hooks: Vec<(i32, &str, &str)> = [1, 2]
        .into_iter()
        .flat_map(|node| {
            [
                "pre_promote",
                "post_promote",
                "undo_promote",
                "pre_demote",
                "post_demote",
                "undo_demote",
            ]
            .map(|event| (node, event, tell.as_str()))
        })
        .collect();
    let file = cluster.slonctl_file(&hooks);
    let config = file.to_str().expect("UTF-8");

    let writers = Writers::start(&cluster, &[1, 2], 3, Duration::from_millis(10), seed);
    let run = run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "20s"])
        .await
        .exits(0)
        .says("proved: set 1: a write to")
        .says("was refused: Slony-I:")
        .says("all sequences (1) went along")
        .says("all subscribers have applied everything up to its event")
        .says("node 1    proved: has the same rows as node 2 at SYNC")
        .says("node 3    proved: has the same rows as node 2 at SYNC")
        .says("done: the origin of set 1 is node 2");
    println!("{}", run.stdout);
    assert_eq!(
        lines(&told),
        [
            "pre promoted node 2 set 1 from 1 to 2",
            "pre demoted node 1 set 1 from 1 to 2",
            "post promoted node 2 set 1 from 1 to 2",
            "post demoted node 1 set 1 from 1 to 2"
        ]
    );
    // And back, with the target found by itself: node 1 is the only direct subscriber of node 2 but node 3 lags no more.
    let run = run_slonctl(&[
        "--config",
        config,
        "--json",
        "switch",
        "--to",
        "1",
        "--yes",
        "--max-outage",
        "20s",
    ])
    .await
    .exits(0);
    let kinds: Vec<String> = run
        .json()
        .iter()
        .map(|line| line["kind"].as_str().unwrap_or_default().to_owned())
        .collect();
    for kind in ["plan", "script", "hook", "slonik", "outage", "proof", "done"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind} in {kinds:?}");
    }
    let outcome = writers.finish().await;
    cluster.caught_up().await;
    outcome.assert_nothing_lost(&cluster, 1).await;
    outcome.assert_nothing_lost(&cluster, 3).await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_would_fail_is_refused_with_every_reason() {
    let cluster = star("switch_refused").await;
    cluster.caught_up().await;
    let switch = ["switch", "--to", "2"];
    cluster
        .slonctl_from(1, &switch)
        .await
        .exits(4)
        .says("use -f in scripts");
    cluster
        .slonctl_from(1, &["switch", "--to", "1", "-f"])
        .await
        .exits(3)
        .says("node 1 is the origin of all sets already");
    cluster
        .slonctl_from(1, &["switch", "--to", "7", "-f"])
        .await
        .exits(3)
        .says("there is no such node");

    // A transaction that is older than the outage that is allowed, a missing path and a missing slon, all at once.
    let writer = cluster.connect(1).await;
    writer.run("begin; update item set v = 'held' where id = 1").await;
    cluster.stop_slon(2);
    cluster
        .run(
            1,
            &cluster.sql(
                "update @NAMESPACE@.sl_path set pa_conninfo = '<event pending>' where pa_server = 2 and pa_client = 1",
            ),
        )
        .await;
    wait_until("the transaction is older than 100 ms", PATIENCE, async || {
        let old: bool = writer
            .value("select clock_timestamp() - now() > interval '200 ms'")
            .await;
        if old { Ok(()) } else { Err("younger".to_owned()) }
    })
    .await;
    let pid: i32 = writer.value("select pg_backend_pid()").await;
    cluster
        .slonctl_from(1, &["switch", "--to", "2", "-f", "--max-outage", "100ms"])
        .await
        .exits(3)
        .says("no slon serves it")
        .says("store path (server = 2, client = 1, conninfo = '")
        .keeps_quiet_about("conninfo = '…'")
        .says(&format!("public.item would have to be waited for: pid {pid}"))
        .says("refused: nothing was done");
    writer.run("rollback").await;
    let conninfo = cluster.node(2).conninfo.clone();
    cluster
        .run(
            1,
            &cluster.sql(&format!(
                "update @NAMESPACE@.sl_path set pa_conninfo = '{conninfo}' where pa_server = 2 and pa_client = 1"
            )),
        )
        .await;
    cluster.start_slon(2);

    cluster.slonik("lock set (id = 1, origin = 1);\n").await.succeeds();
    cluster
        .slonctl_from(3, &["switch", "--to", "2", "-f"])
        .await
        .exits(3)
        .says("unlock set (id = 1, origin = 1);");
    cluster.slonik("unlock set (id = 1, origin = 1);\n").await.succeeds();
    accepts_a_write(&cluster, 1).await;
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_fails_half_way_puts_everything_back() {
    let cluster = star("switch_back").await;
    cluster.caught_up().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let undone = directory.path().join("undone");
    let (arrived, go) = (directory.path().join("arrived"), directory.path().join("go"));
    let undo = format!("echo \"$TRUNKLINE_ROLE $TRUNKLINE_STEP\" >> {}", undone.display());
    let undo_hooks = |pre: &'static str| {
        vec![
            (1, "pre_demote", pre),
            (1, "undo_demote", undo.as_str()),
            (2, "undo_promote", undo.as_str()),
        ]
    };
    // Everything is as it was: the hooks are taken back in order, node 1 takes writes, the set is not locked.
    let is_back = async || {
        assert_eq!(lines(&undone), ["demoted undo", "promoted undo"]);
        std::fs::remove_file(&undone).expect("the file is there");
        accepts_a_write(&cluster, 1).await;
        let locked: bool = cluster
            .connect(1)
            .await
            .value(&cluster.sql("select set_locked is not null from @NAMESPACE@.sl_set"))
            .await;
        assert!(!locked);
    };

    // A hook that fails.
    let file = cluster.slonctl_file(&undo_hooks("echo no; exit 3"));
    let config = file.to_str().expect("UTF-8");
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f"])
        .await
        .exits(5)
        .says("hook pre_demote of node 1 failed (exit status: 3)")
        .says("put back: node 1 is the origin");
    is_back().await;

    // A hook that hangs: its time is the outage.
    let file = cluster.slonctl_file(&undo_hooks("sleep 60"));
    let config = file.to_str().expect("UTF-8");
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "500ms"])
        .await
        .exits(5)
        .says("it took longer than 0.5 s");
    is_back().await;

    // A transaction that writes elsewhere: the lock is there already, and waits for it.
    let file = cluster.slonctl_file(&undo_hooks("true"));
    let config = file.to_str().expect("UTF-8");
    let writer = cluster.connect(1).await;
    let hold = async |statement: &str| writer.run(&format!("begin; {statement}")).await;
    hold("insert into aside values (1)").await;
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "3s"])
        .await
        .exits(5)
        .says("node 1 has not handed over within 3 s: putting everything back");
    writer.run("rollback").await;
    is_back().await;

    // It is named also where the limit is shorter than slonik's patience.
    hold("insert into aside values (1)").await;
    run_slonctl(&[
        "--config",
        config,
        "switch",
        "--to",
        "2",
        "-f",
        "--max-outage",
        "1900ms",
    ])
    .await
    .exits(5)
    .says("in the way, open since before the lock: pid ")
    .says("put back: node 1 is the origin");
    writer.run("rollback").await;
    is_back().await;

    // And where it is the table of the set that it has written to, so that `lock set` does not even get its lock.
    hold("insert into item values (-1, 'held')").await;
    let arguments = ["--config", config, "switch", "--to", "2", "-f", "--max-outage", "1s"];
    run_slonctl(&arguments)
        .await
        .exits(5)
        .says("in the way, holds a lock that the script waits for: pid ")
        .says("put back: node 1 is the origin");
    writer.run("rollback").await;
    is_back().await;

    // The same, ended by Ctrl-C.
    hold("insert into aside values (1)").await;
    let slonctl = Slonctl::start(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "60s"]);
    let observer = cluster.connect(1).await;
    wait_for_lock(&cluster, &observer).await;
    slonctl.signal(Signal::SIGINT);
    slonctl
        .finish()
        .await
        .exits(5)
        .says("stopped by Ctrl-C: putting everything back");
    writer.run("rollback").await;
    is_back().await;

    // A writer of the set itself: the lock cannot even be had.
    hold("update item set v = v where id = 1").await;
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "3s"])
        .await
        .exits(5)
        .says("waiting for 2 s on node 1 for a lock held by");
    writer.run("rollback").await;
    is_back().await;

    // The subscriber's slon dies after the checks.
    let pid = cluster.with_slon(2, |slon| slon.pid());
    let kill: &'static str = Box::leak(format!("kill -9 {pid}").into_boxed_str());
    let file = cluster.slonctl_file(&undo_hooks(kill));
    let config = file.to_str().expect("UTF-8");
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "2s"])
        .await
        .exits(5);
    is_back().await;
    cluster.kill_slon(2);
    cluster.start_slon(2);
    cluster.caught_up().await;

    // A script that fails at `move set`: the subscription is gone meanwhile.
    let wait: &'static str = Box::leak(
        format!(
            "touch {}; while ! test -e {}; do sleep 0.02; done",
            arrived.display(),
            go.display()
        )
        .into_boxed_str(),
    );
    let file = cluster.slonctl_file(&undo_hooks(wait));
    let config = file.to_str().expect("UTF-8");
    let slonctl = Slonctl::start(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "30s"]);
    wait_until("the hook runs", PATIENCE, async || {
        if arrived.exists() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let activate = |active: bool| {
        cluster.sql(&format!(
            "update @NAMESPACE@.sl_subscribe set sub_active = {active} where sub_receiver = 2"
        ))
    };
    cluster.run(1, &activate(false)).await;
    std::fs::write(&go, "").expect("the file can be written");
    slonctl
        .finish()
        .await
        .exits(5)
        .says("the script failed: putting everything back");
    cluster.run(1, &activate(true)).await;
    is_back().await;

    // A reader that stays, such as a dump, holds up neither the way back nor the switch.
    let reader = cluster.connect(1).await;
    reader
        .run("begin isolation level repeatable read; select count(*) from item")
        .await;
    let file = cluster.slonctl_file(&undo_hooks("true"));
    let config = file.to_str().expect("UTF-8");
    hold("insert into aside values (1)").await;
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "2s"])
        .await
        .exits(5);
    writer.run("rollback").await;
    is_back().await;
    let lock_triggers = async |state: &str| -> i64 {
        let sql = format!(
            "select count(*) from pg_trigger where tgrelid = 'item'::regclass and tgname like '%lockedset' and tgenabled = '{state}'"
        );
        cluster.connect(1).await.value(&sql).await
    };
    assert_eq!((lock_triggers("D").await, lock_triggers("O").await), (1, 0));

    // And after all that it can be done.
    let file = cluster.slonctl_file(&[]);
    let config = file.to_str().expect("UTF-8");
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "20s"])
        .await
        .exits(0);
    accepts_a_write(&cluster, 2).await;
    assert_eq!((lock_triggers("D").await, lock_triggers("O").await), (1, 0));
    reader.run("commit").await;
    wait_until("what the lock had to leave is gone", PATIENCE, async || {
        cluster
            .run(1, &cluster.sql("select @NAMESPACE@.cleanupEvent('10 minutes')"))
            .await;
        match lock_triggers("D").await {
            0 => Ok(()),
            // The slon applies to the table just now; the next cleanup finds it free.
            left => Err(format!("{left} triggers")),
        }
    })
    .await;
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_proves_that_rows_are_equal_and_says_what_it_left_out() {
    let cluster = star("switch_rows").await;
    cluster.caught_up().await;
    // One row that the subscribers do not share; confirmations alone would not tell.
    cluster
        .run(
            3,
            "begin; set local session_replication_role to replica; update item set v = 'another' where id = 1; commit",
        )
        .await;
    cluster
        .slonctl_from(1, &["switch", "--to", "2", "-f"])
        .await
        .exits(8)
        .says("node 1    proved: has the same rows as node 2 at SYNC")
        .says("node 3    NOT PROVED: differs from node 2")
        .says("\"public\".\"item\": 1 rows")
        .says("slonctl verify --node 3");
    accepts_a_write(&cluster, 2).await;
    cluster
        .slonctl_from(1, &["switch", "--to", "1", "-f", "--verify", "none"])
        .await
        .exits(0)
        .keeps_quiet_about("same rows");
    cluster.slonctl_from(1, &["verify", "--repair"]).await.exits(0);
    // No time at all: it is said what was not compared, and that is no failure.
    cluster
        .slonctl_from(1, &["switch", "--to", "2", "-f", "--verify", "1ms"])
        .await
        .exits(0)
        .says("not compared, for want of time: \"public\".\"item\"; `slonctl verify --node 3` does it");
    cluster
        .slonctl_from(1, &["switch", "--to", "1", "-f", "--verify", "all"])
        .await
        .exits(0)
        .says("all 1 tables, 1 rows");
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_on_the_way_is_gone_around_as_the_refusal_says() {
    let cluster = Cluster::on_own_servers("switch_gap", 4).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster.run(1, "insert into item values (1, 'v')").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.subscribe(1, 1, 1, 4).await;
    cluster.caught_up().await;
    cluster.server(2).kill();
    let resubscribe = "resubscribe node (origin = 1, provider = 1, receiver = 3);";
    cluster
        .slonctl_from(1, &["switch", "--to", "3", "-f"])
        .await
        .exits(3)
        .says("stands between node 3 and the origin")
        .says(resubscribe)
        .says("or switch to another node: --to 4");
    let mut script = format!("cluster name = {};\n", cluster.name().name());
    for id in [1, 3, 4] {
        let conninfo = slonik_string(&cluster.node(id).conninfo);
        let _ = writeln!(script, "node {id} admin conninfo = {conninfo};");
    }
    run_slonik(&program("slonik"), &[], &format!("{script}{resubscribe}\n"))
        .await
        .succeeds();
    wait_until("node 3 gets the set from node 1", PATIENCE, async || {
        let run = cluster.slonctl_from(1, &["switch", "--to", "3", "-f"]).await;
        if run.status.success() {
            Ok(())
        } else {
            Err(run.transcript())
        }
    })
    .await;
    accepts_a_write(&cluster, 3).await;
    cluster.server(2).start().unwrap_or_else(|error| panic!("{error}"));
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

async fn wait_for_lock(cluster: &Cluster, observer: &Connection) {
    wait_until("the set is locked", PATIENCE, async || {
        let locked: bool = observer
            .value(&cluster.sql("select set_locked is not null from @NAMESPACE@.sl_set"))
            .await;
        if locked { Ok(()) } else { Err("not locked".to_owned()) }
    })
    .await;
}

/// One thing of what happens to slonctl in the middle of its work.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Killed,
    Interrupted,
    None,
}

#[tokio::test(flavor = "multi_thread")]
async fn random_deaths_of_slonctl_leave_one_writer_and_lose_nothing() {
    let seed = test_seed("random_deaths_of_slonctl_leave_one_writer_and_lose_nothing");
    let mut random = seed.generator(1000);
    let cluster = Cluster::on_own_servers("switch_random", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    // Two sets, which go together or not at all.
    let (first_set, second_set) = Writers::TABLE_NAMES.split_at(2);
    cluster.create_set(1, 1, first_set, &Writers::SEQUENCE_NAMES).await;
    cluster.create_set(2, 1, second_set, &[]).await;
    for set in [1, 2] {
        for receiver in [2, 3] {
            cluster.subscribe(set, 1, 1, receiver).await;
        }
    }
    let file = cluster.slonctl_file(&[]);
    let config = file.to_str().expect("UTF-8");
    let writers = Writers::start(&cluster, &[1, 2, 3], 3, Duration::from_millis(10), seed);
    let mut origin = 1;
    for round in 0..4 {
        let others: Vec<i32> = (1..=3).filter(|id| *id != origin).collect();
        let to = others[random.random_range(0..others.len())];
        let blow = [Blow::Killed, Blow::Killed, Blow::Interrupted, Blow::None][random.random_range(0..4)];
        let delay = Duration::from_millis(random.random_range(50..900));
        println!("round {round}: from node {origin} to node {to}, {blow:?} after {delay:?}");
        let node = to.to_string();
        let arguments = ["--config", config, "switch", "--to", &node, "-f", "--max-outage", "30s"];
        let slonctl = Slonctl::start(&arguments);
        tokio::time::sleep(delay).await;
        match blow {
            Blow::Killed => slonctl.signal_if_running(Signal::SIGKILL),
            Blow::Interrupted => slonctl.signal_if_running(Signal::SIGINT),
            Blow::None => {}
        }
        let first = slonctl.finish().await;
        println!("first run: {}", first.status);
        // The same again, until it is done; a set that was left locked is taken up where it was left.
        let resume = [&arguments[..], &["--resume"]].concat();
        wait_until("the switch is done", PATIENCE, async || {
            let run = run_slonctl(&resume).await;
            let there = run.stdout.contains("is the origin of all sets already");
            if run.status.success() || there {
                Ok(())
            } else {
                Err(run.transcript())
            }
        })
        .await;
        origin = to;
        let mut writable = Vec::new();
        for id in 1..=3 {
            let connection = cluster.connect(id).await;
            let tried = connection
                .try_run(
                    "begin; set local lock_timeout to '10s'; update accounts set owner = owner where id = 1; \
                          insert into pairs values (99, 99, null); rollback",
                )
                .await;
            if tried.is_ok() {
                writable.push(id);
            }
        }
        assert_eq!(writable, [origin], "one node accepts writes");
    }
    let outcome = writers.finish().await;
    cluster.caught_up().await;
    for id in 1..=3 {
        outcome.assert_nothing_lost(&cluster, id).await;
    }
    cluster.assert_all_equal().await;
}

/// Sets without tables, and sets that nobody receives, stand in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_empty_goes_along_and_one_that_nobody_has_hides_no_dead_origin() {
    let cluster = Cluster::on_own_servers("op_empty_sets", 2).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster.run(1, "insert into item values (1, 'v')").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.create_set(2, 1, &[], &[]).await;
    cluster.create_set(3, 1, &[], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(2, 1, 1, 2).await;
    for (from, to) in [(1, "2"), (2, "1")] {
        cluster
            .slonctl_from(from, &["switch", "--set", "1,2", "--to", to, "-f"])
            .await
            .exits(0)
            .says("set 2: it has no tables to write to");
    }
    cluster.caught_up().await;
    cluster.kill_slon(1);
    cluster.server(1).kill();
    cluster
        .slonctl_from(2, &["switch", "-f"])
        .await
        .exits(7)
        .says("the origin cannot be reached, so nothing can be switched")
        .says("slonctl failover --failed 1 --to 2");
}
