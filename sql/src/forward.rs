//! Keeping log rows for the subscribers of a subscriber.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, CopyInSink, SimpleQueryMessage};

use crate::log_selection::forward_statement;
use crate::snapshot::Snapshot;
use crate::{Cluster, Session};

/// Bytes of one COPY message.
const MESSAGE: usize = 64 * 1024;

/// Header of binary COPY data: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The log table that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTable {
    /// `sl_log_1` or `sl_log_2`.
    pub name: &'static str,
    /// Triggers on it fire in the replica role: a schema made for Slony's slon has one.
    pub has_triggers: bool,
}

/// Chooses the log table for the rest of the running transaction.
///
/// The table is locked against truncation and the status read again: a log switch that ends in between could otherwise
/// leave the rows in the table that nobody reads. `guess` is what was found last time; it saves a round trip.
///
/// # Errors
/// Any database error.
pub async fn log_table(
    session: &Session,
    cluster: &Cluster,
    guess: Option<LogTable>,
) -> Result<LogTable, tokio_postgres::Error> {
    let mut chosen = match guess {
        Some(guess) => guess,
        None => written_now(session, cluster).await?,
    };
    loop {
        let lock = cluster.sql(&format!("lock table @NAMESPACE@.{} in row exclusive mode", chosen.name));
        // Sent together: the lock comes first.
        let ((), now) =
            futures_util::future::try_join(session.batch_execute(&lock), written_now(session, cluster)).await?;
        if now.name == chosen.name {
            return Ok(now);
        }
        // At most one switch can begin while a log table is locked.
        chosen = now;
    }
}

async fn written_now(session: &Session, cluster: &Cluster) -> Result<LogTable, tokio_postgres::Error> {
    let status = cluster.sql(
        "select s.last_value,
                exists (select from pg_catalog.pg_trigger t
                          join pg_catalog.pg_class c on c.oid = t.tgrelid
                          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                         where n.nspname = @CLUSTER@ and c.relname in ('sl_log_1', 'sl_log_2')
                           and t.tgenabled in ('A', 'R'))
           from @NAMESPACE@.sl_log_status s",
    );
    let statement = session.statement(&status).await?;
    let row = session.query_one(&statement, &[]).await?;
    let name = match row.try_get::<_, i64>(0)? & 1 {
        0 => "sl_log_1",
        _ => "sl_log_2",
    };
    let has_triggers = row.try_get(1)?;
    Ok(LogTable { name, has_triggers })
}

/// Takes the tuples of binary COPY data as they came, and stores them in the log in one COPY.
pub struct LogWriter {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    buffer: BytesMut,
}

impl LogWriter {
    /// Begins the COPY.
    ///
    /// # Errors
    /// Any database error.
    pub async fn open(client: &Client, cluster: &Cluster, log_table: LogTable) -> Result<Self, tokio_postgres::Error> {
        let sink = client.copy_in(&forward_statement(cluster, log_table.name)).await?;
        let mut buffer = BytesMut::with_capacity(MESSAGE + 4096);
        buffer.extend_from_slice(HEADER);
        Ok(Self {
            sink: Box::pin(sink),
            buffer,
        })
    }

    /// Adds a tuple.
    ///
    /// # Errors
    /// Any database error.
    pub async fn put(&mut self, tuple: &Bytes) -> Result<(), tokio_postgres::Error> {
        if tuple.len() >= MESSAGE {
            // Large ones go as they are, in pieces: the connection's own buffer grows to the largest message and stays so.
            self.sink.feed(self.buffer.split().freeze()).await?;
            for start in (0..tuple.len()).step_by(MESSAGE) {
                self.sink
                    .feed(tuple.slice(start..tuple.len().min(start + MESSAGE)))
                    .await?;
            }
            return Ok(());
        }
        self.buffer.extend_from_slice(tuple);
        if self.buffer.len() >= MESSAGE {
            let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(MESSAGE + 4096));
            self.sink.feed(full.freeze()).await?;
        }
        Ok(())
    }

    /// Ends the COPY.
    ///
    /// # Errors
    /// Any database error.
    pub async fn finish(mut self) -> Result<(), tokio_postgres::Error> {
        self.buffer.extend_from_slice(&[0xff, 0xff]);
        self.sink.feed(self.buffer.freeze()).await?;
        self.sink.as_mut().finish().await?;
        Ok(())
    }
}

/// Stores tuples of binary COPY data as they came.
///
/// The role is `local` meanwhile where the log has triggers, so that the apply trigger of a schema made for Slony's slon
/// does not fire.
///
/// # Errors
/// Any database error.
pub async fn store(
    session: &Session,
    cluster: &Cluster,
    log_table: LogTable,
    tuples: Vec<Bytes>,
) -> Result<(), tokio_postgres::Error> {
    if tuples.is_empty() {
        return Ok(());
    }
    // Not without need: a change of the role has the server plan all prepared statements anew.
    if log_table.has_triggers {
        session
            .batch_execute("set local session_replication_role to local")
            .await?;
    }
    let mut writer = LogWriter::open(session, cluster, log_table).await?;
    for tuple in &tuples {
        writer.put(tuple).await?;
    }
    writer.finish().await?;
    if log_table.has_triggers {
        session
            .batch_execute("set local session_replication_role to replica")
            .await?;
    }
    Ok(())
}

/// Begins a transaction on a second session that stores log rows of an origin beside the one that applies them; false if
/// the log table is not to be had at once, or an earlier such session has not ended.
///
/// The applying session holds the log table already, and somebody who wants it for himself may be queueing in between:
/// waiting for him would be waiting for ourselves. The commit need not reach the disk by itself: that of the applying
/// transaction follows it and takes it along. An advisory lock named by the oid of `sl_log_1` and the origin tells that the
/// session lives.
///
/// # Errors
/// Any database error.
pub async fn begin_beside(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    log_table: LogTable,
) -> Result<bool, tokio_postgres::Error> {
    let begin = cluster.sql(&format!(
        "begin; set local synchronous_commit to off; lock table @NAMESPACE@.{} in row exclusive mode nowait;
         select pg_catalog.pg_try_advisory_xact_lock((c.oid::int8 << 32) | {origin})
           from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = @CLUSTER@ and c.relname = 'sl_log_1'",
        log_table.name
    ));
    let is_begun = match client.simple_query(&begin).await {
        Ok(messages) => messages
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => false,
        Err(error) => return Err(error),
    };
    if !is_begun {
        client.batch_execute("rollback").await?;
    }
    Ok(is_begun)
}

/// Whether a session begun by [`begin_beside`] for the origin still lives.
///
/// # Errors
/// Any database error.
pub async fn is_stored_beside(client: &Client, cluster: &Cluster, origin: i32) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select exists (
            select from pg_catalog.pg_locks l
              join pg_catalog.pg_class c on c.oid = l.classid and c.relname = 'sl_log_1'
              join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = @CLUSTER@
             where l.locktype = 'advisory' and l.objid = $1::int4::oid and l.objsubid = 1
               and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))",
    );
    client.query_one(&sql, &[&origin]).await?.try_get(0)
}

/// Removes log rows that a second session had committed when the group they belong to failed: rows of tables of an origin
/// that the position of their set does not see. Nobody has read them, for no event speaks of them.
///
/// # Errors
/// Any database error.
pub async fn remove_unannounced(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    tables: &[i32],
    position: &Snapshot,
) -> Result<u64, tokio_postgres::Error> {
    let mut removed = 0;
    for log_table in ["sl_log_1", "sl_log_2"] {
        let sql = cluster.sql(&format!(
            "delete from @NAMESPACE@.{log_table}
              where log_origin = $1 and (log_txid >= $2 or log_txid = any ($3)) and log_tableid = any ($4)"
        ));
        removed += client
            .execute(&sql, &[&origin, &position.xmax(), &position.in_progress(), &tables])
            .await?;
    }
    Ok(removed)
}
