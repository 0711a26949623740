//! How long a node takes to come back, beside a fresh copy: `make rejoin-figures`.

use std::time::Instant;

use trunkline_tests::{Cluster, shared_throwaway};

/// Megabytes of the table.
const SIZE_VARIABLE: &str = "TRUNKLINE_TEST_REJOIN_MB";
/// Rows that differ, half of them changed on either side.
const DIFFERENT: i64 = 1000;

/// What the slon of node 1 has logged of its last copy: the seconds of the whole copy.
fn last_copy(cluster: &Cluster) -> f64 {
    let log = cluster.with_slon(1, |slon| slon.log());
    for line in log
        .lines()
        .filter(|line| line.contains("differed") || line.contains("the logs"))
    {
        println!("{line}");
    }
    log.lines()
        .filter_map(|line| {
            line.split_once("copy_set 1 done in ")?
                .1
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .next_back()
        .expect("slon has copied the set")
}

/// Fails node 1 over to node 2, takes it back, then copies everything anew; `key` is the key's type, `of` makes it of `i`.
async fn compare(test: &str, key: &str, of: &str) {
    let megabytes: i64 = std::env::var(SIZE_VARIABLE)
        .ok()
        .map_or(64, |text| text.parse().unwrap());
    let cluster = Cluster::on_durable_servers(test, 2).await;
    cluster
        .run_on_all(&format!(
            "create table documents (id {key} primary key, owner text not null, changed timestamptz not null, body text);
             create index documents_owner on documents (owner); create index documents_changed on documents (changed)"
        ))
        .await;
    let rows = megabytes * 1024;
    let every = (rows / DIFFERENT).max(2);
    cluster
        .run(
            1,
            &format!(
                "insert into documents select {of}, 'owner ' || i::bigint * 7919 % 100000, timestamptz '2026-01-01' + i * interval '1 second',
                        repeat(md5(i::text), 28) from generate_series(1, {rows}) i"
            ),
        )
        .await;
    cluster.run_on_all("analyze documents; checkpoint").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."documents""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    // A table that has stood for a while: the first reader of fresh rows writes all pages once more.
    cluster.run_on_all("vacuum (analyze) documents").await;

    cluster.kill_slon(1);
    let change = |rest: i64| {
        format!(
            "update documents set owner = 'new {rest}' where changed in
             (select timestamptz '2026-01-01' + i * interval '1 second' from generate_series({rest}, {rows}, {}) i)",
            2 * every
        )
    };
    cluster.run(1, &change(every)).await;
    cluster.slonik("failover (id = 1, backup node = 2);").await.succeeds();
    cluster.run(2, &change(2 * every)).await;

    let saved = shared_throwaway().path().join(test);
    std::fs::create_dir_all(&saved).unwrap();
    // What follows the joining is no part of it: nobody waits for that.
    let arguments = [
        "rejoin",
        "--node",
        "1",
        "--save",
        saved.to_str().unwrap(),
        "--verify",
        "none",
    ];
    let (run, ()) = tokio::join!(
        async { cluster.slonctl_of(&[2, 1], &arguments).await.exits(0) },
        cluster.start_slon_when_returned(1, 2)
    );
    println!("{}", run.transcript());
    let rejoin = (run.elapsed.as_secs_f64(), last_copy(&cluster));

    cluster.unsubscribe(1, 1).await;
    let started = Instant::now();
    cluster.subscribe(1, 2, 2, 1).await;
    let full = (started.elapsed().as_secs_f64(), last_copy(&cluster));
    println!(
        "{megabytes} MB, key {key}: {DIFFERENT} rows different: the whole rejoin {:.2} s, a fresh subscription {:.2} s: {:.1} times; \
         slon's copies alone {:.2} s and {:.2} s: {:.1} times",
        rejoin.0,
        full.0,
        full.0 / rejoin.0,
        rejoin.1,
        full.1,
        full.1 / rejoin.1
    );
    // Of small tables the fixed part is most of it.
    if megabytes >= 1024 {
        assert!(full.1 > 10.0 * rejoin.1, "{:.2} s and {:.2} s", rejoin.1, full.1);
    }
    cluster.assert_all_equal().await;
}

#[tokio::test]
#[ignore = "a gigabyte on each of two servers: make rejoin-figures"]
async fn a_node_comes_back_faster_than_by_a_copy() {
    compare("rejoin_figures", "bigint", "i").await;
}

#[tokio::test]
#[ignore = "a gigabyte on each of two servers: make rejoin-figures"]
async fn a_node_without_numbers_for_keys_comes_back_faster_than_by_a_copy() {
    compare("rejoin_figures_uuid", "uuid", "md5(i::text)::uuid").await;
}
