//! What a node has applied since its schema was made, as its slon counts it.

use tokio_postgres::{Error, GenericClient};

use crate::Cluster;

/// Applied row changes of all origins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedChanges {
    /// Rows inserted.
    pub inserts: i64,
    /// Rows updated.
    pub updates: i64,
    /// Rows deleted.
    pub deletes: i64,
}

impl AppliedChanges {
    /// All of them.
    #[must_use]
    pub fn total(self) -> i64 {
        self.inserts + self.updates + self.deletes
    }
}

/// Sums of `sl_apply_stats`, in the caller's transaction.
pub async fn applied_changes(client: &impl GenericClient, cluster: &Cluster) -> Result<AppliedChanges, Error> {
    let statement = cluster.sql(
        "select coalesce(pg_catalog.sum(as_num_insert), 0)::pg_catalog.int8, \
         coalesce(pg_catalog.sum(as_num_update), 0)::pg_catalog.int8, \
         coalesce(pg_catalog.sum(as_num_delete), 0)::pg_catalog.int8 from @NAMESPACE@.sl_apply_stats",
    );
    let row = client.query_one(&statement, &[]).await?;
    Ok(AppliedChanges {
        inserts: row.get(0),
        updates: row.get(1),
        deletes: row.get(2),
    })
}
