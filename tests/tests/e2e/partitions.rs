//! Partitions and inheritance children.

use trunkline_tests::Cluster;

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
