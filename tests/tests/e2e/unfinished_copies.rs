//! Subscriptions whose first copy is not done: they end for good when they are ended, on every node.

use trunkline_tests::{Cluster, PATIENCE, wait_until};

/// Three nodes; set 1 of node 1 with `first`, which nodes 2 and 3 have, and set 2 with `second`, which nobody has yet.
async fn two_sets(test: &str) -> Cluster {
    let cluster = Cluster::on_own_servers(test, 3).await;
    cluster
        .run_on_all("create table first (id int primary key); create table second (id int primary key)")
        .await;
    cluster
        .run(1, "insert into first values (1); insert into second values (1)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."first""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."second""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 1, 3).await;
    cluster
}

/// Waits until a query on a node answers `true`.
async fn holds(cluster: &Cluster, node: i32, what: &str, sql: &str) {
    let connection = cluster.connect(node).await;
    let sql = cluster.sql(sql);
    wait_until(&format!("node {node}: {what}"), PATIENCE, async || {
        if connection.value::<bool>(&sql).await {
            return Ok(());
        }
        let known = cluster.sql("select * from @NAMESPACE@.sl_subscribe");
        Err(connection.rows(&known).await.join("; "))
    })
    .await;
}

/// Panics if a node knows a subscription to set 2.
async fn assert_nobody_subscribes(cluster: &Cluster) {
    let ghosts = cluster.sql("select count(*) from @NAMESPACE@.sl_subscribe where sub_set = 2");
    for node in cluster.nodes() {
        let connection = cluster.connect(node.id).await;
        assert_eq!(connection.value::<i64>(&ghosts).await, 0, "on node {}", node.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_was_ended_does_not_come_back_whatever_arrives_first() {
    let cluster = two_sets("ghosts").await;
    // Node 2 cannot copy the set, node 3 gets on with nothing of node 1.
    cluster.run(2, "alter table second rename to absent").await;
    let holder = cluster.connect(3).await;
    holder.run("begin; lock table first").await;
    cluster.run(1, "insert into first values (2)").await;
    let waiting = "select exists (select from pg_catalog.pg_locks where not granted and relation = 'first'::regclass)";
    holds(&cluster, 3, "the change of node 1 waits for the table", waiting).await;
    cluster
        .slonik("subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);")
        .await
        .succeeds();
    let known = "select exists (select from @NAMESPACE@.sl_subscribe where sub_set = 2)";
    holds(&cluster, 2, "it knows its subscription", known).await;
    cluster
        .run(2, &cluster.sql("select @NAMESPACE@.unsubscribeSet(2, 2, false)"))
        .await;
    let ended = "select exists (select from @NAMESPACE@.sl_event where ev_type = 'UNSUBSCRIBE_SET')";
    holds(&cluster, 3, "it has heard that the subscription ended", ended).await;
    let begun = "select exists (select from @NAMESPACE@.sl_event where ev_type = 'SUBSCRIBE_SET' and ev_data1 = '2')";
    assert!(
        !holder.value::<bool>(&cluster.sql(begun)).await,
        "node 3 should not know yet that it began"
    );
    holder.run("commit").await;
    let enabled =
        "select exists (select from @NAMESPACE@.sl_event where ev_type = 'ENABLE_SUBSCRIPTION' and ev_data1 = '2')";
    for node in [2, 3] {
        holds(&cluster, node, "it has heard that the subscription began", enabled).await;
    }
    assert_nobody_subscribes(&cluster).await;

    // The next one counts.
    cluster.run(2, "alter table absent rename to second").await;
    cluster.subscribe(2, 1, 1, 2).await;
    cluster.subscribe(2, 1, 1, 3).await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_subscription_is_ended_meanwhile_is_not_kept() {
    let cluster = two_sets("ended_copy").await;
    let holder = cluster.connect(1).await;
    holder.run("begin; lock table second").await;
    cluster
        .slonik("subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);")
        .await
        .succeeds();
    let waiting = "select exists (select from pg_catalog.pg_locks where not granted and relation = 'second'::regclass)";
    holds(&cluster, 1, "the copy waits for the table", waiting).await;
    cluster
        .run(2, &cluster.sql("select @NAMESPACE@.unsubscribeSet(2, 2, false)"))
        .await;
    holder.run("commit").await;
    let enabled =
        "select exists (select from @NAMESPACE@.sl_event where ev_type = 'ENABLE_SUBSCRIPTION' and ev_data1 = '2')";
    for node in [2, 3] {
        holds(&cluster, node, "it has heard that the subscription began", enabled).await;
    }
    cluster.caught_up().await;
    assert_nobody_subscribes(&cluster).await;
    // An ordinary table, as it was.
    cluster.run(2, "insert into second values (7)").await;
    cluster.assert_all_equal().await;
}
