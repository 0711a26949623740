//! A copy that goes table by table, each committed by itself: what of it is done.

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::Cluster;
use crate::copy::{SetSequence, SetTable};

/// Whether exactly these tables and sequences are known here as the set's.
///
/// # Errors
/// Any database error.
pub async fn is_registered(
    local: &Client,
    cluster: &Cluster,
    set: i32,
    tables: &[SetTable],
    sequences: &[SetSequence],
) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select tab_id, n.nspname::text, c.relname::text, tab_idxname::text
           from @NAMESPACE@.sl_table
           join pg_catalog.pg_class c on c.oid = tab_reloid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where tab_set = $1 order by tab_id",
    );
    let known = local.query(&sql, &[&set]).await?;
    if known.len() != tables.len() {
        return Ok(false);
    }
    for (row, table) in known.iter().zip(tables) {
        let (id, schema, name, index): (i32, String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        if (id, &schema, &name, &index) != (table.id, &table.schema, &table.name, &table.index) {
            return Ok(false);
        }
    }
    let sql = cluster.sql(
        "select seq_id, n.nspname::text, c.relname::text
           from @NAMESPACE@.sl_sequence
           join pg_catalog.pg_class c on c.oid = seq_reloid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where seq_set = $1 order by seq_id",
    );
    let known = local.query(&sql, &[&set]).await?;
    if known.len() != sequences.len() {
        return Ok(false);
    }
    for (row, sequence) in known.iter().zip(sequences) {
        let (id, schema, name): (i32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if (id, &schema, &name) != (sequence.id, &sequence.schema, &sequence.name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tables of the set that an attempt has copied, by their numbers. A table that was made anew since is none of them.
///
/// # Errors
/// Any database error.
pub async fn copied(local: &Client, cluster: &Cluster, set: i32) -> Result<HashSet<i32>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select co_tab_id from @NAMESPACE@.tl_copied join @NAMESPACE@.sl_table on tab_id = co_tab_id and tab_reloid = co_reloid
          where co_set = $1",
    );
    local
        .query(&sql, &[&set])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Notes that tables are copied, in the running transaction, which holds what was copied.
///
/// # Errors
/// Any database error.
pub async fn note_copied(
    local: &Client,
    cluster: &Cluster,
    set: i32,
    tables: &[i32],
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.tl_copied as c (co_set, co_tab_id, co_reloid, co_at)
         select $1, tab_id, tab_reloid, pg_catalog.now() from @NAMESPACE@.sl_table where tab_id = any ($2)
         on conflict (co_tab_id) do update set co_set = excluded.co_set, co_reloid = excluded.co_reloid, co_at = excluded.co_at",
    );
    local.execute(&sql, &[&set, &tables]).await?;
    Ok(())
}

/// The copy is done, or is to begin anew: nothing is to be remembered of it. In the running transaction.
///
/// # Errors
/// Any database error.
pub async fn forget_copied(local: &Client, cluster: &Cluster, set: i32) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("delete from @NAMESPACE@.tl_copied where co_set = $1");
    local.execute(&sql, &[&set]).await?;
    Ok(())
}

/// What is known here of the set's tables and sequences goes, triggers included, in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn unregister(local: &Client, cluster: &Cluster, set: i32) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.tl_forgetSetObjects($1)");
    local.execute(&sql, &[&set]).await?;
    Ok(())
}

/// The provider's snapshot, for other sessions to read in.
///
/// # Errors
/// Any database error.
pub async fn export_snapshot(provider: &Client) -> Result<String, tokio_postgres::Error> {
    provider
        .query_one("select pg_catalog.pg_export_snapshot()", &[])
        .await?
        .try_get(0)
}

/// Begins to read in a snapshot that another session has exported.
///
/// # Errors
/// Any database error.
pub async fn begin_in_snapshot(provider: &Client, snapshot: &str) -> Result<(), tokio_postgres::Error> {
    let snapshot = crate::quote_literal(snapshot);
    provider
        .batch_execute(&format!(
            "begin transaction isolation level repeatable read read only; set transaction snapshot {snapshot};
             set local search_path to pg_catalog"
        ))
        .await
}
