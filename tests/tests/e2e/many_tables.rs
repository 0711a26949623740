//! A set of a thousand tables.

use std::time::Duration;

use trunkline_tests::{Cluster, wait_until};

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

/// Statements for the tables `listed_1` to `listed_120`, with one in the middle that names none.
fn statements(wrong: Option<usize>) -> String {
    let add = |number: usize| {
        let name = if wrong == Some(number) {
            "nowhere".to_owned()
        } else {
            format!("listed_{number}")
        };
        format!(
            "set add table (set id = 1, origin = 1, id = {number}, fully qualified name = 'public.{name}', comment = 'c{number}');\n"
        )
    };
    (1..=120).map(add).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_statements_is_executed_together_and_fails_where_it_is_wrong() {
    let cluster = Cluster::new("listed", 2).await;
    let create = "do $$ begin for i in 1..120 loop execute format('create table listed_%s (id serial primary key, v text)', i); end loop; end $$";
    cluster.run_on_all(create).await;
    cluster.establish().await;
    cluster.slonik("create set (id = 1, origin = 1);").await.succeeds();
    let origin = cluster.connect(1).await;
    let tables = cluster.sql("select count(*) from @NAMESPACE@.sl_table");
    let events = cluster.sql("select count(*) from @NAMESPACE@.sl_event where ev_type = 'SET_ADD_TABLE'");

    // The 70th statement stands on line 70 behind the preamble.
    let line = cluster.preamble().lines().count() + 70;
    cluster
        .slonik(&statements(Some(70)))
        .await
        .fails()
        .says(&format!(":{line}: "))
        .says("table \"public\".\"nowhere\" not found");
    assert_eq!(
        origin.value::<i64>(&tables).await,
        69,
        "what stands before it is committed"
    );
    assert_eq!(origin.value::<i64>(&events).await, 69);
    cluster
        .slonik("drop set (id = 1, origin = 1); create set (id = 1, origin = 1);")
        .await
        .succeeds();

    // A table that somebody writes to is waited for.
    let writer = cluster.connect(1).await;
    writer.run("begin; insert into listed_50 (v) values ('open')").await;
    let waiting = async {
        cluster.slonik(&statements(None)).await.succeeds();
    };
    let ending = async {
        let waits = "select count(*) from pg_locks where not granted and relation = 'listed_50'::regclass";
        wait_until(
            "slonik waits for the writer",
            Duration::from_secs(30),
            async || match origin.value::<i64>(waits).await {
                0 => Err("nobody waits".to_owned()),
                _ => Ok(()),
            },
        )
        .await;
        writer.run("commit").await;
    };
    tokio::join!(waiting, ending);
    assert_eq!(origin.value::<i64>(&tables).await, 120);
    let order = cluster.sql(
        "select bool_and(tab_comment = 'c' || tab_id and tab_relname = 'listed_' || tab_id) from @NAMESPACE@.sl_table",
    );
    assert!(origin.value::<bool>(&order).await);
    cluster
        .slonik("set add sequence (set id = 1, origin = 1, sequences = '^public\\.listed_[0-9]+_id_seq$');")
        .await
        .succeeds();
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .run(
            1,
            "insert into listed_120 (v) values ('last'); insert into listed_1 (v) values ('first')",
        )
        .await;
    cluster.assert_all_equal().await;
    let sequences = cluster.sql("select count(*) from @NAMESPACE@.sl_sequence");
    assert_eq!(cluster.connect(2).await.value::<i64>(&sequences).await, 120);
}
