//! Is this node still the origin it takes itself for? What its peers say, and how it keeps writers out if not.

use tokio_postgres::Client;

use crate::Cluster;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// `fe_reason` of a node that the cluster has failed over.
pub const FAILED_OVER: &str = "failed over";
/// `fe_reason` of a node that the cluster has dropped although it was an origin.
pub const DROPPED: &str = "dropped";
/// `fe_reason` of a node that has heard of no peer for too long; ends by itself.
pub const ISOLATED: &str = "isolated";

/// What one peer says about this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Whether it counts the node as failed; `None`: it knows no such node.
    pub failed: Option<bool>,
    /// Origins of the sets that were asked about and that it knows: (set, origin).
    pub origins: Vec<(i32, i32)>,
    /// Those of the sets that are locked there: of its own, because they are on their way to somebody else.
    pub locked: Vec<i32>,
}

/// Asks the peer behind `client` about `node` and sets of it.
pub async fn opinion(client: &Client, cluster: &Cluster, node: i32, sets: &[i32]) -> Result<Opinion> {
    let sql = cluster.sql(
        "select null::pg_catalog.int4, no_failed::pg_catalog.int4, false from @NAMESPACE@.sl_node where no_id = $1
          union all
         select set_id, set_origin, set_locked is not null from @NAMESPACE@.sl_set where set_id = any ($2)",
    );
    let mut opinion = Opinion {
        failed: None,
        origins: Vec::new(),
        locked: Vec::new(),
    };
    for row in client.query(&sql, &[&node, &sets]).await? {
        match (row.try_get(0)?, row.try_get::<_, i32>(1)?) {
            (None, failed) => opinion.failed = Some(failed != 0),
            (Some(set), origin) => {
                opinion.origins.push((set, origin));
                if row.try_get(2)? {
                    opinion.locked.push(set);
                }
            }
        }
    }
    Ok(opinion)
}

/// A set this node must not write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The set.
    pub set: i32,
    /// Its origin now, if that is known.
    pub new_origin: Option<i32>,
    /// [`FAILED_OVER`], [`DROPPED`], [`ISOLATED`], or an operator's words.
    pub reason: String,
}

/// The sets that are fenced off on this node.
pub async fn fences(client: &Client, cluster: &Cluster) -> Result<Vec<Fence>> {
    let sql = cluster.sql("select fe_set, fe_new_origin, fe_reason from @NAMESPACE@.tl_fence order by fe_set");
    client
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| {
            Ok(Fence {
                set: row.try_get(0)?,
                new_origin: row.try_get(1)?,
                reason: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// Fences a set off, in the running transaction; waits for those who write to its tables no longer than `lock_timeout`.
pub async fn fence_set(client: &Client, cluster: &Cluster, fence: &Fence) -> Result<()> {
    let sql = cluster.sql("select @NAMESPACE@.tl_fence_set($1, $2, $3)");
    client
        .execute(&sql, &[&fence.set, &fence.new_origin, &fence.reason])
        .await?;
    Ok(())
}

/// Lets writers in again, in the running transaction.
pub async fn unfence(client: &Client, cluster: &Cluster, set: i32) -> Result<()> {
    client
        .execute(&cluster.sql("select @NAMESPACE@.tl_unfence($1)"), &[&set])
        .await?;
    Ok(())
}

/// Ends the sessions that could still write to a set's tables; says which.
pub async fn end_writers_of(client: &Client, cluster: &Cluster, set: i32) -> Result<Vec<String>> {
    client
        .query(&cluster.sql("select w from @NAMESPACE@.tl_endWritersOf($1) w"), &[&set])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}
