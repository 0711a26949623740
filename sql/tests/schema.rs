//! The cluster schema on a real server: installation by an ordinary role, capture, events, log switching, cleanup.
//!
//! Needs the programs of a PostgreSQL server (`TRUNKLINE_PGBIN`, `pg_config --bindir` or the usual places) and fails
//! without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "schema/capture.rs"]
mod capture;
#[path = "schema/capture_order.rs"]
mod capture_order;
#[path = "schema/cleanup.rs"]
mod cleanup;
#[path = "schema/events.rs"]
mod events;
#[path = "schema/installation.rs"]
mod installation;
#[path = "support/server.rs"]
mod server;
#[path = "schema/session_settings.rs"]
mod session_settings;

use tokio_postgres::SimpleQueryMessage;
use trunkline_sql::{Cluster, Session, SessionOptions, install};

/// A name that goes wrong wherever somebody forgot to quote.
const CLUSTER: &str = "It's \"x\" @CLUSTER@";

/// One connection to a test's database; statements may use `@NAMESPACE@` and `@CLUSTER@`.
struct Connection {
    session: Session,
    cluster: Cluster,
}

impl Connection {
    async fn open(database: &str, role: &str) -> Self {
        let conninfo = format!("{} dbname={database} user={role}", server::shared().conninfo());
        let session = Session::connect(&conninfo, &SessionOptions::default()).await.unwrap();
        Self {
            session,
            cluster: Cluster::new(CLUSTER).unwrap(),
        }
    }

    /// All rows, columns joined by `|`.
    async fn try_rows(&self, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let messages = self.session.simple_query(&self.cluster.sql(sql)).await?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    let columns: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
                    Some(columns.join("|"))
                }
                _ => None,
            })
            .collect())
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        match self.try_rows(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {}", trunkline_sql::error_text(&error)),
        }
    }

    async fn value(&self, sql: &str) -> String {
        let mut rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.remove(0)
    }

    async fn run(&self, sql: &str) {
        self.rows(sql).await;
    }

    /// The message of the error the statement must end with.
    async fn refusal(&self, sql: &str) -> String {
        match self.try_rows(sql).await {
            Ok(rows) => panic!("{sql} was not refused: {rows:?}"),
            Err(error) => error
                .as_db_error()
                .expect("an error of the server")
                .message()
                .to_owned(),
        }
    }

    /// The log, oldest row first: table, command, number of changed columns, arguments.
    async fn log(&self) -> Vec<String> {
        self.rows(
            "select log_tableid, log_cmdtype, log_cmdupdncols, log_cmdargs
             from (select * from @NAMESPACE@.sl_log_1 union all select * from @NAMESPACE@.sl_log_2) l order by log_actionseq",
        )
        .await
    }

    async fn version(&self) -> i32 {
        self.value("show server_version_num").await.parse().unwrap()
    }
}

/// A superuser's connection.
async fn superuser(database: &str) -> Connection {
    Connection::open(database, "postgres").await
}

/// Creates roles `keeper` (may own nodes) and `app` (may nothing) once and an empty database of `keeper`.
async fn database(name: &str) {
    static ROLES: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let admin = superuser("postgres").await;
    ROLES
        .get_or_init(|| async {
            admin.run("create role keeper login; create role app login").await;
            if admin.version().await >= 150_000 {
                admin
                    .run("grant set on parameter session_replication_role to keeper")
                    .await;
            } else {
                admin.run("alter role keeper superuser").await;
            }
        })
        .await;
    admin.run(&format!("create database {name} owner keeper")).await;
}

/// An initialised node 1, alone, with an empty set 1.
async fn node(name: &str) -> Connection {
    database(name).await;
    if superuser(name).await.version().await < 130_000 {
        superuser(name).await.run("create extension hstore").await;
    }
    let mut connection = Connection::open(name, "keeper").await;
    let cluster = connection.cluster.clone();
    install::install(&mut connection.session, &cluster).await.unwrap();
    connection
        .run("select @NAMESPACE@.initializeLocalNode(1, 'one'), @NAMESPACE@.enableNode_int(1)")
        .await;
    connection.run("select @NAMESPACE@.storeSet(1, 'set')").await;
    connection
}

/// Adds a table by its primary key; the id is up to the test.
async fn replicate(connection: &Connection, id: i32, table: &str) {
    connection
        .run(&format!(
            "select @NAMESPACE@.setAddTable(1, {id}, '{table}', @NAMESPACE@.determineIdxnameUnique('{table}', null), 'test')"
        ))
        .await;
}
