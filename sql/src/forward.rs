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

/// Stores a row of a script (`sl_log_script`), on every node whether it forwards data or not.
///
/// # Errors
/// Any database error.
pub async fn store_script(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    txid: i64,
    action: i64,
    command: &str,
    arguments: &[Option<String>],
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
         values ($1, $2, $3, $4::text::\"char\", $5)",
    );
    client
        .execute(&sql, &[&origin, &txid, &action, &command, &arguments])
        .await?;
    Ok(())
}

/// Runs a statement of a script as its origin did, sets its sequences, and takes back what it changed in the session.
///
/// `sequences` are `seqid,origin,last_value` triples.
///
/// # Errors
/// Any database error; the transaction must be rolled back then.
pub async fn run_script_statement(
    client: &Client,
    cluster: &Cluster,
    statement: &str,
    sequences: &str,
    settings: &str,
) -> Result<(), tokio_postgres::Error> {
    let numbers: Vec<i64> = sequences
        .split(',')
        .filter_map(|number| number.trim().parse().ok())
        .collect();
    let set = cluster.sql("select @NAMESPACE@.sequencesetvalue($1::int8::int4, $2::int8::int4, null, $3, true)");
    for triple in numbers.chunks_exact(3) {
        client.execute(&set, &[&triple[0], &triple[1], &triple[2]]).await?;
    }
    client
        .batch_execute("set local session_replication_role to local")
        .await?;
    client.batch_execute(statement).await?;
    // `set` in a script must not leak into what is applied next.
    client.batch_execute(settings).await?;
    client
        .batch_execute("set local session_replication_role to replica")
        .await
}

/// The end of a script: names and triggers are brought up to date.
///
/// # Errors
/// Any database error.
pub async fn finish_script(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .execute(&cluster.sql("select @NAMESPACE@.ddlscript_complete_int()"), &[])
        .await?;
    Ok(())
}
