//! The first copy of a large set: table by table, several at once, and on from where it broke off.

use std::fmt::Write as _;
use std::time::Duration;

use trunkline_tests::{Cluster, Connection, Proxy, wait_until};

const TABLES: usize = 6;

/// A cluster of two with a set that is large enough to be copied table by table; node 2 is not subscribed.
async fn large(cluster: &Cluster) {
    let mut create = String::new();
    for number in 1..=TABLES {
        let _ = write!(
            create,
            "create table big_{number} (id int primary key, kind int, body text); create index on big_{number} (kind);"
        );
    }
    create.push_str("create table tiny (id bigserial primary key, v text)");
    cluster.run_on_all(&create).await;
    // Incompressible enough to stay what it is, short enough to stay in the row.
    cluster
        .run(
            1,
            &format!(
                "do $$ begin for n in 1..{TABLES} loop execute format('insert into big_%s
                   select i, i %% 7, repeat(md5(i::text), 30) from generate_series(1, 12500) i', n); end loop; end $$;
                 insert into tiny (v) select 'x' from generate_series(1, 10)"
            ),
        )
        .await;
    cluster
        .run(2, "insert into big_1 values (1, 1, 'what was here before')")
        .await;
    cluster.establish().await;
    let names: Vec<String> = (1..=TABLES)
        .map(|number| format!(r#""public"."big_{number}""#))
        .collect();
    let mut tables: Vec<&str> = names.iter().map(String::as_str).collect();
    tables.push(r#""public"."tiny""#);
    cluster.create_set(1, 1, &tables, &[r#""public"."tiny_id_seq""#]).await;
}

/// Tables whose copy is committed.
async fn copied(cluster: &Cluster, node: &Connection) -> Vec<String> {
    let sql = cluster
        .sql("select c.relname::text from @NAMESPACE@.tl_copied join pg_class c on c.oid = co_reloid order by 1");
    node.column(&sql).await
}

/// Subscribes node 2 and waits until some tables are copied while others, held by a reader, are not. Returns the reader and
/// what is copied by then.
async fn half_copied(cluster: &Cluster) -> (Connection, Vec<String>) {
    let (reader, node) = (cluster.connect(2).await, cluster.connect(2).await);
    cluster
        .slonik("subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);")
        .await
        .succeeds();
    let known = cluster.sql("select count(*) from @NAMESPACE@.sl_table where tab_set = 1");
    wait_until(
        "the tables are known on node 2",
        Duration::from_secs(60),
        async || match node.value::<i64>(&known).await {
            7 => Ok(()),
            other => Err(format!("{other} tables")),
        },
    )
    .await;
    reader.run("begin; lock table tiny in access share mode").await;
    wait_until("the large tables are copied", Duration::from_secs(60), async || {
        let done = copied(cluster, &node).await;
        if done.len() >= 3 {
            Ok(())
        } else {
            Err(format!("{done:?}"))
        }
    })
    .await;
    let done = copied(cluster, &node).await;
    assert!(!done.contains(&"tiny".to_owned()), "{done:?}");
    let active = cluster.sql("select count(*) from @NAMESPACE@.sl_subscribe where sub_set = 1 and sub_active");
    assert_eq!(node.value::<i64>(&active).await, 0, "the set is not complete");
    let refused = node.try_run(&format!("delete from {} where id = 2", done[0])).await;
    assert!(
        refused.is_err(),
        "{done:?}: a table that waits for the others is nobody's to write to"
    );
    (reader, done)
}

/// Changes everywhere on the origin, in tables that are copied and in others.
async fn change(cluster: &Cluster) {
    cluster
        .run(
            1,
            &format!(
                "do $$ begin for n in 1..{TABLES} loop execute format('update big_%1$s set body = ''changed'' where id %% 500 = 1;
                   delete from big_%1$s where id %% 500 = 2; insert into big_%1$s values (%1$s - 100, 0, ''new'') on conflict (id) do update set kind = 5', n); end loop; end $$;
                 insert into tiny (v) values ('more')"
            ),
        )
        .await;
}

/// What slon 2 says about the attempt that went through.
fn last_attempt(cluster: &Cluster) -> String {
    let log = cluster.with_slon(2, |slon| slon.log());
    let begin = log.rfind("an earlier attempt broke off").expect("the copy goes on");
    log[begin..].to_owned()
}

fn assert_goes_on(cluster: &Cluster, done: &[String]) {
    let attempt = last_attempt(cluster);
    for table in done {
        let name = format!("table \"public\".\"{table}\"");
        assert!(
            !attempt.contains(&format!("Begin COPY of {name}")),
            "{table} is copied again:\n{attempt}"
        );
        let compared = attempt
            .lines()
            .find(|line| line.contains(&format!("{name}:")) && line.contains("rows differed"));
        let line = compared.unwrap_or_else(|| panic!("{table} is not compared:\n{attempt}"));
        assert!(line.contains("51 of 12476 rows differed"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_slon_is_killed_goes_on_with_the_tables_that_are_missing() {
    let cluster = Cluster::new("bytable", 2).await;
    large(&cluster).await;
    let (reader, done) = half_copied(&cluster).await;
    cluster.kill_slon(2);
    change(&cluster).await;
    reader.run("commit").await;
    cluster.start_slon_with(2, &["-d", "0"]);
    cluster.assert_all_equal().await;
    assert_goes_on(&cluster, &done);
    let node = cluster.connect(2).await;
    assert_eq!(
        copied(&cluster, &node).await.len(),
        0,
        "what was noted of the copy is gone with it"
    );
    // A subscriber like any other from now on.
    change(&cluster).await;
    cluster.assert_all_equal().await;
    cluster.move_set(1, 1, 2).await;
    cluster
        .run(
            2,
            "insert into tiny (v) values ('from node 2'); update big_2 set kind = 9 where id = 3",
        )
        .await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_provider_is_cut_off_goes_on_with_the_tables_that_are_missing() {
    let mut cluster = Cluster::new("bytablecut", 2).await;
    let port = cluster
        .node(1)
        .conninfo
        .split(' ')
        .find_map(|word| word.strip_prefix("port=")?.parse().ok());
    let proxy = Proxy::to(port.expect("a port")).await;
    let through = proxy.conninfo(&cluster.node(1).conninfo);
    cluster.path_through(1, 2, &through);
    large(&cluster).await;
    let (reader, done) = half_copied(&cluster).await;
    proxy.refuse();
    change(&cluster).await;
    reader.run("commit").await;
    proxy.mend();
    cluster.assert_all_equal().await;
    assert_goes_on(&cluster, &done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_ends_while_its_copy_goes_on_leaves_ordinary_tables() {
    let cluster = Cluster::new("bytableend", 2).await;
    large(&cluster).await;
    let (reader, done) = half_copied(&cluster).await;
    cluster.kill_slon(2);
    reader.run("commit").await;
    cluster
        .slonik("unsubscribe set (id = 1, receiver = 2);")
        .await
        .succeeds();
    cluster
        .run(2, &format!("delete from {} where id = 5; delete from tiny", done[0]))
        .await;
    cluster.start_slon(2);
    cluster.caught_up().await;
    let node = cluster.connect(2).await;
    let triggers = node
        .column::<String>("select tgname::text from pg_trigger where tgrelid::regclass::text ~ '^(big|tiny)'")
        .await;
    assert!(triggers.is_empty(), "{triggers:?}");
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_hangs_on_a_frozen_origin_does_not_hold_the_failover_up() {
    let mut cluster = Cluster::on_own_servers("bytablelost", 2).await;
    large(&cluster).await;
    cluster.run_on_all("create table kept (id int primary key)").await;
    cluster.run(1, "insert into kept values (1)").await;
    cluster
        .slonik(
            "create set (id = 2, origin = 1);\n\
             set add table (set id = 2, origin = 1, id = 99, fully qualified name = 'public.kept');",
        )
        .await
        .succeeds();
    cluster.subscribe(2, 1, 1, 2).await;
    let (reader, done) = half_copied(&cluster).await;
    // The last table hangs at the provider.
    let (holder, lookout) = (cluster.connect(1).await, cluster.connect(1).await);
    holder.run("set lock_timeout to '5s'; begin; lock table tiny").await;
    reader.run("commit").await;
    let waiting = "select exists (select from pg_locks where relation = 'tiny'::regclass and not granted)";
    wait_until("the copy waits at node 1", Duration::from_secs(60), async || {
        if lookout.value::<bool>(waiting).await {
            Ok(())
        } else {
            Err("no lock is waited for".to_owned())
        }
    })
    .await;
    let node = cluster.connect(2).await;
    cluster.kill_slon(1);
    cluster.server(1).freeze();
    cluster
        .slonik("failover (id = 1, backup node = 2);")
        .await
        .succeeds()
        .says("holds its tables")
        .says("node 2 has not finished its first copy of set 1: its subscription ends");
    cluster.lose(1);
    // What is copied stays, and is an ordinary table.
    let rows: i64 = node.value(&format!("select count(*) from {}", done[0])).await;
    assert!(rows > 10_000, "{rows}");
    node.run(&format!(
        "delete from {}; delete from tiny; insert into kept values (2)",
        done[0]
    ))
    .await;
    cluster.caught_up().await;
}
