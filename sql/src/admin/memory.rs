//! What slonik remembers of each node: is it one, which is it, what was its newest event.

use tokio_postgres::Client;

use crate::Cluster;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Whether the cluster schema is installed here.
pub async fn schema_exists(client: &Client, cluster: &Cluster) -> Result<bool> {
    let row = client
        .query_one(
            "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                             where n.nspname = $1 and c.relname = 'sl_table')",
            &[&cluster.schema()],
        )
        .await?;
    row.try_get(0)
}

/// Number of the node this database is; -1 if it is none yet.
pub async fn local_node_id(client: &Client, cluster: &Cluster) -> Result<i32> {
    client
        .query_one(
            &cluster.sql("select last_value::pg_catalog.int4 from @NAMESPACE@.sl_local_node_id"),
            &[],
        )
        .await?
        .try_get(0)
}

/// Number of the node's newest own event that is no SYNC; 0 if there is none.
///
/// A node that does not know itself (dropped elsewhere, not yet initialised) has none.
pub async fn last_event(client: &Client, cluster: &Cluster) -> Result<i64> {
    newest(client, cluster, "e.ev_type <> 'SYNC'").await
}

/// Number of the node's newest own event of type `DROP_SET`; 0 if there is none.
pub async fn drop_set_events(client: &Client, cluster: &Cluster) -> Result<i64> {
    newest(client, cluster, "e.ev_type = 'DROP_SET'").await
}

async fn newest(client: &Client, cluster: &Cluster, condition: &str) -> Result<i64> {
    let sql = cluster.sql(
        "select coalesce(max(e.ev_seqno), 0)::pg_catalog.int8
           from @NAMESPACE@.sl_event e, @NAMESPACE@.sl_node n, @NAMESPACE@.sl_local_node_id l
          where e.ev_origin = l.last_value and n.no_id = e.ev_origin and ",
    );
    client.query_one(&format!("{sql}{condition}"), &[]).await?.try_get(0)
}

/// Number of the event that subscribing `receiver` created on this node, inside the transaction that did it:
/// `ENABLE_SUBSCRIPTION`, or `SUBSCRIBE_SET` where the subscription existed. `set` narrows it to one set.
pub async fn last_subscription_event(
    client: &Client,
    cluster: &Cluster,
    set: Option<i32>,
    receiver: i32,
) -> Result<Option<i64>> {
    let sql = cluster.sql(
        "select max(e.ev_seqno)
           from @NAMESPACE@.sl_event e, @NAMESPACE@.sl_local_node_id l
          where e.ev_origin = l.last_value and e.ev_type in ('SUBSCRIBE_SET', 'ENABLE_SUBSCRIPTION')
            and ($1::pg_catalog.text is null or e.ev_data1 = $1) and e.ev_data3 = $2",
    );
    client
        .query_one(&sql, &[&set.map(|id| id.to_string()), &receiver.to_string()])
        .await?
        .try_get(0)
}
