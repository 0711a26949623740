//! The old origin: cut off, isolated, made anew.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use trunkline_tests::{Beat, Cluster, Network, PATIENCE, Proxy, Pulse, shared_server, slonik_string, wait_until};

use super::{PACE, assert_fenced, assert_losses_known, cluster_with, first_on, outcome};

/// The origin is not dead but cut off, and its clients go on writing to it: it "cries in silence" until it is reached again.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_was_cut_off_keeps_writers_out_when_it_is_back() {
    let mut cluster = Cluster::new("silence", 3).await;
    let (to_origin, from_origin) = (
        Proxy::to(shared_server().port()).await,
        Proxy::to(shared_server().port()).await,
    );
    for node in [2, 3] {
        let (own, other) = (cluster.node(1).conninfo.clone(), cluster.node(node).conninfo.clone());
        cluster.path_through(1, node, &to_origin.conninfo(&own));
        cluster.path_through(node, 1, &from_origin.conninfo(&other));
    }
    let mut cluster = cluster_with(cluster, &[(1, 2), (1, 3)]).await;
    let pulse = Pulse::start(&cluster, &[&[1], &[2]], PACE);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // One direction swallows packets, the other breaks.
    to_origin.stall();
    from_origin.refuse();
    let cut = Instant::now();
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        cluster.with_slon(1, trunkline_tests::Slon::ended).is_none(),
        "how can it know?"
    );
    to_origin.mend();
    from_origin.mend();
    let mended = Instant::now();
    assert_fenced(&cluster, 1, 2).await;
    let beats = pulse.finish().await;
    let newest = beats.iter().rev().find(|beat| beat.node == 1).map(|beat| beat.at);
    println!(
        "the old origin's last write came {:?} after it was reached again",
        newest.map(|at| at - mended)
    );
    cluster.lose(1);
    cluster.assert_all_equal().await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[2, 3]).await;
    let refused = first_on(&beats, 2, cut);
    outcome(
        "origin cut off, its clients go on writing to it",
        "the backup node takes over; the old origin keeps writers out when it is reached again",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
    // Its slon does not come back by being started, and dropping the node takes nothing away from it.
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    cluster.kill_slon(1);
    cluster.start_slon(1);
    assert_fenced(&cluster, 1, 2).await;
    assert_losses_known(&cluster, &beats, 1, &[2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_origin_keeps_writers_out_until_it_reaches_a_peer() {
    let mut cluster = Cluster::new("isolated", 2).await;
    let proxy = Proxy::to(shared_server().port()).await;
    let other = cluster.node(2).conninfo.clone();
    cluster.path_through(2, 1, &proxy.conninfo(&other));
    let cluster = cluster_with(cluster, &[(1, 2)]).await;
    cluster.stop_slon(1);
    cluster.start_slon_with(1, &["--fence-when-isolated=1"]);
    let write = async |id: i64| {
        let insert = format!("insert into pulse (id, node) values ({id}, 1)");
        cluster.connect(1).await.try_run(&insert).await
    };
    write(1_000_001).await.unwrap();
    proxy.stall();
    let mut id = 1_000_002;
    wait_until("writers are kept out", PATIENCE, async || {
        id += 1;
        match write(id).await {
            Ok(()) => Err("a write was accepted".to_owned()),
            Err(refused) => {
                assert!(
                    refused.contains("node 1 reaches no other node of the cluster"),
                    "{refused}"
                );
                Ok(())
            }
        }
    })
    .await;
    assert!(cluster.with_slon(1, trunkline_tests::Slon::ended).is_none());
    proxy.reset();
    proxy.mend();
    wait_until("writers are let in again", PATIENCE, async || {
        id += 1;
        write(id).await
    })
    .await;
    cluster.assert_all_equal().await;
}

/// The old origin is reached again while the failover is under way: it closes at once, and names who took over when that is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_back_during_the_failover_names_the_new_one_in_the_end() {
    let mut cluster = Cluster::new("midway", 3).await;
    let network = Network::around(&mut cluster).await;
    let mut cluster = cluster_with(cluster, &[(1, 2), (1, 3)]).await;
    network.cut_off(1);
    // What node 2 knows when the failover has begun there.
    let failed = |failed: bool| {
        let mark = format!("update @NAMESPACE@.sl_node set no_failed = {failed} where no_id = 1");
        cluster.sql(&mark)
    };
    cluster.run(2, &failed(true)).await;
    network.mend(1);
    wait_until("writers are kept out", PATIENCE, async || {
        let probe = "begin; insert into pulse (id, node) values (-8, 1); rollback";
        match cluster.connect(1).await.try_run(probe).await {
            Err(refused) if refused.contains("node 1 is no longer the origin of set 1") => Ok(()),
            Err(refused) => panic!("{refused}"),
            Ok(()) => Err("a write was accepted".to_owned()),
        }
    })
    .await;
    cluster.run(2, &failed(false)).await;
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    assert_fenced(&cluster, 1, 2).await;
    cluster.lose(1);
    cluster.assert_all_equal().await;
}

/// The failed node is dropped, made again under its number and gets its set back: nothing of its former life is applied twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_origin_is_made_anew_and_gets_its_set_back() {
    let cluster = cluster_with(Cluster::new("anew", 3).await, &[(1, 2), (1, 3)]).await;
    let pulse = Pulse::start(&cluster, &[&[1, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill_slon(1);
    cluster.close(1).await;
    cluster
        .slonik("failover (id = 1, backup node = 2); drop node (id = 1, event node = 2);")
        .await
        .succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    pulse.finish().await;
    cluster.reopen(1).await;
    let own = slonik_string(&cluster.node(1).conninfo);
    let mut script = "uninstall node (id = 1);\nstore node (id = 1, comment = 'again', event node = 2);\n".to_owned();
    for node in [2, 3] {
        let other = slonik_string(&cluster.node(node).conninfo);
        let _ = write!(
            script,
            "store path (server = 1, client = {node}, conninfo = {own});\n\
             store path (server = {node}, client = 1, conninfo = {other});\n"
        );
    }
    cluster.slonik(&script).await.succeeds();
    cluster.start_slon(1);
    cluster.subscribe(1, 2, 2, 1).await;
    cluster.move_set(1, 2, 1).await;
    wait_until("node 1 accepts a write", PATIENCE, async || {
        let statement = "insert into pulse (id, node) values (-7, 1)";
        cluster.connect(1).await.try_run(statement).await
    })
    .await;
    cluster.assert_all_equal().await;
    assert!(Pulse::rows(&cluster, 3).await.contains(&-7));
}

/// What the peers know of its sets is little: one nobody ever had, one that is gone. There is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_origin_does_not_wait_for_news_of_sets_that_nobody_has() {
    let cluster = cluster_with(Cluster::new("setsgone", 2).await, &[(1, 2)]).await;
    for (set, table) in [(2, "kept"), (3, "gone"), (4, "unheard")] {
        cluster
            .run_on_all(&format!("create table {table} (id int primary key)"))
            .await;
        if table == "unheard" {
            cluster.kill_slon(2);
        }
        cluster
            .create_set(set, 1, &[&format!(r#""public"."{table}""#)], &[])
            .await;
        if table == "gone" {
            cluster.caught_up().await;
        }
    }
    cluster.kill_slon(1);
    cluster.start_slon(2);
    cluster.slonik("failover (id = 1, backup node = 2);\n").await.succeeds();
    cluster.slonik("drop set (id = 3, origin = 2);\n").await.succeeds();
    let started = Instant::now();
    cluster.start_slon(1);
    assert_fenced(&cluster, 1, 2).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    for table in ["kept", "gone", "unheard"] {
        let refused = cluster
            .connect(1)
            .await
            .try_run(&format!("insert into {table} values (1)"))
            .await;
        assert!(refused.is_err(), "{table} takes writes");
    }
}
