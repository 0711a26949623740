//! The throwaway servers themselves: nothing may be left behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_slonctl::throwaway::{ServerOptions, Throwaway, exists, signal};
use trunkline_tests::{Connection, PATIENCE, server_binaries, wait_until};

/// Set in the process that plays the owner of a throwaway directory and is killed.
const OWNER_VARIABLE: &str = "TRUNKLINE_TEST_THROWAWAY_OWNER";

#[tokio::test]
async fn a_server_survives_kill_and_start_with_its_data() {
    let throwaway = Throwaway::new("selftest", server_binaries()).unwrap();
    let path = throwaway.path().to_owned();
    {
        let mut server = throwaway.server("one", &ServerOptions::default()).unwrap();
        let other = throwaway
            .server(
                "two",
                &ServerOptions {
                    tcp: true,
                    ..ServerOptions::default()
                },
            )
            .unwrap();
        let connection = Connection::open(&server.conninfo("postgres")).await;
        connection
            .run("create table t as select generate_series(1, 1000) i; create extension hstore")
            .await;
        server.kill();
        // The backend outlives its postmaster until it notices.
        wait_until("the server is gone", PATIENCE, async || {
            match connection.try_run("select 1").await {
                Ok(()) => Err("a backend still answers".to_owned()),
                Err(_) => Ok(()),
            }
        })
        .await;
        server.start().unwrap();
        let connection = Connection::open(&server.conninfo("postgres")).await;
        assert_eq!(connection.value::<i64>("select count(*) from t").await, 1000);
        server.restart().unwrap();
        Connection::open(&other.conninfo("postgres"))
            .await
            .run("select 1")
            .await;
        assert!(path.is_dir());
    }
    drop(throwaway);
    assert!(!path.exists(), "`{}` is left behind", path.display());
}

/// Not a test of its own: run by the next one in a process that is killed.
#[test]
fn owner() {
    if std::env::var_os(OWNER_VARIABLE).is_none() {
        return;
    }
    let throwaway = Throwaway::new("owner", server_binaries()).unwrap();
    let server = throwaway.server("one", &ServerOptions::default()).unwrap();
    println!("OWNER {} {}", throwaway.path().display(), server.pid().unwrap());
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn nothing_is_left_when_the_owner_is_killed() {
    use std::io::BufRead;
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "throwaway::owner", "--nocapture"])
        .env(OWNER_VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(owner.stdout.take().unwrap()).lines();
    // The test runner may have written the test's name in front of it.
    let line = lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("OWNER "))
        .expect("the owner speaks");
    let (_, words) = line.split_once("OWNER ").unwrap();
    let (path, pid) = words.split_once(' ').unwrap();
    let (path, pid) = (Path::new(path), pid.parse::<u32>().unwrap());
    assert!(path.is_dir() && exists(pid));
    signal(owner.id(), Signal::SIGKILL);
    owner.wait().unwrap();
    wait_until("the guard has cleaned up", PATIENCE, async || {
        if path.exists() {
            Err(format!("`{}` exists", path.display()))
        } else {
            Ok(())
        }
    })
    .await;
    wait_until("the server is gone", Duration::from_secs(5), async || {
        if exists(pid) {
            Err(format!("process {pid} lives"))
        } else {
            Ok(())
        }
    })
    .await;
}
