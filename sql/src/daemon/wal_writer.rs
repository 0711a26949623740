//! The server's WAL writer.

use tokio_postgres::Client;

/// Has the server's WAL writer flush what others have written, if it is a megabyte or more (`wal_writer_flush_after`), by an
/// empty transaction that is committed asynchronously.
///
/// # Errors
/// Any database error.
pub async fn wake_wal_writer(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute("begin; set local synchronous_commit to off; select pg_catalog.txid_current(); commit")
        .await
}
