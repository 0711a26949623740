//! Our slons and the real slon 2.2.11 in one cluster.

use std::time::Duration;

use trunkline_tests::{Cluster, genuine_slony, run_slonik};

const TABLES: &str =
    "create table item (id serial primary key, name text, price numeric, at timestamptz, raw bytea, tags text[]);
     create table pair (a int, b text, v text, primary key (a, b))";
const NAMES: [&str; 2] = [r#""public"."item""#, r#""public"."pair""#];
const SEQUENCES: [&str; 1] = [r#""public"."item_id_seq""#];

/// The real slon polls in seconds; these options make it as quick as it can be.
const QUICK: [&str; 6] = ["-s", "100", "-t", "1000", "-g", "10"];
const TIME: Duration = Duration::from_secs(120);

const CHANGES: &str = r#"insert into item (name, price, at, raw, tags) select 'row ' || i || E' \\ '' "" é', i / 3.0, now(), decode('00ff5c', 'hex'), array['a', null, E'\\'] from generate_series(1, 200) i;
     update item set price = price * 2, tags = null where id % 3 = 0; update item set name = name; update item set id = id + 100000 where id % 50 = 0; delete from item where id % 7 = 0;
     delete from pair; insert into pair select i, 'b', null from generate_series(1, 20) i; update pair set a = a + 100, v = 'moved' where a > 10; delete from pair where a = 1"#;

/// Node 2 is served by the real slon, between ours: it applies what our triggers logged, and forwards to node 3.
async fn real_slon_in_the_middle(cluster: &Cluster, slon: &std::path::Path) {
    cluster.start_slon(1);
    cluster.start_slon_program(slon, 2, &QUICK);
    cluster.start_slon(3);
    cluster.create_set(1, 1, &NAMES, &SEQUENCES).await;
    cluster.run(1, CHANGES).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.run(1, CHANGES).await;
    cluster.caught_up_within(TIME).await;
    cluster.assert_equal_now().await;
    cluster.run(1, "truncate pair").await;
    cluster
        .run(1, "insert into pair values (1, 'after truncate', null)")
        .await;
    cluster.caught_up_within(TIME).await;
    cluster.assert_equal_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_slon_serves_a_node_that_our_slonik_installed() {
    let Some(slony) = genuine_slony("the_real_slon_serves_a_node_that_our_slonik_installed") else {
        return;
    };
    let cluster = Cluster::new("interop", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    real_slon_in_the_middle(&cluster, &slony.slon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_slons_join_a_cluster_that_the_real_slonik_made() {
    let Some(slony) = genuine_slony("our_slons_join_a_cluster_that_the_real_slonik_made") else {
        return;
    };
    let cluster = Cluster::new("takeover", 3).await;
    cluster.run_on_all(TABLES).await;
    let script = format!("{}{}", cluster.preamble(), cluster.establishing_script());
    run_slonik(&slony.slonik, &["-w"], &script).await.succeeds();
    real_slon_in_the_middle(&cluster, &slony.slon).await;
}
