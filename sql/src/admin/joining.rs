//! Members on their way into a set that has subscribers: they travel in a set of their own, which is merged.

use tokio_postgres::Client;

use crate::Cluster;

/// First number of sets that hold members on their way.
pub const FIRST_JOINING_SET: i32 = 900_000_001;

/// First number of tables that are partitions nobody gave a number; people's numbers stay below.
pub const FIRST_PARTITION: i32 = 1_000_000_000;

/// The comment of the set that holds members on their way into `set`; by it a later run finds what an earlier one left.
#[must_use]
pub fn joining_comment(set: i32) -> String {
    format!("on its way into set {set}")
}

/// A subscription of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    /// Where the receiver gets the set.
    pub provider: i32,
    /// The subscriber.
    pub receiver: i32,
    /// Whether it keeps log rows for others.
    pub forward: bool,
}

/// Subscribers of a set, providers before their receivers, as the origin knows them.
pub async fn subscribers(
    client: &Client,
    cluster: &Cluster,
    set: i32,
) -> Result<Vec<Subscriber>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "with recursive downward (provider, receiver, forward, level) as (
             select b.sub_provider, b.sub_receiver, b.sub_forward, 1
               from @NAMESPACE@.sl_subscribe b join @NAMESPACE@.sl_set s on s.set_id = b.sub_set and s.set_origin = b.sub_provider
              where b.sub_set = $1
              union all
             select b.sub_provider, b.sub_receiver, b.sub_forward, d.level + 1
               from downward d join @NAMESPACE@.sl_subscribe b on b.sub_set = $1 and b.sub_provider = d.receiver
         )
         select provider, receiver, forward from downward order by level, receiver",
    );
    client
        .query(&sql, &[&set])
        .await?
        .iter()
        .map(|row| {
            Ok(Subscriber {
                provider: row.try_get(0)?,
                receiver: row.try_get(1)?,
                forward: row.try_get(2)?,
            })
        })
        .collect()
}

/// A set that an earlier run left on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its number.
    pub set: i32,
    /// Schemas and names of its tables and sequences.
    pub members: Vec<(String, String)>,
}

/// What an earlier run left on its way into `set`, as the origin knows it.
pub async fn leftover(client: &Client, cluster: &Cluster, set: i32) -> Result<Option<Leftover>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select set_id from @NAMESPACE@.sl_set join @NAMESPACE@.sl_local_node_id on set_origin = last_value
          where set_comment = $1 order by set_id limit 1",
    );
    let Some(row) = client.query_opt(&sql, &[&joining_comment(set)]).await? else {
        return Ok(None);
    };
    let found: i32 = row.try_get(0)?;
    let members = cluster.sql(
        "select tab_nspname::text, tab_relname::text from @NAMESPACE@.sl_table where tab_set = $1
          union all
         select seq_nspname::text, seq_relname::text from @NAMESPACE@.sl_sequence where seq_set = $1",
    );
    let members = client.query(&members, &[&found]).await?;
    Ok(Some(Leftover {
        set: found,
        members: members
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?,
    }))
}

/// A number for a set on its way that no node known here uses.
pub async fn free_joining_set(client: &Client, cluster: &Cluster) -> Result<i32, tokio_postgres::Error> {
    let sql = cluster.sql("select greatest(max(set_id) + 1, $1) from @NAMESPACE@.sl_set where set_id >= $1");
    let row = client.query_one(&sql, &[&FIRST_JOINING_SET]).await?;
    Ok(row.try_get::<_, Option<i32>>(0)?.unwrap_or(FIRST_JOINING_SET))
}

/// A partition that holds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Quoted `schema.name`.
    pub name: String,
    /// Index that identifies its rows; None: its primary key.
    pub key: Option<String>,
    /// Comment that names the parent.
    pub comment: String,
}

/// The partitions of a table at any depth; none if it is not partitioned.
pub async fn partitions(
    client: &Client,
    cluster: &Cluster,
    table: &str,
    key: Option<&str>,
) -> Result<Vec<Partition>, tokio_postgres::Error> {
    let sql = cluster
        .sql("select part_fqname, part_key::text, part_comment from @NAMESPACE@.tl_partitions($1, $2::text::name)");
    client
        .query(&sql, &[&table, &key])
        .await?
        .iter()
        .map(|row| {
            Ok(Partition {
                name: row.try_get(0)?,
                key: row.try_get(1)?,
                comment: row.try_get(2)?,
            })
        })
        .collect()
}

/// A number for a partition that nobody gave one.
#[must_use]
pub fn next_partition_id(cluster: &Cluster) -> super::Call {
    super::Call::function(cluster, "tl_next_partition_id", &[])
}
