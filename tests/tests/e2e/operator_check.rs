//! `slonctl check`: each condition of `test_slony_state` is seen when it is there, and none when all is well.

use trunkline_tests::{Cluster, PATIENCE, SlonctlRun, run_slonctl, wait_until};

async fn pair(test: &str) -> Cluster {
    let cluster = Cluster::new(test, 2).await;
    cluster.run_on_all("create table item (id int primary key)").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    cluster
}

async fn check(cluster: &Cluster, arguments: &[&str]) -> SlonctlRun {
    let mut all = vec!["check"];
    all.extend(arguments);
    cluster.slonctl_from(2, &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_is_seen_and_none_without_cause() {
    let cluster = pair("check_all").await;
    let run = check(&cluster, &[])
        .await
        .exits(0)
        .says("SLONY OK - cluster e2e: 10 conditions looked at | 'lag node 2 set 1'=");
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.transcript());

    // Transactions.
    let reader = cluster.connect(1).await;
    reader.run("begin; select 1").await;
    let pid: i32 = reader.value("select pg_backend_pid()").await;
    check(&cluster, &["--only", "transactions", "--transaction", "1ms"])
        .await
        .exits(1)
        .says(&format!("node 1: pid {pid}"));
    reader.run("rollback").await;

    // Events and confirmations that are older than they may be.
    check(&cluster, &["--only", "events,confirmations", "--silence", "1ms"])
        .await
        .exits(1)
        .says("events do not propagate")
        .says("confirmations do not propagate");
    cluster
        .run(
            1,
            &cluster.sql("insert into @NAMESPACE@.sl_confirm values (1, 77, 1, now())"),
        )
        .await;
    check(&cluster, &["--only", "confirmations"])
        .await
        .exits(1)
        .says("keeps confirmations of node 77 about node 1, one of which does not exist");
    cluster
        .run(
            1,
            &cluster.sql("delete from @NAMESPACE@.sl_confirm where con_received = 77"),
        )
        .await;

    // The log.
    cluster.run(1, "insert into item select generate_series(1, 50)").await;
    cluster.run(1, &cluster.sql("analyze @NAMESPACE@.sl_log_1")).await;
    check(&cluster, &["--only", "log", "--log-rows", "10"])
        .await
        .exits(1)
        .says("node 1: sl_log_1 has about 50 rows");

    // Listens.
    cluster
        .run(2, &cluster.sql("delete from @NAMESPACE@.sl_listen where li_origin = 1"))
        .await;
    check(&cluster, &["--only", "listen"])
        .await
        .exits(1)
        .says("does not listen for events of node 1")
        .says("does not listen directly to node 1, its provider of set 1");
    cluster
        .run(2, &cluster.sql("select @NAMESPACE@.RebuildListenEntries()"))
        .await;

    // Sets.
    cluster.slonik("lock set (id = 1, origin = 1);\n").await.succeeds();
    check(&cluster, &["--only", "sets"])
        .await
        .exits(1)
        .says("set 1 is locked");
    cluster.slonik("unlock set (id = 1, origin = 1);\n").await.succeeds();

    // Components: a row of a living backend that has been at it for long.
    let session = cluster.connect(2).await;
    session
        .run(&cluster.sql(
            "select @NAMESPACE@.component_state('remoteWorkerThread_99', 1, 1, pg_backend_pid(), 'SYNC', \
             now() - interval '1 hour', 1, 'SYNC')",
        ))
        .await;
    check(&cluster, &["--only", "components"])
        .await
        .exits(1)
        .says("node 2: remoteWorkerThread_99 works on `SYNC` for 60 min 0 s");
    drop(session);

    // Lag, and a slon that is gone.
    cluster.stop_slon(2);
    cluster.run(1, "insert into item values (1000)").await;
    wait_until("node 2 lags", PATIENCE, async || {
        let run = check(&cluster, &["--only", "lag", "--warn", "1ms", "--crit", "1h"]).await;
        if run.status.code() == Some(1) {
            Ok(())
        } else {
            Err(run.transcript())
        }
    })
    .await;
    check(&cluster, &["--only", "lag", "--warn", "1ms", "--crit", "2ms"])
        .await
        .exits(2)
        .says("SLONY CRITICAL - cluster e2e: node 2: is ");
    let run = check(&cluster, &["--json", "--only", "slon"]).await.exits(2);
    assert_eq!(
        run.json()[0]["complaints"][0]["condition"],
        "slon",
        "{}",
        run.transcript()
    );
    assert_eq!(run.json()[0]["level"], "CRITICAL", "{}", run.transcript());
    cluster.start_slon(2);
    cluster.caught_up().await;
    check(&cluster, &["--only", "slon,lag,nodes,sets"]).await.exits(0);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_known_is_unknown_and_what_is_down_is_critical() {
    run_slonctl(&["check", "--nonsense"]).await.exits(3);
    run_slonctl(&["check"]).await.exits(3).says("SLONY UNKNOWN");
    run_slonctl(&[
        "--cluster",
        "e2e",
        "--conninfo",
        "host=127.0.0.1 port=1 dbname=x user=x password=geheim",
        "check",
    ])
    .await
    .exits(2)
    .says("SLONY CRITICAL")
    .keeps_quiet_about("geheim");
}
