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
            r#"update update only "public"."item" set "v" = 'late' where "id" = '2';"#,
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
