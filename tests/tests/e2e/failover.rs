//! The origin is lost: survivors take over, and what is lost is known to the row.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rand::Rng;
use trunkline_tests::{
    Beat, Cluster, PATIENCE, Proxy, Pulse, genuine_slony, program, run_slonik, shared_server, shared_throwaway,
    slonik_string, test_seed, wait_until,
};

/// Inserts of each writer come this far apart.
const PACE: Duration = Duration::from_millis(5);

/// A cluster with set 1 of node 1 and forwarding subscriptions (provider, receiver) to it.
async fn cluster_with(cluster: Cluster, subscriptions: &[(i32, i32)]) -> Cluster {
    Pulse::prepare(&cluster).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    let mut script = String::new();
    for (provider, receiver) in subscriptions {
        let _ = write!(
            script,
            "subscribe set (id = 1, provider = {provider}, receiver = {receiver}, forward = yes);\n\
             wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n"
        );
    }
    cluster.slonik(&script).await.succeeds();
    cluster
}

/// What a node that failed has written and no survivor has, by its own log and the survivors' record of the failover.
async fn unsent(cluster: &Cluster, failed: i32, survivor: i32) -> BTreeSet<i64> {
    let snapshot: String = cluster
        .connect(survivor)
        .await
        .value(&cluster.sql(&format!(
            "select fo_snapshot from @NAMESPACE@.tl_failover where fo_failed = {failed} order by fo_at desc limit 1"
        )))
        .await;
    let rows: Vec<i64> = cluster
        .connect(failed)
        .await
        .column(&cluster.sql(&format!(
            "select (public.hstore(log_cmdargs) -> 'id')::bigint
               from (select * from @NAMESPACE@.sl_log_1 union all select * from @NAMESPACE@.sl_log_2) l
              where log_origin = {failed} and log_tablerelname = 'pulse' and log_cmdtype = 'I'
                and not txid_visible_in_snapshot(log_txid, '{snapshot}')"
        )))
        .await;
    rows.into_iter().collect()
}

/// Rows that a returned node has and a survivor has not.
async fn missing(cluster: &Cluster, failed: i32, survivor: i32) -> BTreeSet<i64> {
    let (there, here) = (Pulse::rows(cluster, failed).await, Pulse::rows(cluster, survivor).await);
    there.difference(&here).copied().collect()
}

/// Panics unless what the survivors' record says is lost is exactly what is missing, and every write acknowledged
/// elsewhere is on `survivor`. Returns how many acknowledged writes were lost.
async fn assert_losses_known(cluster: &Cluster, beats: &[Beat], failed: i32, survivors: &[i32]) -> usize {
    let lost = missing(cluster, failed, survivors[0]).await;
    for survivor in survivors {
        assert_eq!(
            unsent(cluster, failed, *survivor).await,
            lost,
            "by the record of node {survivor}"
        );
    }
    let kept = Pulse::rows(cluster, survivors[0]).await;
    let (mut gone, mut others) = (0, 0);
    for beat in beats.iter().filter(|beat| !kept.contains(&beat.id)) {
        assert!(
            lost.contains(&beat.id),
            "row {} acknowledged by node {} is lost and not listed",
            beat.id,
            beat.node
        );
        gone += 1;
        others += usize::from(beat.node != failed);
    }
    assert_eq!(others, 0, "writes acknowledged by survivors are lost");
    gone
}

/// How long after `since` the first write was acknowledged by `node`.
fn first_on(beats: &[Beat], node: i32, since: Instant) -> Duration {
    beats
        .iter()
        .find(|beat| beat.node == node && beat.at > since)
        .map_or_else(|| panic!("node {node} accepted no write"), |beat| beat.at - since)
}

/// A line of the table of scenarios in the manual.
fn result(scenario: &str, refused: Duration, acknowledged: usize, lost: usize) {
    println!(
        "RESULT | {scenario} | {} ms | {lost} of {acknowledged} |",
        refused.as_millis()
    );
}

async fn origin_of(cluster: &Cluster, node: i32, set: i32) -> i32 {
    cluster
        .connect(node)
        .await
        .value(&cluster.sql(&format!(
            "select set_origin from @NAMESPACE@.sl_set where set_id = {set}"
        )))
        .await
}

/// The slon of a node that was given up ends with its code, and writers are refused with the new origin's name.
async fn assert_fenced(cluster: &Cluster, node: i32, origin: i32) {
    let status = cluster.with_slon(node, |slon| slon.wait(PATIENCE));
    assert_eq!(status.code(), Some(3), "{}", cluster.with_slon(node, |slon| slon.log()));
    let connection = cluster.connect(node).await;
    for statement in ["insert into pulse (id, node) values (-1, 1)", "truncate pulse"] {
        let refused = connection.try_run(statement).await.unwrap_err();
        assert!(
            refused.contains(&format!("set 1 originates on node {origin} now")),
            "{refused}"
        );
    }
    let fenced: i64 = connection
        .value(&cluster.sql("select count(*) from @NAMESPACE@.tl_fence where fe_set = 1"))
        .await;
    assert_eq!(fenced, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_dies_under_load() {
    let mut cluster = cluster_with(Cluster::on_own_servers("failover", 3).await, &[(1, 2), (1, 3)]).await;
    let pulse = Pulse::start(&cluster, &[&[1, 2], &[1, 2]], PACE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = Instant::now();
    cluster.kill_slon(1);
    cluster.server(1).kill();
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    // Run again, both are content with what they find.
    cluster
        .slonik("failover (id = 1, backup node = 2); drop node (id = 1, event node = 2);")
        .await
        .succeeds()
        .says("node 1 has been failed over before")
        .says("node 1 has been failed over and dropped before");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.assert_all_equal().await;

    // The dead server comes back.
    cluster.server(1).start().unwrap();
    let lost = assert_losses_known(&cluster, &beats, 1, &[2, 3]).await;
    let acknowledged = Beat::of_node(&beats, 1).len();
    result(
        "origin killed, three nodes",
        first_on(&beats, 2, killed),
        acknowledged,
        lost,
    );
    cluster.start_slon(1);
    assert_fenced(&cluster, 1, 2).await;
    assert_losses_known(&cluster, &beats, 1, &[2]).await;
}

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
    script(
        "subscribe set (id = 1, provider = 5, receiver = 4);\n\
         subscribe set (id = 1, provider = 5, receiver = 6);",
    )
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
    result(
        "site of three lost, the chapter's six statements",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
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
    result(
        "two origins lost that fed each other's subscribers",
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
    result(
        "backup node behind another survivor",
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hopeless_failover_is_refused_before_its_first_step() {
    let cluster = cluster_with(Cluster::new("hopeless", 4).await, &[(1, 3)]).await;
    cluster
        .slonik(
            "subscribe set (id = 1, provider = 1, receiver = 2, forward = no);\n\
             subscribe set (id = 1, provider = 1, receiver = 4, forward = no);\n\
             wait for event (origin = 1, confirmed = all, wait on = 1);\n\
             drop path (server = 2, client = 4);\n\
             wait for event (origin = 4, confirmed = all, wait on = 4);",
        )
        .await
        .succeeds();
    for node in [1, 3] {
        cluster.kill_slon(node);
        cluster.close(node).await;
    }
    let paths =
        cluster.sql("select string_agg(pa_conninfo, ' ' order by pa_server, pa_client) from @NAMESPACE@.sl_path");
    let before: String = cluster.connect(2).await.value(&paths).await;
    cluster
        .slonik("failover (id = 1, backup node = 2);")
        .await
        .fails()
        .says("node 2 is not a forwarding subscriber of set 1 from node 1")
        .says("can't failover node 4 does not have a path to 2")
        .says("node 3 cannot be asked");
    let failed: i64 = cluster
        .connect(2)
        .await
        .value(&cluster.sql("select count(*) from @NAMESPACE@.sl_node where no_failed"))
        .await;
    assert_eq!(failed, 0);
    let after: String = cluster.connect(2).await.value(&paths).await;
    assert_eq!(before, after);
    // Nothing to compare: the origin is gone and the two that are left stay as they are.
    assert_eq!(Pulse::rows(&cluster, 2).await, Pulse::rows(&cluster, 4).await);
}

/// slonik is killed again and again at random moments of a failover; run once more, it finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_killed_at_random_finishes_when_run_again() {
    let seed = test_seed("a_failover_killed_at_random_finishes_when_run_again");
    let mut random = seed.generator(0);
    let mut cluster = cluster_with(Cluster::new("killed", 4).await, &[(1, 2), (1, 3), (2, 4)]).await;
    let behind = random.random_bool(0.6);
    if behind {
        cluster.stop_slon(2);
    }
    let pulse = Pulse::start(&cluster, &[&[1, 2, 3]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    cluster.kill_slon(1);
    cluster.close(1).await;
    if behind {
        cluster.start_slon(2);
    }
    let script = "failover (id = 1, backup node = 2);";
    for _ in 0..random.random_range(1..5) {
        let time = Duration::from_millis(random.random_range(5..400));
        cluster.slonik_killed_after(time, script).await;
        if random.random_bool(0.3) {
            let node = random.random_range(2..=4);
            cluster.kill_slon(node);
            cluster.start_slon(node);
        }
        if random.random_bool(0.2) {
            cluster.disconnect_all(random.random_range(2..=4)).await;
        }
    }
    cluster.slonik(script).await.succeeds();
    cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.assert_all_equal().await;
    for node in [2, 3, 4] {
        assert_eq!(origin_of(&cluster, node, 1).await, 2);
    }
    assert!(
        Beat::of_node(&beats, 3).is_empty(),
        "a node other than the backup node has accepted writes"
    );
    cluster.reopen(1).await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[2, 3, 4]).await;
    let refused = first_on(&beats, 2, lost_at);
    result(
        "slonik killed at random, run again",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}

/// While survivors take over, one of them dies as well, perhaps the one that leads.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_dies_during_a_failover_at_random() {
    let seed = test_seed("another_node_dies_during_a_failover_at_random");
    let mut random = seed.generator(0);
    let mut cluster = cluster_with(Cluster::new("domino", 4).await, &[(1, 2), (1, 3), (1, 4)]).await;
    // Node 3 leads more often than not.
    cluster.stop_slon(2);
    let pulse = Pulse::start(&cluster, &[&[1, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.kill_slon(1);
    cluster.close(1).await;
    cluster.start_slon(2);
    let delay = Duration::from_millis(random.random_range(0..500));
    let first = cluster.slonik_killed_after(delay + Duration::from_secs(4), "failover (id = 1, backup node = 2);");
    let death = async {
        tokio::time::sleep(delay).await;
        cluster.kill_slon(3);
        cluster.close(3).await;
    };
    let (first, ()) = tokio::join!(first, death);
    println!("node 3 dies after {delay:?}\n{}", first.transcript());
    cluster
        .slonik("failover (node = (id = 1, backup node = 2), node = (id = 3, backup node = 2));")
        .await
        .succeeds();
    cluster
        .slonik("drop node (id = '1,3', event node = 2);")
        .await
        .succeeds();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.lose(3);
    cluster.assert_all_equal().await;
    for node in [2, 4] {
        assert_eq!(origin_of(&cluster, node, 1).await, 2);
    }
    let kept = Pulse::rows(&cluster, 2).await;
    assert!(
        kept.is_superset(&Beat::of_node(&beats, 2)),
        "writes acknowledged by node 2 are lost"
    );
}

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
    result(
        "origin cut off, its clients go on",
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

/// The third node is served by the real slon 2.2.11.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_slon_survives_our_failover() {
    let Some(slony) = genuine_slony("a_real_slon_survives_our_failover") else {
        return;
    };
    let mut cluster = Cluster::new("realslon", 3).await;
    Pulse::prepare(&cluster).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon(1);
    cluster.start_slon(2);
    cluster.start_slon_program(&slony.slon, 3, &["-s", "100", "-t", "1000", "-g", "10"]);
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 1, 3).await;
    let pulse = Pulse::start(&cluster, &[&[1, 2]], PACE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost_at = Instant::now();
    cluster.kill_slon(1);
    cluster.close(1).await;
    cluster
        .slonik("failover (id = 1, backup node = 2); drop node (id = 1, event node = 2);")
        .await
        .succeeds();
    let beats = pulse.finish().await;
    cluster.lose(1);
    cluster.caught_up_within(Duration::from_secs(120)).await;
    cluster.assert_equal_now().await;
    cluster.reopen(1).await;
    let lost = assert_losses_known(&cluster, &beats, 1, &[2]).await;
    let refused = first_on(&beats, 2, lost_at);
    result(
        "third node served by the real slon 2.2.11",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}
