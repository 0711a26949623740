//! Partitions and inheritance children.

use trunkline_tests::{Cluster, PATIENCE, slonik_string, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn writes_through_the_parent_reach_the_partitions_of_a_subscriber() {
    let cluster = Cluster::new("partitions", 3).await;
    // Keys on the parent exist since PostgreSQL 11; per partition they work everywhere.
    cluster
        .run_on_all(
            "create table metric (id int not null, day date not null, v text) partition by range (day);
             create table metric_2024 partition of metric for values from ('2024-01-01') to ('2025-01-01');
             create table metric_2025 partition of metric for values from ('2025-01-01') to ('2026-01-01') partition by list (id);
             create table metric_2025_odd partition of metric_2025 for values in (1, 3, 5, 7, 9);
             create table metric_2025_even partition of metric_2025 for values in (2, 4, 6, 8, 10);
             alter table metric_2024 add primary key (id, day); alter table metric_2025_odd add primary key (id, day);
             alter table metric_2025_even add primary key (id, day)",
        )
        .await;
    cluster
        .run(
            1,
            "insert into metric select i, '2024-05-01'::date + i, 'copied' from generate_series(1, 10) i",
        )
        .await;
    cluster.establish().await;
    let leaves = [
        r#""public"."metric_2024""#,
        r#""public"."metric_2025_odd""#,
        r#""public"."metric_2025_even""#,
    ];
    cluster.create_set(1, 1, &leaves, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    let origin = cluster.connect(1).await;
    origin
        .run("insert into metric select i, '2025-03-01'::date + i, 'through the root' from generate_series(1, 10) i")
        .await;
    origin.run("insert into metric_2025 values (1, '2025-08-01', 'through the middle'); insert into metric_2025_even values (2, '2025-08-01', 'leaf')").await;
    origin.run("update metric set v = v || '!' where id < 6").await;
    if origin.server_major().await >= 11 {
        // The row leaves one partition and enters another.
        origin.run("update metric set day = day + 366 where v = 'copied' and id > 7; update metric set id = 4 where id = 1 and day = '2025-08-01'").await;
    }
    origin.run("delete from metric where id = 5").await;
    cluster.assert_all_equal().await;
    origin.run("truncate metric_2025").await;
    origin.run("insert into metric values (4, '2025-12-31', 'after')").await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster.connect(3).await.rows("select id, v from metric_2025").await,
        ["4|after"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parent_and_inheritance_children_are_tables_of_their_own() {
    let cluster = Cluster::new("inheritance", 2).await;
    cluster
        .run_on_all(
            "create table animal (id int primary key, name text);
             create table dog (breed text, primary key (id)) inherits (animal);
             create table puppy (weeks int, primary key (id)) inherits (dog)",
        )
        .await;
    cluster.run(1, "insert into animal values (1, 'cow'); insert into dog values (2, 'rex', 'mix'); insert into puppy values (3, 'p', 'mix', 9)").await;
    cluster.establish().await;
    cluster
        .create_set(
            1,
            1,
            &[r#""public"."animal""#, r#""public"."dog""#, r#""public"."puppy""#],
            &[],
        )
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.assert_equal_now().await;
    // One statement on the parent changes rows of all three; equal keys in parent and child are different rows.
    cluster.run(1, "update animal set name = name || ' II'; insert into dog values (1, 'same key', 'pug'); update only animal set name = 'only' where id = 1").await;
    cluster.run(1, "delete from animal where id = 2; insert into puppy values (4, 'q', null, 1); delete from only animal where id = 4").await;
    cluster.assert_all_equal().await;
    cluster.run(1, "truncate only animal; truncate dog").await;
    cluster.run(1, "insert into animal values (10, 'new')").await;
    cluster.assert_all_equal().await;
}

/// Waits until a partition that was dropped is a member of a set on no node.
async fn forgotten(cluster: &Cluster, partition: &str) {
    for node in cluster.nodes() {
        let connection = cluster.connect(node.id).await;
        let count = cluster.sql(&format!(
            "select count(*) from @NAMESPACE@.sl_table where tab_relname = '{partition}'"
        ));
        let what = format!("{partition} to leave its set on node {}", node.id);
        wait_until(&what, PATIENCE, async || match connection.value::<i64>(&count).await {
            0 => Ok(()),
            _ => Err("it has not".to_owned()),
        })
        .await;
    }
}

/// Waits until a partition is a member of its set on a node.
async fn adopted(cluster: &Cluster, node: i32, partition: &str) {
    let connection = cluster.connect(node).await;
    let count = cluster.sql(&format!(
        "select count(*) from @NAMESPACE@.sl_table where tab_relname = '{partition}'"
    ));
    wait_until(
        &format!("{partition} to be replicated on node {node}"),
        PATIENCE,
        async || match connection.value::<i64>(&count).await {
            0 => Err("it is not".to_owned()),
            _ => Ok(()),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_parent_is_replicated_with_partitions_that_come_later() {
    let cluster = Cluster::new("parents", 3).await;
    if cluster.connect(1).await.server_major().await < 11 {
        // Keys on the parent exist since PostgreSQL 11.
        return;
    }
    cluster
        .run_on_all(
            "create table metric (id int not null, day date not null, v text, primary key (id, day)) partition by range (day);
             create table metric_2024 partition of metric for values from ('2024-01-01') to ('2025-01-01');
             create table metric_2025 partition of metric for values from ('2025-01-01') to ('2026-01-01') partition by list (id);
             create table metric_2025_a partition of metric_2025 for values in (1, 2, 3)",
        )
        .await;
    cluster
        .run(1, "insert into metric values (1, '2024-05-01', 'copied')")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &["public.metric"], &[]).await;
    // A table without a number goes on from the numbers of people, not from those of partitions.
    cluster.run(1, "create table plain (id int primary key)").await;
    cluster
        .slonik(
            "create set (id = 2, origin = 1);
             set add table (set id = 2, origin = 1, fully qualified name = 'public.plain');",
        )
        .await
        .succeeds();
    let number = cluster.sql("select tab_id from @NAMESPACE@.sl_table where tab_set = 2");
    assert_eq!(cluster.connect(1).await.value::<i32>(&number).await, 1);
    cluster.slonik("drop set (id = 2, origin = 1);").await.succeeds();
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    // Node 2 has the new partition, attached by its DBA with another order of columns; node 3 gets it from the origin.
    cluster
        .run(
            2,
            "create table metric_2026 (v text, day date not null, id int not null, primary key (id, day));
             alter table metric attach partition metric_2026 for values from ('2026-01-01') to ('2027-01-01')",
        )
        .await;
    cluster
        .run(
            1,
            "create table metric_2026 partition of metric for values from ('2026-01-01') to ('2027-01-01');
             insert into metric select i, '2026-02-01', E'before \\\\ it \\' joined ' || i from generate_series(1, 50) i;
             update metric set v = v || '!' where id % 2 = 0; delete from metric where id = 7",
        )
        .await;
    for node in [1, 2, 3] {
        adopted(&cluster, node, "metric_2026").await;
    }
    cluster
        .run(
            1,
            "insert into metric values (100, '2026-03-01', 'afterwards'); update metric set day = '2024-06-01' where id = 8;
             update metric set v = null where id = 9",
        )
        .await;
    cluster.assert_all_equal().await;
    // By a script, one level deeper; the rows in the same script are the script's own.
    cluster
        .slonik(
            "execute script (sql = 'create table metric_2025_b partition of metric_2025 for values in (4, 5, 6);', event node = 1);",
        )
        .await
        .succeeds();
    cluster
        .run(1, "insert into metric values (5, '2025-03-01', 'behind the script')")
        .await;
    cluster.assert_all_equal().await;
    adopted(&cluster, 3, "metric_2025_b").await;
    // Whoever the origin is.
    cluster.move_set(1, 1, 2).await;
    cluster
        .run(
            2,
            "create table metric_2027 partition of metric for values from ('2027-01-01') to ('2028-01-01');
             insert into metric values (1, '2027-02-01', 'on the new origin')",
        )
        .await;
    for node in [1, 2, 3] {
        adopted(&cluster, node, "metric_2027").await;
    }
    cluster.assert_all_equal().await;
    let third = cluster.connect(3).await;
    assert_eq!(third.value::<i64>("select count(*) from metric_2026").await, 49);
    cluster.run(2, "truncate metric").await;
    cluster
        .run(2, "insert into metric values (2, '2025-01-01', 'after')")
        .await;
    cluster.assert_all_equal().await;
    assert_eq!(third.rows("select id, v from metric").await, ["2|after"]);
    // Dropped everywhere by a script, and on the origin alone: both leave the set, which can go on moving.
    cluster
        .slonik("execute script (sql = 'drop table metric_2024', event node = 2);")
        .await
        .succeeds();
    cluster
        .run(2, "insert into metric values (3, '2026-01-01', 'old')")
        .await;
    cluster.assert_all_equal().await;
    cluster.run(2, "drop table metric_2026").await;
    forgotten(&cluster, "metric_2024").await;
    forgotten(&cluster, "metric_2026").await;
    assert_eq!(third.value::<i64>("select count(*) from metric_2026").await, 1);
    cluster.run(1, "drop table metric_2026").await;
    cluster.move_set(1, 2, 1).await;
    cluster
        .run(1, "insert into metric values (3, '2027-01-01', 'moved on')")
        .await;
    cluster.assert_all_equal().await;
}

/// Rows written through the parent would pass the statement triggers of the table by.
#[tokio::test(flavor = "multi_thread")]
async fn a_replicated_table_becomes_a_partition_by_a_script_that_asks_for_capture_by_row() {
    let cluster = Cluster::new("attached", 2).await;
    cluster
        .run_on_all("create table item (id int primary key, v text); create table whole (id int not null, v text) partition by list (v)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &["public.item"], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    // Both have been the origin, so both have the bar.
    cluster.move_set(1, 1, 2).await;
    cluster.move_set(1, 2, 1).await;
    let origin = cluster.connect(1).await;
    origin.run("insert into item values (1, 'a'), (2, 'a')").await;
    let attach = "alter table whole attach partition item for values in ('a')";
    for node in [1, 2] {
        let refusal = cluster.connect(node).await.try_run(attach).await.unwrap_err();
        assert!(refusal.contains("see_tl_capture_mode"), "node {node}: {refusal}");
    }
    let script = cluster.sql(&format!(
        "select @NAMESPACE@.tl_capture_mode(tab_id, 'row') from @NAMESPACE@.sl_table; {attach};"
    ));
    cluster
        .slonik(&format!(
            "execute script (sql = {}, event node = 1);",
            slonik_string(&script)
        ))
        .await
        .succeeds();
    origin
        .run("insert into whole values (3, 'a'), (4, 'a'); update whole set id = id + 10 where id < 3; delete from whole where id = 4")
        .await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster.connect(2).await.rows("select id from item order by id").await,
        ["3", "11", "12"]
    );
}
