//! What `slonctl lost` lists is exact also for what is no ordinary change of a row, with the times of the commits.

use trunkline_tests::{Cluster, SlonctlRun};

#[tokio::test(flavor = "multi_thread")]
async fn truncations_scripts_and_times_of_commits_are_listed_exactly() {
    let cluster = Cluster::on_own_servers("losses", 2).await;
    cluster.run(1, "alter system set track_commit_timestamp to on").await;
    cluster.server(1).restart().unwrap_or_else(|error| panic!("{error}"));
    cluster
        .run_on_all("create table item (id int primary key, v text); create table part (id int primary key)")
        .await;
    cluster
        .run(
            1,
            "insert into item values (1, 'a'), (2, 'b'); insert into part select generate_series(1, 5)",
        )
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."item""#, r#""public"."part""#], &[])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    cluster.kill_slon(1);
    cluster
        .slonik("execute script (sql = 'update item set v = ''by script'' where id = 1; delete from item where id = 9', event node = 1);\n")
        .await
        .succeeds();
    // The first to write is the last to commit.
    let late = cluster.connect(1).await;
    late.run("begin; update item set v = 'late' where id = 2").await;
    cluster
        .run(1, "begin; truncate part; insert into part values (77); commit")
        .await;
    // Rolled back is not lost.
    cluster
        .run(1, "begin; insert into item values (99, 'never'); rollback")
        .await;
    let txid: i64 = late.value("select txid_current()").await;
    late.run("commit").await;
    let committed: String = cluster
        .connect(1)
        .await
        .value(&format!(
            "select to_char(pg_xact_commit_timestamp('{txid}'::xid) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        ))
        .await;
    cluster.slonik("failover (id = 1, backup node = 2);\n").await.succeeds();

    let lost = async |arguments: &[&str]| -> SlonctlRun {
        let mut all = vec!["--conninfo", &cluster.node(1).conninfo];
        all.extend(arguments);
        all.extend(["lost", "--node", "1"]);
        cluster.slonctl_from(2, &all).await.exits(8)
    };
    let run = lost(&["--json"]).await;
    let lines = run.json();
    assert_eq!(lines[0]["summary"]["transactions"], 3, "{}", run.transcript());
    let told: Vec<String> = lines[1..]
        .iter()
        .map(|line| match line["change"].as_str() {
            Some(change) => format!("{change} {}", line["sql"].as_str().unwrap_or_default()),
            None => format!("transaction of {} changes", line["changes"]),
        })
        .collect();
    assert_eq!(
        told,
        [
            "transaction of 2 changes",
            "script -- update item set v = 'by script' where id = 1;",
            "script --  delete from item where id = 9",
            "transaction of 2 changes",
            r#"truncate -- truncate only "public"."part";"#,
            r#"insert insert into "public"."part" ("id") values ('77');"#,
            "transaction of 1 changes",
            // The script may have changed the row: as a comment.
            r#"update -- update only "public"."item" set "v" = 'late' where "id" = '2';"#,
        ],
        "{}",
        run.transcript()
    );
    let times: Vec<&str> = lines.iter().filter_map(|line| line["committed"].as_str()).collect();
    assert_eq!(times.len(), 3, "{}", run.transcript());
    assert!(times.is_sorted(), "in the order of their commits: {times:?}");
    assert_eq!(times[2], committed);
    lost(&[]).await.says(&format!("committed at {committed}"));
}

/// One change as `lost --json` tells it: `old` and `new` values, or why the old ones are not known.
fn told(line: &serde_json::Value) -> Option<String> {
    let kind = line["change"].as_str()?;
    let values = |field: &str| {
        let Some(object) = line[field].as_object() else {
            return "-".to_owned();
        };
        let parts: Vec<String> = object
            .iter()
            .map(|(column, value)| format!("{column}={}", value.as_str().unwrap_or("null")))
            .collect();
        parts.join(" ")
    };
    let unknown = line["old_unknown"]
        .as_str()
        .map_or_else(String::new, |why| format!(" [{why}]"));
    Some(format!(
        "{kind} {}: {} -> {}{unknown}",
        values("key"),
        values("old"),
        values("new")
    ))
}

#[tokio::test]
async fn old_values_of_lost_changes_are_exact_or_said_to_be_unknown() {
    let cluster = Cluster::new("losses_old", 2).await;
    cluster
        .run_on_all(
            "create table item (id int primary key, v text, j json);
             create table moment (at timestamptz primary key, v text); create table scratch (id int)",
        )
        .await;
    cluster
        .run(
            1,
            r#"insert into item select i, 'v' || i, '{"a":  1}' from generate_series(1, 9) i;
               insert into moment values ('2026-01-01 12:00:00+00', 'noon')"#,
        )
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."item""#, r#""public"."moment""#], &[])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    // These come by the stream, not by the copy.
    cluster.run(1, "update item set v = 'a' where id <= 5").await;
    cluster.caught_up().await;
    cluster.kill_slon(1);
    // Begun before the failover, and writing after it in a subtransaction that is older as well.
    let open = cluster.connect(2).await;
    open.run("begin; insert into scratch values (1); savepoint s; insert into scratch values (2)")
        .await;

    let failed = cluster.connect(1).await;
    for statement in [
        "update item set v = 'a1' where id = 1",
        "update item set v = null, j = '[]' where id = 1",
        "update item set v = v || '!', id = 20 where id = 2",
        "update item set v = 'moved' where id = 20",
        "delete from item where id = 20",
        "delete from item where id = 3",
        "insert into item values (3, 'again')",
        "update item set v = 'once more' where id = 3",
        "update item set v = 'd1' where id = 4",
        "update item set v = 'd2' where id = 4",
        "delete from item where id = 4",
        "delete from item where id = 5",
        "insert into item values (30, 'mine')",
        "update item set v = 'same' where id = 6",
        "update item set v = 'sub' where id = 7",
        "set timezone to 'Asia/Tokyo'; update moment set v = 'one'",
        "set timezone to 'America/New_York'; update moment set v = 'two'",
        // Nobody can tell which of the two rows is meant by a key that both have had at the same time.
        "alter table item drop constraint item_pkey, add primary key (id) deferrable initially deferred",
        "update item set id = 17 - id where id in (8, 9)",
    ] {
        failed.run(statement).await;
    }
    cluster.slonik("failover (id = 1, backup node = 2);\n").await.succeeds();
    cluster
        .run(
            2,
            "update item set v = 'other' where id = 4; delete from item where id = 5; insert into item values (30, 'theirs');
             update item set v = v where id = 6",
        )
        .await;
    open.run("update item set v = 'late' where id = 7; commit").await;

    let lost = async |arguments: &[&str]| -> SlonctlRun {
        let mut all = vec!["--conninfo", &cluster.node(1).conninfo];
        all.extend(arguments);
        all.extend(["lost", "--node", "1"]);
        cluster.slonctl_from(2, &all).await.exits(8)
    };
    let run = lost(&["--json"]).await;
    let changes: Vec<String> = run.json().iter().filter_map(told).collect();
    let since = "changed since on node 2";
    let unexplained = "the changes before it leave another row there, or none";
    assert_eq!(
        changes,
        [
            "update id=1: v=a -> v=a1".to_owned(),
            r#"update id=1: j={"a":  1} v=a1 -> j=[] v=null"#.to_owned(),
            "update id=2: id=2 v=a -> id=20 v=a!".to_owned(),
            "update id=20: v=a! -> v=moved".to_owned(),
            r#"delete id=20: id=20 j={"a":  1} v=moved -> "#.to_owned(),
            r#"delete id=3: id=3 j={"a":  1} v=a -> "#.to_owned(),
            "insert -: - -> id=3 j=null v=again".to_owned(),
            "update id=3: v=again -> v=once more".to_owned(),
            format!("update id=4: - -> v=d1 [{since}]"),
            "update id=4: v=d1 -> v=d2".to_owned(),
            format!("delete id=4: id=4 v=d2 ->  [{since}]"),
            "delete id=5: - ->  [deleted since on node 2, or its key was changed]".to_owned(),
            "insert -: - -> id=30 j=null v=mine [node 2 has got a row with this key since]".to_owned(),
            format!("update id=6: - -> v=same [{since}]"),
            format!("update id=7: - -> v=sub [{since}]"),
            "update at=2026-01-01 21:00:00+09: v=noon -> v=one".to_owned(),
            "update at=2026-01-01 07:00:00-05: v=one -> v=two".to_owned(),
            format!("update id=8: id=8 -> id=9 [{unexplained}]"),
            format!("update id=9: - -> id=8 [{unexplained}]"),
        ],
        "{}",
        run.transcript()
    );
    let table = lost(&[]).await;
    table
        .says(r#"set 1  public.item  update  id = "1": v = "a" -> "a1""#)
        .says(r#"old values not known: changed since on node 2; node 2 has v = "other""#);

    // What can be done again without judging is done where it fits, and nothing else.
    let first = ["--conninfo", &cluster.node(1).conninfo];
    let all = [&first[..], &["lost", "--node", "1", "--sql"]].concat();
    let script = cluster.slonctl_from(2, &all).await.exits(8);
    cluster
        .run(2, "update item set v = 'after the list' where id = 1")
        .await;
    cluster.run(2, &script.stdout).await;
    let rows: Vec<String> = cluster
        .connect(2)
        .await
        .column("select concat_ws(' ', id, v, j) from item order by id")
        .await;
    assert_eq!(
        rows,
        [
            r#"1 after the list {"a":  1}"#,
            "3 once more",
            "4 other {\"a\":  1}",
            r#"6 v6 {"a":  1}"#,
            r#"7 late {"a":  1}"#,
            r#"8 v8 {"a":  1}"#,
            r#"9 v9 {"a":  1}"#,
            "30 theirs",
        ],
        "{}",
        script.stdout
    );
    let moment: String = cluster.connect(2).await.value("select v from moment").await;
    assert_eq!(moment, "two");
}

/// Many wide changes, and a table that is met only behind them.
#[tokio::test]
async fn a_long_list_of_lost_changes_is_read_to_its_end() {
    let cluster = Cluster::new("losses_long", 2).await;
    cluster
        .run_on_all("create table item (id int primary key, v text); create table last (id int primary key, v text)")
        .await;
    cluster
        .run(
            1,
            "insert into item select i, repeat('x', 500) from generate_series(1, 3000) i; insert into last values (1, 'old')",
        )
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."item""#, r#""public"."last""#], &[])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    cluster.kill_slon(1);
    for _ in 0..2 {
        cluster.run(1, "update item set v = repeat('y', 500) || id").await;
    }
    cluster.run(1, "update last set v = 'new'").await;
    cluster.slonik("failover (id = 1, backup node = 2);\n").await.succeeds();
    let first = ["--conninfo", &cluster.node(1).conninfo, "--json", "lost", "--node", "1"];
    let run = cluster.slonctl_from(2, &first).await.exits(8);
    let lines = run.json();
    let changes: Vec<String> = lines.iter().filter_map(told).collect();
    assert_eq!(lines[0]["summary"]["changes"], changes.len());
    assert_eq!(changes.last().map(String::as_str), Some("update id=1: v=old -> v=new"));
    let unknown = lines.iter().filter(|line| line["old_unknown"].is_string()).count();
    assert_eq!(unknown, 0);
}

/// The sets of a failed node may have different origins by the time its losses are read, and a set that nobody has goes with it.
#[tokio::test]
async fn losses_of_each_set_are_compared_with_a_node_that_has_it() {
    let cluster = Cluster::new("losses_sets", 3).await;
    cluster
        .run_on_all(
            "create table first (id int primary key, v text); create table second (id int primary key, v text);
             create table nobodys (id int primary key); create sequence counter",
        )
        .await;
    cluster
        .run(
            1,
            "insert into first values (1, 'v'); insert into second values (1, 'v'), (2, 'v')",
        )
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."first""#], &[]).await;
    cluster
        .create_set(2, 1, &[r#""public"."second""#], &[r#""public"."counter""#])
        .await;
    for (set, receiver) in [(1, 2), (1, 3), (2, 2)] {
        cluster.subscribe(set, 1, 1, receiver).await;
    }
    // Node 3 has a table of the second set's name, and nothing to do with the set.
    cluster
        .run(3, "insert into second values (1, 'stale'), (2, 'stale'), (3, 'stale')")
        .await;
    cluster.create_set(9, 1, &[r#""public"."nobodys""#], &[]).await;
    cluster.caught_up().await;
    cluster.kill_slon(1);
    cluster
        .run(
            1,
            "update first set v = 'lost' where id = 1; update second set v = 'lost' where id = 1;
             update second set v = 'lost' where id = 2; insert into second values (3, 'lost'); select setval('counter', 70)",
        )
        .await;
    cluster
        .slonctl_from(2, &["failover", "--failed", "1", "--to", "2", "--although-alive", "-f"])
        .await
        .exits(0)
        .says("set 9 of node 1 has no subscriber among the survivors: its tables are lost to the cluster")
        .says("done: the origin of set");
    cluster.run(2, "update second set v = 'since' where id = 2").await;
    cluster
        .slonctl_from(2, &["switch", "--set", "1", "--to", "3", "-f"])
        .await
        .exits(0);

    let arguments = ["--conninfo", &cluster.node(1).conninfo, "--json", "lost", "--node", "1"];
    let run = cluster.slonctl_from(2, &arguments).await.exits(8);
    let lines = run.json();
    let changes: Vec<String> = lines.iter().filter_map(told).collect();
    assert_eq!(
        changes,
        [
            "update id=1: v=v -> v=lost",
            "update id=1: v=v -> v=lost",
            "update id=2: - -> v=lost [changed since on node 2]",
            "insert -: - -> id=3 v=lost",
        ],
        "{}",
        run.transcript()
    );
    let sequences: Vec<&serde_json::Value> = lines.iter().filter(|line| line["sequence"].is_string()).collect();
    assert_eq!(sequences.len(), 1, "{}", run.transcript());
    assert_eq!(sequences[0]["failed"], 70, "{}", run.transcript());
}
