//! `execute script`: on every node at the same place in the stream of changes.

use std::time::Duration;

use trunkline_tests::{Cluster, PATIENCE, Writers, slonik_string, test_seed, wait_until};

const ITEM: &str = "create table item (id int primary key, v text)";

fn script(sql: &str) -> String {
    format!("execute script (sql = {}, event node = 1);\n", slonik_string(sql))
}

/// Three nodes, 3 cascading from 2, with set 1 of the given tables.
async fn cascade(test: &str, tables: &[&str]) -> Cluster {
    let cluster = Cluster::new(test, 3).await;
    cluster.run_on_all(ITEM).await;
    cluster.establish().await;
    cluster.create_set(1, 1, tables, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_at_one_place_of_the_stream_under_load() {
    let seed = test_seed("scripts_run_at_one_place_of_the_stream_under_load");
    let cluster = Cluster::new("scripts_load", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster
        .run_on_all("create function mark_all() returns void language sql as 'update pairs set label = label || ''*'''")
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    let writers = Writers::start(&cluster, &[1], 8, Duration::from_millis(4), seed);
    // Each of them would differ between the nodes if a row were on the wrong side of it.
    for sql in [
        "alter table accounts add column level int default 0; create index on journal (writer, id);",
        "update accounts set level = balance::int % 7;\nupdate journal set note = note || '!' where id % 3 = 0;",
        "alter table accounts rename column level to grade; insert into pairs select -1, count(*), 'rows ' || count(*) from journal;",
        "select mark_all();\ndo $$ begin delete from journal where id % 10 = 0; end $$;",
        "update accounts a set grade = (select count(*) from journal j where j.account = a.id); alter table journal add seen timestamptz;",
        "alter table accounts drop column grade; delete from pairs where label like '%**%'; alter table journal alter note set default 'x'",
    ] {
        cluster.slonik(&script(sql)).await.succeeds();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    writers.finish().await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_a_script_adds_arrive_in_the_same_group_of_syncs() {
    let cluster = cascade("scripts_add", &[r#""public"."item""#]).await;
    cluster.stop_slon(2);
    cluster.run(1, "insert into item values (1, 'ahead')").await;
    cluster
        .slonik(&script(
            "create table late (id int primary key, v text);
             select @NAMESPACE@.add_empty_table_to_replication(1, 77, 'public', 'late', null, 'added by a script');
             create table base (id int primary key); create table part (primary key (id)) inherits (base);
             select @NAMESPACE@.add_empty_table_to_replication(1, 78, 'public', 'base', null, 'parent');
             select @NAMESPACE@.replicate_partition(79, 'public', 'part', null, 'child')",
        ))
        .await
        .succeeds();
    cluster
        .run(
            1,
            "insert into late select i, 'behind ' || i from generate_series(1, 100) i; insert into item values (2, 'behind');
             update late set v = 'changed' where id = 7; insert into base values (1); insert into part values (1), (2)",
        )
        .await;
    cluster.start_slon(2);
    cluster.assert_all_equal().await;
    let third = cluster.connect(3).await;
    assert_eq!(third.value::<i64>("select count(*) from late").await, 100);
    assert_eq!(third.value::<i64>("select count(*) from only part").await, 2);
    assert_eq!(
        third
            .value::<i64>(&cluster.sql("select count(*) from @NAMESPACE@.sl_table"))
            .await,
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_stands_between_the_rows_of_several_providers() {
    let cluster = Cluster::new("scripts_providers", 4).await;
    cluster
        .run_on_all("create table a (id int primary key, v text); create table b (id int primary key, v text)")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."a""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."b""#], &[]).await;
    for set in [1, 2] {
        cluster.subscribe(set, 1, 1, 2).await;
        cluster.subscribe(set, 1, 1, 3).await;
        cluster.subscribe(set, 1, 2, 4).await;
    }
    // No statement leads here, a failover can: set 2 of the same origin comes to node 4 from another provider.
    cluster.stop_slon(4);
    cluster
        .run(
            4,
            &cluster.sql(
                "update @NAMESPACE@.sl_subscribe set sub_provider = 3 where sub_set = 2 and sub_receiver = 4;
                 select @NAMESPACE@.rebuildlistenentries()",
            ),
        )
        .await;
    cluster.stop_slon(3);
    for round in 0..3 {
        cluster
            .run(
                1,
                &format!(
                    "insert into a values ({round}, 'ahead'); insert into b values ({round}, 'ahead'); update b set v = v || {round}"
                ),
            )
            .await;
        cluster
            .slonik(&script(
                "update a set v = v || '/' || (select string_agg(v, ',' order by id) from b);
                 update b set v = v || '/' || (select count(*) from a where v like 'ahead%');",
            ))
            .await
            .succeeds();
        cluster
            .run(
                1,
                &format!(
                    "insert into a values (10 + {round}, 'behind'); update b set v = 'behind' where id = {round} - 1"
                ),
            )
            .await;
    }
    cluster.start_slon(4);
    cluster.start_slon(3);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_script_hold_until_its_end_and_no_longer() {
    let cluster = Cluster::new("scripts_settings", 3).await;
    let table = "create table item (id int primary key, d date, i interval, f float8, b bytea);
                 create schema \"My App\"; create table \"My App\".item (id int primary key, v text)";
    cluster.run_on_all(table).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."item""#, r#""My App"."item""#], &[])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.stop_slon(2);
    let row = "'2024-02-03', '1 year 2 mons -3 days 04:05:06', 0.1::float8 + 0.2::float8, '\\x00ff'";
    cluster.run(1, &format!("insert into item values (1, {row})")).await;
    let unqualified = script(
        "set search_path to \"My App\"; set datestyle to 'German, DMY'; set extra_float_digits to 0; set session_replication_role to replica;
         set standard_conforming_strings to off;
         insert into item values (1, 'a' || current_setting('datestyle'));
         create table made_here (d date default '31.12.2024'); insert into made_here default values; set timezone to 'Asia/Tokyo'",
    );
    // The statement behind it reads `public.item` as before.
    cluster
        .slonik(&format!(
            "{unqualified}{}",
            script("update item set i = i + interval '1 day' where d = '2024-02-03'")
        ))
        .await
        .succeeds();
    cluster
        .run(
            1,
            &format!("insert into item values (2, {row}); update \"My App\".item set v = v || '\\n'"),
        )
        .await;
    cluster.start_slon(2);
    cluster.assert_all_equal().await;
    for node in [1, 2, 3] {
        let connection = cluster.connect(node).await;
        assert_eq!(
            connection.rows("select d::text from \"My App\".made_here").await,
            ["2024-12-31"],
            "node {node}"
        );
        assert_eq!(
            connection.rows("select i::text from item order by id").await,
            ["1 year 2 mons -2 days +04:05:06", "1 year 2 mons -3 days +04:05:06"],
            "node {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_on_nodes_without_subscriptions_but_not_again_on_nodes_that_join() {
    let cluster = Cluster::new("scripts_nodes", 4).await;
    cluster.run_on_all(ITEM).await;
    // Node 4 joins later.
    let mut joining = String::new();
    let script_of_three: String = cluster
        .establishing_script()
        .lines()
        .filter(|line| {
            let of_four = line.contains("id = 4") || line.contains("= 4,");
            if of_four {
                joining.push_str(line);
                joining.push('\n');
            }
            !of_four
        })
        .collect();
    cluster.slonik(&script_of_three).await.succeeds();
    for node in [1, 2, 3] {
        cluster.start_slon(node);
    }
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik(&format!(
            "{}execute script (sql = 'create table chosen (id int)', event node = 1, execute only on = '1,3');
             execute script (sql = 'create table single (id int)', event node = 1, execute only on = 1);
             wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n",
            script("create table everywhere (id int); insert into everywhere values (1);")
        ))
        .await
        .succeeds();
    cluster
        .slonik("execute script (sql = 'create table wrong (id int)', event node = 1, execute only on = '2,3');\n")
        .await
        .fails()
        .says("origin node 1 not included");
    // The tables that the scripts made are on node 4 as its DBA brought them.
    cluster.run(4, "create table everywhere (id int)").await;
    cluster.slonik(&joining).await.succeeds();
    cluster.start_slon(4);
    cluster
        .slonik(&script("create table after_join (id int)"))
        .await
        .succeeds();
    cluster.assert_all_equal().await;
    let there = "select string_agg(relname, ' ' order by relname) from pg_class
                  where relname in ('everywhere', 'chosen', 'single', 'wrong', 'after_join')";
    for (node, tables) in [
        (1, "after_join chosen everywhere single"),
        (2, "after_join everywhere"),
        (3, "after_join chosen everywhere"),
        (4, "after_join everywhere"),
    ] {
        let connection = cluster.connect(node).await;
        assert_eq!(connection.value::<String>(there).await, tables, "node {node}");
    }
    assert_eq!(
        cluster
            .connect(4)
            .await
            .value::<i64>("select count(*) from everywhere")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_on_a_subscriber_is_named_and_tried_again() {
    let cluster = cascade("scripts_fail", &[r#""public"."item""#]).await;
    cluster.run(2, "create table obstacle (id int)").await;
    cluster
        .slonik(&script("create table obstacle (id int);"))
        .await
        .succeeds();
    cluster.run(1, "insert into item values (1, 'behind the script')").await;
    cluster
        .slonik("sync (id = 1); wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 12);\n")
        .await
        .fails()
        .says("relation \"obstacle\" already exists");
    assert_eq!(
        cluster.connect(2).await.value::<i64>("select count(*) from item").await,
        0,
        "nothing may overtake the script"
    );
    cluster.run(2, "drop table obstacle").await;
    cluster.assert_all_equal().await;
    let troubles = cluster.sql("select count(*) from @NAMESPACE@.tl_trouble");
    let second = cluster.connect(2).await;
    wait_until("the trouble to be over", PATIENCE, async || {
        match second.value::<i64>(&troubles).await {
            0 => Ok(()),
            left => Err(format!("{left} troubles left")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_on_its_node_or_would_end_its_transaction_changes_nothing() {
    let cluster = cascade("scripts_refused", &[r#""public"."item""#]).await;
    cluster
        .slonik(&script(
            "create table x (id int); -- and now\ncommit; create table y (id int);",
        ))
        .await
        .fails()
        .says("statement 2 of the script (line 2 of its text), `commit`, is not allowed");
    cluster
        .slonik(&script("create table x (id int); insert into nowhere values (1);"))
        .await
        .fails()
        .says("relation \"nowhere\" does not exist")
        .says(": the error is in statement 2 of the script\n");
    // From a file, the line is that of the word the server points at; what can be told is told before anything runs.
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let from_file = format!(
        "execute script (filename = {}, event node = 1);\n",
        slonik_string(&path)
    );
    std::fs::write(
        &path,
        "create table x (id int);\n\n-- rows\nselect *\n  from nowhere;\n",
    )
    .unwrap();
    cluster
        .slonik(&from_file)
        .await
        .fails()
        .says("PGRES_FATAL_ERROR [")
        .says(&format!("the error is in statement 2 of the script ({path}:5)"));
    for (sql, said) in [
        (
            "create table x (id int);\nvacuum item;\n",
            "2), `vacuum`, cannot run inside a transaction",
        ),
        (
            "select 'it;\n",
            "1) never ends: the string that begins there is not closed",
        ),
    ] {
        std::fs::write(&path, sql).unwrap();
        let said = format!("of the script ({path}:{said}");
        let sync = format!("sync (id = 1);\n{from_file}");
        cluster.slonik(&sync).await.fails().says(&said);
        let text = format!("{}{sync}", cluster.preamble());
        for way in ["--check", "--dry-run"] {
            let run = trunkline_tests::run_slonik(&trunkline_tests::program("slonik"), &[way], &text).await;
            run.fails().says(&said);
        }
    }
    let first = cluster.connect(1).await;
    assert_eq!(
        first
            .rows("select coalesce(to_regclass('x')::text, to_regclass('y')::text, 'none')")
            .await,
        ["none"]
    );
    let rows = cluster.sql("select count(*) from @NAMESPACE@.sl_log_script");
    assert_eq!(first.value::<i64>(&rows).await, 0);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_slon_runs_our_scripts() {
    let Some(slony) = trunkline_tests::genuine_slony("the_real_slon_runs_our_scripts") else {
        return;
    };
    let cluster = Cluster::new("scripts_interop", 3).await;
    cluster.run_on_all(ITEM).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon(1);
    cluster.start_slon_program(&slony.slon, 2, &["-s", "100", "-t", "1000", "-g", "10"]);
    cluster.start_slon(3);
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
        .run(
            1,
            "insert into item select i, 'row ' || i from generate_series(1, 100) i",
        )
        .await;
    cluster
        .slonik(&script(
            "alter table item add column note text default 'it''s; new';\nupdate item set note = v || E'\\\\' where id % 2 = 0;
             create function f() returns int language plpgsql as $$ begin return 1; end $$;",
        ))
        .await
        .succeeds();
    cluster
        .run(
            1,
            "update item set note = note || '!' where id % 3 = 0; insert into item values (1000, 'behind', 'n')",
        )
        .await;
    cluster.caught_up_within(Duration::from_secs(120)).await;
    cluster.assert_equal_now().await;
    assert_eq!(cluster.connect(3).await.value::<i32>("select f()").await, 1);
}
