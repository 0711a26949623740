//! Tables and sequences added to sets that have subscribers.

use std::time::Duration;

use trunkline_tests::{
    Cluster, PATIENCE, Writers, genuine_slony, program, run_slonik, slonik_string, test_seed, wait_until,
};

fn add_table(id: i32, name: &str) -> String {
    format!(
        "set add table (set id = 1, origin = 1, id = {id}, fully qualified name = {});\n",
        slonik_string(name)
    )
}

/// On every node one set is left, with that many tables and sequences.
async fn assert_one_set(cluster: &Cluster, nodes: &[i32], members: i64) {
    for node in nodes {
        let connection = cluster.connect(*node).await;
        assert_eq!(
            connection
                .rows(&cluster.sql("select set_id from @NAMESPACE@.sl_set"))
                .await,
            ["1"],
            "node {node}"
        );
        let count = "select (select count(*) from @NAMESPACE@.sl_table where tab_set = 1)
                          + (select count(*) from @NAMESPACE@.sl_sequence where seq_set = 1)";
        assert_eq!(
            connection.value::<i64>(&cluster.sql(count)).await,
            members,
            "node {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_sequences_join_a_subscribed_set_under_load() {
    let seed = test_seed("tables_and_sequences_join_a_subscribed_set_under_load");
    let cluster = Cluster::new("joining_load", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."accounts""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    let writers = Writers::start(&cluster, &[1], 8, Duration::from_millis(5), seed);
    cluster
        .slonik(&format!(
            "{}set add table (set id = 1, origin = 1, tables = 'public\\.journal', add sequences = true);\n",
            add_table(7, "public.pairs")
        ))
        .await
        .succeeds();
    writers.finish().await.assert_nothing_lost(&cluster, 1).await;
    cluster.assert_all_equal().await;
    assert_one_set(&cluster, &[1, 2, 3], 4).await;
    assert_eq!(
        cluster
            .connect(3)
            .await
            .value::<i32>(&cluster.sql("select tab_id from @NAMESPACE@.sl_table where tab_relname = 'pairs'"))
            .await,
        7
    );
}

async fn with_two_tables(test: &str, nodes: i32) -> Cluster {
    let cluster = Cluster::new(test, nodes).await;
    cluster
        .run_on_all("create table item (id int primary key); create table late (id serial primary key, v text)")
        .await;
    cluster
        .run(1, "insert into late (v) select 'copied' from generate_series(1, 50)")
        .await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joining_table_waits_for_a_subscriber_that_lacks_it_and_goes_on_after_a_crash() {
    let cluster = with_two_tables("joining_lacks", 2).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.run(2, "drop table late").await;
    // Said of the set that was named, not of the one on its way into it.
    cluster
        .slonik("set add table (set id = 1, origin = 2, fully qualified name = 'public.item');")
        .await
        .fails()
        .says("set 1 originates on node 1, not on node 2");
    cluster
        .slonik(&format!("try {{ {} }}\n", add_table(2, "public.late")))
        .await
        .fails()
        .says("cannot be part of a `try` block");
    // What a slonik leaves that dies while it waits for the copy.
    cluster
        .slonik(
            "create set (id = 900000001, origin = 1, comment = 'on its way into set 1');
             set add table (set id = 900000001, origin = 1, id = 2, fully qualified name = 'public.late');
             subscribe set (id = 900000001, provider = 1, receiver = 2, forward = yes);",
        )
        .await
        .succeeds();
    let second = cluster.connect(2).await;
    let trouble = cluster.sql("select coalesce(max(tr_message), '') from @NAMESPACE@.tl_trouble");
    wait_until("node 2 to say what it lacks", PATIENCE, async || {
        let message: String = second.value(&trouble).await;
        if message.contains("\"late\" does not exist") || message.contains("late") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    cluster
        .slonik("lock set (id = 1, origin = 1); move set (id = 1, old origin = 1, new origin = 2);")
        .await
        .fails()
        .says("on their way into it");
    cluster.slonik("unlock set (id = 1, origin = 1);").await.succeeds();
    second
        .run("create table late (v text, id int primary key, more int default 1); create sequence late_id_seq")
        .await;
    // A plan says what the run will do.
    let again = format!("{}{}", cluster.preamble(), add_table(2, "public.late"));
    run_slonik(&program("slonik"), &["--dry-run"], &again)
        .await
        .succeeds()
        .says("going on with it");
    // The same statement again, which also asks for what is there already.
    cluster
        .slonik(&format!(
            "{}set add sequence (set id = 1, origin = 1, id = 3, fully qualified name = 'public.late_id_seq');",
            add_table(2, "public.late")
        ))
        .await
        .succeeds()
        .says("going on with it");
    cluster
        .run(
            1,
            "insert into late (v) values ('streamed'); insert into item values (1)",
        )
        .await;
    cluster.assert_all_equal().await;
    assert_one_set(&cluster, &[1, 2], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_joins_a_set_that_the_real_slon_subscribes_to() {
    let Some(slony) = genuine_slony("a_table_joins_a_set_that_the_real_slon_subscribes_to") else {
        return;
    };
    let cluster = with_two_tables("joining_interop", 3).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon(1);
    cluster.start_slon_program(&slony.slon, 2, &["-s", "100", "-t", "1000", "-g", "10"]);
    cluster.start_slon(3);
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.slonik(&add_table(2, "public.late")).await.succeeds();
    cluster
        .run(
            1,
            "insert into late (v) values ('streamed'); insert into item values (1)",
        )
        .await;
    cluster.caught_up_within(Duration::from_secs(120)).await;
    cluster.assert_equal_now().await;
    assert_one_set(&cluster, &[1, 2, 3], 2).await;
}
