//! What a daemon asks and does in its own node's database.

mod cleanup;
mod monitoring;
mod node_lock;
mod own_events;
mod sync;
mod wal_writer;

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::Cluster;

pub use cleanup::{LogStatus, clean_up, log_status, maintenance_statements, oldest_transaction};
pub use monitoring::{ApplyStats, Component, add_apply_stats, forget_components, store_components};
pub use node_lock::{DaemonIdentity, LockHolder, NodeLock, release_node_lock, take_node_lock, terminate_backend};
pub use own_events::{OwnEvent, last_own_event, own_event, own_events_statement};
pub use sync::{CURRENT_SNAPSHOT, MadeSync, SyncError, last_action_statement, make_sync};
pub use wal_writer::wake_wal_writer;

/// Version of Slony-I whose protocol we speak; `slonyVersion()` and `getModuleVersion()` must answer it.
pub const PROTOCOL_VERSION: &str = "2.2.11";

/// Settings of every session of a daemon, one round trip.
///
/// What is applied must be read the way it was logged, whatever the role's or database's defaults are. The server shall
/// notice within a minute that the daemon's host is gone, and within seconds that its process is (PostgreSQL 14 and up,
/// where the platform can), so that an orphaned backend does not keep locks.
///
/// Snapshots are to be taken after locks are granted, hence read committed whatever the default is. Commits are to be
/// durable before anybody hears of them: an asynchronous default is raised to the local disk, others are left.
pub const SESSION_SETTINGS: &str = "\
set default_transaction_isolation to 'read committed'; set default_transaction_read_only to off; \
set extra_float_digits to 3; \
select pg_catalog.set_config('synchronous_commit', 'local', false) \
 where pg_catalog.current_setting('synchronous_commit') = 'off'; \
set datestyle to iso; set intervalstyle to postgres; set standard_conforming_strings to on; \
set lc_monetary to 'C'; set statement_timeout to 0; set lock_timeout to 0; \
set idle_in_transaction_session_timeout to 0; \
set tcp_keepalives_idle to 30; set tcp_keepalives_interval to 10; set tcp_keepalives_count to 3; \
do $$ begin perform pg_catalog.set_config(s.name, v.setting, false)
        from pg_catalog.pg_settings s
        join (values ('client_connection_check_interval', '5s'), ('idle_session_timeout', '0'),
                     ('transaction_timeout', '0')) as v (name, setting) on v.name = s.name;
      exception when others then null; end $$";

/// How far the database is from being a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The schema of the cluster does not exist.
    NoSchema,
    /// The schema is there, the node has no number yet.
    NotInitialised,
    /// The node with this number.
    Ready(i32),
}

/// Looks whether the database holds a node of the cluster.
pub async fn readiness(client: &Client, cluster: &Cluster) -> Result<Readiness, tokio_postgres::Error> {
    let sequence = cluster.sql("@NAMESPACE@.sl_local_node_id");
    let exists = client
        .query_one("select pg_catalog.to_regclass($1) is not null", &[&sequence])
        .await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(Readiness::NoSchema);
    }
    let sql = format!("select last_value::pg_catalog.int4 from {sequence}");
    match client.query_one(&sql, &[]).await {
        Ok(row) => match row.try_get::<_, i32>(0)? {
            id if id < 0 => Ok(Readiness::NotInitialised),
            id => Ok(Readiness::Ready(id)),
        },
        // Dropped between the two statements.
        Err(error) if is_missing_object(&error) => Ok(Readiness::NoSchema),
        Err(error) => Err(error),
    }
}

/// Does the error say that the schema, or something in it, does not exist?
#[must_use]
pub fn is_missing_object(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::UNDEFINED_TABLE,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::UNDEFINED_FUNCTION,
        ]
        .contains(code)
    })
}

/// Versions a node's schema answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// `slonyVersion()`.
    pub schema: String,
    /// `getModuleVersion()`.
    pub module: String,
    /// `tl_version()`; `None` on a node whose schema is Slony's own.
    pub ours: Option<String>,
}

/// Reads the versions.
pub async fn versions(client: &Client, cluster: &Cluster) -> Result<Versions, tokio_postgres::Error> {
    let row = client
        .query_one(
            &cluster.sql(
                "select @NAMESPACE@.slonyVersion(), @NAMESPACE@.getModuleVersion(),
                        pg_catalog.to_regprocedure($1) is not null",
            ),
            &[&cluster.sql("@NAMESPACE@.tl_version()")],
        )
        .await?;
    let ours = if row.try_get(2)? {
        let row = client
            .query_one(&cluster.sql("select @NAMESPACE@.tl_version()"), &[])
            .await?;
        Some(row.try_get(0)?)
    } else {
        None
    };
    Ok(Versions {
        schema: row.try_get(0)?,
        module: row.try_get(1)?,
        ours,
    })
}

/// Does `sl_table` agree with the catalog? Where not, the server's warnings say so.
pub async fn is_healthy(client: &Client, cluster: &Cluster) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(&cluster.sql("select @NAMESPACE@.slon_node_health_check()"), &[])
        .await?;
    Ok(row.try_get::<_, Option<bool>>(0)?.unwrap_or(true))
}

/// Has the interval the right form, and how long is it?
pub async fn interval(client: &Client, text: &str) -> Result<Duration, tokio_postgres::Error> {
    let sql = "select extract(epoch from $1::pg_catalog.text::pg_catalog.interval)::pg_catalog.float8";
    let seconds: f64 = client.query_one(sql, &[&text]).await?.try_get(0)?;
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}
