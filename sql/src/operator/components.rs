//! Parts of a daemon that have been at one thing for long.

use tokio_postgres::Client;

use crate::Cluster;

/// A part that is busy.
#[derive(Debug, Clone, PartialEq)]
pub struct BusyComponent {
    /// The part, as in `application_name`.
    pub actor: String,
    /// What it is doing, in its words.
    pub activity: String,
    /// Seconds since it began.
    pub seconds: f64,
}

/// Parts of this node's daemon that work on an event, or say they do something, for longer than `seconds`.
///
/// A row outlives its daemon, and a part between two pieces of work says that it is in its main loop: neither counts.
///
/// # Errors
/// Any database error.
pub async fn busy_components(
    client: &Client,
    cluster: &Cluster,
    seconds: f64,
) -> Result<Vec<BusyComponent>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select c.co_actor, c.co_activity,
                extract(epoch from pg_catalog.clock_timestamp() - c.co_starttime)::pg_catalog.float8
           from @NAMESPACE@.sl_components c
           join pg_catalog.pg_stat_activity a
             on a.pid = c.co_connection_pid and a.datname = pg_catalog.current_database()
          where c.co_activity is not null and c.co_activity <> 'thread main loop'
            and c.co_starttime < pg_catalog.clock_timestamp() - $1 * interval '1 second'
          order by c.co_starttime",
    );
    let rows = client.query(&sql, &[&seconds]).await?;
    rows.iter()
        .map(|row| {
            Ok(BusyComponent {
                actor: row.try_get(0)?,
                activity: row.try_get(1)?,
                seconds: row.try_get(2)?,
            })
        })
        .collect()
}
