//! What a failed origin alone had is listed exactly, and it comes back without a copy.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use trunkline_tests::{
    Cluster, PATIENCE, SlonctlRun, Writers, program, run_slonik, saved_inserts, shared_throwaway, slonik_string,
    test_seed, wait_until,
};

/// Nodes 1 to 3, set 1 from node 1 to both others.
async fn three_nodes(test: &str) -> Cluster {
    let cluster = Cluster::new(test, 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 1, 3).await;
    cluster.caught_up().await;
    cluster
}

/// Runs slonctl, which is told how to reach nodes 2 and 1.
async fn slonctl(cluster: &Cluster, arguments: &[&str]) -> SlonctlRun {
    cluster.slonctl_of(&[2, 1], arguments).await
}

fn directory(test: &str) -> std::path::PathBuf {
    let path = shared_throwaway().path().join(test);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[tokio::test]
async fn a_failed_origin_lists_what_it_alone_had_and_comes_back_without_a_copy() {
    let cluster = three_nodes("rejoin_exact").await;
    cluster.kill_slon(1);
    let failed = cluster.connect(1).await;
    failed
        .run(
            "begin; insert into journal (writer, account, note) values (7, 1, E'it''s \\\\ lost'); update accounts set balance = -1 where id = 2; commit;
             delete from accounts where id = 3; update pairs set label = label",
        )
        .await;
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    cluster
        .run(
            2,
            "update accounts set balance = 77 where id = 2; insert into journal (writer) values (8)",
        )
        .await;

    slonctl(&cluster, &["lost", "--node", "1"])
        .await
        .exits(8)
        .says("2 transactions with 3 changes are lost")
        .says("public.accounts  update  id = \"2\": balance = ? -> \"-1\"")
        .says("old values not known: changed since on node 2; node 2 has balance = \"77\"")
        .says("node 2 still has the old values");
    let run = slonctl(&cluster, &["--json", "lost", "--node", "1"]).await.exits(8);
    let changes: Vec<String> = run
        .json()
        .iter()
        .filter_map(|line| Some(format!("{} {}", line["table"].as_str()?, line["change"].as_str()?)))
        .collect();
    assert_eq!(
        changes,
        [
            "public.journal insert",
            "public.accounts update",
            "public.accounts delete"
        ]
    );
    let sql = slonctl(&cluster, &["lost", "--node", "1", "--sql"]).await.exits(8);
    assert!(sql.stdout.contains("'it''s \\\\ lost'"), "{}", sql.transcript());

    slonctl(&cluster, &["status"])
        .await
        .says("node 1 was failed over to node 2");
    let before: i64 = failed.value("select min(xmin::text::int8) from accounts").await;
    let saved = directory("rejoin_exact");
    let save = saved.to_str().unwrap();
    let arguments = ["rejoin", "--node", "1", "--save", save];
    let (run, ()) = tokio::join!(slonctl(&cluster, &arguments), cluster.start_slon_when_returned(1, 2));
    run.exits(0).says("has rejoined: it receives set 1");
    assert_eq!(saved_inserts(&saved, "public.journal").len(), 1);
    cluster.assert_all_equal().await;
    // Rows that were equal are the same rows still.
    assert_eq!(
        before,
        failed.value::<i64>("select min(xmin::text::int8) from accounts").await
    );
    slonctl(&cluster, &["verify"]).await.exits(0);
    slonctl(&cluster, &["status"])
        .await
        .exits(0)
        .keeps_quiet_about("was failed over");

    // And it is as good as any other: the set moves back.
    cluster.move_set(1, 2, 1).await;
    cluster.run(1, "update accounts set balance = balance + 1").await;
    cluster.assert_all_equal().await;
    slonctl(&cluster, &["lost", "--node", "1"])
        .await
        .exits(1)
        .says("has taken part in the cluster again");
}

/// What a returned node knows of the others begins with its return, so it has no SYNC of a node that has been idle since; when that
/// one takes over, its changes must come all the same.
#[tokio::test]
async fn a_failover_right_after_a_return_reaches_the_node_that_returned() {
    let cluster = three_nodes("rejoin_failover").await;
    // It makes no SYNC while it is idle.
    cluster.stop_slon(3);
    cluster.start_slon_with(3, &["-t", "0"]);
    cluster.kill_slon(1);
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    let save = directory("rejoin_failover");
    let arguments = ["rejoin", "--node", "1", "--save", save.to_str().unwrap()];
    let (run, ()) = tokio::join!(slonctl(&cluster, &arguments), cluster.start_slon_when_returned(1, 2));
    run.exits(0);
    let known: i64 = cluster
        .connect(1)
        .await
        .value(&cluster.sql("select count(*) from @NAMESPACE@.sl_event where ev_origin = 3 and ev_type = 'SYNC'"))
        .await;
    assert_eq!(known, 0, "this shows nothing");
    cluster.kill_slon(2);
    cluster.slonik("failover (id = 2, backup node = 3);").await.succeeds();
    cluster
        .run(
            3,
            "insert into journal (writer) values (9); update accounts set balance = 99 where id = 2",
        )
        .await;
    let back = cluster.connect(1).await;
    wait_until("the change of node 3 on node 1", PATIENCE, async || {
        let there: i64 = back.value("select count(*) from journal where writer = 9").await;
        if there == 1 {
            Ok(())
        } else {
            Err("not there".to_owned())
        }
    })
    .await;
    cluster.slonik("drop node (id = 2, event node = 3);").await.succeeds();
    let verify = cluster.slonctl_of(&[3, 1], &["verify"]).await;
    verify.exits(0);
}

#[tokio::test]
async fn writers_on_a_failed_origin_lose_nothing_unlisted_and_rejoin_may_be_interrupted() {
    let seed = test_seed("writers_on_a_failed_origin_lose_nothing_unlisted_and_rejoin_may_be_interrupted");
    let cluster = three_nodes("rejoin_load").await;
    let writers = Writers::start(&cluster, &[1, 2], 3, Duration::from_millis(4), seed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.kill_slon(1);
    // They go on writing to the old origin: nobody there knows yet.
    cluster
        .slonik("failover (id = 1, backup node = 2); drop node (id = 1, event node = 2);")
        .await
        .succeeds();
    tokio::time::sleep(Duration::from_millis(300)).await;

    let saved = directory("rejoin_load");
    let save = saved.to_str().unwrap();
    let mut random = seed.generator(9);
    for _ in 0..4 {
        let time = Duration::from_millis(random.random_range(50..600));
        let arguments = ["rejoin", "--node", "1", "--save", save, "--end-writers"];
        // The program is killed when the time is over.
        let _ = tokio::time::timeout(time, slonctl(&cluster, &arguments)).await;
    }
    let arguments = ["rejoin", "--node", "1", "--save", save, "--end-writers"];
    let (run, ()) = tokio::join!(slonctl(&cluster, &arguments), cluster.start_slon_when_returned(1, 2));
    run.exits(0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let outcome = writers.finish().await;
    cluster.caught_up().await;
    let there: BTreeSet<i64> = cluster
        .connect(2)
        .await
        .column("select id from journal")
        .await
        .into_iter()
        .collect();
    let listed = saved_inserts(&saved, "public.journal");
    assert!(!listed.is_empty(), "nothing was lost, nothing was shown");
    let missing: Vec<&i64> = outcome
        .acknowledged
        .iter()
        .filter(|id| !there.contains(id) && !listed.contains(id))
        .collect();
    assert!(
        missing.is_empty(),
        "acknowledged, but neither on node 2 nor listed: {missing:?}"
    );
    let invented: Vec<&i64> = listed.iter().filter(|id| !outcome.acknowledged.contains(id)).collect();
    assert!(invented.is_empty(), "listed, but never acknowledged: {invented:?}");
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn rejoin_refuses_what_it_must_and_full_copies_everything() {
    let cluster = three_nodes("rejoin_full").await;
    slonctl(&cluster, &["rejoin", "--node", "1"])
        .await
        .exits(3)
        .says("is the origin of set 1");
    slonctl(&cluster, &["lost", "--node", "1"])
        .await
        .exits(1)
        .says("remembers a failover of node 1");
    cluster.kill_slon(1);
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    let writer = cluster.connect(1).await;
    writer.run("begin; update accounts set balance = 5 where id = 1").await;
    slonctl(&cluster, &["rejoin", "--node", "1", "--save", "/nowhere"])
        .await
        .exits(3)
        .says("--end-writers");
    writer.run("commit").await;
    slonctl(&cluster, &["rejoin", "--node", "1", "--save", "/nowhere"])
        .await
        .exits(3)
        .says("give `--save` a directory");
    let saved = directory("rejoin_full");
    let save = saved.to_str().unwrap();
    slonctl(&cluster, &["rejoin", "--node", "1", "--save", save, "--wait", "1"])
        .await
        .exits(6)
        .says("no slon serves node 1");
    cluster.start_slon(1);
    slonctl(&cluster, &["rejoin", "--node", "1", "--save", save, "--full"])
        .await
        .exits(0)
        .says("all rows are copied");
    cluster.assert_all_equal().await;
}

/// The loss of a site: both nodes stand again, and each of them still takes the other for a member.
#[tokio::test]
async fn nodes_that_were_given_up_together_come_back_one_by_one() {
    let cluster = three_nodes("rejoin_site").await;
    cluster.kill_slon(1);
    cluster.kill_slon(3);
    cluster
        .slonik(
            "failover (node = (id = 1, backup node = 2), node = (id = 3, backup node = 2));\n\
             drop node (id = '1,3', event node = 2);",
        )
        .await
        .succeeds();
    let saved = directory("rejoin_site");
    let save = saved.to_str().unwrap();
    let status = slonctl(&cluster, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    for node in status["nodes"].as_array().unwrap() {
        let expected = if node["node"] == 2 { "up" } else { "outcast" };
        assert_eq!(node["state"], expected, "{node}");
    }
    for node in [3, 1] {
        let number = node.to_string();
        let arguments = ["rejoin", "--node", &number, "--save", save, "--wait", "1"];
        slonctl(&cluster, &arguments)
            .await
            .exits(6)
            .says(&format!("no slon serves node {node}"));
        cluster.start_slon(node);
        slonctl(&cluster, &["rejoin", "--node", &number, "--save", save])
            .await
            .exits(0);
    }
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn sets_that_are_gone_leave_no_table_open_unless_that_is_meant() {
    let cluster = Cluster::new("rejoin_gone", 2).await;
    for table in ["item", "merged", "dropped", "alone", "taken"] {
        cluster
            .run_on_all(&format!("create table {table} (id int primary key, v text)"))
            .await;
        cluster
            .run(1, &format!("insert into {table} values (1, 'v'), (2, 'v')"))
            .await;
    }
    cluster.establish().await;
    for (set, tables) in (1..).zip([&["item", "taken"][..], &["merged"], &["dropped"], &["alone"]]) {
        let names: Vec<String> = tables.iter().map(|table| format!(r#""public"."{table}""#)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        cluster.create_set(set, 1, &names, &[]).await;
        // Nobody has the last one: its new origin has nothing of it.
        if set < 4 {
            cluster.subscribe(set, 1, 1, 2).await;
        }
    }
    cluster.kill_slon(1);
    cluster
        .run(
            1,
            "set session_replication_role to replica; update merged set v = 'past the log' where id = 2",
        )
        .await;
    cluster
        .slonik("failover (id = 1, backup node = 2); drop node (id = 1, event node = 2);\n")
        .await
        .succeeds();
    let script = "merge set (id = 1, add id = 2, origin = 2);\ndrop set (id = 3, origin = 2);\n\
                  set drop table (origin = 2, id = {taken});\n";
    let taken: i32 = cluster
        .connect(2)
        .await
        .value(&cluster.sql("select tab_id from @NAMESPACE@.sl_table where tab_relname = 'taken'"))
        .await;
    let script = script.replace("{taken}", &taken.to_string());
    let preamble = format!(
        "cluster name = {};\nnode 2 admin conninfo = {};\n",
        cluster.name().name(),
        slonik_string(&cluster.node(2).conninfo)
    );
    run_slonik(&program("slonik"), &[], &format!("{preamble}{script}"))
        .await
        .succeeds();
    cluster.run(2, "update merged set v = 'changed' where id = 1").await;

    let saved = directory("rejoin_gone");
    let save = saved.to_str().unwrap();
    slonctl(&cluster, &["rejoin", "--node", "1", "--save", save])
        .await
        .exits(3)
        .says("set 1, 3, 4: public.taken, public.dropped, public.alone")
        .says("--release");
    let old = cluster.connect(1).await;
    let write = async |table: &str| old.try_run(&format!("insert into {table} values (7, 'here')")).await;
    for table in ["item", "merged", "dropped", "alone", "taken"] {
        assert!(
            write(table).await.is_err(),
            "{table} takes writes before anything is decided"
        );
    }
    // `merged` was in another set when node 1 failed: the logs do not tell, and every row of it is compared.
    let arguments = ["rejoin", "--node", "1", "--save", save, "--release", "--verify", "none"];
    let started = async {
        let node = cluster.connect(1).await;
        wait_until("node 1 takes node 2 for the origin of set 1", PATIENCE, async || {
            let sets: i64 = node
                .value(&cluster.sql("select count(*) from @NAMESPACE@.sl_set where set_id = 1 and set_origin = 2"))
                .await;
            if sets == 1 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        for table in ["item", "merged"] {
            assert!(
                write(table).await.is_err(),
                "{table} takes writes while the node returns"
            );
        }
        cluster.start_slon(1);
    };
    let (run, ()) = tokio::join!(slonctl(&cluster, &arguments), started);
    run.exits(0)
        .says("set 1 has taken over tables of sets that are gone")
        .says("ordinary tables from now on")
        .says("it receives set 1, 4 after");
    for table in ["dropped", "alone", "taken"] {
        assert_eq!(write(table).await, Ok(()), "{table}");
    }
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
    slonctl(&cluster, &["verify"])
        .await
        .exits(0)
        .says("\"public\".\"merged\": equal");
}
