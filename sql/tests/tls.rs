//! Connection strings against real servers: TLS with a private authority, passwords, several hosts, and what a session
//! does afterwards.
//!
//! Needs the programs of a PostgreSQL server (`TRUNKLINE_PGBIN`, `pg_config --bindir` or the usual places) and fails
//! without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "tls/authority.rs"]
mod authority;
#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/client_certificate.rs"]
mod client_certificate;
#[path = "tls/encryption.rs"]
mod encryption;
#[path = "tls/hosts.rs"]
mod hosts;
#[path = "tls/login.rs"]
mod login;
#[path = "tls/servers.rs"]
mod servers;
#[path = "tls/session.rs"]
mod session;

use trunkline_sql::conninfo::Environment;
use trunkline_sql::{ConnectError, Session, SessionOptions};

/// An environment with no variables, no home directory, no sockets.
fn bare() -> Environment {
    Environment::bare("nobody")
}

async fn connect_with(conninfo: &str, environment: Environment) -> Result<Session, ConnectError> {
    Session::connect_from(conninfo, &SessionOptions::default(), environment).await
}

/// Connects, or shows why not.
async fn connect(conninfo: &str) -> Session {
    connect_with(conninfo, bare())
        .await
        .unwrap_or_else(|error| panic!("{conninfo}: {error}"))
}

/// The reason for a refusal.
async fn refusal_with(conninfo: &str, environment: Environment) -> String {
    match connect_with(conninfo, environment).await {
        Ok(session) => panic!("{conninfo}: connected to {}", session.target()),
        Err(error) => error.to_string(),
    }
}

/// Asserts that the connection is refused and that the reason contains a text.
async fn refused(conninfo: &str, part: &str) {
    let reason = refusal_with(conninfo, bare()).await;
    assert!(reason.contains(part), "{conninfo}: expected `{part}` in: {reason}");
}

/// Whether the server sees this session encrypted.
async fn encrypted(session: &Session) -> bool {
    let row = session
        .query_one(
            "select ssl from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()",
            &[],
        )
        .await
        .unwrap();
    row.get(0)
}
