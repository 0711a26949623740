//! Keeping log rows for the subscribers of a subscriber.

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::Client;

use crate::Cluster;
use crate::log_selection::forward_statement;

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
    has_triggers: bool,
}

/// Chooses the log table for the rest of the running transaction.
///
/// The table is locked against truncation and the status read again: a log switch that ends in between could otherwise
/// leave the rows in the table that nobody reads. `guess` is what was found last time; it saves a round trip.
///
/// # Errors
/// Any database error.
pub async fn log_table(
    client: &Client,
    cluster: &Cluster,
    guess: Option<LogTable>,
) -> Result<LogTable, tokio_postgres::Error> {
    let mut chosen = match guess {
        Some(guess) => guess,
        None => written_now(client, cluster).await?,
    };
    loop {
        let lock = cluster.sql(&format!("lock table @NAMESPACE@.{} in row exclusive mode", chosen.name));
        // Sent together: the lock comes first.
        let ((), now) =
            futures_util::future::try_join(client.batch_execute(&lock), written_now(client, cluster)).await?;
        if now.name == chosen.name {
            return Ok(now);
        }
        // At most one switch can begin while a log table is locked.
        chosen = now;
    }
}

async fn written_now(client: &Client, cluster: &Cluster) -> Result<LogTable, tokio_postgres::Error> {
    let status = cluster.sql(
        "select s.last_value,
                exists (select from pg_catalog.pg_trigger t
                          join pg_catalog.pg_class c on c.oid = t.tgrelid
                          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                         where n.nspname = @CLUSTER@ and c.relname in ('sl_log_1', 'sl_log_2')
                           and t.tgenabled in ('A', 'R'))
           from @NAMESPACE@.sl_log_status s",
    );
    let row = client.query_one(&status, &[]).await?;
    let name = match row.try_get::<_, i64>(0)? & 1 {
        0 => "sl_log_1",
        _ => "sl_log_2",
    };
    let has_triggers = row.try_get(1)?;
    Ok(LogTable { name, has_triggers })
}

/// Stores tuples of binary COPY data as they came.
///
/// The role is `local` meanwhile where the log has triggers, so that the apply trigger of a schema made for Slony's slon
/// does not fire.
///
/// # Errors
/// Any database error.
pub async fn store(
    client: &Client,
    cluster: &Cluster,
    log_table: LogTable,
    tuples: Vec<Bytes>,
) -> Result<(), tokio_postgres::Error> {
    if tuples.is_empty() {
        return Ok(());
    }
    // Not without need: a change of the role has the server plan all prepared statements anew.
    if log_table.has_triggers {
        client
            .batch_execute("set local session_replication_role to local")
            .await?;
    }
    let sink = client
        .copy_in::<_, Bytes>(&forward_statement(cluster, log_table.name))
        .await?;
    let mut sink = std::pin::pin!(sink);
    let mut buffer = BytesMut::with_capacity(MESSAGE + 4096);
    buffer.extend_from_slice(HEADER);
    for tuple in tuples {
        if tuple.len() >= MESSAGE {
            // Large ones go as they are, without a copy.
            sink.feed(buffer.split().freeze()).await?;
            sink.feed(tuple).await?;
            continue;
        }
        buffer.extend_from_slice(&tuple);
        if buffer.len() >= MESSAGE {
            let full = std::mem::replace(&mut buffer, BytesMut::with_capacity(MESSAGE + 4096));
            sink.feed(full.freeze()).await?;
        }
    }
    buffer.extend_from_slice(&[0xff, 0xff]);
    sink.feed(buffer.freeze()).await?;
    sink.finish().await?;
    if log_table.has_triggers {
        client
            .batch_execute("set local session_replication_role to replica")
            .await?;
    }
    Ok(())
}
