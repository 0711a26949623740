//! Nodes come, go and come back; members of sets are chosen and numbered.

use trunkline_tests::Cluster;

const TABLE: &str = r#"create table item (id serial primary key, v text);
    create table "Odd.Name" ("A b" int primary key);
    create table pair (a int, b int, c int not null, primary key (a, b), constraint pair_c unique (c));
    create sequence counter"#;

async fn column(cluster: &Cluster, node: i32, sql: &str) -> Vec<String> {
    cluster.connect(node).await.rows(&cluster.sql(sql)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_chosen_by_pattern_and_numbered_by_slonik() {
    let cluster = Cluster::new("members", 2).await;
    cluster.run_on_all(TABLE).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster
        .slonik(
            "create set (id = 1, origin = 1);\n\
             set add table (set id = 1, tables = '^public\\.', add sequences = yes);\n\
             set add sequence (set id = 1, origin = 1, id = 40, fully qualified name = 'public.counter');\n",
        )
        .await
        .succeeds();
    assert_eq!(
        column(
            &cluster,
            1,
            "select tab_id, tab_relname, tab_idxname, tab_comment from @NAMESPACE@.sl_table order by 1"
        )
        .await,
        [
            "1|Odd.Name|Odd.Name_pkey|replicated table",
            "2|item|item_pkey|replicated table",
            "3|pair|pair_pkey|replicated table"
        ]
    );
    assert_eq!(
        column(
            &cluster,
            1,
            "select seq_id, seq_relname, seq_comment from @NAMESPACE@.sl_sequence order by 1"
        )
        .await,
        ["1|item_id_seq|sequence for public.item", "40|counter|public.counter"]
    );
    let events = "select ev_type from @NAMESPACE@.sl_event where ev_type like 'S%' and ev_type <> 'STORE_PATH'
                     and ev_type <> 'STORE_NODE' order by ev_seqno";
    assert_eq!(
        column(&cluster, 1, events).await,
        [
            "STORE_SET",
            "SYNC",
            "SET_ADD_TABLE",
            "SET_ADD_TABLE",
            "SET_ADD_SEQUENCE",
            "SET_ADD_TABLE",
            "SYNC",
            "SET_ADD_SEQUENCE"
        ]
    );
    cluster
        .slonik(
            "create set (id = 2, origin = 1); set drop table (id = 3, origin = 1);\n\
                 set add table (set id = 2, fully qualified name = 'public.pair', key = 'pair_c');\n\
                 set move sequence (id = 40, origin = 1, new set = 2);\n",
        )
        .await
        .succeeds();
    assert_eq!(
        column(
            &cluster,
            1,
            "select tab_idxname from @NAMESPACE@.sl_table where tab_set = 2"
        )
        .await,
        ["pair_c"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_dropped_and_comes_back_under_its_number() {
    let cluster = Cluster::new("come_back", 3).await;
    cluster.run_on_all(TABLE).await;
    cluster
        .run(1, "insert into item (v) select i from generate_series(1, 50) i")
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."item""#], &[r#""public"."item_id_seq""#])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
        .slonik("drop node (id = 2, event node = 1);\n")
        .await
        .fails()
        .says("Node 2 is still configured as a data provider");
    cluster.unsubscribe(1, 3).await;
    cluster.unsubscribe(1, 2).await;
    cluster
        .slonik("drop node (id = '2', event node = 1);\n wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    assert_eq!(
        column(&cluster, 3, "select no_id from @NAMESPACE@.sl_node order by 1").await,
        ["1", "3"]
    );
    cluster.stop_slon(2);
    // Its own slon may have removed the schema already, as it learned that it was dropped.
    cluster
        .slonik("try { uninstall node (id = 2); } on error { echo 'gone already'; }\n")
        .await
        .succeeds();

    let stored = format!("store node (id = 2, comment = 'again', event node = 1);\n{}", {
        let script = cluster.establishing_script();
        let paths: Vec<&str> = script
            .lines()
            .filter(|line| {
                line.starts_with("store path") && (line.contains("server = 2,") || line.contains("client = 2,"))
            })
            .collect();
        paths.join("\n")
    });
    cluster.slonik(&stored).await.succeeds();
    cluster.start_slon(2);
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.run(1, "insert into item (v) values ('new')").await;
    cluster.caught_up().await;
    assert_eq!(
        cluster.connect(2).await.value::<i64>("select count(*) from item").await,
        51
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_late_knows_what_the_others_know() {
    let cluster = Cluster::new("late", 3).await;
    cluster.run_on_all(TABLE).await;
    let script = cluster.establishing_script();
    let early: Vec<&str> = script
        .lines()
        .filter(|line| !line.contains("= 3") && !line.contains("node 3"))
        .collect();
    cluster.slonik(&early.join("\n")).await.succeeds();
    cluster.start_slon(1);
    cluster.start_slon(2);
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let late: Vec<&str> = script.lines().filter(|line| line.contains("= 3")).collect();
    cluster.slonik(&late.join("\n")).await.succeeds();
    for table in ["sl_set", "sl_subscribe"] {
        let all = format!("select t::text from @NAMESPACE@.{table} t order by 1");
        assert_eq!(
            column(&cluster, 3, &all).await,
            column(&cluster, 1, &all).await,
            "{table}"
        );
    }
    cluster.start_slon(3);
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.run(1, "insert into item (v) values ('x')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_leaves_nothing_behind() {
    let cluster = Cluster::new("uninstall", 2).await;
    cluster.run_on_all(TABLE).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    let run = cluster
        .slonik(
            "uninstall node (id = 1);\n\
             try { uninstall node (id = 1); } on error { echo 'nothing there'; }\n\
             uninstall node (id = 2);\n\
             init cluster (id = 2, comment = 'first now');\n",
        )
        .await
        .succeeds()
        .says("nothing there");
    assert!(run.stderr.contains("does not exist"), "{}", run.transcript());
    let triggers = "select count(*) from pg_trigger where tgrelid = 'item'::regclass";
    assert_eq!(cluster.connect(1).await.value::<i64>(triggers).await, 0);
    assert_eq!(
        column(&cluster, 2, "select no_id, no_active from @NAMESPACE@.sl_node").await,
        ["2|t"]
    );
    cluster
        .slonik("init cluster (id = 2);\n")
        .await
        .fails()
        .says("already exists in database of node 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_renewed_in_a_running_cluster() {
    let cluster = Cluster::new("renew", 2).await;
    cluster.run_on_all(TABLE).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."item""#], &[r#""public"."item_id_seq""#])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik("update functions (id = 1); update functions (id = 2); restart node 1; restart node 2; switch log (id = 1);\n")
        .await
        .succeeds();
    cluster.run(1, "insert into item (v) values ('after')").await;
    cluster.assert_all_equal().await;
}
