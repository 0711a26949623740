//! Administrative calls under way: who changes the cluster on this node just now, and what he waits for.

use tokio_postgres::Client;

use crate::Cluster;
use crate::admin::{Blocker, lock_holders, read_blocker};

/// Looks at what a call waits for: stored functions that must not be in the way of applications wait in short turns.
const LOOKS: usize = 8;
/// Between two looks.
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(25);
/// Most calls that are looked into.
const MOST_CALLS: usize = 10;

/// A session that holds the config lock, or queues for it.
#[derive(Debug, Clone, PartialEq)]
pub struct AdministrativeCall {
    /// Who: `lock set` and `move set` are calls of slonik, the end of a copy is one of slon.
    pub session: Blocker,
    /// It has the config lock; else it waits for it.
    pub holds: bool,
    /// Sessions that keep it from going on.
    pub waits_for: Vec<Blocker>,
}

/// Calls whose transaction is older than `seconds`, oldest first, and whom they wait for.
///
/// # Errors
/// Any database error.
pub async fn administrative_calls(
    client: &Client,
    cluster: &Cluster,
    seconds: f64,
) -> Result<Vec<AdministrativeCall>, tokio_postgres::Error> {
    let sql = "select a.pid, a.usename::pg_catalog.text, a.datname::pg_catalog.text, a.application_name, a.state,
                      extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8, a.query,
                      pg_catalog.bool_or(l.granted)
                 from pg_catalog.pg_locks l
                 join pg_catalog.pg_stat_activity a on a.pid = l.pid
                where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
                  and l.relation = pg_catalog.to_regclass($1::pg_catalog.text)
                  and a.datname = pg_catalog.current_database()
                  and a.xact_start < pg_catalog.clock_timestamp() - $2 * interval '1 second'
                group by a.pid, a.usename, a.datname, a.application_name, a.state, a.xact_start, a.query
                order by a.xact_start
                limit $3";
    let lock = format!("{}.sl_config_lock", cluster.namespace());
    let most = i64::try_from(MOST_CALLS).unwrap_or(i64::MAX);
    let mut calls = Vec::new();
    for row in client.query(sql, &[&lock, &seconds, &most]).await? {
        calls.push(AdministrativeCall {
            session: read_blocker(&row)?,
            holds: row.try_get::<_, Option<bool>>(7)?.unwrap_or(false),
            waits_for: Vec::new(),
        });
    }
    for call in &mut calls {
        let Some(pid) = call.session.pid else { continue };
        for _ in 0..LOOKS {
            call.waits_for = lock_holders(client, pid).await?;
            if !call.waits_for.is_empty() {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
    Ok(calls)
}

/// Sessions of slonik in this database, each with the seconds since it connected.
///
/// # Errors
/// Any database error.
pub async fn interpreters(client: &Client) -> Result<Vec<(Blocker, f64)>, tokio_postgres::Error> {
    let sql = "select a.pid, a.usename::pg_catalog.text, a.datname::pg_catalog.text, a.application_name, a.state,
                      extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8, a.query,
                      extract(epoch from pg_catalog.clock_timestamp() - a.backend_start)::pg_catalog.float8
                 from pg_catalog.pg_stat_activity a
                where a.datname = pg_catalog.current_database() and a.application_name = 'slonik'
                order by a.backend_start";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((read_blocker(row)?, row.try_get::<_, Option<f64>>(7)?.unwrap_or(0.0))))
        .collect()
}
