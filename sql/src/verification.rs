//! Reading an origin and a subscriber at one and the same SYNC, while both go on working.
//!
//! The origin's side: a transaction that holds the event lock makes a SYNC and exports its snapshot, so that a reader sees
//! exactly what the SYNC announces. Behind it a gate queues for a share of the event lock and gets it when the SYNC
//! commits: until the gate opens again no event of this origin can be made. (Somebody who queued between the two may still
//! make one; that is seen, and tried again.) The subscriber applies the SYNC and then, having nothing else to apply of
//! this origin, stands at exactly its position: a snapshot taken then is the same data. The gate is open again as soon as
//! that snapshot is there. Applications never wait for it, only other events do.

use tokio_postgres::Client;

use crate::Cluster;

/// A SYNC that was made to be compared at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeSync {
    /// `ev_seqno`.
    pub seqno: i64,
    /// Exported snapshot, for [`adopt_snapshot`].
    pub snapshot: String,
}

/// Where a subscriber stands with a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The set.
    pub set: i32,
    /// `ssy_origin`.
    pub origin: i32,
    /// `ssy_seqno`.
    pub seqno: i64,
    /// Whether rows beyond that SYNC are there already, from the first copy.
    pub beyond: bool,
}

/// Makes a SYNC and leaves the transaction open, with the event lock and the snapshot.
///
/// # Errors
/// Any database error, among them a lock that is not granted within ten seconds.
pub async fn make_sync(maker: &Client, cluster: &Cluster) -> Result<MadeSync, tokio_postgres::Error> {
    // Neither BEGIN nor SET nor LOCK takes the snapshot: that is done by the SELECT, under the lock.
    let begin = cluster.sql(
        "begin isolation level repeatable read; set local lock_timeout to '10s'; \
         set local idle_in_transaction_session_timeout to '30s'; \
         lock table @NAMESPACE@.sl_event_lock in access exclusive mode",
    );
    maker.batch_execute(&begin).await?;
    let sql = cluster.sql("select @NAMESPACE@.createEvent(@CLUSTER@::name, 'SYNC'), pg_catalog.pg_export_snapshot()");
    let row = maker.query_one(&sql, &[]).await?;
    Ok(MadeSync {
        seqno: row.try_get(0)?,
        snapshot: row.try_get(1)?,
    })
}

/// Begins a transaction that sees exactly what the SYNC announces, while the SYNC's transaction is still open.
///
/// # Errors
/// Any database error.
pub async fn adopt_snapshot(reader: &Client, sync: &MadeSync) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "begin isolation level repeatable read read only; set transaction snapshot {}",
        crate::quote_literal(&sync.snapshot)
    );
    reader.batch_execute(&sql).await
}

/// Takes a share of the event lock and keeps it until the transaction ends, a minute at most: no event is made meanwhile.
///
/// # Errors
/// Any database error, among them a lock that is not granted within ten seconds.
pub async fn close_gate(gate: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "begin; set local lock_timeout to '10s'; set local idle_in_transaction_session_timeout to '60s'; \
         lock table @NAMESPACE@.sl_event_lock in access share mode",
    );
    gate.batch_execute(&sql).await
}

/// Whether the session with this process id has queued for the event lock.
///
/// # Errors
/// Any database error.
pub async fn waits_at_gate(
    client: &Client,
    cluster: &Cluster,
    backend_pid: i32,
) -> Result<bool, tokio_postgres::Error> {
    let sql = "select exists (select from pg_catalog.pg_locks l
                               where l.pid = $1 and not l.granted
                                 and l.relation = pg_catalog.to_regclass($2::pg_catalog.text))";
    let lock = format!("{}.sl_event_lock", cluster.namespace());
    client.query_one(sql, &[&backend_pid, &lock]).await?.try_get(0)
}

/// The newest SYNC this node has made.
///
/// # Errors
/// Any database error.
pub async fn newest_own_sync(client: &Client, cluster: &Cluster) -> Result<i64, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select coalesce(max(e.ev_seqno), 0) from @NAMESPACE@.sl_event e, @NAMESPACE@.sl_local_node_id l
          where e.ev_origin = l.last_value and e.ev_type = 'SYNC'",
    );
    client.query_one(&sql, &[]).await?.try_get(0)
}

/// Bytes of the sets' tables on this node, with what is stored out of line, by `tab_id`.
///
/// # Errors
/// Any database error.
pub async fn table_bytes(
    client: &Client,
    cluster: &Cluster,
    sets: &[i32],
) -> Result<Vec<(i32, i64)>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select t.tab_id, coalesce(pg_catalog.pg_table_size(t.tab_reloid), 0)
           from @NAMESPACE@.sl_table t where t.tab_set = any ($1)",
    );
    let rows = client.query(&sql, &[&sets]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Where this subscriber stands with the sets; sets it does not have are left out.
///
/// # Errors
/// Any database error.
pub async fn standings(
    client: &Client,
    cluster: &Cluster,
    sets: &[i32],
) -> Result<Vec<Standing>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select ssy_setid, ssy_origin, ssy_seqno, coalesce(ssy_action_list, '') <> ''
           from @NAMESPACE@.sl_setsync where ssy_setid = any ($1) order by 1",
    );
    client
        .query(&sql, &[&sets])
        .await?
        .iter()
        .map(|row| {
            Ok(Standing {
                set: row.try_get(0)?,
                origin: row.try_get(1)?,
                seqno: row.try_get(2)?,
                beyond: row.try_get(3)?,
            })
        })
        .collect()
}

/// Values of the sets' sequences at a SYNC of this origin, by `seq_id`, as far as they were ever announced.
///
/// # Errors
/// Any database error.
pub async fn announced_sequences(
    reader: &Client,
    cluster: &Cluster,
    sets: &[i32],
    sync: i64,
) -> Result<Vec<(i32, i64)>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select distinct on (g.seql_seqid) g.seql_seqid, g.seql_last_value
           from @NAMESPACE@.sl_seqlog g
           join @NAMESPACE@.sl_sequence q on q.seq_id = g.seql_seqid and q.seq_set = any ($1)
           join @NAMESPACE@.sl_local_node_id l on l.last_value = g.seql_origin
          where g.seql_ev_seqno <= $2
          order by g.seql_seqid, g.seql_ev_seqno desc",
    );
    reader
        .query(&sql, &[&sets, &sync])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Sets a sequence of this subscriber to the origin's value.
///
/// # Errors
/// Any database error.
pub async fn set_sequence(
    client: &Client,
    cluster: &Cluster,
    sequence: i32,
    value: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.sequencesetvalue($1, null::int4, null::int8, $2, false)");
    client.execute(&sql, &[&sequence, &value]).await?;
    Ok(())
}

/// Opens a transaction that may write to a subscriber's replicated tables, with the tables locked against slon.
///
/// # Errors
/// Any database error, among them a lock that is not granted within five seconds.
pub async fn begin_repair(client: &Client, tables: &[String]) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(
            "begin; set local session_replication_role to replica; set local lock_timeout to '5s'; \
             set local idle_in_transaction_session_timeout to '10min'",
        )
        .await?;
    for table in tables {
        client
            .batch_execute(&format!("lock table {table} in exclusive mode"))
            .await?;
    }
    client.batch_execute("set local lock_timeout to 0").await
}
