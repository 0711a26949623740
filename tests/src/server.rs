//! The server all tests of one binary share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use trunkline_slonctl::throwaway::{Server, ServerBinaries, ServerOptions, Throwaway};

use crate::Connection;

/// The server programs under test: `TRUNKLINE_PGBIN` or what is installed.
#[must_use]
pub fn server_binaries() -> ServerBinaries {
    static BINARIES: OnceLock<ServerBinaries> = OnceLock::new();
    BINARIES
        .get_or_init(|| {
            ServerBinaries::find_or_install(&|line| println!("{line}")).unwrap_or_else(|error| panic!("{error}"))
        })
        .clone()
}

/// The directory of everything this test binary starts. Its guard removes it when the process ends.
#[must_use]
pub fn shared_throwaway() -> Throwaway {
    static THROWAWAY: OnceLock<Throwaway> = OnceLock::new();
    THROWAWAY
        .get_or_init(|| {
            let made = Throwaway::new("test", server_binaries()).unwrap_or_else(|error| panic!("{error}"));
            if std::env::var_os("TRUNKLINE_TEST_KEEP").is_some() {
                println!("kept for inspection, end it with: sh {}", made.keep().display());
            }
            made
        })
        .clone()
}

/// The shared server, started by the first test that needs it. Tests that kill or freeze servers make their own.
pub fn shared_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let options = ServerOptions {
            tcp: true,
            settings: vec![
                // Tests run side by side, each with a few slons.
                ("max_connections".into(), "1000".into()),
                ("max_locks_per_transaction".into(), "128".into()),
                ("shared_buffers".into(), "128MB".into()),
                // A transaction left open by another test's database must not hold anything up, it only costs vacuum.
                ("autovacuum_naptime".into(), "10s".into()),
            ],
            ..ServerOptions::default()
        };
        shared_throwaway()
            .server("shared", &options)
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Creates a database with a name that no other test has and returns the name.
pub async fn fresh_database(server: &Server, hint: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = format!("{hint}_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let connection = Connection::open(&server.conninfo("postgres")).await;
    connection
        .run(&format!("create database {}", trunkline_sql::quote_ident(&name)))
        .await;
    name
}
