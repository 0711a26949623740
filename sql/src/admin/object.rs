//! Tables and sequences of the user, as `set add table` and `set add sequence` look them up.

use tokio_postgres::Client;

use super::call::Argument::{MaybeText, Text};
use super::call::{Call, CallError};
use super::set::pattern_literal;
use crate::{Cluster, quote_ident};

/// What kind of table a pattern met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Holds rows.
    Plain,
    /// A partitioned parent, which holds none itself.
    Partitioned,
}

/// A table or sequence that a pattern met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Plain or partitioned.
    pub kind: RelationKind,
}

/// `schema.name` as the stored functions read it: parts that need it are quoted.
///
/// The functions take an unquoted part as it is written, so quotes are needed only where a part could be misread.
#[must_use]
pub fn written_name(schema: &str, name: &str) -> String {
    let part = |part: &str| {
        let plain = part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
        if plain { part.to_owned() } else { quote_ident(part) }
    };
    format!("{}.{}", part(schema), part(name))
}

/// Tables whose `schema.name` matches the regular expression `pattern`, in the order of that text. System catalogs and
/// cluster schemas are never among them.
pub async fn matching_tables(client: &Client, pattern: &str) -> Result<Vec<Relation>, CallError> {
    matching(client, "'r', 'p'", pattern).await
}

/// Sequences whose `schema.name` matches the regular expression `pattern`.
pub async fn matching_sequences(client: &Client, pattern: &str) -> Result<Vec<Relation>, CallError> {
    matching(client, "'S'", pattern).await
}

async fn matching(client: &Client, kinds: &str, pattern: &str) -> Result<Vec<Relation>, CallError> {
    let call = Call::statement(format!(
        "select n.nspname, c.relname, c.relkind from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ({kinds}) and c.relpersistence <> 't'
            and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
            and not exists (select from pg_catalog.pg_class l where l.relnamespace = n.oid and l.relname = 'sl_event_lock')
            and (n.nspname || '.' || c.relname) ~ {pattern}
          order by (n.nspname || '.' || c.relname) collate \"C\"",
        pattern = pattern_literal(pattern)
    ));
    let rows = call.rows(client).await?;
    Ok(rows
        .iter()
        .map(|row| Relation {
            schema: row.get(0).unwrap_or_default().to_owned(),
            name: row.get(1).unwrap_or_default().to_owned(),
            kind: if row.get(2) == Some("p") {
                RelationKind::Partitioned
            } else {
                RelationKind::Plain
            },
        })
        .collect())
}

/// `determineIdxnameUnique`: name of the index that identifies the rows of a table.
#[must_use]
pub fn row_identity(cluster: &Cluster, table: &str, key: Option<&str>) -> Call {
    Call::function(cluster, "determineIdxnameUnique", &[Text(table), MaybeText(key)])
}

/// The sequences that belong to columns of a table (`serial`, identity), in the order of the columns.
pub async fn serial_sequences(client: &Client, cluster: &Cluster, table: &str) -> Result<Vec<Relation>, CallError> {
    // The name goes through the same quoting as in setAddTable, so both mean the same table.
    let quoted = Call::function(cluster, "slon_quote_input", &[Text(table)]);
    let quoted = quoted.run(client).await?.unwrap_or_default();
    let rows = client
        .query(
            "select sn.nspname::pg_catalog.text, s.relname::pg_catalog.text
               from pg_catalog.pg_attribute a
               join pg_catalog.pg_depend d
                 on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = a.attrelid
                and d.refobjsubid = a.attnum and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.deptype in ('a', 'i')
               join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'
               join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
              where a.attrelid = pg_catalog.to_regclass($1) and a.attnum > 0 and not a.attisdropped
              order by a.attnum, s.relname",
            &[&quoted],
        )
        .await
        .map_err(|source| CallError::of_query("(look up the sequences of the table's columns)", source))?;
    rows.iter()
        .map(|row| {
            Ok(Relation {
                schema: row.try_get(0)?,
                name: row.try_get(1)?,
                kind: RelationKind::Plain,
            })
        })
        .collect::<Result<_, _>>()
        .map_err(|source| CallError::of_query("(look up the sequences of the table's columns)", source))
}

/// Highest table number in use on this node.
pub async fn highest_table_id(client: &Client, cluster: &Cluster) -> Result<i32, tokio_postgres::Error> {
    highest(client, cluster, "tab_id", "sl_table").await
}

/// Highest sequence number in use on this node.
pub async fn highest_sequence_id(client: &Client, cluster: &Cluster) -> Result<i32, tokio_postgres::Error> {
    highest(client, cluster, "seq_id", "sl_sequence").await
}

async fn highest(client: &Client, cluster: &Cluster, column: &str, table: &str) -> Result<i32, tokio_postgres::Error> {
    let sql = format!(
        "select coalesce(max({column}), 0)::pg_catalog.int4 from {}.{table}",
        cluster.namespace()
    );
    client.query_one(&sql, &[]).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_that_could_be_misread_are_quoted() {
        assert_eq!(written_name("public", "t1"), "public.t1");
        assert_eq!(written_name("public", "Odd"), "public.Odd");
        assert_eq!(written_name("my.schema", "a\"b"), "\"my.schema\".\"a\"\"b\"");
        assert_eq!(written_name("public", "Odd Name"), "public.\"Odd Name\"");
    }
}
