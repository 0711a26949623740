//! The lock of a node: one daemon serves it.

use tokio_postgres::{Client, Row};

use crate::Cluster;

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

#[cfg(test)]
mod tests {
    use super::*;

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
