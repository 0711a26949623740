//! New partitions of replicated tables.

use tokio_postgres::Client;

use crate::Cluster;

/// How long applications may have to wait for this before it is put off.
const LOCK_TIMEOUT: &str = "500ms";

/// Adds new partitions of replicated parents to their sets (`tl_adopt_partitions`); returns how many.
///
/// # Errors
/// Any database error; nothing is added then.
pub async fn adopt(client: &Client, cluster: &Cluster) -> Result<i32, tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.tl_adopt_partitions()");
    client
        .batch_execute(&format!("begin; set local lock_timeout to '{LOCK_TIMEOUT}'"))
        .await?;
    let outcome = client.query_one(&sql, &[]).await.and_then(|row| row.try_get(0));
    let end = if outcome.is_ok() { "commit" } else { "rollback" };
    client.batch_execute(end).await?;
    outcome
}
