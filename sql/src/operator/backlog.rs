//! What a subscriber still has to get.

use tokio_postgres::Client;

use crate::Cluster;

/// Rows are counted up to here: more than that is "very many", and counting must not become a load.
pub const MOST_ROWS: i64 = 100_000;

/// What is on its way to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Seconds since the oldest event it has not confirmed was made; None: it has confirmed all.
    pub waiting: Option<f64>,
    /// Row changes of its sets that it has not confirmed; `MOST_ROWS` means at least as many. None: the log of the
    /// node that was asked does not reach back far enough to tell.
    pub rows: Option<i64>,
}

/// Asks a node that keeps the origin's log what is newer than event `confirmed` of `origin`, in tables of `sets`.
///
/// # Errors
/// Any database error.
pub async fn backlog(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    confirmed: i64,
    sets: &[i32],
) -> Result<Backlog, tokio_postgres::Error> {
    let sql = cluster.sql(
        "with position as (
             select e.ev_snapshot as snapshot
               from @NAMESPACE@.sl_event e
              where e.ev_origin = $1 and e.ev_seqno <= $2 and e.ev_type = 'SYNC'
              order by e.ev_seqno desc limit 1
         ), wanted as (
             select t.tab_id from @NAMESPACE@.sl_table t where t.tab_set = any ($3)
         ), newer as (
             select from position p, @NAMESPACE@.sl_log_1 l
              where l.log_origin = $1 and l.log_txid >= pg_catalog.txid_snapshot_xmin(p.snapshot)
                and not pg_catalog.txid_visible_in_snapshot(l.log_txid, p.snapshot)
                and l.log_tableid in (select w.tab_id from wanted w)
             union all
             select from position p, @NAMESPACE@.sl_log_2 l
              where l.log_origin = $1 and l.log_txid >= pg_catalog.txid_snapshot_xmin(p.snapshot)
                and not pg_catalog.txid_visible_in_snapshot(l.log_txid, p.snapshot)
                and l.log_tableid in (select w.tab_id from wanted w)
         )
         select (select extract(epoch from pg_catalog.clock_timestamp() - e.ev_timestamp)::pg_catalog.float8
                   from @NAMESPACE@.sl_event e
                  where e.ev_origin = $1 and e.ev_seqno > $2
                  order by e.ev_seqno limit 1),
                case when exists (select from position)
                     then (select count(*) from (select from newer limit $4) n) end",
    );
    let row = client
        .query_one(&sql, &[&origin, &confirmed, &sets, &MOST_ROWS])
        .await?;
    Ok(Backlog {
        waiting: row.try_get(0)?,
        rows: row.try_get(1)?,
    })
}
