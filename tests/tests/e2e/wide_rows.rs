//! Rows of several megabytes.

use std::time::Duration;

use trunkline_tests::Cluster;

/// What a slon may use, with a backlog of any size (kB).
const MEMORY_LIMIT_KB: u64 = 200 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_wide_rows_drains_in_bounded_memory() {
    drains("wide", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes on a busy machine: make soak"]
async fn a_backlog_of_hundreds_of_wide_rows_drains_in_bounded_memory() {
    drains("wide_hundreds", 15).await;
}

/// A backlog of so many blocks of 20 rows, 4 to 5 MB each.
async fn drains(test: &str, blocks: i32) {
    let cluster = Cluster::new(test, 3).await;
    cluster
        .run_on_all("create table wide (id int primary key, t text, b bytea)")
        .await;
    // Compressible in the table, so that the test is quick; what travels is the whole value.
    let fill = |from: i32, to: i32| {
        format!(
            "insert into wide select i, repeat('wide row ' || i || ' ', 200000), decode(repeat('00ff', 500000), 'hex')
             from generate_series({from}, {to}) i"
        )
    };
    cluster.run(1, &fill(1, 30)).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."wide""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.stop_slon(2);
    for block in 0..blocks {
        cluster.run(1, &fill(100 + block * 20, 119 + block * 20)).await;
    }
    cluster.run(1, "update wide set t = t || '!' where id % 20 = 0; update wide set id = -id where id % 30 = 0; delete from wide where id % 31 = 0").await;
    cluster.start_slon(2);
    cluster.caught_up_within(Duration::from_secs(600)).await;
    cluster.assert_equal_now().await;
    for node in [1, 2, 3] {
        let pid = cluster.with_slon(node, |slon| slon.pid());
        match peak_memory_kb(pid) {
            Some(peak) => {
                println!("slon of node {node}: at most {} MB", peak / 1024);
                assert!(peak < MEMORY_LIMIT_KB, "slon of node {node} used {} MB", peak / 1024);
            }
            None => println!("no /proc here, memory is not looked at"),
        }
    }
}

/// Highest resident memory of the process and its children.
fn peak_memory_kb(pid: u32) -> Option<u64> {
    let of = |pid: &str| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    };
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: u64 = children.split_whitespace().filter_map(of).max().unwrap_or(0);
    of(&pid.to_string()).map(|own| own.max(children))
}
