//! A set of a thousand tables.

use std::time::Duration;

use trunkline_tests::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tables_in_one_set() {
    let cluster = Cluster::new("thousand", 2).await;
    let create = "do $$ begin for i in 1..1000 loop
         execute format('create table many_%s (id int primary key, v text); insert into many_%s select g, ''x'' from generate_series(1, 5) g', i, i);
         end loop; end $$";
    // Not all in one transaction: locks of 2000 relations are a lot for one.
    cluster.run_on_all(create).await;
    cluster
        .run(
            2,
            "do $$ begin for i in 1..1000 loop execute format('delete from many_%s', i); end loop; end $$",
        )
        .await;
    cluster.establish().await;
    cluster
        .slonik("create set (id = 1, origin = 1); set add table (set id = 1, origin = 1, tables = '^public\\.many_[0-9]+$');")
        .await
        .succeeds();
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .run(
            1,
            "do $$ begin for i in 1..1000 loop
             execute format('insert into many_%s values (6, ''new''); update many_%s set v = ''y'' where id = 1; delete from many_%s where id = 2', i, i, i);
             end loop; end $$",
        )
        .await;
    cluster.caught_up_within(Duration::from_secs(120)).await;
    cluster.assert_equal_now().await;
    let tables = cluster.sql("select count(*) from @NAMESPACE@.sl_table");
    assert_eq!(cluster.connect(2).await.value::<i64>(&tables).await, 1000);
}
