//! Sites, cascades, several origins, survivors that are ahead.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use trunkline_tests::{
    Beat, Cluster, PATIENCE, Pulse, print_outcome, program, run_slonik, shared_throwaway, wait_until,
};

use super::{PACE, assert_losses_known, cluster_with, first_on, origin_of, outcome};

/// The six nodes of Slony's chapter on failover, in its words: nodes 1 to 3 are lost with their site.
#[tokio::test(flavor = "multi_thread")]
async fn the_chapter_s_six_nodes() {
    let subscriptions = [(1, 2), (1, 3), (1, 4), (4, 5), (4, 6)];
    let mut cluster = cluster_with(Cluster::new("chapter", 6).await, &subscriptions).await;
    let preamble = shared_throwaway().path().join("failover-preamble.slonik");
    std::fs::write(&preamble, cluster.preamble()).unwrap();
    let script = async |statements: &str| {
        let script = format!("include <{}>;\n{statements}", preamble.display());
        run_slonik(&program("slonik"), &[], &script).await.succeeds()
    };
    let pulse = Pulse::start(&cluster, &[&[1, 5]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    for node in [1, 2, 3] {
        cluster.kill_slon(node);
        cluster.close(node).await;
    }
    // As it is printed: node 4 twice. It means node 6 as well.
    script(
        "subscribe set (id = 1, provider = 5, receiver = 4);\n\
         subscribe set (id = 1, provider = 5, receiver = 4);",
    )
    .await
    .says("node 4 gets set 1 from node 5 already; node 1 cannot be reached");
    script("subscribe set (id = 1, provider = 5, receiver = 6);")
        .await
        .says("cannot be reached");
    script("drop node (id=2, event node = 4);\ndrop node (id=3, event node = 4);").await;
    script("failover (id = 1, backup node = 5);").await;
    script("drop node (id=1, event node = 4);").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    for node in [1, 2, 3] {
        cluster.lose(node);
    }
    cluster.assert_all_equal().await;
    for node in [4, 5, 6] {
        assert_eq!(origin_of(&cluster, node, 1).await, 5);
    }
    cluster.reopen(1).await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[5, 4, 6]).await;
    let refused = first_on(&beats, 5, lost_at);
    outcome(
        "site of three lost, the chapter's six statements",
        "re-pointing, dropping, failover, dropping: four scripts",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}

/// What was failed over and not dropped still stands in the books as a subscriber; that must not keep its provider there.
#[tokio::test]
async fn a_failed_subscriber_does_not_keep_its_failed_provider_in_the_cluster() {
    let mut cluster = Cluster::new("failed_subscriber", 3).await;
    Pulse::prepare(&cluster).await;
    cluster
        .run_on_all("create table second (id serial primary key, v text)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 3, &[Pulse::TABLE], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."second""#], &[]).await;
    for receiver in [1, 2] {
        cluster.subscribe(1, 3, 3, receiver).await;
    }
    for receiver in [2, 3] {
        cluster.subscribe(2, 1, 1, receiver).await;
    }
    for failed in [3, 1] {
        cluster.kill_slon(failed);
        cluster.close(failed).await;
        cluster
            .slonik(&format!("failover (id = {failed}, backup node = 2);"))
            .await
            .succeeds();
        cluster.lose(failed);
    }
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    let left = cluster.sql("select array_agg(no_id order by no_id) from @NAMESPACE@.sl_node");
    let left: Vec<i32> = cluster.connect(2).await.value(&left).await;
    assert_eq!(left, [2, 3]);
    cluster.slonik("drop node (id = 3, event node = 2);").await.succeeds();
}

/// Origins of two sets are lost at once; each fed others, also with sets that stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_with_origins_and_providers_is_lost_at_once() {
    let mut cluster = Cluster::new("site", 5).await;
    Pulse::prepare(&cluster).await;
    cluster
        .run_on_all(
            "create table second (id serial primary key, v text); create table third (id serial primary key, v text)",
        )
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    cluster
        .create_set(2, 2, &[r#""public"."second""#], &[r#""public"."second_id_seq""#])
        .await;
    cluster.create_set(3, 3, &[r#""public"."third""#], &[]).await;
    let mut script = String::new();
    for (set, origin, provider, receiver) in [
        (1, 1, 1, 2),
        (1, 1, 1, 3),
        (2, 2, 2, 1),
        (2, 2, 2, 3),
        (3, 3, 3, 1),
        (1, 1, 2, 4),
        (2, 2, 1, 4),
        (3, 3, 1, 5),
    ] {
        let _ = write!(
            script,
            "subscribe set (id = {set}, provider = {provider}, receiver = {receiver}, forward = yes);\n\
             wait for event (origin = {origin}, confirmed = all, wait on = {origin}, timeout = 60);\n"
        );
    }
    cluster.slonik(&script).await.succeeds();
    let pulse = Pulse::start(&cluster, &[&[1, 3]], PACE);
    for row in 0..20 {
        cluster
            .run(2, &format!("insert into second (v) values ('row {row}')"))
            .await;
        cluster
            .run(3, &format!("insert into third (v) values ('row {row}')"))
            .await;
    }
    let lost_at = Instant::now();
    for node in [1, 2] {
        cluster.kill_slon(node);
        cluster.close(node).await;
    }
    // Naming one of them only is refused before anything is done.
    cluster
        .slonik("failover (id = 1, backup node = 3);")
        .await
        .fails()
        .says("node 2 cannot be asked");
    cluster
        .slonik(
            "failover (node = (id = 1, backup node = 3), node = (id = 2, backup node = 3));\n\
             drop node (id = '1,2', event node = 3);",
        )
        .await
        .succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.lose(2);
    cluster
        .run(
            3,
            "insert into second (v) values ('after'); insert into third (v) values ('after')",
        )
        .await;
    cluster.assert_all_equal().await;
    for set in [1, 2, 3] {
        assert_eq!(origin_of(&cluster, 4, set).await, 3);
    }
    let providers: Vec<i32> = cluster
        .connect(5)
        .await
        .column(&cluster.sql("select distinct sub_provider from @NAMESPACE@.sl_subscribe"))
        .await;
    assert_eq!(providers, [3]);
    cluster.reopen(1).await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[3, 4]).await;
    let refused = first_on(&beats, 3, lost_at);
    outcome(
        "two origins lost that fed each other's subscribers",
        "one statement names both",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}

/// Another survivor has more than the backup node: it leads, hands on, and accepts no write on the way.
#[tokio::test(flavor = "multi_thread")]
async fn the_backup_node_gets_what_another_survivor_has() {
    let mut cluster = cluster_with(Cluster::new("behind", 4).await, &[(1, 2), (1, 3), (3, 4)]).await;
    cluster.stop_slon(2);
    let pulse = Pulse::start(&cluster, &[&[1, 2], &[1, 3]], PACE);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let lost_at = Instant::now();
    cluster.kill_slon(1);
    cluster.close(1).await;
    let before = Pulse::rows(&cluster, 3).await;
    assert!(before.len() > Pulse::rows(&cluster, 2).await.len());
    cluster.start_slon(2);
    cluster
        .slonik("failover (id = 1, backup node = 2);")
        .await
        .succeeds()
        .says("node 3 has most of node 1");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.assert_all_equal().await;
    assert!(Pulse::rows(&cluster, 2).await.is_superset(&before));
    assert!(
        Beat::of_node(&beats, 3).is_empty(),
        "the node that led has accepted writes"
    );
    cluster.reopen(1).await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[2, 3, 4]).await;
    let refused = first_on(&beats, 2, lost_at);
    outcome(
        "backup node behind another survivor",
        "that one leads and hands on, without accepting a write",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}

/// A subscriber that does not forward has more than everybody else: it is named, gives its subscription up and keeps its rows.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_ahead_and_cannot_pass_it_on_is_named() {
    let mut cluster = cluster_with(Cluster::new("ahead", 3).await, &[(1, 2)]).await;
    cluster
        .slonik(
            "subscribe set (id = 1, provider = 1, receiver = 3, forward = no);\n\
             wait for event (origin = 1, confirmed = all, wait on = 1);",
        )
        .await
        .succeeds();
    cluster.stop_slon(2);
    cluster.run(1, "insert into pulse (id, node) values (-5, 1)").await;
    wait_until("the row is on node 3", PATIENCE, async || {
        let rows = Pulse::rows(&cluster, 3).await;
        if rows.contains(&-5) {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    cluster.kill_slon(1);
    cluster.close(1).await;
    cluster.start_slon(2);
    cluster
        .slonik("failover (id = 1, backup node = 2);")
        .await
        .succeeds()
        .says("node 3 has changes of node 1")
        .says("judge them there before you subscribe it again");
    cluster.lose(1);
    assert!(!Pulse::rows(&cluster, 2).await.contains(&-5));
    assert!(Pulse::rows(&cluster, 3).await.contains(&-5));
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    cluster.subscribe(1, 2, 2, 3).await;
    cluster.run(2, "insert into pulse (id, node) values (-6, 2)").await;
    cluster.assert_all_equal().await;
    print_outcome(
        "a subscriber that does not forward is ahead of all",
        "it is named; its subscription ends, its rows stay until it is subscribed anew",
        None,
        "what only it had",
    );
}
