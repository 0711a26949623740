//! `slonctl verify`: exact under load, whatever the types, and able to repair.

use std::time::{Duration, Instant};

use rand::Rng;
use trunkline_tests::{Cluster, Connection, Writers, test_seed};

/// Types whose text depends on settings, keys of several columns and types, values out of line.
const ODD_TABLES: &str = r#"
    create table odd (
        tenant varchar(20), at timestamptz, part numeric, f float8, n numeric, c char(6), b bytea, i interval, d date,
        a float4[], j jsonb, u uuid, wide text, flag bool, small smallint, big bigint, local timestamp, noted timestamptz,
        primary key (tenant, at, part)
    );
    create table "Quoted ""T" ("the key" text collate "C" primary key, "a'b" int, gone int);
    alter table "Quoted ""T" drop column gone;
    create table empty (id int primary key, v text);
"#;

const ODD_ROWS: &str = r#"
    insert into odd select 'tenant ' || i % 7, timestamptz '2026-01-01 00:00:00.000001+02' + i * interval '1 hour 1 microsecond',
        i * 1.10, case i % 5 when 0 then 'NaN'::float8 when 1 then '-0' when 2 then 'infinity' else i / 3.0 end, i * 1.10, 'c' || i % 9,
        decode(md5(i::text), 'hex'), i * interval '1 month 2 days 3 seconds', date '2026-01-01' + i,
        array[i / 3.0, null]::float4[], jsonb_build_object('k', i, 'n', null), md5(i::text)::uuid,
        case when i % 50 = 0 then (select string_agg(md5(i::text || x), '') from generate_series(1, 400) x) end, i % 2 = 0,
        case when i % 2 = 0 then i end, i, case when i % 3 > 0 then timestamp '2026-01-01' + i * interval '1 microsecond' end,
        case i % 3 when 0 then timestamptz '2026-01-01 00:00:00+03' when 2 then 'infinity' end
    from generate_series(1, 400) i;
    insert into "Quoted ""T" select 'key ''"\ ' || i, i from generate_series(1, 300) i;
"#;

/// Rows planted on the subscriber, behind the back of replication.
async fn plant(subscriber: &Connection, sql: &str) {
    subscriber
        .run(&format!(
            "begin; set local session_replication_role to replica; {sql}; commit"
        ))
        .await;
}

async fn two_nodes(test: &str) -> Cluster {
    let cluster = Cluster::new(test, 2).await;
    Writers::prepare(&cluster, 1).await;
    cluster.run_on_all(ODD_TABLES).await;
    cluster.run(1, ODD_ROWS).await;
    cluster.establish().await;
    let mut tables = Writers::TABLE_NAMES.to_vec();
    tables.extend([r#""public"."odd""#, r#""public"."Quoted ""T""#, r#""public"."empty""#]);
    cluster.create_set(1, 1, &tables, &Writers::SEQUENCE_NAMES).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
}

/// Keys that a run of `verify --json` reports, as `table key what`, sorted.
fn reported(document: &serde_json::Value) -> Vec<String> {
    let mut found = Vec::new();
    for subscription in document["subscriptions"].as_array().unwrap() {
        for table in subscription["tables"].as_array().unwrap() {
            for key in table["keys"].as_array().unwrap() {
                let values: Vec<&str> = key["key"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|v| v.as_str().unwrap())
                    .collect();
                found.push(format!(
                    "{} {} {}",
                    table["name"].as_str().unwrap(),
                    values.join(","),
                    key["what"].as_str().unwrap()
                ));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn verify_finds_exactly_the_planted_differences_under_load() {
    let seed = test_seed("verify_finds_exactly_the_planted_differences_under_load");
    let cluster = two_nodes("verify_load").await;
    // Rows nobody writes to, among those the writers change all the time.
    cluster
        .run(
            1,
            "insert into accounts select 100000 + i, 'still ' || i, i from generate_series(1, 2000) i",
        )
        .await;
    let writers = Writers::start(&cluster, &[1], 3, Duration::from_millis(3), seed);
    for _ in 0..3 {
        cluster
            .slonctl_from(1, &["verify"])
            .await
            .exits(0)
            .says("all that was compared is equal");
    }
    let subscriber = cluster.connect(2).await;
    let mut random = seed.generator(7);
    let mut expected = Vec::new();
    let mut ids: Vec<i32> = (1..=2000).collect();
    for index in 0..30 {
        let id = 100_000 + ids.swap_remove(random.random_range(0..ids.len()));
        let (sql, what) = match index % 3 {
            // 5 and 5.0 are equal numbers, but not the same value.
            0 => (
                format!("update accounts set balance = (balance::text || '.0')::numeric where id = {id}"),
                "differs",
            ),
            1 => (format!("delete from accounts where id = {id}"), "missing"),
            _ => (format!("insert into accounts values (-{id}, 'surplus', 1)"), "surplus"),
        };
        plant(&subscriber, &sql).await;
        let key = if what == "surplus" { -id } else { id };
        expected.push(format!("\"public\".\"accounts\" {key} {what}"));
    }
    expected.sort();
    let run = cluster
        .slonctl_from(1, &["--json", "verify", "--show", "1000"])
        .await
        .exits(8);
    assert_eq!(reported(&run.json()[0]), expected, "{}", run.transcript());

    cluster
        .slonctl_from(1, &["verify", "--repair"])
        .await
        .exits(0)
        .says("repaired");
    cluster.slonctl_from(1, &["verify"]).await.exits(0);
    let outcome = writers.finish().await;
    cluster.caught_up().await;
    outcome.assert_nothing_lost(&cluster, 2).await;
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn verify_sees_every_kind_of_difference_and_no_other() {
    let cluster = two_nodes("verify_kinds").await;
    // Another order of columns, one more, and other settings are no difference.
    let subscriber = cluster.connect(2).await;
    subscriber
        .run("alter table odd add column only_here int default 5")
        .await;
    let database: String = subscriber.value("select current_database()").await;
    subscriber
        .run(&format!(
            "alter database \"{database}\" set datestyle to 'German'; alter database \"{database}\" set extra_float_digits to -10;
             alter database \"{database}\" set timezone to 'Asia/Kolkata'; alter database \"{database}\" set bytea_output to escape;
             alter database \"{database}\" set intervalstyle to iso_8601"
        ))
        .await;
    cluster.slonctl_from(1, &["verify"]).await.exits(0);

    let first = "(select min(at) from odd)";
    for change in [
        "f = 0",
        "n = n + 0.000",
        "c = null",
        "wide = ''",
        "d = 'infinity'",
        "a = '{}'",
        "flag = not flag",
        "i = i + interval '0.000001 second'",
        "j = j || '{\"n\": 0}'",
        "b = b || '\\x00'",
        // Null is not nothing, and a bigint is more than the 32 bits the server folds it into.
        "small = 0",
        "big = 4294967296",
        "big = null",
        "u = null",
        "local = local + interval '0.000001 second'",
        "local = null",
        "noted = '2000-01-01 00:00:00+00'",
        "noted = '-infinity'",
    ] {
        plant(&subscriber, &format!("update odd set {change} where at = {first}")).await;
        let run = cluster.slonctl_from(2, &["--json", "verify"]).await.exits(8);
        assert_eq!(reported(&run.json()[0]).len(), 1, "{change}\n{}", run.transcript());
        cluster
            .slonctl_from(1, &["verify", "--repair", "--table", "public.odd"])
            .await
            .exits(0);
    }
    plant(
        &subscriber,
        r#"update "Quoted ""T" set "the key" = "the key" || 'x' where "a'b" = 17; insert into empty values (1, null);
           truncate journal; select setval('journal_id_seq', 4711)"#,
    )
    .await;
    let run = cluster.slonctl_from(1, &["--json", "verify"]).await.exits(8);
    assert_eq!(
        reported(&run.json()[0]),
        [
            r#""public"."Quoted ""T" key '"\ 17 missing"#,
            r#""public"."Quoted ""T" key '"\ 17x surplus"#,
            r#""public"."empty" 1 surplus"#,
        ],
        "{}",
        run.transcript()
    );
    assert!(run.stdout.contains("\"at_receiver\":4711"), "{}", run.transcript());
    cluster
        .slonctl_from(1, &["verify", "--repair", "--max-rate", "50M"])
        .await
        .exits(0);
    cluster.slonctl_from(1, &["verify"]).await.exits(0);
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn verify_says_who_does_not_come_along() {
    let cluster = two_nodes("verify_stuck").await;
    cluster.kill_slon(2);
    cluster
        .slonctl_from(1, &["verify", "--wait", "1"])
        .await
        .exits(1)
        .says("node 2 has not applied SYNC")
        .says("no slon serves node 2; start one");
    cluster
        .slonctl_from(1, &["verify", "--set", "7"])
        .await
        .exits(1)
        .says("there is no set 7");
    cluster.start_slon(2);
    cluster.slonctl_from(1, &["verify"]).await.exits(0);
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_does_not_wait_for_who_is_stuck_but_for_who_gets_on_again() {
    let cluster = two_nodes("verify_hopeless").await;
    cluster.kill_slon(2);
    let begun = Instant::now();
    cluster
        .slonctl_from(1, &["verify"])
        .await
        .exits(1)
        .says("node 2 does not get to SYNC")
        .says("no slon serves node 2; start one");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // A slon that comes soon enough.
    let (run, ()) = tokio::join!(cluster.slonctl_from(1, &["verify"]), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.start_slon(2);
    });
    run.exits(0);
    // One that runs and cannot go on.
    cluster
        .run(2, "alter table empty add constraint never check (id < 0) not valid")
        .await;
    cluster.run(1, "insert into empty values (1)").await;
    let begun = Instant::now();
    cluster
        .slonctl_from(1, &["verify"])
        .await
        .exits(1)
        .says("slon of node 2, remoteWorkerThread_1, for")
        .says("never");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let (run, ()) = tokio::join!(cluster.slonctl_from(1, &["verify"]), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.run(2, "alter table empty drop constraint never").await;
    });
    run.exits(0);
    cluster.assert_all_equal().await;
}

#[tokio::test]
async fn verify_reads_no_faster_than_it_may() {
    let cluster = Cluster::new("verify_rate", 2).await;
    cluster
        .run_on_all("create table big (id int primary key, v text)")
        .await;
    cluster
        .run(
            1,
            "insert into big select i, repeat(md5(i::text), 30) from generate_series(1, 8000) i",
        )
        .await;
    cluster.run_on_all("analyze big").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."big""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.run_on_all("analyze big").await;
    let megabytes: i64 = cluster
        .connect(1)
        .await
        .value("select pg_table_size('big') / 1024 / 1024")
        .await;
    let seconds = async |arguments: &[&str]| -> f64 {
        let run = cluster
            .slonctl_from(1, &[&["--json", "verify"], arguments].concat())
            .await
            .exits(0);
        run.json()[0]["subscriptions"][0]["tables"][0]["seconds"]
            .as_f64()
            .unwrap()
    };
    let free = seconds(&[]).await;
    let limited = seconds(&["--max-rate", "3M"]).await;
    #[allow(clippy::cast_precision_loss)]
    let least = megabytes as f64 / 3.0;
    println!("{megabytes} MB: {free:.2} s, at 3 MB/s {limited:.2} s");
    // Naps are taken at random: their sum is within a few percent of what it should be.
    assert!(limited > least * 0.8, "{limited:.2} s, {least:.2} s would be right");
    assert!(free < limited, "{free:.2} s without a limit, {limited:.2} s with it");
    cluster.assert_all_equal().await;
}
