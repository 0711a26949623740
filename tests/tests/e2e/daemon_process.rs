//! slon as a process: command line, pid file, signals, exit codes, readers of its log who stop reading.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_slonctl::throwaway;
use trunkline_tests::{Cluster, PATIENCE, program, shared_throwaway, wait_until};

/// What a stop may take on a machine that is busy with other tests; by itself it takes some 20 ms.
const STOP: Duration = Duration::from_millis(1500);
const READY: &str = " CONFIG main: configuration complete - starting threads";

fn slon(arguments: &[&str]) -> Output {
    Command::new(program("slon"))
        .args(arguments)
        .env_remove("CLUSTER")
        .output()
        .expect("slon can be run")
}

async fn lock_backend(cluster: &Cluster, node: i32) -> Option<i32> {
    let statement = cluster.sql(&format!(
        "select nl_backendpid from @NAMESPACE@.sl_nodelock where nl_nodeid = {node} and nl_conncnt = 0"
    ));
    let pids: Vec<i32> = cluster.connect(node).await.column(&statement).await;
    assert!(pids.len() <= 1, "{pids:?}");
    pids.first().copied()
}

/// Waits until the lock of node 1 is held by another backend than `before`.
async fn other_backend(cluster: &Cluster, before: Option<i32>) -> i32 {
    let mut found = None;
    wait_until("a new worker instance holds the node lock", PATIENCE, async || {
        found = lock_backend(cluster, 1).await;
        if found.is_some() && found != before {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    found.unwrap()
}

#[test]
fn help_version_and_wrong_use() {
    let help = slon(&["-h"]);
    assert_eq!(help.status.code(), Some(1));
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(text.starts_with("usage: slon [options] clustername conninfo"), "{text}");
    assert!(
        text.contains("sync_interval: ") && text.contains("(default 2000; 10 .. 60000 ms)"),
        "{text}"
    );
    assert_eq!(slon(&["--help"]).status.code(), Some(0));

    let version = slon(&["-v"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("slon version 2.2.11"));

    let nothing = slon(&[]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("usage: slon"));
}

#[test]
fn wrong_values_are_refused_with_place_and_range() {
    let file = shared_throwaway().path().join("refused.conf");
    std::fs::write(&file, "# a comment\nsync_interval = 5\nsync_intervall = 500\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = slon(&["-f", file, "-g", "x", "c", "dbname=nowhere"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    for part in [
        &format!("{file}:2: 5 is outside the valid range for parameter `sync_interval` (10 .. 60000 ms)"),
        &format!("{file}:3: unknown parameter `sync_intervall`; did you mean `sync_interval`?"),
        "option `-g`: `x` is not a valid value for parameter `sync_group_maxsize`",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_file_alone_is_enough() {
    let cluster = Cluster::new("conffile", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    let file = shared_throwaway().path().join("alone.conf");
    let conninfo = cluster.node(1).conninfo.replace('\\', "\\\\").replace('\'', "\\'");
    let text = format!(
        "cluster_name = {}\nconn_info='{conninfo}'\ncleanup_interval=10\nlog_pid=on\n\
         desired_sync_time=3000 # of another version\n",
        cluster.name().name()
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(program("slon"))
        .args(["-f", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = Vec::new();
    for line in lines {
        seen.push(line);
        if seen.last().is_some_and(|line| line.ends_with(READY)) {
            break;
        }
    }
    let text = seen.join("\n");
    assert!(
        text.contains(&format!("[{pid}] CONFIG main: local node id = 1")),
        "{text}"
    );
    assert!(text.contains("WARN   ") && text.contains("desired_sync_time"), "{text}");
    assert!(text.contains("String option cleanup_interval = 10"), "{text}");
    // The reader is gone with `lines`; the stop is clean all the same.
    assert!(throwaway::signal(pid, Signal::SIGTERM));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interval_the_database_refuses_ends_slon() {
    let cluster = Cluster::new("badinterval", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    let conninfo = &cluster.node(1).conninfo;
    let ended = slon(&["--cleanup-interval=ten minutes", cluster.name().name(), conninfo]);
    let text = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(
        text.contains("FATAL  main: parameter `cleanup_interval` = `ten minutes` is not an interval"),
        "{text}"
    );
}

/// The rows of `wide_rows.rs` are too few to see what the allocator keeps; `make bench` shows it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[tokio::test]
async fn slon_runs_with_a_fixed_threshold_of_the_allocator_under_its_own_name() {
    let cluster = Cluster::new("allocator", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon(1);
    other_backend(&cluster, None).await;
    let pid = cluster.with_slon(1, |slon| slon.pid());
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(read("comm"), "slon\n");
    assert!(
        read("environ")
            .split('\0')
            .any(|setting| setting == "MALLOC_MMAP_THRESHOLD_=1048576"),
        "{}",
        read("environ")
    );
    assert!(read("cmdline").contains(cluster.name().name()), "{}", read("cmdline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_quick_and_clean_although_nobody_reads() {
    let cluster = Cluster::new("stop", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    let pid_file = shared_throwaway().path().join("stop.pid");
    for round in 0..4 {
        let mut child = Command::new(program("slon"))
            .args(["-d", "4", "-p", pid_file.to_str().unwrap()])
            .args([cluster.name().name(), &cluster.node(1).conninfo])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let backend = other_backend(&cluster, None).await;
        assert!(backend > 0);
        let pid = child.id();
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
        if round % 2 == 0 {
            drop(child.stdout.take());
            drop(child.stderr.take());
        }
        let started = Instant::now();
        let signal = if round < 2 { Signal::SIGTERM } else { Signal::SIGINT };
        assert!(throwaway::signal(pid, signal));
        let status = child.wait().unwrap();
        let elapsed = started.elapsed();
        assert_eq!(status.code(), Some(0), "round {round}");
        assert!(elapsed < STOP, "round {round}: {elapsed:?}");
        assert!(!pid_file.exists());
        // Given back, or gone with its backend when the machine was too busy for that.
        let holders = cluster.sql(
            "select count(*) from @NAMESPACE@.sl_nodelock l join pg_stat_activity a on a.pid = l.nl_backendpid \
             where l.nl_nodeid = 1 and l.nl_conncnt = 0",
        );
        let connection = cluster.connect(1).await;
        wait_until("nobody holds the lock", PATIENCE, async || {
            match connection.value::<i64>(&holders).await {
                0 => Ok(()),
                count => Err(count.to_string()),
            }
        })
        .await;
        connection
            .run(&cluster.sql("delete from @NAMESPACE@.sl_nodelock where nl_nodeid = 1"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_notifications_restart_the_worker_at_once() {
    let cluster = Cluster::new("restart", 1).await;
    cluster.establish().await;
    let mut backend = other_backend(&cluster, None).await;
    let pid = cluster.with_slon(1, |slon| slon.pid());
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGALRM] {
        cluster.with_slon(1, |slon| slon.signal(signal));
        backend = other_backend(&cluster, Some(backend)).await;
    }
    cluster
        .run(1, &format!("notify {}", cluster.name().restart_channel()))
        .await;
    other_backend(&cluster, Some(backend)).await;
    cluster.with_slon(1, |slon| {
        assert_eq!(slon.pid(), pid);
        assert!(
            slon.log()
                .contains("INFO   localListenThread: got restart notification")
        );
        slon.signal(Signal::SIGQUIT);
        assert_eq!(slon.wait(Duration::from_secs(10)).code(), Some(255));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_on_request() {
    let cluster = Cluster::new("json", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon_with(1, &["--log-format=json"]);
    wait_until("the worker is ready", PATIENCE, async || {
        let log = cluster.with_slon(1, |slon| slon.log());
        if log.contains("\"level\":\"CONFIG\"") && log.contains("configuration complete - starting threads") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}
