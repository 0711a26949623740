//! What every node has goes: events, log, dead rows.

use std::time::Duration;

use tokio_postgres::Client;

use crate::Cluster;

/// State of the log switch (`sl_log_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStatus {
    /// Table that is written: 1 or 2.
    pub active: u8,
    /// The other one waits to be emptied.
    pub switching: bool,
}

/// Reads the state of the log switch.
pub async fn log_status(client: &Client, cluster: &Cluster) -> Result<LogStatus, tokio_postgres::Error> {
    let sql = cluster.sql("select last_value from @NAMESPACE@.sl_log_status");
    let value: i64 = client.query_one(&sql, &[]).await?.try_get(0)?;
    Ok(LogStatus {
        active: if value & 1 == 0 { 1 } else { 2 },
        switching: value & 2 != 0,
    })
}

/// Deletes what every node has: `cleanupEvent`, with the age up to which confirmations are kept.
pub async fn clean_up(client: &Client, cluster: &Cluster, keep: Duration) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.cleanupEvent(pg_catalog.make_interval(secs => $1::pg_catalog.float8))");
    client.query_one(&sql, &[&keep.as_secs_f64()]).await?;
    Ok(())
}

/// Oldest transaction that may still run anywhere on the server; while it stays, a vacuum frees nothing new.
pub async fn oldest_transaction(client: &Client) -> Result<i64, tokio_postgres::Error> {
    client
        .query_one(
            "select pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())",
            &[],
        )
        .await?
        .try_get(0)
}

/// Statements that vacuum (or only analyze) the tables autovacuum leaves alone, each with the table's name for messages.
pub async fn maintenance_statements(
    client: &Client,
    cluster: &Cluster,
    vacuum: bool,
) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let sql =
        cluster.sql("select pg_catalog.format('%I.%I', nspname, relname) from @NAMESPACE@.TablesToVacuum() order by 1");
    let verb = if vacuum { "vacuum analyze" } else { "analyze" };
    client
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| {
            row.try_get::<_, String>(0)
                .map(|table| (format!("{verb} {table}"), table))
        })
        .collect()
}
