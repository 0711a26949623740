//! Statements that change who gives what to whom, end to end.

use trunkline_tests::{Cluster, genuine_slony, program, run_slonik};

const TABLES: &str = "create table item (id serial primary key, v text); create table more (id int primary key)";

#[tokio::test(flavor = "multi_thread")]
async fn resubscribe_node_turns_all_sets_away_from_a_provider_that_is_gone() {
    let cluster = Cluster::new("resubscribe", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."more""#], &[]).await;
    for set in [1, 2] {
        cluster.subscribe(set, 1, 1, 2).await;
        cluster.subscribe(set, 1, 2, 3).await;
    }
    cluster.stop_slon(2);
    cluster
        .run(
            1,
            "insert into item (v) select i from generate_series(1, 50) i; insert into more values (1)",
        )
        .await;
    // The automatic wait would wait for node 2, whose slon is gone.
    let script = format!(
        "{}resubscribe node (origin = 1, provider = 1, receiver = 3);\n",
        cluster.preamble()
    );
    run_slonik(&program("slonik"), &["-w"], &script).await.succeeds();
    let providers =
        cluster.sql("select sub_provider from @NAMESPACE@.sl_subscribe where sub_receiver = 3 order by sub_set");
    for node in [1, 3] {
        assert_eq!(
            cluster.connect(node).await.rows(&providers).await,
            ["1", "1"],
            "node {node}"
        );
    }
    cluster
        .slonik("sync (id = 1);\nwait for event (origin = 1, confirmed = 3, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    cluster.start_slon(2);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_set_takes_its_tables_along() {
    let cluster = Cluster::new("create_filled", 1).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(1, "create table other (id int primary key)").await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster
        .slonik("create set (id = 4, origin = 1, tables = '^public\\.(item|more)$', add sequences = yes);\n")
        .await
        .succeeds();
    let node = cluster.connect(1).await;
    let members = cluster.sql(
        "select tab_set, tab_id, tab_relname from @NAMESPACE@.sl_table
          union all select seq_set, seq_id, seq_relname from @NAMESPACE@.sl_sequence",
    );
    assert_eq!(node.rows(&members).await, ["4|1|item", "4|2|more", "4|1|item_id_seq"]);
    cluster
        .slonik("create set (id = 5, origin = 1, add sequences = yes);\n")
        .await
        .fails()
        .says("'add sequences' belongs to 'tables'");
    // Adding tables commits, and with it the set: the first statement of a `try` block says so like any other.
    cluster
        .slonik(
            "try { create set (id = 6, origin = 1, tables = '^public\\.other$'); drop set (id = 9, origin = 1); }
             on error { echo 'undone?'; }\n",
        )
        .await
        .says("warning: this commits what the `try` block has done before on node 1");
    let sets = cluster.sql("select set_id from @NAMESPACE@.sl_set order by 1");
    assert_eq!(node.rows(&sets).await, ["4", "6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_config_finds_what_a_restored_dump_has_renumbered() {
    let cluster = Cluster::new("repair", 2).await;
    cluster.run_on_all(TABLES).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster
        .create_set(
            1,
            1,
            &[r#""public"."item""#, r#""public"."more""#],
            &[r#""public"."item_id_seq""#],
        )
        .await;
    let damage = cluster.sql(
        "update @NAMESPACE@.sl_table set tab_reloid = (tab_reloid::bigint + 100000)::oid;
         update @NAMESPACE@.sl_sequence set seq_reloid = (seq_reloid::bigint + 100000)::oid",
    );
    cluster.run(1, &damage).await;
    let wrong = cluster.sql(
        "select (select count(*) from @NAMESPACE@.sl_table where tab_reloid <> format('%I.%I', tab_nspname, tab_relname)::regclass)
              + (select count(*) from @NAMESPACE@.sl_sequence where seq_reloid <> format('%I.%I', seq_nspname, seq_relname)::regclass)",
    );
    let node = cluster.connect(1).await;
    cluster
        .slonik("repair config (set id = 1, event node = 1, execute only on = 2);\n")
        .await
        .succeeds();
    assert_eq!(node.value::<i64>(&wrong).await, 3, "the other node was meant");
    cluster.slonik("repair config (set id = 1);\n").await.succeeds();
    assert_eq!(node.value::<i64>(&wrong).await, 0);
    cluster
        .slonik("repair config (set id = 7);\n")
        .await
        .succeeds()
        .says("warning: node 1 knows no set 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_node_takes_a_provider_together_with_its_receiver() {
    let cluster = Cluster::new("drop_list", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    let subscribe =
        "select @NAMESPACE@.subscribeSet(1, 1, 2, true, false); select @NAMESPACE@.subscribeSet(1, 2, 3, true, false)";
    cluster.run(1, &cluster.sql(subscribe)).await;
    let preamble = cluster.preamble();
    let run = |script: &str| {
        let script = format!("{preamble}{script}\n");
        async move { run_slonik(&program("slonik"), &["-w"], &script).await }
    };
    run("drop node (id = 2, event node = 1);")
        .await
        .fails()
        .says("Node 2 is still configured as a data provider");
    run("drop node (id = '2,3', event node = 1);").await.succeeds();
    let node = cluster.connect(1).await;
    let left = cluster.sql("select no_id from @NAMESPACE@.sl_node");
    assert_eq!(node.rows(&left).await, ["1"]);
    let event = cluster.sql("select ev_data1 from @NAMESPACE@.sl_event where ev_type = 'DROP_NODE'");
    assert_eq!(node.rows(&event).await, ["3,2"], "receivers before their providers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_made_by_the_real_slonik_is_taken_over_node_by_node() {
    let Some(slony) = genuine_slony("a_cluster_made_by_the_real_slonik_is_taken_over_node_by_node") else {
        return;
    };
    let cluster = Cluster::new("take_over", 2).await;
    cluster.run_on_all(TABLES).await;
    let script = format!(
        "{}{}create set (id = 1, origin = 1);\n\
         set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public.item', add sequences = yes);\n",
        cluster.preamble(),
        cluster.establishing_script()
    );
    run_slonik(&slony.slonik, &["-w"], &script).await.succeeds();
    cluster
        .run(1, "insert into item (v) select i from generate_series(1, 100) i")
        .await;
    for node in [1, 2] {
        cluster.start_slon(node);
    }
    cluster.subscribe(1, 1, 1, 2).await;
    for node in [2, 1] {
        cluster.run(1, "insert into item (v) values ('before')").await;
        cluster.stop_slon(node);
        cluster
            .slonik(&format!("update functions (id = {node});\n"))
            .await
            .succeeds();
        cluster.run(1, "update item set v = v || '!' where id < 20").await;
        cluster.start_slon(node);
        cluster.assert_all_equal().await;
    }
    let language = "select l.lanname from pg_proc p join pg_language l on l.oid = p.prolang
                     where p.proname = 'logtrigger' and p.pronamespace = '_e2e'::regnamespace";
    assert_eq!(cluster.connect(1).await.rows(language).await, ["plpgsql"]);
    cluster.move_set(1, 1, 2).await;
    cluster.run(2, "insert into item (v) values ('here')").await;
    cluster.assert_all_equal().await;
}
