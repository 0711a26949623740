//! First copies among other things that go on: other sets, moves, drops, cascades.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_tests::{Cluster, Connection, wait_until};

const TABLES: &str =
    "create table a (id bigserial primary key, v text); create table b (id bigint primary key, v text)";

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_one_set_loses_nothing_of_another() {
    let cluster = Cluster::new("copies", 2).await;
    cluster.run_on_all(TABLES).await;
    cluster
        .run(1, "insert into b select i, 'b' from generate_series(1, 2000) i")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."a""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (connection, stop) = (cluster.connect(1).await, Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                connection.run("insert into a (v) values ('x')").await;
            }
        }));
    }
    for _ in 0..4 {
        cluster.subscribe(2, 1, 1, 2).await;
        cluster.unsubscribe(2, 2).await;
    }
    cluster.subscribe(2, 1, 1, 2).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_does_not_move_while_a_copy_is_outstanding() {
    let cluster = Cluster::new("outstanding", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(3, "drop table b").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik("subscribe set (id = 1, provider = 1, receiver = 3, forward = yes); lock set (id = 1, origin = 1);")
        .await
        .succeeds();
    cluster
        .slonik("move set (id = 1, old origin = 1, new origin = 2);")
        .await
        .fails()
        .says("subscriptions in progress");
    cluster.slonik("unlock set (id = 1, origin = 1);").await.succeeds();
    cluster.run(3, "create table b (id bigint primary key, v text)").await;
    cluster.run(1, "insert into b values (1, 'one')").await;
    cluster.assert_all_equal().await;
    cluster.move_set(1, 1, 2).await;
    cluster.run(2, "insert into b values (2, 'two')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_feeds_others_keeps_forwarding() {
    let cluster = Cluster::new("feeding", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
        .slonik("subscribe set (id = 1, provider = 1, receiver = 2, forward = no);")
        .await
        .fails()
        .says("must forward");
    cluster.run(1, "insert into b values (1, 'one')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_set_ends_a_cascaded_copy_that_waits() {
    let cluster = Cluster::new("ended", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(3, "drop table b").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.create_set(2, 1, &[r#""public"."a""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .slonik("subscribe set (id = 1, provider = 2, receiver = 3, forward = yes);")
        .await
        .succeeds();
    let third = cluster.connect(3).await;
    let troubles = cluster.sql("select count(*) from @NAMESPACE@.tl_trouble where tr_message like '%does not exist%'");
    wait_until(
        "node 3 says what it lacks",
        Duration::from_secs(30),
        async || match third.value::<i64>(&troubles).await {
            0 => Err("no trouble yet".to_owned()),
            _ => Ok(()),
        },
    )
    .await;
    cluster
        .slonik(
            "drop set (id = 1, origin = 1); wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);",
        )
        .await
        .succeeds();
    cluster.subscribe(2, 1, 1, 3).await;
    cluster.run(1, "insert into a (v) values ('goes on')").await;
    cluster.assert_all_equal().await;
}

/// What can be built after the data is; what guards the data, or would not come back as it was, stays.
#[tokio::test]
async fn secondary_indexes_of_a_large_table_are_built_after_its_data() {
    let cluster = Cluster::new("copies", 2).await;
    cluster
        .run_on_all(
            r#"create table large (id int primary key, kind int, code text not null, tags text[], body text);
               create index large_plain on large (kind desc nulls last, code) with (fillfactor = 70);
               create index "Large ""partial""" on large (kind) where kind > 3;
               create index large_expression on large (lower(code));
               create index large_tags on large using gin (tags);
               comment on index large_tags is 'it''s for searches';
               create unique index large_code on large (code);
               create index large_clustered on large (kind, id);
               alter table large cluster on large_clustered;
               create index large_statistics on large ((kind + 1));
               alter index large_statistics alter column 1 set statistics 500"#,
        )
        .await;
    cluster
        .run(
            1,
            "insert into large select i, i % 7, 'C' || i, array['a' || i % 10], repeat(md5(i::text), 30)
               from generate_series(1, 12000) i",
        )
        .await;
    let node = cluster.connect(2).await;
    let definitions = "select concat_ws(' / ', pg_get_indexdef(indexrelid), indisclustered,
                                        obj_description(indexrelid, 'pg_class'))
                         from pg_index where indrelid = 'large'::regclass order by indexrelid::regclass::text";
    let (before, oids) = (node.column::<String>(definitions).await, index_oids(&node).await);
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."large""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    assert_eq!(node.column::<String>(definitions).await, before);
    let now = index_oids(&node).await;
    let anew: Vec<&String> = now.iter().filter(|index| !oids.contains(index)).collect();
    let names: Vec<&str> = anew
        .iter()
        .map(|index| index.split_once(' ').map_or("", |(_, name)| name))
        .collect();
    assert_eq!(
        names,
        [
            r#""Large ""partial""""#,
            "large_expression",
            "large_plain",
            "large_tags"
        ]
    );
    cluster.assert_all_equal().await;
}

/// An index that cannot be built, and statistics that cannot be made, are no reason to copy everything again and again.
#[tokio::test]
async fn what_fails_after_the_rows_are_in_does_not_undo_the_copy() {
    let cluster = Cluster::new("late_failures", 2).await;
    cluster
        .run_on_all(
            "create table large (id int primary key, kind int, body text); create table small (id int primary key, kind int);
             create function picky(int) returns int immutable language plpgsql
                 as $$ begin if $1 < 0 then raise 'no kind: %', $1; end if; return $1; end $$;
             create function never_looked_at(int) returns int immutable language plpgsql
                 as $$ begin if current_query() ilike '%analyze%' then raise 'not to be looked at'; end if; return $1; end $$;",
        )
        .await;
    cluster
        .run(
            2,
            "create index large_picky on large (picky(kind)); comment on index large_picky is 'it''s picky';
             create index large_kind on large (kind);
             create index small_kind on small (never_looked_at(kind))",
        )
        .await;
    cluster
        .run(
            1,
            "insert into large select i, i % 7 - 1, repeat(md5(i::text), 30) from generate_series(1, 12000) i;
             insert into small select i, i from generate_series(1, 10) i",
        )
        .await;
    cluster.establish().await;
    let tables = [r#""public"."large""#, r#""public"."small""#];
    cluster.create_set(1, 1, &tables, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.run(1, "update large set kind = -5 where id < 5").await;
    cluster.assert_all_equal().await;
    let log = cluster.with_slon(2, |slon| slon.log());
    assert_eq!(
        log.matches("Begin COPY of table \"public\".\"large\"").count(),
        1,
        "{log}"
    );
    assert!(
        log.contains("index \"public\".\"large_picky\" of table \"public\".\"large\" cannot be built"),
        "{log}"
    );
    assert!(log.contains("has no statistics yet, ANALYZE failed"), "{log}");
    let node = cluster.connect(2).await;
    let indexes = "select indexrelid::regclass::text from pg_index where indrelid = 'large'::regclass order by 1";
    assert_eq!(node.column::<String>(indexes).await, ["large_kind", "large_pkey"]);
    // It is named until it is there.
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .says("index \"public\".\"large_picky\" of table \"public\".\"large\" is missing")
        .says("no kind: -1")
        .says("CREATE INDEX large_picky ON public.large");
    cluster
        .slonctl_from(2, &["check"])
        .await
        .exits(1)
        .says("lacks index \"public\".\"large_picky\"");
    node.run("create or replace function picky(int) returns int immutable language sql as 'select $1'")
        .await;
    let statement: String = node
        .value(&cluster.sql("select mi_definition from @NAMESPACE@.tl_missing_index"))
        .await;
    node.run(&statement).await;
    assert_eq!(
        node.column::<String>(indexes).await,
        ["large_kind", "large_picky", "large_pkey"]
    );
    cluster
        .slonctl_from(2, &["status"])
        .await
        .exits(0)
        .keeps_quiet_about("large_picky");
}

async fn index_oids(node: &Connection) -> Vec<String> {
    node.column(
        "select indexrelid::oid || ' ' || indexrelid::regclass::text from pg_index
          where indrelid = 'large'::regclass order by indexrelid::regclass::text",
    )
    .await
}

/// Rows travel binary only where that is safe: the subscriber's columns may be wider, and types may be nobody's but the user's.
#[tokio::test]
async fn columns_of_other_types_on_the_subscriber_are_copied_as_text() {
    let cluster = Cluster::new("copy_types", 2).await;
    cluster
        .run_on_all("create type mood as enum ('low', 'high'); create domain small as int check (value < 100000)")
        .await;
    let rest = "body bytea, price numeric, at timestamptz, note text";
    for (node, id) in [(1, "int"), (2, "bigint")] {
        let tables = format!(
            "create table wider (id {id} primary key, {rest}); create table own (id small primary key, feels mood, {rest});
             create table plain (id int primary key, {rest})"
        );
        cluster.run(node, &tables).await;
    }
    let rest = "decode(md5(i::text), 'hex'), case when i % 3 = 0 then null else i / 7.0 end, timestamptz '2026-01-01' + i * interval '1 s', E'\\\\ \n é ' || i";
    cluster
        .run(
            1,
            &format!(
                "insert into wider select i, {rest} from generate_series(1, 1000) i; insert into plain table wider;
                 insert into own select i, (array['low', 'high'])[1 + i % 2]::mood, {rest} from generate_series(1, 1000) i"
            ),
        )
        .await;
    cluster.establish().await;
    let tables = [r#""public"."wider""#, r#""public"."own""#, r#""public"."plain""#];
    cluster.create_set(1, 1, &tables, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let subscriber = cluster.connect(2).await;
    for table in ["wider", "own", "plain"] {
        let rows: i64 = subscriber.value(&format!("select count(*) from {table}")).await;
        assert_eq!(rows, 1000, "{table}");
    }
    cluster.assert_all_equal().await;
}
