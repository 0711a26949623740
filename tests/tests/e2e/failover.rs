//! The origin is lost: survivors take over, and what is lost is known to the row.

mod faults;
mod interrupted;
mod old_origin;
mod topologies;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use trunkline_tests::{Beat, Cluster, PATIENCE, Pulse, genuine_slony, print_outcome};

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
fn outcome(scenario: &str, happens: &str, refused: Duration, acknowledged: usize, lost: usize) {
    print_outcome(scenario, happens, Some(refused), &format!("{lost} of {acknowledged}"));
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
    outcome(
        "origin killed, three nodes",
        "the backup node takes over; the old origin keeps writers out when its server is back",
        first_on(&beats, 2, killed),
        acknowledged,
        lost,
    );
    cluster.start_slon(1);
    assert_fenced(&cluster, 1, 2).await;
    assert_losses_known(&cluster, &beats, 1, &[2]).await;
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
    print_outcome(
        "nothing to hope for: no forwarding backup node, no path, a node out of reach",
        "refused before the first step, a line for each reason",
        None,
        "nothing changed",
    );
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
    outcome(
        "third node served by the real slon 2.2.11",
        "slonik waits for that slon's sessions to end, not for its restart",
        refused,
        Beat::of_node(&beats, 1).len(),
        lost,
    );
}
