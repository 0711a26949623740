//! TRUNCATE in all its forms.

use trunkline_tests::Cluster;

const TABLES: &str = "create table parent (id serial primary key, note text);
     create table child (id serial primary key, parent int references parent, note text);
     create table other (id int primary key)";

#[tokio::test(flavor = "multi_thread")]
async fn truncate_of_several_tables_cascading_and_restarting_sequences() {
    let cluster = Cluster::new("truncate", 2).await;
    cluster.run_on_all(TABLES).await;
    cluster.establish().await;
    cluster
        .create_set(
            1,
            1,
            &[r#""public"."parent""#, r#""public"."child""#, r#""public"."other""#],
            &[r#""public"."parent_id_seq""#, r#""public"."child_id_seq""#],
        )
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    let fill = "insert into parent (note) select i from generate_series(1, 50) i;
         insert into child (parent, note) select id, note from parent; insert into other select generate_series(1, 50)";
    let origin = cluster.connect(1).await;

    origin.run(fill).await;
    origin.run("truncate child, other").await;
    cluster.assert_all_equal().await;

    origin.run("insert into other values (1)").await;
    origin.run("truncate parent restart identity cascade").await;
    origin.run("insert into parent (note) values ('first again')").await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster.connect(2).await.rows("select id, note from parent").await,
        ["1|first again"]
    );

    // Before and after in one transaction, and one that never was.
    origin
        .run("begin; insert into other values (7); truncate other; insert into other values (8); commit")
        .await;
    origin.run("begin; truncate parent, child, other; rollback").await;
    origin
        .run("begin; savepoint s; truncate other; rollback to s; insert into other values (9); commit")
        .await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster.connect(2).await.rows("select id from other order by 1").await,
        ["8", "9"]
    );
}
