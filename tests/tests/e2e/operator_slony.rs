//! slonctl on a cluster of the real Slony-I 2.2.11: what can be seen and done is, what cannot be is said.
//!
//! On servers of their own: the original's `lock set` waits for every older transaction of a server.

use trunkline_tests::{Cluster, GenuineSlony, genuine_slony, run_slonik, shared_throwaway};

/// The real slon polls in seconds; these options make it as quick as it can be.
const QUICK: [&str; 6] = ["-s", "100", "-t", "1000", "-g", "10"];

/// A cluster with the original's schema, made by its slonik and served by its slon, in which all nodes get set 1 from node 1.
async fn original(slony: &GenuineSlony, test: &str, nodes: i32) -> Cluster {
    let cluster = Cluster::on_own_servers(test, nodes).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster
        .run(1, "insert into item select i, 'v' from generate_series(1, 100) i")
        .await;
    let script = format!("{}{}", cluster.preamble(), cluster.establishing_script());
    run_slonik(&slony.slonik, &["-w"], &script).await.succeeds();
    for node in 1..=nodes {
        cluster.start_slon_program(&slony.slon, node, &QUICK);
    }
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    for receiver in 2..=nodes {
        cluster.subscribe(1, 1, 1, receiver).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn slonctl_works_on_a_cluster_of_the_real_slony() {
    let Some(slony) = genuine_slony("slonctl_works_on_a_cluster_of_the_real_slony") else {
        return;
    };
    let cluster = original(&slony, "operator_slony", 2).await;
    let run = cluster
        .slonctl_from(1, &["status"])
        .await
        .exits(0)
        .says("2 of 2 nodes answer")
        .says("origin of 1");
    println!("{}", run.transcript());
    let run = cluster
        .slonctl_from(2, &["check", "--only", "nodes,slon,lag,listen,sets,components"])
        .await;
    println!("{}", run.transcript());
    run.exits(0);
    let run = cluster.slonctl_from(1, &["verify"]).await;
    println!("{}", run.transcript());
    run.exits(0);
    let switch = [
        "switch",
        "-f",
        "--max-outage",
        "30s",
        "--max-lag",
        "60s",
        "--verify",
        "all",
    ];
    let run = cluster.slonctl_from(1, &[&switch[..], &["--to", "2"]].concat()).await;
    println!("{}", run.transcript());
    run.exits(0)
        .says("node 1    proved: has the same rows as node 2 at SYNC")
        .says("done: the origin of set 1 is node 2");
    // A set that was left locked, on a node that has only Slony's functions.
    let lock = format!("{}lock set (id = 1, origin = 2);\n", cluster.preamble());
    run_slonik(&slony.slonik, &["-w"], &lock).await.succeeds();
    cluster
        .slonctl_from(1, &[&switch[..], &["--to", "1"]].concat())
        .await
        .exits(3)
        .says("set 1 is locked already");
    let run = cluster
        .slonctl_from(1, &[&switch[..], &["--to", "1", "--resume"]].concat())
        .await;
    println!("{}", run.transcript());
    run.exits(0).says("done: the origin of set 1 is node 1");
    cluster.run(1, "insert into item values (1000, 'here')").await;
    let run = cluster.slonctl_from(1, &["verify"]).await;
    run.exits(0).says("101 rows at SYNC");
    let run = cluster.slonctl_from(1, &["lost", "--node", "2"]).await;
    run.exits(1)
        .says("remembers a failover of node 2")
        .says("keep no record of it");
    cluster.assert_equal_now().await;
}

/// The new origin has our schema, the one that is lost Slony's, until it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_real_slony_is_failed_over_and_comes_back_as_ours() {
    let Some(slony) = genuine_slony("a_node_of_the_real_slony_is_failed_over_and_comes_back_as_ours") else {
        return;
    };
    let mut cluster = original(&slony, "operator_mixed", 2).await;
    cluster.stop_slon(2);
    cluster.slonik("update functions (id = 2);\n").await.succeeds();
    cluster.start_slon(2);
    cluster.caught_up().await;
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .says("2 of 2 nodes answer");
    cluster.kill_slon(1);
    cluster
        .run(
            1,
            "insert into item values (1000, 'lost'); update item set v = 'lost' where id = 1; delete from item where id = 2",
        )
        .await;
    cluster.server(1).kill();
    let failover = ["failover", "--failed", "1", "-f", "--verify", "all"];
    cluster
        .slonctl_from(2, &failover)
        .await
        .exits(0)
        .says("`slonctl lost --node 1` lists it exactly")
        .says("done: the origin of set 1 is node 2");
    cluster.lose(1);
    cluster.server(1).start().unwrap_or_else(|error| panic!("{error}"));
    let slonctl = async |arguments: &[&str]| cluster.slonctl_of(&[2, 1], arguments).await;
    slonctl(&["status"]).await.exits(0).says("OUTCAST");
    slonctl(&["check"]).await.exits(2).says("node 1");
    slonctl(&["lost", "--node", "1"])
        .await
        .exits(8)
        .says("1 transaction with 3 changes is lost")
        .says(r#"insert  id = "1000", v = "lost""#)
        .says(r#"update  id = "1": v = "v" -> "lost""#)
        .says(r#"delete  id = "2", v = "v""#);
    let save = shared_throwaway().path().join("operator_mixed");
    std::fs::create_dir_all(&save).expect("a directory for what was lost");
    let rejoin = ["rejoin", "--node", "1", "--save", save.to_str().expect("UTF-8")];
    slonctl(&rejoin).await.exits(3).says("update functions (id = 1);");
    cluster.slonik("update functions (id = 1);\n").await.succeeds();
    let (run, ()) = tokio::join!(slonctl(&rejoin), cluster.start_slon_when_returned(1, 2));
    run.exits(0).says("has rejoined: it receives set 1");
    cluster.regain(1);
    cluster.run(2, "insert into item values (2000, 'after')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the original's slons take 20 s to start again: make soak"]
async fn an_origin_of_the_original_slony_is_failed_over_to_another() {
    let Some(slony) = genuine_slony("an_origin_of_the_original_slony_is_failed_over_to_another") else {
        return;
    };
    let mut cluster = original(&slony, "operator_original", 3).await;
    cluster.caught_up().await;
    cluster.kill_slon(1);
    cluster.server(1).kill();
    cluster
        .slonctl_from(
            2,
            &[
                "failover",
                "--failed",
                "1",
                "-f",
                "--verify",
                "all",
                "--settle",
                "100s",
                "--drop-node",
            ],
        )
        .await
        .exits(0)
        .says("nothing will list it afterwards")
        .says("has the same rows as node 2")
        .says("done: the origin of set 1 is node 2");
    cluster.server(1).start().unwrap_or_else(|error| panic!("{error}"));
    let first = cluster.node(1).conninfo.clone();
    let slonctl = async |arguments: &[&str]| {
        let all = [&["--conninfo", &first][..], arguments].concat();
        cluster.slonctl_from(2, &all).await
    };
    slonctl(&["status"]).await.exits(0).says("it was dropped");
    slonctl(&["lost", "--node", "1"])
        .await
        .exits(1)
        .says("keep no record of it");
    slonctl(&["rejoin", "--node", "1"])
        .await
        .exits(3)
        .says("update functions");
    cluster.lose(1);
    cluster.assert_equal_now().await;
}
