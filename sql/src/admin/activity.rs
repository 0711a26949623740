//! Sessions that stand in the way: who holds a lock, whose transaction is older.

use std::fmt;

use tokio_postgres::Client;

use crate::Cluster;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// A session, or a prepared transaction, that somebody waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocker {
    /// Process id of its server process; None: a prepared transaction.
    pub pid: Option<i32>,
    /// Its user.
    pub user: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// Its `application_name`.
    pub application: Option<String>,
    /// `active`, `idle in transaction` …, or the name of a prepared transaction.
    pub state: Option<String>,
    /// Seconds since its transaction began.
    pub seconds: Option<f64>,
    /// Its running or last statement.
    pub query: Option<String>,
}

/// Longest piece of a statement that is shown.
const QUERY_LENGTH: usize = 120;

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or("unknown");
        if let Some(pid) = self.pid {
            write!(f, "pid {pid} (user {user}")?;
        } else {
            let name = self.state.as_deref().unwrap_or("unknown");
            write!(f, "prepared transaction `{name}` (user {user}")?;
        }
        if let Some(database) = &self.database {
            write!(f, ", database {database}")?;
        }
        if let Some(application) = self.application.as_deref().filter(|name| !name.is_empty()) {
            write!(f, ", application {application}")?;
        }
        match self.state.as_deref().filter(|_| self.pid.is_some()) {
            Some(state) => write!(f, ", {state}")?,
            None if self.pid.is_some() => f.write_str(", state hidden from this role")?,
            None => {}
        }
        if let Some(seconds) = self.seconds {
            write!(f, ", transaction open for {}", clock(seconds))?;
        }
        f.write_str(")")?;
        if let Some(query) = self.query.as_deref().filter(|query| !query.trim().is_empty()) {
            let words: Vec<&str> = query.split_whitespace().collect();
            let line = words.join(" ");
            let short: String = line.chars().take(QUERY_LENGTH).collect();
            let more = if short.len() < line.len() { " …" } else { "" };
            write!(f, ": {short}{more}")?;
        }
        Ok(())
    }
}

/// `00:12:31`.
fn clock(seconds: f64) -> String {
    // Whole seconds of a transaction's age; what does not fit is not an age.
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let seconds = seconds.max(0.0) as i64;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Sessions that keep the server process `pid` from getting the lock it waits for.
pub async fn lock_holders(client: &Client, pid: i32) -> Result<Vec<Blocker>> {
    let rows = client
        .query(
            "select nullif(b.pid, 0), a.usename::pg_catalog.text, a.datname::pg_catalog.text, a.application_name,
                    case when b.pid = 0 then 'see pg_prepared_xacts' else a.state end,
                    extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8,
                    case when a.backend_type = 'autovacuum worker' or a.state is not null then a.query end
               from (select distinct u.pid from pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) u (pid)) b
               left join pg_catalog.pg_stat_activity a on a.pid = b.pid
              order by a.xact_start, b.pid",
            &[&pid],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Sessions of slon in this database that wait for a lock, each with one that keeps it from them.
pub async fn waiting_daemons(client: &Client) -> Result<Vec<(String, Blocker)>> {
    lock_waits(client, "slon.%").await
}

/// Sessions in this database whose `application_name` is like `application` and that wait for a lock, each with one that
/// keeps it from them.
pub async fn lock_waits(client: &Client, application: &str) -> Result<Vec<(String, Blocker)>> {
    let rows = client
        .query(
            "select nullif(b.pid, 0), a.usename::pg_catalog.text, a.datname::pg_catalog.text, a.application_name,
                    case when b.pid = 0 then 'see pg_prepared_xacts' else a.state end,
                    extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8,
                    case when a.backend_type = 'autovacuum worker' or a.state is not null then a.query end,
                    w.application_name
               from pg_catalog.pg_stat_activity w
              cross join lateral (select distinct u.pid
                                    from pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) u (pid)) b
               left join pg_catalog.pg_stat_activity a on a.pid = b.pid
              where w.datname = pg_catalog.current_database() and w.wait_event_type = 'Lock'
                and w.application_name like $1
              order by a.xact_start, b.pid",
            &[&application],
        )
        .await?;
    rows.iter().map(|row| Ok((row.try_get(7)?, read(row)?))).collect()
}

/// Writers older than the moment a set was locked: while there are any, the set cannot move.
pub async fn writers_before_lock(client: &Client, cluster: &Cluster, set: i32) -> Result<Vec<Blocker>> {
    let sql = cluster.sql("select set_locked from @NAMESPACE@.sl_set where set_id = $1 and set_locked is not null");
    let Some(row) = client.query_opt(&sql, &[&set]).await? else {
        return Ok(Vec::new());
    };
    older_writers(client, row.try_get(0)?).await
}

/// Those of [`older_transactions`] that are in this database: others cannot write to its tables.
pub async fn older_writers(client: &Client, xmax: i64) -> Result<Vec<Blocker>> {
    let database: String = client
        .query_one("select pg_catalog.current_database()::pg_catalog.text", &[])
        .await?
        .try_get(0)?;
    let mut older = older_transactions(client, xmax).await?;
    older.retain(|blocker| blocker.database.as_deref() == Some(database.as_str()));
    Ok(older)
}

/// Where the transaction ids of a server stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Oldest transaction still open (`next` if none).
    pub oldest: i64,
    /// First transaction id not assigned yet.
    pub next: i64,
}

/// Reads both from one snapshot.
pub async fn transaction_horizon(client: &Client) -> Result<Horizon> {
    let row = client
        .query_one(
            "select pg_catalog.txid_snapshot_xmin(s.s), pg_catalog.txid_snapshot_xmax(s.s)
               from (select pg_catalog.txid_current_snapshot()) s (s)",
            &[],
        )
        .await?;
    Ok(Horizon {
        oldest: row.try_get(0)?,
        next: row.try_get(1)?,
    })
}

/// Transactions older than `xmax` (a 64-bit transaction id) that are still open.
pub async fn older_transactions(client: &Client, xmax: i64) -> Result<Vec<Blocker>> {
    // Every transaction holds a lock on its own id, and pg_locks shows that to any role.
    let rows = client
        .query(
            "select l.pid, coalesce(a.usename, p.owner)::pg_catalog.text, coalesce(a.datname, p.database)::pg_catalog.text,
                    a.application_name, coalesce(a.state, p.gid),
                    extract(epoch from pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared))::pg_catalog.float8,
                    a.query
               from pg_catalog.txid_snapshot_xip(pg_catalog.txid_current_snapshot()) x (xid)
               left join pg_catalog.pg_locks l
                 on l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock'
                and l.transactionid::pg_catalog.text = (x.xid % 4294967296)::pg_catalog.text
               left join pg_catalog.pg_stat_activity a on a.pid = l.pid
               left join pg_catalog.pg_prepared_xacts p on l.pid is null and p.transaction = l.transactionid
              where x.xid < $1 and (l.pid is not null or p.gid is not null)
              order by x.xid",
            &[&xmax],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Reads pid, user, database, application, state, seconds, query.
pub(crate) fn read(row: &tokio_postgres::Row) -> Result<Blocker> {
    Ok(Blocker {
        pid: row.try_get(0)?,
        user: row.try_get(1)?,
        database: row.try_get(2)?,
        application: row.try_get(3)?,
        state: row.try_get(4)?,
        seconds: row.try_get(5)?,
        query: row.try_get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_one_readable_line() {
        let blocker = Blocker {
            pid: Some(42),
            user: Some("app".into()),
            database: Some("shop".into()),
            application: Some(String::new()),
            state: Some("idle in transaction".into()),
            seconds: Some(12.4),
            query: Some("update t\n   set a = 1".into()),
        };
        assert_eq!(
            blocker.to_string(),
            "pid 42 (user app, database shop, idle in transaction, transaction open for 00:00:12): update t set a = 1"
        );
        let prepared = Blocker {
            pid: None,
            state: Some("gid1".into()),
            query: None,
            ..blocker
        };
        assert_eq!(
            prepared.to_string(),
            "prepared transaction `gid1` (user app, database shop, transaction open for 00:00:12)"
        );
    }
}
