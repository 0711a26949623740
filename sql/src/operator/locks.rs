//! Who would hold up a change of a set's origin.

use tokio_postgres::Client;

use crate::Cluster;
use crate::admin::{Blocker, read_blocker};

/// A session that has locks on tables of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct TableUser {
    /// The session.
    pub session: Blocker,
    /// One of the tables, schema and name.
    pub table: String,
    /// How many tables of the sets it has locked.
    pub tables: i64,
    /// Autovacuum: it gives way by itself.
    pub gives_way: bool,
    /// It only reads.
    pub reads_only: bool,
}

/// Sessions and prepared transactions that hold any lock on tables of `sets` in a transaction older than `seconds`.
///
/// The original's `move set` needs each table for itself for a moment, so a reader counts as much as a writer; ours does not
/// wait for readers.
///
/// # Errors
/// Any database error.
pub async fn users_of_tables(
    client: &Client,
    cluster: &Cluster,
    sets: &[i32],
    seconds: f64,
) -> Result<Vec<TableUser>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select u.pid, coalesce(a.usename, p.owner)::pg_catalog.text,
                coalesce(a.datname, p.database)::pg_catalog.text, a.application_name, coalesce(a.state, p.gid),
                extract(epoch from pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared))::pg_catalog.float8,
                a.query, u.name, u.tables, coalesce(a.backend_type, '') = 'autovacuum worker', u.reads_only
           from (select l.pid, l.virtualtransaction, min(t.tab_nspname || '.' || t.tab_relname), count(distinct t.tab_id),
                        pg_catalog.bool_and(l.mode in ('AccessShareLock', 'RowShareLock'))
                   from pg_catalog.pg_locks l
                   join @NAMESPACE@.sl_table t on t.tab_reloid = l.relation
                  where l.locktype = 'relation' and l.granted and t.tab_set = any ($1)
                    and l.database = (select d.oid from pg_catalog.pg_database d
                                       where d.datname = pg_catalog.current_database())
                    and l.pid is distinct from pg_catalog.pg_backend_pid()
                  group by 1, 2) u (pid, virtualtransaction, name, tables, reads_only)
           left join pg_catalog.pg_stat_activity a on a.pid = u.pid
           left join pg_catalog.pg_prepared_xacts p
             on u.pid is null and '-1/' || p.transaction::pg_catalog.text = u.virtualtransaction
          where coalesce(a.xact_start, p.prepared, '-infinity') < pg_catalog.clock_timestamp() - $2 * interval '1 second'
            and coalesce(a.application_name, '') not like 'slon.%'
            -- the sessions are looked at after the locks: this one's transaction has ended in between
            and a.state is distinct from 'idle' and (u.pid is null or a.pid is not null)
          order by coalesce(a.xact_start, p.prepared)",
    );
    let rows = client.query(&sql, &[&sets, &seconds]).await?;
    rows.iter()
        .map(|row| {
            Ok(TableUser {
                session: read_blocker(row)?,
                table: row.try_get(7)?,
                tables: row.try_get(8)?,
                gives_way: row.try_get(9)?,
                reads_only: row.try_get(10)?,
            })
        })
        .collect()
}

/// Where sets are and whether they are locked: (set, origin, locked). Waits for whoever is changing that now, so that
/// nothing that was begun before can make the answer wrong afterwards.
///
/// # Errors
/// Any database error, among them that the config lock could not be had within the session's `lock_timeout`.
pub async fn settled_set_states(
    client: &Client,
    cluster: &Cluster,
    sets: &[i32],
) -> Result<Vec<(i32, i32, bool)>, tokio_postgres::Error> {
    client
        .batch_execute(
            &cluster.sql("begin isolation level read committed; lock table @NAMESPACE@.sl_config_lock in share mode"),
        )
        .await?;
    let sql = cluster.sql(
        "select s.set_id, s.set_origin, s.set_locked is not null
           from @NAMESPACE@.sl_set s where s.set_id = any ($1) order by 1",
    );
    let rows = client.query(&sql, &[&sets]).await?;
    client.batch_execute("commit").await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect()
}

/// A replicated sequence's position on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencePosition {
    /// Its id in the cluster.
    pub id: i32,
    /// Schema and name.
    pub name: String,
    /// Its last value.
    pub last_value: i64,
    /// Its step: the sign says which way it goes.
    pub increment: i64,
}

impl SequencePosition {
    /// Whether this position lies behind another of the same sequence: it would give numbers a second time.
    #[must_use]
    pub fn is_behind(&self, other: &Self) -> bool {
        if self.increment < 0 {
            self.last_value > other.last_value
        } else {
            self.last_value < other.last_value
        }
    }
}

/// Positions of the sequences of `sets`, by id.
///
/// # Errors
/// Any database error, among them that a sequence does not exist here.
pub async fn sequence_positions(
    client: &Client,
    cluster: &Cluster,
    sets: &[i32],
) -> Result<Vec<SequencePosition>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select v.seq_id, n.nspname || '.' || c.relname, v.seq_last_value, q.seqincrement
           from @NAMESPACE@.sl_seqlastvalue v
           join pg_catalog.pg_class c on c.oid = v.seq_reloid
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           join pg_catalog.pg_sequence q on q.seqrelid = c.oid
          where v.seq_set = any ($1) order by 1",
    );
    client.query(&sql, &[&sets]).await?.iter().map(position).collect()
}

/// Positions of the sequences of `sets` as their former origin `origin` last told them to its subscribers. What it counts
/// on afterwards, because a refused `insert` has drawn a number, is of no interest to anybody.
///
/// # Errors
/// Any database error.
pub async fn sequence_positions_handed_over(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    sets: &[i32],
) -> Result<Vec<SequencePosition>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select distinct on (s.seq_id) s.seq_id, s.seq_nspname || '.' || s.seq_relname, l.seql_last_value, q.seqincrement
           from @NAMESPACE@.sl_sequence s
           join @NAMESPACE@.sl_seqlog l on l.seql_seqid = s.seq_id and l.seql_origin = $1
           join pg_catalog.pg_sequence q on q.seqrelid = s.seq_reloid
          where s.seq_set = any ($2)
          order by s.seq_id, l.seql_ev_seqno desc",
    );
    client
        .query(&sql, &[&origin, &sets])
        .await?
        .iter()
        .map(position)
        .collect()
}

fn position(row: &tokio_postgres::Row) -> Result<SequencePosition, tokio_postgres::Error> {
    Ok(SequencePosition {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        last_value: row.try_get(2)?,
        increment: row.try_get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descending_sequence_is_behind_when_it_is_higher() {
        let at = |last_value, increment| SequencePosition {
            id: 1,
            name: "s".into(),
            last_value,
            increment,
        };
        assert!(at(4, 1).is_behind(&at(5, 1)));
        assert!(!at(5, 1).is_behind(&at(5, 1)));
        assert!(at(-4, -1).is_behind(&at(-5, -1)));
    }
}
