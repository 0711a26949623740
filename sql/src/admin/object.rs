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
    Call::function(cluster, "determineIdxnameUnique", &[Text(table), MaybeText(key)]).asking()
}

/// The sequences that belong to columns of a table (`serial`, identity), in the order of the columns.
pub async fn serial_sequences(client: &Client, cluster: &Cluster, table: &str) -> Result<Vec<Relation>, CallError> {
    // The name goes through the same quoting as in setAddTable, so both mean the same table.
    let quoted = Call::function(cluster, "slon_quote_input", &[Text(table)]);
    let quoted = quoted.run(client).await?.unwrap_or_default();
    sequences_of_table(client, &quoted).await
}

/// The same for a table whose name is quoted already.
pub async fn sequences_of_table(client: &Client, quoted: &str) -> Result<Vec<Relation>, CallError> {
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

/// Schema and name of a relation as users write it: what is not in double quotes is taken as it stands, as the stored
/// functions do. None: there is no schema in it.
#[must_use]
pub fn read_name(written: &str) -> Option<(String, String)> {
    let (schema, rest) = match written.strip_prefix('"') {
        Some(quoted) => {
            let end = end_of_quoted(quoted)?;
            (
                quoted[..end].replace("\"\"", "\""),
                quoted[end + 1..].strip_prefix('.')?,
            )
        }
        None => written
            .split_once('.')
            .map(|(schema, rest)| (schema.to_owned(), rest))?,
    };
    let inner = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some((
        schema,
        inner.map_or_else(|| rest.to_owned(), |inner| inner.replace("\"\"", "\"")),
    ))
}

/// Where the closing quote stands; a doubled one goes on.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text.get(at..)?.find('"')?;
        if text[at + 1..].starts_with('"') {
            at += 2;
        } else {
            return Some(at);
        }
    }
}

/// A relation of the user as the catalogs describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationFacts {
    /// `r` table, `p` partitioned table, `S` sequence, `v` view …
    pub kind: String,
    /// Its indexes that could identify a row: unique, not partial, without expressions.
    pub keys: Vec<KeyFacts>,
}

/// An index that could identify a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its name.
    pub name: String,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Its columns that may be null, which forbids it.
    pub nullable: Vec<String>,
}

/// Looks a relation up in the catalogs, without the cluster schema. None: there is no such relation.
pub async fn relation_facts(
    client: &Client,
    schema: &str,
    name: &str,
) -> Result<Option<RelationFacts>, tokio_postgres::Error> {
    let rows = client
        .query(
            "select c.relkind::pg_catalog.text, x.relname::pg_catalog.text, i.indisprimary,
                    array(select a.attname::pg_catalog.text from pg_catalog.pg_attribute a
                           where a.attrelid = c.oid and a.attnum = any (i.indkey) and not a.attnotnull
                           order by a.attnum)
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               left join pg_catalog.pg_index i
                 on i.indrelid = c.oid and i.indisunique and i.indpred is null and i.indexprs is null
               left join pg_catalog.pg_class x on x.oid = i.indexrelid
              where n.nspname = $1 and c.relname = $2
              order by i.indisprimary desc nulls last, x.relname",
            &[&schema, &name],
        )
        .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut facts = RelationFacts {
        kind: first.try_get(0)?,
        keys: Vec::new(),
    };
    for row in &rows {
        if let Some(name) = row.try_get(1)? {
            facts.keys.push(KeyFacts {
                name,
                primary: row.try_get(2)?,
                nullable: row.try_get(3)?,
            });
        }
    }
    Ok(Some(facts))
}

/// Which of the relations (schema, name) do not exist here.
pub async fn missing_relations(
    client: &Client,
    relations: &[(String, String)],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = relations
        .iter()
        .map(|(schema, name)| (schema.as_str(), name.as_str()))
        .unzip();
    client
        .query(
            "select w.schema || '.' || w.name
               from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) w (schema, name)
              where not exists (select from pg_catalog.pg_class c
                                  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                                 where n.nspname = w.schema and c.relname = w.name)
              order by 1",
            &[&schemas, &names],
        )
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Highest table number in use on this node.
pub async fn highest_table_id(client: &Client, cluster: &Cluster) -> Result<i32, tokio_postgres::Error> {
    highest(client, cluster, "tab_id", "sl_table", super::FIRST_PARTITION).await
}

/// Highest sequence number in use on this node.
pub async fn highest_sequence_id(client: &Client, cluster: &Cluster) -> Result<i32, tokio_postgres::Error> {
    highest(client, cluster, "seq_id", "sl_sequence", i32::MAX).await
}

async fn highest(
    client: &Client,
    cluster: &Cluster,
    column: &str,
    table: &str,
    below: i32,
) -> Result<i32, tokio_postgres::Error> {
    let sql = format!(
        "select coalesce(max({column}), 0)::pg_catalog.int4 from {}.{table} where {column} < {below}",
        cluster.namespace()
    );
    client.query_one(&sql, &[]).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_stored_functions_read_them() {
        let read = |text| read_name(text).map(|(schema, name)| format!("{schema}|{name}"));
        assert_eq!(read("public.Item").as_deref(), Some("public|Item"));
        assert_eq!(read("public.\"A b\"").as_deref(), Some("public|A b"));
        assert_eq!(read("\"my.sch\"\"ema\".a.b").as_deref(), Some("my.sch\"ema|a.b"));
        assert_eq!(read("item"), None);
        assert_eq!(read("\"open"), None);
    }

    #[test]
    fn only_parts_that_could_be_misread_are_quoted() {
        assert_eq!(written_name("public", "t1"), "public.t1");
        assert_eq!(written_name("public", "Odd"), "public.Odd");
        assert_eq!(written_name("my.schema", "a\"b"), "\"my.schema\".\"a\"\"b\"");
        assert_eq!(written_name("public", "Odd Name"), "public.\"Odd Name\"");
    }
}
