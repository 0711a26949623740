//! An origin that has something to announce and does not: no SYNC is made although there are changes.

use std::time::Duration;

use tokio_postgres::Client;

use crate::Cluster;

/// How long a SYNC that is due may take: the first change after a quiet time is announced this much later at most.
const DUE: Duration = Duration::from_secs(2);

/// Seconds since this node's newest SYNC, if it is older than `seconds` and changes have been committed since; None: all is
/// well.
///
/// The thread of slon that makes SYNCs hangs then (somebody holds the event lock, say) while everything else of it goes on,
/// and no lag is to be seen, for lag is counted from events.
///
/// # Errors
/// Any database error.
pub async fn overdue_sync(
    client: &Client,
    cluster: &Cluster,
    seconds: f64,
) -> Result<Option<f64>, tokio_postgres::Error> {
    let Some((first, _)) = unannounced(client, cluster, seconds).await? else {
        return Ok(None);
    };
    // After a quiet time the change may be younger than the look.
    tokio::time::sleep(DUE).await;
    let now = unannounced(client, cluster, seconds).await?;
    Ok(now.filter(|(seqno, _)| *seqno == first).map(|(_, age)| age))
}

/// Number and age of the newest own SYNC, under the same conditions.
async fn unannounced(
    client: &Client,
    cluster: &Cluster,
    seconds: f64,
) -> Result<Option<(i64, f64)>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select n.seqno, n.age
           from (select e.ev_seqno, e.ev_snapshot,
                        extract(epoch from pg_catalog.clock_timestamp() - e.ev_timestamp)::pg_catalog.float8, e.ev_origin
                   from @NAMESPACE@.sl_event e, @NAMESPACE@.sl_local_node_id l
                  where e.ev_origin = l.last_value and e.ev_type = 'SYNC'
                  order by e.ev_seqno desc limit 1) n (seqno, snapshot, age, origin)
          where n.age > $1
            and (exists (select from @NAMESPACE@.sl_log_1 g
                          where g.log_origin = n.origin and g.log_txid >= pg_catalog.txid_snapshot_xmin(n.snapshot)
                            and not pg_catalog.txid_visible_in_snapshot(g.log_txid, n.snapshot))
                 or exists (select from @NAMESPACE@.sl_log_2 g
                             where g.log_origin = n.origin and g.log_txid >= pg_catalog.txid_snapshot_xmin(n.snapshot)
                               and not pg_catalog.txid_visible_in_snapshot(g.log_txid, n.snapshot)))",
    );
    let row = client.query_opt(&sql, &[&seconds]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}
