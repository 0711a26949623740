//! The origin is lost: survivors take over, and what is lost is known to the row.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_tests::{Beat, Cluster, PATIENCE, Pulse};

/// Inserts of each writer come this far apart.
const PACE: Duration = Duration::from_millis(5);

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
            "select (public.hstore(log_cmdargs) -> 'id')::bigint from (select * from @NAMESPACE@.sl_log_1 union all select * from @NAMESPACE@.sl_log_2) l
              where log_origin = {failed} and log_tablerelname = 'pulse' and log_cmdtype = 'I'
                and not txid_visible_in_snapshot(log_txid, '{snapshot}')"
        )))
        .await;
    rows.into_iter().collect()
}

/// Waits until a new write is accepted by `node` and refused by nobody else who is reachable.
fn first_on(beats: &[Beat], node: i32, after: Instant) -> Duration {
    beats
        .iter()
        .find(|beat| beat.node == node && beat.at > after)
        .map_or_else(|| panic!("node {node} accepted no write"), |beat| beat.at - after)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_dies_under_load() {
    let mut cluster = Cluster::on_own_servers("failover", 3).await;
    Pulse::prepare(&cluster).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[Pulse::TABLE], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 1, 3).await;
    let pulse = Pulse::start(&cluster, &[&[1, 2], &[1, 2]], PACE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = Instant::now();
    cluster.kill_slon(1);
    cluster.server(1).kill();
    let run = cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    println!("{}", run.transcript());
    let dropped = cluster.slonik("drop node (id = 1, event node = 2);").await.succeeds();
    println!("{}", dropped.transcript());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let beats = pulse.finish().await;
    println!("first write on node 2 {:?} after the kill", first_on(&beats, 2, killed));
    cluster.lose(1);
    cluster.assert_all_equal().await;

    // The dead server comes back.
    cluster.server(1).start().unwrap();
    let lost: BTreeSet<i64> = Beat::rows(&cluster, 1)
        .await
        .difference(&Beat::rows(&cluster, 2).await)
        .copied()
        .collect();
    assert_eq!(
        unsent(&cluster, 1, 2).await,
        lost,
        "what the record of the failover says is lost"
    );
    assert_eq!(unsent(&cluster, 1, 3).await, lost, "every survivor has the record");
    let acknowledged = Beat::of_node(&beats, 1);
    println!(
        "{} writes acknowledged by node 1, {} of them lost",
        acknowledged.len(),
        acknowledged.intersection(&lost).count()
    );
    cluster.run(1, "insert into pulse values (-1, 1)").await;
    cluster.start_slon(1);
    let status = cluster.with_slon(1, |slon| slon.wait(PATIENCE));
    assert_eq!(status.code(), Some(3), "{}", cluster.with_slon(1, |slon| slon.log()));
    let refused = cluster
        .connect(1)
        .await
        .try_run("insert into pulse values (-2, 1)")
        .await
        .unwrap_err();
    assert!(refused.contains("set 1 originates on node 2 now"), "{refused}");
}
