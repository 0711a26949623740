//! Several hosts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::servers::{free_port, shared};
use super::{bare, connect, refusal_with, refused};

/// Both servers, the standby first.
fn both(attributes: &str) -> String {
    let servers = shared();
    format!(
        "host=127.0.0.1,127.0.0.1 port={},{} dbname=postgres user=trusted {attributes}",
        servers.standby, servers.primary
    )
}

async fn port_reached(conninfo: &str) -> u16 {
    let session = connect(conninfo).await;
    let row = session
        .query_one("select current_setting('port')::int4", &[])
        .await
        .unwrap();
    u16::try_from(row.get::<_, i32>(0)).unwrap()
}

#[tokio::test]
async fn target_session_attrs_chooses_the_server() {
    let servers = shared();
    for (attributes, expected) in [
        ("", servers.standby),
        ("any", servers.standby),
        ("read-write", servers.primary),
        ("primary", servers.primary),
        ("read-only", servers.standby),
        ("standby", servers.standby),
        ("prefer-standby", servers.standby),
    ] {
        let keyword = if attributes.is_empty() {
            String::new()
        } else {
            format!("target_session_attrs={attributes}")
        };
        assert_eq!(port_reached(&both(&keyword)).await, expected, "{attributes}");
    }
    let primary_only = format!("host=127.0.0.1 port={} dbname=postgres user=trusted", servers.primary);
    assert_eq!(
        port_reached(&format!("{primary_only} target_session_attrs=prefer-standby")).await,
        servers.primary
    );
    refused(
        &format!("{primary_only} target_session_attrs=standby"),
        "server is not in hot standby mode",
    )
    .await;
    refused(
        &format!("{primary_only} target_session_attrs=read-only"),
        "session is not read-only",
    )
    .await;
    let read_only = format!("{primary_only} options='-c default_transaction_read_only=on'");
    refused(
        &format!("{read_only} target_session_attrs=read-write"),
        "session is read-only",
    )
    .await;
    assert_eq!(
        port_reached(&format!("{read_only} target_session_attrs=read-only")).await,
        servers.primary
    );
    let standby_only = format!("host=127.0.0.1 port={} dbname=postgres user=trusted", servers.standby);
    refused(
        &format!("{standby_only} target_session_attrs=primary"),
        "server is in hot standby mode",
    )
    .await;
}

#[tokio::test]
async fn dead_hosts_are_passed_over_and_all_are_told() {
    let servers = shared();
    let dead = free_port();
    let conninfo = format!(
        "host=127.0.0.1,127.0.0.1 port={dead},{} dbname=postgres user=trusted",
        servers.primary
    );
    assert_eq!(port_reached(&conninfo).await, servers.primary);
    let uri = format!(
        "postgresql://trusted@127.0.0.1:{dead},127.0.0.1:{}/postgres",
        servers.primary
    );
    assert_eq!(port_reached(&uri).await, servers.primary);
    let all_dead = format!("host=127.0.0.1,no-such-host.invalid,/nonexistent port={dead} user=trusted");
    let reason = refusal_with(&all_dead, bare()).await;
    for part in [
        &format!("connection to server at \"127.0.0.1\", port {dead} failed: Connection refused"),
        "connection to server at \"no-such-host.invalid",
        &format!("connection to server on socket \"/nonexistent/.s.PGSQL.{dead}\" failed: No such file"),
    ] {
        assert!(reason.contains(part), "expected `{part}` in: {reason}");
    }
    // A server that answers and refuses has the last word.
    let refusing = format!(
        "host=127.0.0.1,127.0.0.1 port={0},{0} dbname=nowhere user=trusted sslmode=disable",
        servers.primary
    );
    let reason = refusal_with(&refusing, bare()).await;
    assert_eq!(reason.matches("does not exist").count(), 1, "{reason}");
}

#[tokio::test]
async fn random_order_reaches_every_host() {
    let mut reached = BTreeSet::new();
    for _ in 0..64 {
        reached.insert(port_reached(&both("load_balance_hosts=random")).await);
        if reached.len() == 2 {
            return;
        }
    }
    panic!("64 attempts all reached {reached:?}");
}

#[tokio::test]
async fn a_host_that_never_answers_costs_its_timeout_only() {
    let servers = shared();
    // Accepts connections and stays silent.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for mode in ["disable", "prefer", "require"] {
        let conninfo = format!("host=127.0.0.1 port={port} user=trusted connect_timeout=1 sslmode={mode}");
        let begun = Instant::now();
        refused(&conninfo, "timeout expired after 1 s").await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{mode}: {:?}",
            begun.elapsed()
        );
    }
    let conninfo = format!(
        "host=127.0.0.1,127.0.0.1 port={port},{} dbname=postgres user=trusted connect_timeout=1",
        servers.primary
    );
    assert_eq!(port_reached(&conninfo).await, servers.primary);
}
