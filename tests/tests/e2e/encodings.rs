//! Databases of different encodings.

use trunkline_tests::{Cluster, Connection, PATIENCE, shared_server};

/// The rows as a client reads them: their bytes in the two databases are not the same.
async fn equal(cluster: &Cluster) {
    cluster.caught_up_within(PATIENCE).await;
    for table in ["words", "\"größe\""] {
        let select = format!("select r::text from {table} r");
        let mut origin = cluster.connect(1).await.rows(&select).await;
        let mut subscriber = cluster.connect(2).await.rows(&select).await;
        origin.sort();
        subscriber.sort();
        assert!(!origin.is_empty());
        assert_eq!(origin, subscriber, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latin1_database_is_subscriber_and_origin() {
    let cluster = Cluster::new("latin", 2).await;
    let database = &cluster.node(2).database;
    let admin = Connection::open(&shared_server().conninfo("postgres")).await;
    admin.run(&format!("drop database {database}")).await;
    admin
        .run(&format!(
            "create database {database} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0"
        ))
        .await;
    cluster.run(2, "create extension hstore").await;
    cluster
        .run_on_all("create table words (id int primary key, word text); create table \"größe\" (\"schlüssel\" int primary key)")
        .await;
    cluster
        .run(
            1,
            "insert into words values (1, 'déjà vu'); insert into \"größe\" values (1)",
        )
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."words""#, r#""public"."größe""#], &[])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .run(
            1,
            "insert into words values (2, 'Straße'); insert into \"größe\" values (2)",
        )
        .await;
    equal(&cluster).await;
    cluster.move_set(1, 1, 2).await;
    cluster
        .run(
            2,
            "insert into words values (3, 'façade'); update words set word = 'naïve' where id = 1; update \"größe\" set \"schlüssel\" = -1 where \"schlüssel\" = 1",
        )
        .await;
    equal(&cluster).await;
}
