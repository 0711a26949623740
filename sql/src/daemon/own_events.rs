//! The events this node itself makes.

use tokio_postgres::{Client, Row};

use crate::Cluster;

/// An event this node made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEvent {
    /// Its number.
    pub seqno: i64,
    /// Its type.
    pub kind: String,
    /// Its data, as far as not null.
    pub data: Vec<String>,
}

/// Number of the newest own event; 0 if there is none.
pub async fn last_own_event(client: &Client, cluster: &Cluster, node: i32) -> Result<i64, tokio_postgres::Error> {
    let sql =
        cluster.sql("select coalesce(pg_catalog.max(ev_seqno), 0) from @NAMESPACE@.sl_event where ev_origin = $1");
    client.query_one(&sql, &[&node]).await?.try_get(0)
}

/// Statement that reads own events behind a number (`$1` node, `$2` number), for [`own_event`]; at most 1000, so that a
/// long absence is caught up in steps.
#[must_use]
pub fn own_events_statement(cluster: &Cluster) -> String {
    cluster.sql(
        "select ev_seqno, ev_type,
                pg_catalog.array_remove(
                    array[ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8], null)
           from @NAMESPACE@.sl_event where ev_origin = $1 and ev_seqno > $2 order by ev_seqno limit 1000",
    )
}

/// Reads one row of [`own_events_statement`].
pub fn own_event(row: &Row) -> Result<OwnEvent, tokio_postgres::Error> {
    Ok(OwnEvent {
        seqno: row.try_get(0)?,
        kind: row.try_get(1)?,
        data: row.try_get(2)?,
    })
}
