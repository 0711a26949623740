//! The figures that are promised: how late a change arrives, and what an idle cluster costs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use trunkline_tests::{Cluster, Connection, wait_until};

const TABLE: &str = "create table tick (id bigint primary key, note text)";
const TABLES: [&str; 1] = [r#""public"."tick""#];

/// Writes 200 rows a second for a while, polls the subscriber every millisecond; returns the median delay.
async fn median_delay(origin: &Connection, subscriber: &Connection, first: i64, seconds: u32) -> Duration {
    let count = i64::from(seconds) * 200;
    let begun = Instant::now();
    let writer = async {
        let mut committed = HashMap::new();
        for id in first..first + count {
            let due = begun + Duration::from_millis(5) * u32::try_from(id - first).unwrap();
            tokio::time::sleep_until(due.into()).await;
            origin.run(&format!("insert into tick values ({id}, 'x')")).await;
            committed.insert(id, Instant::now());
        }
        committed
    };
    let reader = async {
        let mut seen = HashMap::new();
        let mut highest = first - 1;
        while highest < first + count - 1 {
            let now: i64 = subscriber.value("select coalesce(max(id), 0) from tick").await;
            let at = Instant::now();
            for id in highest + 1..=now {
                seen.insert(id, at);
            }
            highest = highest.max(now);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen
    };
    let (committed, seen) = tokio::join!(writer, reader);
    let mut delays: Vec<Duration> = seen
        .iter()
        .map(|(id, at)| at.saturating_duration_since(committed[id]))
        .collect();
    delays.sort_unstable();
    println!(
        "delay of {} commits: median {:?}, 99 % {:?}, longest {:?}",
        delays.len(),
        delays[delays.len() / 2],
        delays[delays.len() * 99 / 100],
        delays[delays.len() - 1]
    );
    delays[delays.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_visible_within_a_tenth_of_a_second_at_the_median() {
    let cluster = Cluster::new("delay", 2).await;
    cluster.run_on_all(TABLE).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let (origin, subscriber) = (cluster.connect(1).await, cluster.connect(2).await);
    // Other tests keep the processors busy: one quiet stretch of six is asked for.
    let mut medians = Vec::new();
    for round in 0..6 {
        let median = median_delay(&origin, &subscriber, 1 + round * 10_000, 5).await;
        medians.push(median);
        if median < Duration::from_millis(100) {
            cluster.assert_all_equal().await;
            return;
        }
    }
    panic!("medians of six rounds: {medians:?}");
}

/// Processor time of a process so far, in seconds.
fn processor_seconds(pid: i64) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
    // USER_HZ is 100 on every Linux that matters.
    Some(ticks / 100.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_of_three_costs_less_than_two_percent_of_a_core() {
    let cluster = Cluster::new("idle", 3).await;
    cluster.run_on_all(TABLE).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.assert_all_equal().await;
    let one = cluster.connect(1).await;
    let databases: Vec<String> = {
        let mut names = Vec::new();
        for node in [1, 2, 3] {
            names.push(
                cluster
                    .connect(node)
                    .await
                    .value::<String>("select current_database()::text")
                    .await,
            );
        }
        names
    };
    let all = format!(
        "select coalesce(array_agg(pid::int8), '{{}}') from pg_stat_activity where application_name like 'slon.%' and datname in ('{}')",
        databases.join("', '")
    );
    wait_until(
        "the slons have their connections",
        Duration::from_secs(30),
        async || {
            let count = one.value::<Vec<i64>>(&all).await.len();
            if count >= 12 {
                Ok(())
            } else {
                Err(format!("{count} connections"))
            }
        },
    )
    .await;
    // What the subscriptions left to do is done after a while; then it counts.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut shares = Vec::new();
    for _ in 0..6 {
        let mut pids: Vec<i64> = one.value(&all).await;
        for node in [1, 2, 3] {
            pids.push(i64::from(cluster.with_slon(node, |slon| slon.pid())));
        }
        let before: HashMap<i64, f64> = pids
            .iter()
            .filter_map(|pid| Some((*pid, processor_seconds(*pid)?)))
            .collect();
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let spent: f64 = before
            .iter()
            .filter_map(|(pid, then)| Some(processor_seconds(*pid)? - then))
            .sum();
        let share = spent / begun.elapsed().as_secs_f64();
        println!("idle: {:.2} % of a core for {} processes", share * 100.0, before.len());
        shares.push(share);
        if share < 0.02 {
            return;
        }
    }
    panic!("shares of a core in six rounds: {shares:?}");
}
