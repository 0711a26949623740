//! What a daemon asks and does in its own node's database: readiness, node lock, SYNC, cleanup, monitoring.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use crate::Cluster;
use crate::snapshot::Snapshot;

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

// ----------------------------------------------------------------------------------------------- the node lock

/// The daemon that takes the lock, for others to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonIdentity {
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// Its version.
    pub version: String,
}

/// Who holds the lock of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Backend that holds it.
    pub backend_pid: i32,
    /// `application_name` of that backend, empty when it is gone.
    pub application_name: String,
    /// Address the backend's client comes from; `None` over a unix socket or without the right to see it.
    pub client_address: Option<String>,
    /// When the holder came: start of the daemon, or of its backend.
    pub since: Option<String>,
    /// The daemon, if it is one of ours.
    pub daemon: Option<DaemonIdentity>,
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.daemon {
            Some(daemon) => write!(
                f,
                "slon {} with pid {} on host {}",
                daemon.version, daemon.pid, daemon.host
            )?,
            None => match &self.client_address {
                Some(address) => write!(f, "a slon on host {address}")?,
                None => f.write_str("a slon")?,
            },
        }
        if let Some(since) = &self.since {
            write!(f, " since {since}")?;
        }
        write!(f, " (backend pid {}", self.backend_pid)?;
        if !self.application_name.is_empty() {
            write!(f, ", {}", self.application_name)?;
        }
        f.write_str(")")
    }
}

/// Result of an attempt to take the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeLock {
    /// This session holds it now.
    Taken,
    /// Another session holds it and lives.
    Held(LockHolder),
}

/// Takes the lock of the node for this session: the row (node, 0, own backend) of `sl_nodelock`, which lives as long as
/// the backend does. Rows of dead backends are taken over; so are rows whose pid now belongs to another backend.
/// With our own schema `tl_daemon` says who it is.
pub async fn take_node_lock(
    client: &mut Client,
    cluster: &Cluster,
    node: i32,
    ours: bool,
    identity: &DaemonIdentity,
) -> Result<NodeLock, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&cluster.sql("select @NAMESPACE@.cleanupNodelock()"))
        .await?;
    let insert = cluster.sql(
        "insert into @NAMESPACE@.sl_nodelock (nl_nodeid, nl_conncnt, nl_backendpid)
         values ($1, 0, pg_catalog.pg_backend_pid()) on conflict do nothing",
    );
    let mut taken = transaction.execute(&insert, &[&node]).await? == 1;
    if !taken {
        let daemon = if ours {
            "d.da_host, d.da_pid, d.da_version, d.da_started"
        } else {
            "null::pg_catalog.text, null::pg_catalog.int4, null::pg_catalog.text, null::pg_catalog.timestamptz"
        };
        let join = if ours {
            "left join @NAMESPACE@.tl_daemon d on d.da_node = l.nl_nodeid and d.da_backend_pid = l.nl_backendpid"
        } else {
            ""
        };
        // A pid is reused: the holder's backend is in this database, and it began before its daemon wrote its name.
        let started = if ours {
            "d.da_started"
        } else {
            "null::pg_catalog.timestamptz"
        };
        let holder = cluster.sql(&format!(
            "select l.nl_backendpid, coalesce(a.application_name, ''), pg_catalog.host(a.client_addr),
                    pg_catalog.date_trunc('second', coalesce({started}, a.backend_start))::pg_catalog.text,
                    a.pid is null or a.datname <> pg_catalog.current_database()
                        or coalesce(a.backend_start > {started}, false),
                    {daemon}
               from @NAMESPACE@.sl_nodelock l
               left join pg_catalog.pg_stat_activity a on a.pid = l.nl_backendpid
               {join}
              where l.nl_nodeid = $1 and l.nl_conncnt = 0"
        ));
        if let Some(row) = transaction.query_opt(&holder, &[&node]).await? {
            let stale: Option<bool> = row.try_get(4)?;
            if !stale.unwrap_or(false) {
                return Ok(NodeLock::Held(lock_holder(&row)?));
            }
            let backend: i32 = row.try_get(0)?;
            let take_over = cluster.sql(
                "update @NAMESPACE@.sl_nodelock set nl_backendpid = pg_catalog.pg_backend_pid()
                  where nl_nodeid = $1 and nl_conncnt = 0 and nl_backendpid = $2",
            );
            taken = transaction.execute(&take_over, &[&node, &backend]).await? == 1;
        } else {
            // Released between the two statements.
            taken = transaction.execute(&insert, &[&node]).await? == 1;
        }
    }
    if !taken {
        transaction.rollback().await?;
        let unknown = LockHolder {
            backend_pid: 0,
            application_name: String::new(),
            client_address: None,
            since: None,
            daemon: None,
        };
        return Ok(NodeLock::Held(unknown));
    }
    if ours {
        let sql = cluster.sql(
            "insert into @NAMESPACE@.tl_daemon (da_node, da_host, da_pid, da_backend_pid, da_version, da_started)
             values ($1, $2, $3, pg_catalog.pg_backend_pid(), $4, pg_catalog.clock_timestamp())
                 on conflict (da_node) do update
                set da_host = excluded.da_host, da_pid = excluded.da_pid, da_backend_pid = excluded.da_backend_pid,
                    da_version = excluded.da_version, da_started = excluded.da_started",
        );
        transaction
            .execute(&sql, &[&node, &identity.host, &identity.pid, &identity.version])
            .await?;
    }
    transaction.commit().await?;
    Ok(NodeLock::Taken)
}

fn lock_holder(row: &Row) -> Result<LockHolder, tokio_postgres::Error> {
    let (host, pid, version): (Option<String>, Option<i32>, Option<String>) =
        (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    Ok(LockHolder {
        backend_pid: row.try_get(0)?,
        application_name: row.try_get(1)?,
        client_address: row.try_get(2)?,
        since: row.try_get(3)?,
        daemon: host.zip(pid).map(|(host, pid)| DaemonIdentity {
            host,
            pid,
            version: version.unwrap_or_default(),
        }),
    })
}

/// Gives the lock back, if this session holds it.
pub async fn release_node_lock(
    client: &Client,
    cluster: &Cluster,
    node: i32,
    ours: bool,
) -> Result<(), tokio_postgres::Error> {
    let mut sql = format!(
        "delete from @NAMESPACE@.sl_nodelock
          where nl_nodeid = {node} and nl_conncnt = 0 and nl_backendpid = pg_catalog.pg_backend_pid();"
    );
    if ours {
        sql.push_str("delete from @NAMESPACE@.tl_daemon where da_backend_pid = pg_catalog.pg_backend_pid();");
    }
    client.batch_execute(&cluster.sql(&sql)).await
}

/// Ends a backend, one that a former life of this daemon left behind; false if there is no such backend any more.
pub async fn terminate_backend(client: &Client, backend_pid: i32) -> Result<bool, tokio_postgres::Error> {
    client
        .query_one("select pg_catalog.pg_terminate_backend($1)", &[&backend_pid])
        .await?
        .try_get(0)
}

// -------------------------------------------------------------------------------------------------------- SYNC

/// Statement that reads the newest number of a log row; null before the first. It takes no lock and no snapshot worth
/// mentioning, so that it can be asked hundreds of times a second.
#[must_use]
pub fn last_action_statement(cluster: &Cluster) -> String {
    // The sequence is named as a literal of regclass, resolved once when the statement is prepared.
    let sequence = crate::quote_literal(&cluster.sql("@NAMESPACE@.sl_action_seq"));
    format!("select pg_catalog.pg_sequence_last_value({sequence}::pg_catalog.regclass)")
}

/// Statement that reads the current snapshot.
pub const CURRENT_SNAPSHOT: &str = "select pg_catalog.txid_current_snapshot()::pg_catalog.text";

/// A SYNC that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeSync {
    /// Its number.
    pub seqno: i64,
    /// Newest number of a log row before it was made, as [`last_action_statement`] reads it.
    pub last_action: Option<i64>,
    /// A snapshot not newer than the SYNC's.
    pub snapshot: Snapshot,
    /// Its own transaction. Whoever drew a number up to `last_action` has an older one: the SYNC sees its rows if
    /// `snapshot` does.
    pub txid: i64,
}

/// Why there is no SYNC.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The database says no.
    #[error("{}", crate::error_text(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database answers in another form than we know.
    #[error("unexpected answer of createEvent(): {0}")]
    Answer(String),
}

/// Makes a SYNC in one round trip. `ours`: `createEvent()` notifies; if not (Slony's schema), it is done here.
///
/// The event lock is held before the snapshot is taken, so that events of a node are ordered by number, commit and
/// snapshot alike. The newest number is read before anything gives this transaction its id.
pub async fn make_sync(client: &Client, cluster: &Cluster, ours: bool) -> Result<MadeSync, SyncError> {
    let notify = if ours {
        String::new()
    } else {
        format!("notify {};", cluster.event_channel())
    };
    let sql = cluster.sql(&format!(
        "begin; {}; lock table @NAMESPACE@.sl_event_lock in access exclusive mode; \
         select pg_catalog.txid_current_snapshot(), @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC'), \
                pg_catalog.txid_current(); \
         {notify} commit",
        last_action_statement(cluster)
    ));
    let answers = match client.simple_query(&sql).await {
        Ok(answers) => answers,
        Err(error) => {
            // The batch stopped inside its transaction; leave the session usable.
            let _ = client.batch_execute("rollback").await;
            return Err(error.into());
        }
    };
    let mut rows = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let (Some(action), Some(event)) = (rows.next(), rows.next()) else {
        return Err(SyncError::Answer("too few rows".to_owned()));
    };
    let number = |text: Option<&str>| -> Result<Option<i64>, SyncError> {
        text.map(|text| {
            text.parse()
                .map_err(|_| SyncError::Answer(format!("`{text}` is not a number")))
        })
        .transpose()
    };
    Ok(MadeSync {
        last_action: number(action.get(0))?,
        snapshot: Snapshot::from_str(event.get(0).unwrap_or_default())
            .map_err(|error| SyncError::Answer(error.to_string()))?,
        seqno: number(event.get(1))?.ok_or_else(|| SyncError::Answer("no event number".to_owned()))?,
        txid: number(event.get(2))?.ok_or_else(|| SyncError::Answer("no transaction id".to_owned()))?,
    })
}

// -------------------------------------------------------------------------------------------------- own events

/// An event this node made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEvent {
    /// Its number.
    pub seqno: i64,
    /// Its type.
    pub kind: String,
    /// Its data, as far as not null.
    pub data: Vec<String>,
}

/// Number of the newest own event; 0 if there is none.
pub async fn last_own_event(client: &Client, cluster: &Cluster, node: i32) -> Result<i64, tokio_postgres::Error> {
    let sql =
        cluster.sql("select coalesce(pg_catalog.max(ev_seqno), 0) from @NAMESPACE@.sl_event where ev_origin = $1");
    client.query_one(&sql, &[&node]).await?.try_get(0)
}

/// Statement that reads own events behind a number (`$1` node, `$2` number), for [`own_event`]; at most 1000, so that a
/// long absence is caught up in steps.
#[must_use]
pub fn own_events_statement(cluster: &Cluster) -> String {
    cluster.sql(
        "select ev_seqno, ev_type,
                pg_catalog.array_remove(
                    array[ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8], null)
           from @NAMESPACE@.sl_event where ev_origin = $1 and ev_seqno > $2 order by ev_seqno limit 1000",
    )
}

/// Reads one row of [`own_events_statement`].
pub fn own_event(row: &Row) -> Result<OwnEvent, tokio_postgres::Error> {
    Ok(OwnEvent {
        seqno: row.try_get(0)?,
        kind: row.try_get(1)?,
        data: row.try_get(2)?,
    })
}

// ----------------------------------------------------------------------------------------------------- cleanup

/// State of the log switch (`sl_log_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStatus {
    /// Table that is written: 1 or 2.
    pub active: u8,
    /// The other one waits to be emptied.
    pub switching: bool,
}

/// Reads the state of the log switch.
pub async fn log_status(client: &Client, cluster: &Cluster) -> Result<LogStatus, tokio_postgres::Error> {
    let sql = cluster.sql("select last_value from @NAMESPACE@.sl_log_status");
    let value: i64 = client.query_one(&sql, &[]).await?.try_get(0)?;
    Ok(LogStatus {
        active: if value & 1 == 0 { 1 } else { 2 },
        switching: value & 2 != 0,
    })
}

/// Deletes what every node has: `cleanupEvent`, with the age up to which confirmations are kept.
pub async fn clean_up(client: &Client, cluster: &Cluster, keep: Duration) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.cleanupEvent(pg_catalog.make_interval(secs => $1::pg_catalog.float8))");
    client.query_one(&sql, &[&keep.as_secs_f64()]).await?;
    Ok(())
}

/// Oldest transaction that may still run anywhere on the server; while it stays, a vacuum frees nothing new.
pub async fn oldest_transaction(client: &Client) -> Result<i64, tokio_postgres::Error> {
    client
        .query_one(
            "select pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())",
            &[],
        )
        .await?
        .try_get(0)
}

/// Statements that vacuum (or only analyze) the tables autovacuum leaves alone, each with the table's name for messages.
pub async fn maintenance_statements(
    client: &Client,
    cluster: &Cluster,
    vacuum: bool,
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let sql =
        cluster.sql("select pg_catalog.format('%I.%I', nspname, relname) from @NAMESPACE@.TablesToVacuum() order by 1");
    let verb = if vacuum { "vacuum analyze" } else { "analyze" };
    client
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| {
            row.try_get::<_, String>(0)
                .map(|table| (format!("{verb} {table}"), table))
        })
        .collect()
}

// -------------------------------------------------------------------------------------------------- monitoring

/// What one part of a daemon is doing: a row of `sl_components`.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Its name, as in `application_name`.
    pub actor: String,
    /// Node it works for; 0 if none in particular.
    pub node: i32,
    /// Its database connection.
    pub backend_pid: i32,
    /// What it does.
    pub activity: String,
    /// Since when, in seconds since 1970.
    pub since: f64,
    /// Event it works on.
    pub event: Option<i64>,
    /// Type of that event.
    pub event_type: String,
}

/// Stores what the parts of the daemon with process id `pid` are doing, in one statement.
pub async fn store_components(
    client: &Client,
    cluster: &Cluster,
    pid: i32,
    components: &[Component],
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "select @NAMESPACE@.component_state(actor, $8, node, backend, activity, pg_catalog.to_timestamp(since), event, kind)
           from rows from (
                    pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int4[]),
                    pg_catalog.unnest($3::pg_catalog.int4[]), pg_catalog.unnest($4::pg_catalog.text[]),
                    pg_catalog.unnest($5::pg_catalog.float8[]), pg_catalog.unnest($6::pg_catalog.int8[]),
                    pg_catalog.unnest($7::pg_catalog.text[])
                ) as c (actor, node, backend, activity, since, event, kind)",
    );
    let column = |text: fn(&Component) -> &str| components.iter().map(text).collect::<Vec<&str>>();
    client
        .query(
            &sql,
            &[
                &column(|component| &component.actor),
                &components.iter().map(|component| component.node).collect::<Vec<i32>>(),
                &components
                    .iter()
                    .map(|component| component.backend_pid)
                    .collect::<Vec<i32>>(),
                &column(|component| &component.activity),
                &components.iter().map(|component| component.since).collect::<Vec<f64>>(),
                &components
                    .iter()
                    .map(|component| component.event)
                    .collect::<Vec<Option<i64>>>(),
                &column(|component| &component.event_type),
                &pid,
            ],
        )
        .await?;
    Ok(())
}

/// Forgets what former daemons of this node were doing.
pub async fn forget_components(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&cluster.sql("delete from @NAMESPACE@.sl_components"))
        .await
}

/// What was applied for one origin: added to its row of `sl_apply_stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyStats {
    /// Rows inserted.
    pub inserts: i64,
    /// Rows updated.
    pub updates: i64,
    /// Rows deleted.
    pub deletes: i64,
    /// Tables truncated.
    pub truncates: i64,
    /// Statements of scripts.
    pub scripts: i64,
    /// Time it took.
    pub duration: Duration,
    /// Statements prepared.
    pub prepared: i64,
    /// Statements that were prepared already.
    pub cache_hits: i64,
    /// Prepared statements given up.
    pub evicted: i64,
    /// Most statements prepared at once.
    pub prepared_most: i64,
}

impl ApplyStats {
    /// All changes.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.inserts + self.updates + self.deletes + self.truncates + self.scripts
    }
}

/// Adds to the running totals of an origin, inside the transaction that applied the changes.
pub async fn add_apply_stats(
    client: &impl tokio_postgres::GenericClient,
    cluster: &Cluster,
    origin: i32,
    stats: &ApplyStats,
) -> Result<(), tokio_postgres::Error> {
    // sl_apply_stats has no key to conflict with: update, else insert. One worker per origin writes the row.
    let sql = cluster.sql(
        "with added as (
             update @NAMESPACE@.sl_apply_stats
                set as_num_insert = as_num_insert + $2, as_num_update = as_num_update + $3,
                    as_num_delete = as_num_delete + $4, as_num_truncate = as_num_truncate + $5,
                    as_num_script = as_num_script + $6, as_num_total = as_num_total + $7,
                    as_duration = as_duration + pg_catalog.make_interval(secs => $8),
                    as_apply_last = pg_catalog.now(),
                    as_cache_prepare = as_cache_prepare + $9, as_cache_hit = as_cache_hit + $10,
                    as_cache_evict = as_cache_evict + $11,
                    as_cache_prepare_max = greatest(as_cache_prepare_max, $12)
              where as_origin = $1
          returning 1
         )
         insert into @NAMESPACE@.sl_apply_stats (
                as_origin, as_num_insert, as_num_update, as_num_delete, as_num_truncate, as_num_script, as_num_total,
                as_duration, as_apply_first, as_apply_last, as_cache_prepare, as_cache_hit, as_cache_evict,
                as_cache_prepare_max)
         select $1, $2, $3, $4, $5, $6, $7, pg_catalog.make_interval(secs => $8), pg_catalog.now(), pg_catalog.now(),
                $9, $10, $11, $12
          where not exists (select 1 from added)",
    );
    client
        .execute(
            &sql,
            &[
                &origin,
                &stats.inserts,
                &stats.updates,
                &stats.deletes,
                &stats.truncates,
                &stats.scripts,
                &stats.total(),
                &stats.duration.as_secs_f64(),
                &stats.prepared,
                &stats.cache_hits,
                &stats.evicted,
                &stats.prepared_most,
            ],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sequence_is_named_whatever_the_cluster_is_called() {
        let cluster = Cluster::new("o'h\\ \"x").unwrap();
        assert_eq!(
            last_action_statement(&cluster),
            "select pg_catalog.pg_sequence_last_value(E'\"_o''h\\\\ \"\"x\".sl_action_seq'::pg_catalog.regclass)"
        );
    }

    #[test]
    fn a_holder_says_who_where_and_since_when() {
        let mut holder = LockHolder {
            backend_pid: 4711,
            application_name: "slon.local_listen".to_owned(),
            client_address: Some("10.0.0.7".to_owned()),
            since: Some("2026-11-22 10:00:00+00".to_owned()),
            daemon: Some(DaemonIdentity {
                host: "db1".to_owned(),
                pid: 99,
                version: "0.1.0".to_owned(),
            }),
        };
        assert_eq!(
            holder.to_string(),
            "slon 0.1.0 with pid 99 on host db1 since 2026-11-22 10:00:00+00 (backend pid 4711, slon.local_listen)"
        );
        holder.daemon = None;
        assert!(holder.to_string().starts_with("a slon on host 10.0.0.7 since "));
    }
}
