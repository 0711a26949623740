//! Who has confirmed what, as one node knows it.

use tokio_postgres::Client;

use crate::Cluster;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// How far a node has confirmed the events of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// Node whose events these are.
    pub origin: i32,
    /// Node that confirms.
    pub node: i32,
    /// Highest event confirmed; None: nothing is known.
    pub confirmed: Option<i64>,
    /// Whether the node that was asked counts the *confirming* node as active; None: it does not know it.
    pub active: Option<bool>,
    /// Whether the node that was asked counts the *origin* as active; None: it does not know it.
    pub origin_active: Option<bool>,
}

impl Confirmation {
    /// Whether event `seqno` is confirmed.
    #[must_use]
    pub fn has(&self, seqno: i64) -> bool {
        self.confirmed.unwrap_or(0) >= seqno
    }
}

/// Confirmations of events of `origins` by every node that has ever confirmed any of them.
pub async fn confirmations_of(client: &Client, cluster: &Cluster, origins: &[i32]) -> Result<Vec<Confirmation>> {
    let sql = cluster.sql(
        "select c.con_origin, c.con_received, max(c.con_seqno), n.no_active, o.no_active
           from @NAMESPACE@.sl_confirm c
           left join @NAMESPACE@.sl_node n on n.no_id = c.con_received
           left join @NAMESPACE@.sl_node o on o.no_id = c.con_origin
          where c.con_origin = any ($1) and c.con_received <> c.con_origin
          group by c.con_origin, c.con_received, n.no_active, o.no_active
          order by c.con_origin, c.con_received",
    );
    client.query(&sql, &[&origins]).await?.iter().map(read).collect()
}

/// Confirmations of events of `origins` by `node`: one answer per origin, also where nothing is known.
pub async fn confirmation_of(
    client: &Client,
    cluster: &Cluster,
    origins: &[i32],
    node: i32,
) -> Result<Vec<Confirmation>> {
    let sql = cluster.sql(
        "select w.origin, $2::pg_catalog.int4,
                (select max(c.con_seqno) from @NAMESPACE@.sl_confirm c
                  where c.con_origin = w.origin and c.con_received = $2),
                (select n.no_active from @NAMESPACE@.sl_node n where n.no_id = $2),
                (select o.no_active from @NAMESPACE@.sl_node o where o.no_id = w.origin)
           from pg_catalog.unnest($1::pg_catalog.int4[]) w (origin) order by 1",
    );
    client.query(&sql, &[&origins, &node]).await?.iter().map(read).collect()
}

fn read(row: &tokio_postgres::Row) -> Result<Confirmation> {
    Ok(Confirmation {
        origin: row.try_get(0)?,
        node: row.try_get(1)?,
        confirmed: row.try_get(2)?,
        active: row.try_get(3)?,
        origin_active: row.try_get(4)?,
    })
}

/// Subscriptions to `set` whose copy is not confirmed yet: (origin, event, receiver) of each.
pub async fn open_subscriptions(client: &Client, cluster: &Cluster, set: i32) -> Result<Vec<(i32, i64, i32)>> {
    let sql = cluster.sql(
        "select e.ev_origin, max(e.ev_seqno), e.ev_data3::pg_catalog.int4
           from @NAMESPACE@.sl_event e
          where e.ev_type = 'ENABLE_SUBSCRIPTION' and e.ev_data1 = $1
            and exists (select from @NAMESPACE@.sl_subscribe s
                         where s.sub_set = e.ev_data1::pg_catalog.int4
                           and s.sub_receiver = e.ev_data3::pg_catalog.int4)
            and e.ev_seqno > coalesce((select max(c.con_seqno) from @NAMESPACE@.sl_confirm c
                                        where c.con_origin = e.ev_origin
                                          and c.con_received = e.ev_data3::pg_catalog.int4), 0)
          group by e.ev_origin, e.ev_data3 order by 3",
    );
    client
        .query(&sql, &[&set.to_string()])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect()
}
