//! Whose events are taken from whom.

use trunkline_tests::{Cluster, PATIENCE, slonik_string, wait_until};

/// Node 3 is away while node 4 joins, and can reach it. Node 4 has node 1's events from its joining on only.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_taken_from_a_node_that_joined_behind_them() {
    let cluster = Cluster::new("event_gap", 4).await;
    cluster.run_on_all("create table item (id int primary key)").await;
    let path = |server: i32, client: i32| {
        format!(
            "store path (server = {server}, client = {client}, conninfo = {});\n",
            slonik_string(&cluster.node(server).conninfo)
        )
    };
    // Node 3 hears of node 1 over node 2, and later over node 4.
    let mut script = "init cluster (id = 1, comment = '1'); store node (id = 2, comment = '2', event node = 1);
                      store node (id = 3, comment = '3', event node = 1);\n"
        .to_owned();
    for (server, client) in [(1, 2), (2, 1), (2, 3), (3, 2)] {
        script.push_str(&path(server, client));
    }
    cluster.slonik(&script).await.succeeds();
    for node in [1, 2, 3] {
        cluster.start_slon(node);
    }
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster
        .slonik("wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    cluster.stop_slon(3);
    // Missed by node 3: a set made before node 4 joins.
    cluster
        .slonik("create set (id = 2, origin = 1, comment = 'while node 3 is away');\n")
        .await
        .succeeds();
    let mut joining = "store node (id = 4, comment = '4', event node = 1);\n".to_owned();
    for (server, client) in [(1, 4), (4, 1), (4, 3), (3, 4)] {
        joining.push_str(&path(server, client));
    }
    cluster.slonik(&joining).await.succeeds();
    cluster.start_slon(4);
    let fourth = cluster.connect(4).await;
    let events = cluster.sql("select count(*) from @NAMESPACE@.sl_event where ev_origin = 1");
    wait_until("events of node 1 on node 4", PATIENCE, async || {
        match fourth.value::<i64>(&events).await {
            0..5 => Err("too few".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    // Node 3 learns of the way over node 4 before it has the events that came before, and the other way is lost.
    cluster
        .run(
            3,
            &cluster.sql(&format!(
                "select @NAMESPACE@.storenode_int(4, '4'); select @NAMESPACE@.storepath_int(4, 3, {}, 1);
                 update @NAMESPACE@.sl_path set pa_conninfo = '<event pending>' where pa_server = 2 and pa_client = 3;
                 select @NAMESPACE@.rebuildlistenentries(); select @NAMESPACE@.storelisten_int(1, 4, 3)",
                slonik_string(&cluster.node(4).conninfo)
            )),
        )
        .await;
    cluster.start_slon(3);
    let third = cluster.connect(3).await;
    let trouble = cluster
        .sql("select coalesce(max(tr_message), '') from @NAMESPACE@.tl_trouble where tr_actor like 'remoteListen%_4'");
    wait_until("node 3 to say what node 4 lacks", PATIENCE, async || {
        let message: String = third.value(&trouble).await;
        if message.contains("cannot show that it has all events of node 1") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    let sets = cluster.sql("select count(*) from @NAMESPACE@.sl_set");
    assert_eq!(third.value::<i64>(&sets).await, 1, "nothing was taken beyond the gap");
    // The way over node 2 comes back, and with it all events in order.
    cluster.stop_slon(3);
    third
        .run(&cluster.sql(&format!(
            "select @NAMESPACE@.storepath_int(2, 3, {}, 1); select @NAMESPACE@.rebuildlistenentries()",
            slonik_string(&cluster.node(2).conninfo)
        )))
        .await;
    cluster.start_slon(3);
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.run(1, "insert into item select generate_series(1, 100)").await;
    cluster.assert_all_equal().await;
    assert_eq!(third.value::<i64>(&sets).await, 2);
    assert_eq!(third.value::<String>(&trouble).await, "", "the trouble is over");
}
