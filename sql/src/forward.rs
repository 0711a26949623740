//! Keeping log rows for the subscribers of a subscriber.

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;

use crate::Cluster;
use crate::log_selection::forward_statement;

/// Bytes of one COPY message.
const MESSAGE: usize = 64 * 1024;

/// Header of binary COPY data: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Chooses the log table for the rest of the running transaction.
///
/// The table is locked against truncation and the status read again: a log switch that ends in between could otherwise
/// leave the rows in the table that nobody reads.
///
/// # Errors
/// Any database error.
pub async fn log_table(client: &Client, cluster: &Cluster) -> Result<&'static str, tokio_postgres::Error> {
    let status = cluster.sql("select last_value from @NAMESPACE@.sl_log_status");
    let current = async || -> Result<&'static str, tokio_postgres::Error> {
        let status: i64 = client.query_one(&status, &[]).await?.try_get(0)?;
        Ok(if status & 1 == 0 { "sl_log_1" } else { "sl_log_2" })
    };
    let mut chosen = current().await?;
    loop {
        let lock = format!("lock table @NAMESPACE@.{chosen} in row exclusive mode");
        client.batch_execute(&cluster.sql(&lock)).await?;
        let now = current().await?;
        if now == chosen {
            return Ok(chosen);
        }
        // At most one switch can begin while a log table is locked.
        chosen = now;
    }
}

/// Stores tuples of binary COPY data as they came.
///
/// The role is `local` meanwhile, so that the apply trigger of a schema made for Slony's slon does not fire.
///
/// # Errors
/// Any database error.
pub async fn store(
    client: &Client,
    cluster: &Cluster,
    log_table: &str,
    tuples: Vec<Bytes>,
) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute("set local session_replication_role to local")
        .await?;
    let sink = client
        .copy_in::<_, Bytes>(&forward_statement(cluster, log_table))
        .await?;
    let mut sink = std::pin::pin!(sink);
    let mut buffer = Vec::with_capacity(MESSAGE + 4096);
    buffer.extend_from_slice(HEADER);
    for tuple in tuples {
        buffer.extend_from_slice(&tuple);
        if buffer.len() >= MESSAGE {
            sink.send(std::mem::take(&mut buffer).into()).await?;
        }
    }
    buffer.extend_from_slice(&[0xff, 0xff]);
    sink.send(buffer.into()).await?;
    sink.finish().await?;
    client
        .batch_execute("set local session_replication_role to replica")
        .await
}
