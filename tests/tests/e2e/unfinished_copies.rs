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

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_ends_what_is_still_being_copied_and_goes_on_with_the_rest() {
    let mut cluster = two_sets("half_copied").await;
    cluster.subscribe(2, 1, 1, 2).await;
    // Node 3 cannot copy the set; the others take the subscription for active.
    cluster.run(3, "alter table second rename to absent").await;
    cluster
        .slonik("subscribe set (id = 2, provider = 1, receiver = 3, forward = no);")
        .await
        .succeeds();
    let thought =
        "select exists (select from @NAMESPACE@.sl_subscribe where sub_set = 2 and sub_receiver = 3 and sub_active)";
    holds(&cluster, 2, "it takes the subscription of node 3 for active", thought).await;
    let known = "select exists (select from @NAMESPACE@.sl_subscribe where sub_set = 2 and sub_receiver = 3)";
    holds(&cluster, 3, "it knows its subscription", known).await;

    let failover = ["failover", "--failed", "1", "-f"];
    let with = |more: &[&'static str]| [&failover[..], more].concat();
    cluster
        .slonctl_from(2, &with(&["--although-alive", "--to", "3", "--dry-run"]))
        .await
        .exits(3)
        .says("node 3 has not finished its first copy of set 2");
    cluster.kill_slon(1);
    cluster.server(1).kill();
    cluster
        .slonctl_of(&[2, 3], &failover)
        .await
        .exits(0)
        .says("the failover ends this subscription")
        .says("`subscribe set (id = 2, provider = 2, receiver = 3, forward = no);`")
        .says("done: the origin of set 1, 2 is node 2");
    cluster.lose(1);
    for node in [2, 3] {
        let connection = cluster.connect(node).await;
        assert!(!connection.value::<bool>(&cluster.sql(known)).await, "on node {node}");
    }
    cluster.run(3, "alter table absent rename to second").await;
    cluster
        .run(2, "insert into first values (3); insert into second values (3)")
        .await;
    cluster
        .slonik(
            "subscribe set (id = 2, provider = 2, receiver = 3, forward = no);\n\
             wait for event (origin = 2, confirmed = all, wait on = 2, timeout = 60);",
        )
        .await
        .succeeds();
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_nobody_has_completely_does_not_keep_the_others_from_being_taken_over() {
    let mut cluster = two_sets("half_lost").await;
    let holder = cluster.connect(1).await;
    holder.run("begin; lock table second").await;
    cluster
        .slonik("subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);")
        .await
        .succeeds();
    let waiting = "select exists (select from pg_catalog.pg_locks where not granted and relation = 'second'::regclass)";
    holds(&cluster, 1, "the copy waits for the table", waiting).await;
    // What hangs in the copy learns nothing of its end.
    cluster.kill_slon(1);
    cluster.server(1).freeze();
    cluster
        .slonik("failover (id = 1, backup node = 2);")
        .await
        .succeeds()
        .says("node 2 has not finished its first copy of set 2: its subscription ends")
        .says("nobody has the rest of it any more")
        .says("set 2 of node 1 is complete on no node that stays");
    cluster.lose(1);
    cluster
        .run(2, "insert into first values (3); insert into second values (3)")
        .await;
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
    let members = cluster.sql("select count(*) from @NAMESPACE@.sl_table where tab_set = 2");
    assert_eq!(cluster.connect(2).await.value::<i64>(&members).await, 0);
    assert_nobody_subscribes(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_its_receiver_hears_of_after_the_failover_ends_by_itself() {
    let mut cluster = two_sets("late_subscription").await;
    cluster.subscribe(2, 1, 1, 2).await;
    let holder = cluster.connect(3).await;
    holder.run("begin; lock table first").await;
    cluster.run(1, "insert into first values (2)").await;
    let waiting = "select exists (select from pg_catalog.pg_locks where not granted and relation = 'first'::regclass)";
    holds(&cluster, 3, "the change of node 1 waits for the table", waiting).await;
    cluster
        .slonik("subscribe set (id = 2, provider = 1, receiver = 3, forward = yes);")
        .await
        .succeeds();
    let known = "select exists (select from @NAMESPACE@.sl_subscribe where sub_set = 2 and sub_receiver = 3)";
    holds(&cluster, 2, "it knows the subscription of node 3", known).await;
    cluster.kill_slon(1);
    cluster.server(1).kill();
    let taken = "select exists (select from @NAMESPACE@.sl_set where set_origin = 2)";
    let (run, ()) = tokio::join!(cluster.slonik("failover (id = 1, backup node = 2);"), async {
        holds(&cluster, 2, "it has taken over", taken).await;
        holder.run("commit").await;
    });
    run.succeeds();
    cluster.lose(1);
    cluster.caught_up().await;
    assert_nobody_subscribes(&cluster).await;
    cluster
        .run(2, "insert into first values (3); insert into second values (3)")
        .await;
    cluster
        .slonik(
            "subscribe set (id = 2, provider = 2, receiver = 3, forward = yes);\n\
             wait for event (origin = 2, confirmed = all, wait on = 2, timeout = 60);",
        )
        .await
        .succeeds();
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_for_nothing_but_a_half_copy_is_refused_with_a_way_out_that_works() {
    let mut cluster = Cluster::on_own_servers("half_only", 2).await;
    cluster.run_on_all("create table second (id int primary key)").await;
    cluster.establish().await;
    cluster.create_set(2, 1, &[r#""public"."second""#], &[]).await;
    let holder = cluster.connect(1).await;
    holder.run("begin; lock table second").await;
    cluster
        .slonik("subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);")
        .await
        .succeeds();
    let waiting = "select exists (select from pg_catalog.pg_locks where not granted and relation = 'second'::regclass)";
    holds(&cluster, 1, "the copy waits for the table", waiting).await;
    cluster.kill_slon(1);
    cluster.server(1).kill();
    let failover = "failover (id = 1, backup node = 2);";
    cluster
        .slonik(failover)
        .await
        .fails()
        .says("no node that stays has a set of node 1 completely")
        .says("`unsubscribe set (id = 2, receiver = 2)` first");
    cluster
        .slonctl_from(2, &["failover", "--failed", "1", "-f"])
        .await
        .exits(3)
        .says("node 2 has not finished its first copy of set 2");
    cluster
        .slonik("unsubscribe set (id = 2, receiver = 2);")
        .await
        .succeeds();
    cluster
        .slonik(&format!("{failover} drop node (id = 1, event node = 2);"))
        .await
        .succeeds()
        .says("set 2 of node 1 has no subscriber");
    cluster.lose(1);
    cluster.run(2, "insert into second values (1)").await;
    assert_nobody_subscribes(&cluster).await;
}
