//! Which rows a returning node looks at: those the logs of both nodes name, or all of them.

use std::path::PathBuf;

use rand::Rng;
use rand::rngs::StdRng;
use trunkline_tests::{Cluster, SlonctlRun, shared_throwaway, test_seed};

const BY_LOG: &str = "the logs of both nodes name the rows that may differ";
const EVERY_ROW: &str = "the logs do not tell which rows may differ";

/// Tables with keys of several columns, of types that are written in several ways, and with a unique column beside the key.
const TABLES: &[(&str, &str)] = &[
    (
        r#""public"."stock""#,
        r#"create table stock (amount int, "item""no" text, "Place" text, at timestamptz not null default '2026-01-01', label int unique,
           primary key ("item""no", at, "Place"))"#,
    ),
    (
        r#""public"."price""#,
        "create table price (id numeric primary key, currency char(3) not null, unit float8)",
    ),
];

async fn two_nodes(test: &str) -> Cluster {
    let cluster = Cluster::new(test, 2).await;
    for (_, create) in TABLES {
        cluster.run_on_all(create).await;
    }
    cluster
        .run(
            1,
            r"insert into stock select i, E'it''s \\ ' || i % 20, 'place ' || i % 7, timestamptz '2026-01-01 12:00:00.5' + i * interval '1 hour', i
                 from generate_series(1, 300) i;
               insert into price select i + 0.50, 'EUR', i / 3.0 from generate_series(1, 300) i",
        )
        .await;
    cluster.establish().await;
    let names: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
    cluster.create_set(1, 1, &names, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    cluster
}

/// Fails `failed` over to `next`; both are changed while the other does not hear of it.
async fn fail_over(cluster: &Cluster, failed: i32, next: i32, lost: &str, since: &str) {
    cluster.caught_up().await;
    cluster.kill_slon(failed);
    cluster.run(failed, lost).await;
    cluster
        .slonik(&format!("failover (id = {failed}, backup node = {next});"))
        .await
        .succeeds();
    cluster.run(next, since).await;
}

/// Where this test's files are saved.
fn directory(cluster: &Cluster) -> PathBuf {
    let path = shared_throwaway().path().join(&cluster.node(1).database);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Takes `node` back; what its slon said of the rows it looked at.
async fn rejoin(cluster: &Cluster, node: i32, other: i32, options: &[&str]) -> (SlonctlRun, String) {
    let save = directory(cluster).display().to_string();
    let number = node.to_string();
    let mut arguments = vec!["rejoin", "--node", &number, "--save", &save];
    arguments.extend_from_slice(options);
    let known = [other, node];
    let (run, ()) = tokio::join!(
        cluster.slonctl_of(&known, &arguments),
        cluster.start_slon_when_returned(node, other)
    );
    let log = cluster.with_slon(node, |slon| slon.log());
    (run.exits(0), log)
}

/// Changes of any kind, as one batch. None meets a value that is unique and there already.
fn changes(random: &mut StdRng) -> String {
    let mut statements = Vec::new();
    for _ in 0..random.random_range(5..25) {
        let (a, b) = (random.random_range(1..300), random.random_range(1..40));
        statements.push(match random.random_range(0..10) {
            0 => format!("update stock set amount = amount + {a} where label % {b} = 0;"),
            1 => format!(r#"update stock set "Place" = "Place" || label || ' {a}' where label = {b};"#),
            2 => format!("update stock set at = at + interval '{a} seconds' where label between {a} and {a} + {b};"),
            3 => format!("delete from stock where label between {a} and {a} + {b};"),
            4 => format!(
                r#"insert into stock ("item""no", "Place", label) values ('new {a}', 'x', (select coalesce(max(label), 0) + 1 from stock))
                     on conflict do nothing;"#
            ),
            5 => format!("update price set id = id + (select max(id) from price) where id between {a} and {a} + {b};"),
            6 => format!("delete from price where id = {a}.50; insert into price values ({a}.5, 'USD', {b});"),
            7 => format!("update price set unit = {b} / 7.0 where id < {b};"),
            8 => format!("insert into price values ({a}.25, 'CHF', 'NaN') on conflict (id) do update set currency = 'CHF';"),
            _ => format!("begin; delete from price where id > {a}; rollback;"),
        });
    }
    statements.concat()
}

#[tokio::test]
async fn rows_that_either_log_names_are_made_equal_whatever_was_done_to_them() {
    let seed = test_seed("rows_that_either_log_names_are_made_equal_whatever_was_done_to_them");
    let mut random = seed.generator(1);
    let cluster = two_nodes("rows_named").await;
    for round in 0..4 {
        let (failed, next) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        let (lost, since) = (changes(&mut random), changes(&mut random));
        fail_over(&cluster, failed, next, &lost, &since).await;
        // A switch of the log tables under way takes no rows away.
        let switch = cluster.sql(
            "select case when last_value in (0, 1) then @NAMESPACE@.logswitch_start() end from @NAMESPACE@.sl_log_status",
        );
        cluster.run(next, &switch).await;
        cluster.run(next, &changes(&mut random)).await;
        let (run, log) = rejoin(&cluster, failed, next, &["--verify", "none"]).await;
        assert!(log.contains(BY_LOG), "{}{log}", run.transcript());
        cluster.assert_all_equal().await;
    }
}

#[tokio::test]
async fn what_was_written_past_the_logs_is_found_when_the_node_has_joined() {
    let cluster = two_nodes("rows_unlogged").await;
    let unlogged = |id: i32| {
        format!(
            "set session_replication_role to replica; update price set unit = -1 where id = {id}.50; delete from price where id = {}.50;
             reset session_replication_role; update price set unit = -2 where id = 299.50",
            id + 1
        )
    };
    fail_over(&cluster, 1, 2, &unlogged(10), &unlogged(20)).await;
    let (run, log) = rejoin(&cluster, 1, 2, &[]).await;
    assert!(log.contains(BY_LOG), "{log}");
    run.says("has rejoined: it receives set 1 after")
        .says("NOT PROVED: differs from node 2")
        .says("rows differ that no log names; what the node has of them is saved")
        .says("rows that were replaced are saved in")
        .says("proved: every row is equal now");
    let saved: Vec<serde_json::Value> = std::fs::read_dir(directory(&cluster))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("replaced-e2e-node1-")
        })
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    // Rows 11 and 21 are gone on one of the nodes; 10 and 20 differ.
    let mut ids: Vec<&str> = saved
        .iter()
        .map(|line| line["row"]["currency"].as_str().unwrap())
        .collect();
    ids.dedup();
    assert_eq!((saved.len(), ids), (3, vec!["EUR"]), "{saved:?}");
    assert!(saved.iter().any(|line| line["row"]["unit"] == -1), "{saved:?}");
    cluster.assert_all_equal().await;
}

/// Each time the failed node has also been changed past its log: only who compares every row can make it equal.
#[tokio::test]
async fn every_row_is_compared_where_the_logs_do_not_name_all_that_may_differ() {
    let cluster = two_nodes("rows_all").await;
    let unlogged = |id: usize| {
        format!(
            "set session_replication_role to replica; update price set unit = -{id} where id = {id}.50; reset session_replication_role"
        )
    };
    let empty_logs = cluster.sql(
        "do $$ begin
           for i in 1..2 loop
             if (select last_value from @NAMESPACE@.sl_log_status) in (0, 1) then perform @NAMESPACE@.logswitch_start(); end if;
             perform @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC');
             delete from @NAMESPACE@.sl_event e where e.ev_seqno < (select max(m.ev_seqno) from @NAMESPACE@.sl_event m where m.ev_origin = e.ev_origin);
             if @NAMESPACE@.logswitch_finish() < 1 then raise exception 'the log was not emptied'; end if;
           end loop;
         end $$",
    );
    let crashed = cluster.sql("update @NAMESPACE@.sl_event set ev_snapshot = '1:1:' where ev_type = 'SYNC'");
    let cases: [(&str, &str, &str, &str, &[&str]); 6] = [
        ("the new origin's log was emptied", "", &empty_logs, "", &[]),
        (
            "the set was locked since",
            "",
            "",
            "lock set (id = 1, origin = {next}); unlock set (id = 1, origin = {next});",
            &[],
        ),
        (
            "a script was executed since",
            "",
            "",
            "execute script (sql = 'update price set unit = 8 where id = 8.50', event node = {next});",
            &[],
        ),
        (
            "the failed node lacks the SYNC the survivors had",
            &crashed,
            "",
            "",
            &[],
        ),
        ("the table was truncated", "truncate price", "", "", &[]),
        ("asked for", "", "", "", &["--every-row"]),
    ];
    for (number, (what, lost, since, script, options)) in cases.into_iter().enumerate() {
        println!("{what}");
        let (failed, next) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
        let lost = format!("{};{lost}", unlogged(number + 1));
        let since = if since.is_empty() { "select 1" } else { since };
        fail_over(&cluster, failed, next, &lost, since).await;
        if !script.is_empty() {
            let script = script.replace("{next}", &next.to_string());
            cluster.slonik(&script).await.succeeds();
        }
        let mut arguments = vec!["--verify", "none"];
        arguments.extend_from_slice(options);
        let (run, log) = rejoin(&cluster, failed, next, &arguments).await;
        // Of a table that was truncated every row is compared, of the others not.
        let expected = if lost.contains("truncate") { BY_LOG } else { EVERY_ROW };
        assert!(log.contains(expected), "{what}: {}{log}", run.transcript());
        cluster.assert_all_equal().await;
    }
}
