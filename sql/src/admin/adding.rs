//! Many members added to a set at once.

use tokio_postgres::Client;

use super::call::Argument::{Bool, Ids, Int, Texts};
use super::call::Call;
use super::object::{Relation, RelationKind, read_name};
use crate::Cluster;

/// A table or sequence to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// `tab_id` or `seq_id`.
    pub id: i32,
    /// Schema and name as the stored functions read them.
    pub name: String,
    /// Index that identifies a table's rows; None: its primary key.
    pub key: Option<String>,
    /// Comment.
    pub comment: String,
}

/// Whether the node has `tl_addTables`; one that the original made has not.
pub async fn adds_together(client: &Client, cluster: &Cluster) -> Result<bool, tokio_postgres::Error> {
    let signature = format!(
        "{}.tl_addTables(integer, integer[], text[], text[], text[], boolean, integer[], integer[], text[], text[])",
        cluster.namespace()
    );
    client
        .query_one(
            "select pg_catalog.to_regprocedure($1::pg_catalog.text) is not null",
            &[&signature],
        )
        .await?
        .try_get(0)
}

/// `tl_addTables`: emits a `SET_ADD_TABLE` for each, and behind the n-th of them a `SET_ADD_SEQUENCE` for each sequence whose
/// place is n. `wait`: tables that are not free are waited for.
#[must_use]
pub fn add_tables(
    cluster: &Cluster,
    set: i32,
    tables: &[NewMember],
    sequences: &[(i32, NewMember)],
    wait: bool,
) -> Call {
    let keys: Vec<Option<&str>> = tables.iter().map(|table| table.key.as_deref()).collect();
    let places: Vec<i32> = sequences.iter().map(|(place, _)| *place).collect();
    let sequences: Vec<NewMember> = sequences.iter().map(|(_, sequence)| sequence.clone()).collect();
    Call::function(
        cluster,
        "tl_addTables",
        &[
            Int(set.into()),
            Ids(&ids(tables)),
            Texts(&names(tables)),
            Texts(&keys),
            Texts(&comments(tables)),
            Bool(wait),
            Ids(&places),
            Ids(&ids(&sequences)),
            Texts(&names(&sequences)),
            Texts(&comments(&sequences)),
        ],
    )
}

/// `tl_addSequences`: emits a `SET_ADD_SEQUENCE` for each.
#[must_use]
pub fn add_sequences(cluster: &Cluster, set: i32, sequences: &[NewMember]) -> Call {
    Call::function(
        cluster,
        "tl_addSequences",
        &[
            Int(set.into()),
            Ids(&ids(sequences)),
            Texts(&names(sequences)),
            Texts(&comments(sequences)),
        ],
    )
}

fn ids(members: &[NewMember]) -> Vec<i32> {
    members.iter().map(|member| member.id).collect()
}

fn names(members: &[NewMember]) -> Vec<Option<&str>> {
    members.iter().map(|member| Some(member.name.as_str())).collect()
}

fn comments(members: &[NewMember]) -> Vec<Option<&str>> {
    members.iter().map(|member| Some(member.comment.as_str())).collect()
}

/// Which of the tables are partitioned parents, by their names as users write them.
pub async fn partitioned_tables(client: &Client, names: &[String]) -> Result<Vec<String>, tokio_postgres::Error> {
    let (mut written, mut schemas, mut relations) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        if let Some((schema, relation)) = read_name(name) {
            written.push(name.as_str());
            schemas.push(schema);
            relations.push(relation);
        }
    }
    client
        .query(
            "select w.written
               from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]),
                               pg_catalog.unnest($3::pg_catalog.text[])) w (written, schema, name)
               join pg_catalog.pg_namespace n on n.nspname = w.schema
               join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind = 'p'",
            &[&written, &schemas, &relations],
        )
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// The sequences that belong to columns of the tables (`serial`, identity), in the order of the tables and their columns, each
/// with the first part of its table's pair. The second is the table's quoted name.
pub async fn sequences_of_tables(
    client: &Client,
    tables: &[(String, String)],
) -> Result<Vec<(String, Relation)>, tokio_postgres::Error> {
    let (written, quoted): (Vec<&str>, Vec<&str>) = tables
        .iter()
        .map(|(written, quoted)| (written.as_str(), quoted.as_str()))
        .unzip();
    client
        .query(
            "select w.written, sn.nspname::pg_catalog.text, s.relname::pg_catalog.text
               from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
                    with ordinality w (written, quoted, place)
               join pg_catalog.pg_attribute a
                 on a.attrelid = pg_catalog.to_regclass(w.quoted) and a.attnum > 0 and not a.attisdropped
               join pg_catalog.pg_depend d
                 on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = a.attrelid
                and d.refobjsubid = a.attnum and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.deptype in ('a', 'i')
               join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'
               join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
              order by w.place, a.attnum, s.relname",
            &[&written, &quoted],
        )
        .await?
        .iter()
        .map(|row| {
            Ok((
                row.try_get(0)?,
                Relation {
                    schema: row.try_get(1)?,
                    name: row.try_get(2)?,
                    kind: RelationKind::Plain,
                },
            ))
        })
        .collect()
}
