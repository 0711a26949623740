//! `slonctl failover`: who could take over, what is lost, who agrees; and what it refuses.

use std::time::Duration;

use trunkline_tests::{Cluster, PATIENCE, run_slonctl, wait_until};

/// Node 1 with a set that nodes 2 and 3 get from it; only node 2 forwards it.
async fn star(test: &str) -> Cluster {
    let cluster = Cluster::on_own_servers(test, 3).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster.run(1, "insert into item values (1, 'v')").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik(
            "subscribe set (id = 1, provider = 1, receiver = 3, forward = no);\n\
             wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 120);\n",
        )
        .await
        .succeeds();
    cluster
}

/// The origin of the set by the word of node 2.
async fn origin(cluster: &Cluster) -> i32 {
    let sql = cluster.sql("select set_origin from @NAMESPACE@.sl_set");
    cluster.connect(2).await.value(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_refused_while_it_is_wrong_and_proved_when_it_is_right() {
    let mut cluster = star("op_failover").await;
    cluster.caught_up().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fenced = directory.path().join("fenced");
    let fence = format!(
        "echo $TRUNKLINE_ROLE $TRUNKLINE_NODE >> {0}; test -s {0}.ready",
        fenced.display()
    );
    let file = cluster.slonctl_file(&[(1, "fence", &fence), (2, "post_promote", "echo here I am")]);
    let config = file.to_str().expect("UTF-8");
    let failover = ["--config", config, "failover", "--failed", "1", "-f"];
    let with = |more: &[&'static str]| [&failover[..], more].concat();

    // The origin lives: a switch is right, and the others still reach it.
    run_slonctl(&failover)
        .await
        .exits(3)
        .says("answers. If it can be kept alive for a minute, `slonctl switch` loses nothing");
    run_slonctl(&with(&["--although-alive", "--quorum"]))
        .await
        .exits(3)
        .says("reaches node 1: its last news is")
        .says("no quorum: 0 of 2 surviving nodes cannot reach it");

    cluster.kill_slon(1);
    cluster.server(1).kill();
    // A switch never becomes a failover by itself.
    run_slonctl(&["--config", config, "switch", "-f"])
        .await
        .exits(7)
        .says("the origin cannot be reached, so nothing can be switched")
        .says("slonctl failover --failed 1 --to 2");
    assert_eq!(origin(&cluster).await, 1);
    run_slonctl(&with(&["--to", "3"]))
        .await
        .exits(3)
        .says("node 3 is not a forwarding subscriber of set 1");
    cluster
        .slonctl_from(2, &["failover", "--failed", "1", "--dry-run"])
        .await
        .exits(0)
        .says("no `fence` hook is configured for it");
    run_slonctl(&with(&["--dry-run"]))
        .await
        .exits(0)
        .keeps_quiet_about("no `fence` hook")
        .says("could take over; has event")
        .says("may be lost")
        .says("failover (id = 1, backup node = 2);");
    // Without the fence nothing is done.
    run_slonctl(&failover)
        .await
        .exits(1)
        .says("hook fence of node 1 failed")
        .says("nothing was done in the cluster");
    assert_eq!(origin(&cluster).await, 1);
    std::fs::write(format!("{}.ready", fenced.display()), "x").expect("the file can be written");

    wait_until(
        "both survivors say that they cannot reach node 1",
        PATIENCE,
        async || {
            let run = run_slonctl(&with(&["--quorum", "--dry-run"])).await;
            if run.status.code() == Some(0) {
                Ok(())
            } else {
                Err(run.transcript())
            }
        },
    )
    .await;
    let run = run_slonctl(&with(&["--quorum", "--drop-node"]))
        .await
        .exits(0)
        .says("cannot reach node 1: for")
        .says("here I am")
        .says("proved: set 1: a write to")
        .says("all subscribers have applied everything")
        .says("done: the origin of set 1 is node 2");
    println!("{}", run.stdout);
    // As if it had been cut short behind its script.
    run_slonctl(&with(&["--quorum", "--drop-node"]))
        .await
        .exits(0)
        .says("Node 1 has been failed over and dropped already, the origin of set 1 is node 2")
        .says("here I am")
        .says("proved: set 1: a write to")
        .says("done: the origin of set 1 is node 2");
    assert_eq!(
        std::fs::read_to_string(&fenced).unwrap_or_default(),
        "failed 1\nfailed 1\n"
    );
    cluster.lose(1);
    cluster.run(2, "insert into item values (2, 'after')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_only_slow_is_not_given_up() {
    let cluster = star("op_slow").await;
    cluster.caught_up().await;
    let failover = ["failover", "--failed", "1", "-f"];
    cluster.server(1).freeze();
    let (run, ()) = tokio::join!(cluster.slonctl_from(2, &failover), async {
        tokio::time::sleep(Duration::from_millis(3500)).await;
        cluster.server(1).thaw();
    });
    run.exits(3)
        .says("has not answered within 2 s")
        .says("answers after all")
        .says("it is slow, not lost. Nothing was done");
    assert_eq!(origin(&cluster).await, 1);
    cluster.caught_up().await;
    // One that stays silent is given up.
    cluster.server(1).freeze();
    cluster
        .slonctl_from(2, &[&failover[..], &["--dry-run"]].concat())
        .await
        .exits(0)
        .says("s more either");
    cluster.server(1).thaw();
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn a_provider_that_is_no_origin_is_given_up() {
    let mut cluster = Cluster::new("op_provider", 3).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.caught_up().await;
    cluster.kill_slon(2);
    cluster.close(2).await;
    let run = cluster
        .slonctl_from(1, &["failover", "--failed", "2", "-f", "--drop-node"])
        .await
        .exits(0)
        .says("no set has its origin on the failed nodes")
        .says("node 2 was the origin of no set")
        .keeps_quiet_about("is the origin of what was")
        .keeps_quiet_about("no `fence` hook");
    println!("{}", run.stdout);
    cluster.lose(2);
    cluster.run(1, "insert into item values (1, 'after')").await;
    cluster.assert_all_equal().await;
}
