//! Secondary indexes during the first copy: set aside before the data, built after them.
//!
//! An index that takes each row of a copy in the order it comes in costs several times its later making, and far more once it
//! no longer fits into memory. So indexes that only make queries fast are dropped and made again in the transaction of
//! the copy, which holds the table alone anyway: whatever happens, either the table is as it was, or all is there.
//!
//! Left alone is whatever an index made anew would not bring back, or could not be made by this role: indexes that guard
//! uniqueness, exclusion or a constraint, those of partitioned tables, of extensions, those that others depend on, that the table
//! is clustered or identified by, that have a tablespace or statistics targets of their own, and all of tables of
//! other owners.

use tokio_postgres::Client;

use crate::copy::SetTable;
use crate::{Cluster, quote_ident, quote_literal};

/// An index that was set aside: how to make it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSetAside {
    /// Quoted `schema.name`.
    name: String,
    definition: String,
    comment: Option<String>,
}

impl IndexSetAside {
    /// Quoted `schema.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The statement that makes it, with its comment.
    #[must_use]
    pub fn definition(&self) -> String {
        let comment = self.comment.as_ref().map_or(String::new(), |comment| {
            format!("; comment on index {} is {}", self.name, quote_literal(comment))
        });
        format!("{}{comment}", self.definition)
    }
}

/// Drops what may be built after the data, in the running transaction, which holds the table alone.
///
/// # Errors
/// Any database error.
pub async fn set_aside(local: &Client, table: &SetTable) -> Result<Vec<IndexSetAside>, tokio_postgres::Error> {
    let sql = "select n.nspname::text, x.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid),
                      pg_catalog.obj_description(i.indexrelid, 'pg_class')
                 from pg_catalog.pg_index i
                 join pg_catalog.pg_class x on x.oid = i.indexrelid
                 join pg_catalog.pg_class c on c.oid = i.indrelid
                 join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                where i.indrelid = pg_catalog.to_regclass($1::text) and x.relname <> $2
                  and i.indisvalid and i.indisready and x.reltablespace = 0
                  and not (i.indisprimary or i.indisunique or i.indisexclusion or i.indisclustered or i.indisreplident)
                  and not exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid)
                  and not exists (select from pg_catalog.pg_inherits h where h.inhrelid = i.indexrelid)
                  and not exists (select from pg_catalog.pg_depend d
                                   where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                     and d.objid = i.indexrelid and d.deptype in ('e', 'x'))
                  and not exists (select from pg_catalog.pg_depend d
                                   where d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                     and d.refobjid = i.indexrelid)
                  and not exists (select from pg_catalog.pg_attribute a
                                   where a.attrelid = i.indexrelid and coalesce(a.attstattarget, -1) >= 0)
                  and pg_catalog.pg_has_role(c.relowner, 'USAGE')
                  and pg_catalog.has_schema_privilege(n.oid, 'CREATE')
                order by x.relname";
    let mut set_aside = Vec::new();
    for row in local.query(sql, &[&table.qualified(), &table.index]).await? {
        let (schema, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        set_aside.push(IndexSetAside {
            name: format!("{}.{}", quote_ident(schema), quote_ident(name)),
            definition: row.try_get(2)?,
            comment: row.try_get(3)?,
        });
    }
    if !set_aside.is_empty() {
        let names: Vec<&str> = set_aside.iter().map(IndexSetAside::name).collect();
        local.batch_execute(&format!("drop index {}", names.join(", "))).await?;
    }
    Ok(set_aside)
}

/// Makes an index again, in the same transaction, which goes on where it was if that fails: the answer is then why.
///
/// # Errors
/// The transaction is lost.
pub async fn build(
    local: &Client,
    index: &IndexSetAside,
) -> Result<Result<(), tokio_postgres::Error>, tokio_postgres::Error> {
    let mut built = Ok(());
    local.batch_execute("savepoint build_index").await?;
    // Workers need shared memory, which may be what is missing.
    let alone = "; select pg_catalog.set_config(name, '0', true) from pg_catalog.pg_settings \
                 where name = 'max_parallel_maintenance_workers'";
    for workers in ["", alone] {
        let sql = format!("set local default_tablespace to ''{workers}; {}", index.definition());
        built = local.batch_execute(&sql).await;
        if built.is_ok() {
            break;
        }
        local.batch_execute("rollback to savepoint build_index").await?;
    }
    local.batch_execute("release savepoint build_index").await?;
    Ok(built)
}

/// Notes that an index is missing, in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn note_missing(
    local: &Client,
    cluster: &Cluster,
    table: &str,
    index: &IndexSetAside,
    reason: &str,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.tl_missing_index (mi_index, mi_table, mi_definition, mi_reason, mi_at)
         values ($1, $2, $3, $4, pg_catalog.now())
             on conflict (mi_index) do update
            set mi_table = excluded.mi_table, mi_definition = excluded.mi_definition, mi_reason = excluded.mi_reason,
                mi_at = excluded.mi_at",
    );
    local
        .execute(&sql, &[&index.name, &table, &index.definition(), &reason])
        .await?;
    Ok(())
}

/// Statistics of a table whose rows have just come in, in the running transaction, which goes on if that fails: the answer is then why.
///
/// # Errors
/// The transaction is lost.
pub async fn analyze(
    local: &Client,
    tables: &[String],
) -> Result<Result<(), tokio_postgres::Error>, tokio_postgres::Error> {
    let statements: Vec<String> = tables.iter().map(|table| format!("analyze {table}")).collect();
    let sql = format!("savepoint statistics; {}", statements.join("; "));
    let done = local.batch_execute(&sql).await;
    if done.is_err() {
        local.batch_execute("rollback to savepoint statistics").await?;
    }
    local.batch_execute("release savepoint statistics").await?;
    Ok(done)
}
