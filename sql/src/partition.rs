//! Partitions of replicated tables that were made or dropped.

use tokio_postgres::Client;

use crate::Cluster;

/// How long applications may have to wait for this before it is put off.
const LOCK_TIMEOUT: &str = "500ms";

/// What has become of the partitions since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones that were added to their sets.
    pub added: i32,
    /// Dropped ones that were taken out of theirs.
    pub forgotten: i32,
}

/// Adds new partitions of replicated parents to their sets (`tl_adopt_partitions`) and takes out those that were dropped
/// (`tl_forget_partitions`), each in a transaction of its own.
///
/// # Errors
/// Any database error; nothing is changed by the transaction that failed.
pub async fn follow(client: &Client, cluster: &Cluster) -> Result<Changes, tokio_postgres::Error> {
    Ok(Changes {
        forgotten: call(client, cluster, "tl_forget_partitions").await?,
        added: call(client, cluster, "tl_adopt_partitions").await?,
    })
}

async fn call(client: &Client, cluster: &Cluster, function: &str) -> Result<i32, tokio_postgres::Error> {
    let sql = cluster.sql(&format!("select @NAMESPACE@.{function}()"));
    client
        .batch_execute(&format!("begin; set local lock_timeout to '{LOCK_TIMEOUT}'"))
        .await?;
    let outcome = client.query_one(&sql, &[]).await.and_then(|row| row.try_get(0));
    let end = if outcome.is_ok() { "commit" } else { "rollback" };
    client.batch_execute(end).await?;
    outcome
}
