//! slonctl on a cluster of the real Slony-I 2.2.11: what can be seen and done is, what cannot be is said.
//!
//! On servers of their own: the original's `lock set` waits for every older transaction of a server.

use trunkline_tests::{Cluster, genuine_slony, run_slonik};

/// The real slon polls in seconds; these options make it as quick as it can be.
const QUICK: [&str; 6] = ["-s", "100", "-t", "1000", "-g", "10"];

#[tokio::test(flavor = "multi_thread")]
async fn slonctl_works_on_a_cluster_of_the_real_slony() {
    let Some(slony) = genuine_slony("slonctl_works_on_a_cluster_of_the_real_slony") else {
        return;
    };
    let cluster = Cluster::on_own_servers("operator_slony", 2).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster
        .run(1, "insert into item select i, 'v' from generate_series(1, 100) i")
        .await;
    let script = format!("{}{}", cluster.preamble(), cluster.establishing_script());
    run_slonik(&slony.slonik, &["-w"], &script).await.succeeds();
    for node in [1, 2] {
        cluster.start_slon_program(&slony.slon, node, &QUICK);
    }
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
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
    run.exits(1).says("remembers a failover of node 2");
    cluster.assert_equal_now().await;
}
