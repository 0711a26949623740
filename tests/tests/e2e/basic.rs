//! The way of a row, and nothing else.

use trunkline_tests::Cluster;

const TABLE: &str = "create table item (id serial primary key, name text not null, price numeric(10, 2))";
const TABLES: [&str; 1] = [r#""public"."item""#];
const SEQUENCES: [&str; 1] = [r#""public"."item_id_seq""#];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_reaches_a_subscriber() {
    let cluster = Cluster::new("basic", 2).await;
    cluster.run_on_all(TABLE).await;
    cluster
        .run(
            1,
            "insert into item (name, price) select 'before ' || i, i from generate_series(1, 1000) i",
        )
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &SEQUENCES).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.assert_equal_now().await;

    cluster
        .run(1, "insert into item (name, price) values ('new', 1.5), ('', null)")
        .await;
    cluster
        .run(1, "update item set price = price * 2 where id % 3 = 0")
        .await;
    cluster.run(1, "delete from item where id % 7 = 0").await;
    cluster.run(1, "select setval('item_id_seq', 5000)").await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster
            .connect(2)
            .await
            .value::<i64>("select last_value from item_id_seq")
            .await,
        5000
    );

    cluster
        .run(1, "truncate item; insert into item (name) values ('after')")
        .await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster.connect(2).await.rows("select id, name from item").await,
        ["5001|after"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_passes_rows_on() {
    let cluster = Cluster::new("cascade", 3).await;
    cluster.run_on_all(TABLE).await;
    cluster
        .run(1, "insert into item (name) select i from generate_series(1, 100) i")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &SEQUENCES).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
        .run(
            1,
            "insert into item (name) values ('x'); update item set name = name || '!' where id < 50",
        )
        .await;
    cluster.assert_all_equal().await;
    let third = cluster.connect(3).await;
    assert_eq!(
        third
            .value::<i64>("select count(*) from item where name like '%!'")
            .await,
        49
    );
    let provider = cluster.sql("select sub_provider from @NAMESPACE@.sl_subscribe where sub_receiver = 3");
    assert_eq!(third.value::<i32>(&provider).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_refuse_writes_and_the_origin_moves() {
    let cluster = Cluster::new("deny", 2).await;
    cluster.run_on_all(TABLE).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &SEQUENCES).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let (first, second) = (cluster.connect(1).await, cluster.connect(2).await);
    for statement in ["insert into item (name) values ('wrong')", "truncate item"] {
        let refused = second
            .try_run(statement)
            .await
            .expect_err("a subscriber must refuse writes");
        assert!(refused.contains("subscriber"), "{refused}");
    }
    cluster.move_set(1, 1, 2).await;
    second.run("insert into item (name) values ('right')").await;
    // With an id of its own: a default would take a number of the sequence although the row is refused.
    first
        .try_run("insert into item (id, name) values (99, 'wrong')")
        .await
        .expect_err("the old origin must refuse writes");
    cluster.assert_all_equal().await;
    assert_eq!(first.rows("select name from item").await, ["right"]);
}
