//! Whose events are taken from whom.

use trunkline_sql::event_source::{Wish, without_gap};
use trunkline_tests::{Cluster, PATIENCE, slonik_string, wait_until};

/// Origins of the wishes that `provider` can meet for `local`.
async fn met(cluster: &Cluster, local: i32, provider: i32, wishes: &[(i32, i64)]) -> Vec<i32> {
    let wishes: Vec<Wish> = wishes
        .iter()
        .map(|(origin, after)| Wish {
            origin: *origin,
            after: *after,
        })
        .collect();
    let (local, provider) = (cluster.connect(local).await, cluster.connect(provider).await);
    without_gap(&local, &provider, cluster.name(), &wishes)
        .await
        .expect("both nodes answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_taken_from_a_node_that_joined_behind_them() {
    let cluster = Cluster::new("event_gap", 3).await;
    cluster.run_on_all("create table item (id int primary key)").await;
    let mut script =
        "init cluster (id = 1, comment = '1'); store node (id = 2, comment = '2', event node = 1);\n".to_owned();
    let mut joining = "store node (id = 3, comment = '3', event node = 1);\n".to_owned();
    for (server, client) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)] {
        let path = format!(
            "store path (server = {server}, client = {client}, conninfo = {});\n",
            slonik_string(&cluster.node(server).conninfo)
        );
        if server == 3 || client == 3 {
            joining.push_str(&path);
        } else {
            script.push_str(&path);
        }
    }
    cluster.slonik(&script).await.succeeds();
    cluster.start_slon(1);
    cluster.start_slon(2);
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster
        .slonik("wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    cluster.stop_slon(2);
    cluster.slonik(&joining).await.succeeds();
    cluster.start_slon(3);
    let third = cluster.connect(3).await;
    let start = cluster.sql("select os_seqno from @NAMESPACE@.tl_origin_start where os_origin = 1");
    let events = cluster.sql("select count(*) from @NAMESPACE@.sl_event where ev_origin = 1");
    wait_until("events of node 1 on node 3", PATIENCE, async || {
        match third.value::<i64>(&events).await {
            0..2 => Err("too few".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let start: i64 = third.value(&start).await;
    // Node 2 stands further back than where node 3 began, and would skip what is between.
    assert_eq!(met(&cluster, 2, 3, &[(1, start - 1)]).await, Vec::<i32>::new());
    assert_eq!(met(&cluster, 2, 3, &[(1, start)]).await, [1]);
    assert_eq!(met(&cluster, 2, 3, &[(1, start + 1)]).await, [1]);
    // Node 2 has not heard that there is a node 3: what it may have of a former one is worth nothing to node 1.
    assert_eq!(met(&cluster, 1, 2, &[(3, 0)]).await, Vec::<i32>::new());
    cluster.start_slon(2);
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    assert_eq!(met(&cluster, 1, 2, &[(3, 0)]).await, [3]);
    cluster.run(1, "insert into item select generate_series(1, 100)").await;
    cluster.assert_all_equal().await;
    // No gap on any node: events of node 1 are there from the first to the last, but for what is confirmed by all.
    let gaps = cluster.sql(
        "select count(*) from (select ev_seqno - lag(ev_seqno) over (order by ev_seqno) as step
                                 from @NAMESPACE@.sl_event where ev_origin = 1) as s where step > 1",
    );
    for node in [1, 2, 3] {
        assert_eq!(cluster.connect(node).await.value::<i64>(&gaps).await, 0, "node {node}");
    }
}
