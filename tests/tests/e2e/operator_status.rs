//! `slonctl status` and how it finds the cluster: from one node, with nodes down, and whose word it takes.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use trunkline_tests::{Cluster, PATIENCE, Proxy, Slonctl, run_slonctl, shared_server, wait_until};

const TABLES: [&str; 1] = [r#""public"."item""#];

/// Node 1 with a set, node 2 from node 1, node 3 from node 2.
async fn cascade(test: &str, own_servers: bool) -> Cluster {
    let cluster = if own_servers {
        Cluster::on_own_servers(test, 3).await
    } else {
        Cluster::new(test, 3).await
    };
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
}

async fn status(cluster: &Cluster, from: i32) -> Value {
    let run = cluster.slonctl_from(from, &["status", "--json"]).await.exits(0);
    let mut documents = run.json();
    assert_eq!(documents.len(), 1, "{}", run.transcript());
    documents.remove(0)
}

fn node(report: &Value, id: i32) -> &Value {
    report["nodes"]
        .as_array()
        .and_then(|nodes| nodes.iter().find(|node| node["node"] == id))
        .unwrap_or_else(|| panic!("no node {id} in {report}"))
}

fn subscriber(report: &Value, id: i32) -> &Value {
    report["sets"][0]["subscribers"]
        .as_array()
        .and_then(|all| all.iter().find(|subscriber| subscriber["node"] == id))
        .unwrap_or_else(|| panic!("no subscriber {id} in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_finds_the_cluster_from_any_node_and_counts_what_is_outstanding() {
    let cluster = cascade("status_roles", false).await;
    cluster.caught_up().await;
    for from in 1..=3 {
        let report = status(&cluster, from).await;
        assert_eq!(report["answered"], 3, "{report}");
        assert_eq!(node(&report, 1)["origin_of"][0], 1, "{report}");
        assert_eq!(node(&report, 2)["provides"][0], 1, "{report}");
        assert_eq!(node(&report, 3)["receives"][0], 1, "{report}");
        assert_eq!(node(&report, 3)["slon"]["alive"], true, "{report}");
        assert_eq!(subscriber(&report, 3)["provider"], 2, "{report}");
    }
    // A database without a cluster beside one that has it, whichever answers first.
    let known = &cluster.node(1).conninfo;
    let empty = known.replace(&cluster.node(1).database, "postgres");
    for [first, second] in [[known, &empty], [&empty, known], [&empty, known]] {
        let arguments = ["--conninfo", first, "--conninfo", second, "status"];
        run_slonctl(&arguments).await.exits(0).says("3 of 3 nodes answer");
    }

    // Ten rows that node 3 does not get while its slon is stopped; node 2 gets them.
    cluster.stop_slon(3);
    cluster
        .run(1, "insert into item select i, 'v' from generate_series(1, 10) i")
        .await;
    wait_until("node 3 is ten rows behind, node 2 is not", PATIENCE, async || {
        let report = status(&cluster, 1).await;
        let (second, third) = (&subscriber(&report, 2)["lag"], &subscriber(&report, 3)["lag"]);
        let as_expected = second["rows"] == 0
            && third["rows"] == 10
            && third["events"].as_i64() > Some(0)
            && third["seconds"].as_f64() > Some(0.0)
            && third["stale"] == false;
        if as_expected {
            Ok(())
        } else {
            Err(format!("{second} {third}"))
        }
    })
    .await;
    let report = status(&cluster, 1).await;
    assert_eq!(node(&report, 3)["slon"]["alive"], false, "{report}");
    let text = cluster.slonctl_from(2, &["status"]).await.exits(0);
    text.says("3 of 3 nodes answer")
        .says("no slon serves node 3")
        .says("10 rows")
        .says("set 1 (set 1): origin node 1, 1 table, 0 sequences");
    cluster.start_slon(3);
    cluster.caught_up().await;
    let report = status(&cluster, 3).await;
    assert_eq!(subscriber(&report, 3)["lag"]["rows"], 0, "{report}");
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_with_a_dead_origin_says_what_is_stale_and_who_told_it() {
    let cluster = cascade("status_stale", true).await;
    cluster.caught_up().await;
    cluster.run(1, "insert into item values (1, 'v')").await;
    cluster.caught_up().await;
    cluster.server(1).kill();
    let report = status(&cluster, 3).await;
    assert_eq!(report["answered"], 2, "{report}");
    let first = node(&report, 1);
    assert_eq!(first["state"], "unreachable", "{report}");
    assert_eq!(first["origin_of"][0], 1, "{report}");
    assert!(first["last_event"]["told_by"] != 1, "{report}");
    assert!(
        first["reasons"][0]
            .as_str()
            .is_some_and(|reason| reason.contains("refused")),
        "{report}"
    );
    assert_eq!(subscriber(&report, 2)["lag"]["stale"], true, "{report}");
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .says("UNREACHABLE")
        .says("last heard of")
        .says("has all that node")
        .says("stale")
        .keeps_quiet_about("up to date");

    cluster.server(1).start().unwrap_or_else(|error| panic!("{error}"));
    cluster.caught_up().await;
    assert_eq!(status(&cluster, 2).await["answered"], 3);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_was_stuck_is_not_up_to_date_once_the_origin_is_dead() {
    let cluster = Cluster::on_own_servers("status_stuck", 2).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    // Nothing of node 1 can be applied from here on.
    cluster.run(2, "alter table item add check (id < 0) not valid").await;
    let heard = cluster.sql("select coalesce(max(he_seqno), 0) from @NAMESPACE@.tl_heard where he_origin = 1");
    let made = cluster.sql("select max(ev_seqno) from @NAMESPACE@.sl_event where ev_origin = 1");
    let (origin, receiver) = (cluster.connect(1).await, cluster.connect(2).await);
    let confirmed: i64 = receiver.value(&made).await;
    let mut row = 0;
    wait_until("node 2 notes what waits", PATIENCE, async || {
        row += 1;
        origin.run(&format!("insert into item values ({row}, 'v')")).await;
        let known: i64 = receiver.value(&heard).await;
        if known > confirmed + 3 {
            Ok(())
        } else {
            Err(known.to_string())
        }
    })
    .await;
    cluster.kill_slon(1);
    cluster.server(1).kill();
    let report = status(&cluster, 2).await;
    let lag = &subscriber(&report, 2)["lag"];
    assert_eq!(lag["stale"], true, "{report}");
    assert!(lag["events"].as_i64().is_some_and(|events| events > 3), "{report}");
    assert!(lag["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .says("was behind")
        .says("when node 2 last heard of the origin")
        .says("(stale)")
        .keeps_quiet_about("up to date");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_does_not_hold_status_up_for_long() {
    let cluster = cascade("status_frozen", true).await;
    cluster.server(3).freeze();
    let run = cluster.slonctl_from(1, &["status", "--json"]).await.exits(0);
    assert!(run.elapsed < Duration::from_secs(30), "{}", run.transcript());
    assert_eq!(run.json()[0]["answered"], 2, "{}", run.transcript());
    cluster.server(3).thaw();
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_file_names_nodes_and_is_held_to_it() {
    let cluster = Cluster::new("status_file", 2).await;
    cluster.establish().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("slonctl.toml");
    let path = file.to_str().expect("UTF-8");
    let write = |first: i32, second: i32| {
        let text = format!(
            "cluster = 'e2e'\n[node.1]\nconninfo = \"{}\"\n[node.2]\nconninfo = \"{} password=geheim\"\n",
            cluster.node(first).conninfo,
            cluster.node(second).conninfo
        );
        std::fs::write(&file, text).expect("the file can be written");
    };
    write(1, 2);
    run_slonctl(&["--config", path, "status"])
        .await
        .exits(0)
        .says("2 of 2 nodes answer")
        .keeps_quiet_about("geheim");
    write(2, 2);
    run_slonctl(&["--config", path, "status"])
        .await
        .exits(0)
        .says("the conninfo that the configuration file gives node 1 leads to node 2")
        .keeps_quiet_about("geheim");
    // The database says itself which cluster it holds.
    run_slonctl(&["--conninfo", &cluster.node(1).conninfo, "status"])
        .await
        .exits(0)
        .says("cluster e2e");
    run_slonctl(&["status"]).await.exits(2).says("which cluster?");
    run_slonctl(&["--cluster", "other", "--conninfo", &cluster.node(1).conninfo, "status"])
        .await
        .exits(1)
        .says("holds no node of cluster other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_set_that_waits_is_shown_with_who_calls_and_who_stands_in_its_way() {
    let cluster = cascade("status_calls", true).await;
    cluster.run(1, "create table aside (id int)").await;
    cluster.run(1, "insert into item values (1, 'v')").await;
    let writer = cluster.connect(1).await;
    writer.run("begin; update item set v = 'held' where id = 1").await;
    let pid: i32 = writer.value("select pg_backend_pid()").await;
    let seen = async |wanted: &dyn Fn(&Value) -> bool| {
        wait_until("status shows it", PATIENCE, async || {
            let report = status(&cluster, 1).await;
            if wanted(&report) {
                Ok(())
            } else {
                Err(format!("{} {}", report["calls"], report["notes"]))
            }
        })
        .await;
    };
    let ((), run) = tokio::join!(
        async {
            seen(&|report| {
                let call = &report["calls"][0];
                call["application"] == "slonik"
                    && call["holds_config_lock"] == true
                    && call["since_seconds"].as_f64() > Some(1.9)
                    && call["waits_for"][0]
                        .as_str()
                        .is_some_and(|text| text.starts_with(&format!("pid {pid} (")))
            })
            .await;
            cluster
                .slonctl_from(3, &["status"])
                .await
                .exits(0)
                .says("Changes of the cluster under way")
                .says("application slonik");
            cluster
                .slonctl_from(3, &["check", "--only", "components", "--stuck", "1s"])
                .await
                .exits(1)
                .says("it has the config lock");
            // Now the lock is had, but a transaction that began before it is still open.
            let older = cluster.connect(1).await;
            older.run("begin; insert into aside values (1)").await;
            writer.run("rollback").await;
            seen(&|report| {
                let notes = report["notes"].to_string();
                notes.contains("insert into aside values (1)") && notes.contains("slonik is connected for")
            })
            .await;
            older.run("rollback").await;
        },
        cluster.slonik("lock set (id = 1, origin = 1);\nunlock set (id = 1, origin = 1);\n")
    );
    run.succeeds();
    seen(&|report| report["calls"].as_array().is_some_and(Vec::is_empty)).await;
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_announces_nothing_although_its_slon_lives_is_named() {
    let cluster = cascade("status_silent", false).await;
    cluster.caught_up().await;
    let message = "has changes that no SYNC announces";
    // The sync thread waits for this session; to everybody else its last SYNC looks two minutes old.
    let blocker = cluster.connect(1).await;
    blocker
        .run(&cluster.sql("begin; lock table @NAMESPACE@.sl_event_lock in access exclusive mode"))
        .await;
    let old = cluster
        .sql("update @NAMESPACE@.sl_event set ev_timestamp = ev_timestamp - interval '2 minutes' where ev_origin = 1");
    cluster.run(1, &old).await;
    cluster.slonctl_from(2, &["check", "--only", "slon"]).await.exits(0);
    cluster.run(1, "insert into item values (1, 'v')").await;
    cluster
        .slonctl_from(2, &["check", "--only", "slon"])
        .await
        .exits(2)
        .says(&format!("SLONY CRITICAL - cluster e2e: node 1: {message}"));
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .says(&format!("node 1 {message}"));
    blocker.run("commit").await;
    cluster.caught_up().await;
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .keeps_quiet_about(message);
    cluster.slonctl_from(2, &["check", "--only", "slon"]).await.exits(0);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_cluster_is_looked_at_again_and_again_also_when_a_node_goes_and_comes() {
    let cluster = cascade("status_watch", true).await;
    let conninfo = &cluster.node(1).conninfo;
    let slonctl = Slonctl::start(&["--conninfo", conninfo, "--json", "status", "--watch", "1"]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    cluster.server(3).kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.server(3).start().unwrap_or_else(|error| panic!("{error}"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    slonctl.signal(Signal::SIGKILL);
    let run = slonctl.finish().await;
    let answered: Vec<i64> = run
        .json()
        .iter()
        .map(|report| report["answered"].as_i64().unwrap_or_default())
        .collect();
    let mut changes = answered.clone();
    changes.dedup();
    assert_eq!(changes, [3, 2, 3], "{answered:?}");
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

/// A host that is silent costs one timeout, however many ways lead to it.
#[tokio::test(flavor = "multi_thread")]
async fn all_ways_to_a_silent_node_are_tried_at_once() {
    let mut cluster = Cluster::new("op_silent", 7).await;
    let proxy = Proxy::to(shared_server().port()).await;
    let silent = proxy.conninfo(&cluster.node(7).conninfo);
    for client in 1..=6 {
        let way = format!("{silent} connect_timeout=2 application_name=way{client}");
        cluster.path_through(7, client, &way);
    }
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    proxy.stall();
    // Two rounds: the way that node 1 knows, and the five that the others know.
    let run = cluster.slonctl_from(1, &["status"]).await;
    let text = run.transcript();
    assert!(text.contains("timeout expired after 2 s"), "{text}");
    assert!(run.elapsed < Duration::from_secs(8), "{text}");
    proxy.mend();
    let run = cluster.slonctl_from(1, &["status"]).await;
    assert!(!run.stdout.contains("timeout expired"), "{}", run.transcript());
}
