//! What is known of the local tables, and the statements prepared for them.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use tokio_postgres::Statement;
use trunkline_sql::relation::{self, Relation};
use trunkline_sql::{Cluster, Session};

use super::error::ApplyError;
use crate::log_row::LogRow;

/// Which statement of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    InsertRow,
    UpdateRow,
    DeleteRow,
    ReplaceRow,
    BulkDelete,
    BulkUpdate,
    BulkInsert,
    CopyIn,
}

/// Schema and table as a log row names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TableName<'a> {
    pub(super) schema: &'a [u8],
    pub(super) table: &'a [u8],
}

impl<'a> TableName<'a> {
    pub(super) fn of(row: &'a LogRow) -> Self {
        Self {
            schema: row.schema(),
            table: row.relation(),
        }
    }

    fn qualified(self) -> String {
        format!(
            "{}.{}",
            trunkline_sql::quote_ident(&String::from_utf8_lossy(self.schema)),
            trunkline_sql::quote_ident(&String::from_utf8_lossy(self.table))
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnedName {
    schema: String,
    table: String,
}

impl OwnedName {
    fn borrowed(&self) -> TableName<'_> {
        TableName {
            schema: self.schema.as_bytes(),
            table: self.table.as_bytes(),
        }
    }
}

impl Hash for OwnedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<OwnedName> for TableName<'_> {
    fn equivalent(&self, key: &OwnedName) -> bool {
        *self == key.borrowed()
    }
}

/// Local tables by name; a snapshot of it travels to where chunks are prepared.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    by_name: HashMap<OwnedName, Arc<Relation>>,
}

impl Tables {
    /// The local table of that name, if it has been looked at.
    pub(super) fn get(&self, name: TableName<'_>) -> Option<&Arc<Relation>> {
        self.by_name.get(&name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct StatementKey {
    table: u32,
    shape: Shape,
    set: Vec<usize>,
    key: Vec<usize>,
}

#[derive(Hash)]
struct StatementName<'a> {
    table: u32,
    shape: Shape,
    set: &'a [usize],
    key: &'a [usize],
}

impl Equivalent<StatementKey> for StatementName<'_> {
    fn equivalent(&self, key: &StatementKey) -> bool {
        self.table == key.table && self.shape == key.shape && *self.set == key.set && *self.key == key.key
    }
}

/// Local tables by name and prepared statements by table and columns; forgotten as a whole when in doubt.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    tables: Arc<Tables>,
    /// Tables known earlier, for comparison when they are met again.
    doubted: HashMap<OwnedName, Arc<Relation>>,
    statements: HashMap<StatementKey, Statement>,
    /// Most prepared statements kept.
    limit: usize,
}

impl Catalog {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// What is known of the tables now.
    pub(super) fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Forgets everything: tables may have been altered.
    pub(super) fn forget(&mut self) {
        self.tables = Arc::default();
        self.doubted.clear();
        self.statements.clear();
    }

    /// Forgets one table, which has been altered since it was looked at.
    pub(super) fn forget_relation(&mut self, row: &LogRow) {
        if let Some(relation) = Arc::make_mut(&mut self.tables).by_name.remove(&TableName::of(row)) {
            self.statements.retain(|name, _| name.table != relation.oid);
        }
    }

    /// Has the tables looked at again when they are met next; statements of those that did not change are kept.
    pub(super) fn doubt(&mut self) {
        self.doubted.extend(Arc::make_mut(&mut self.tables).by_name.drain());
    }

    /// Looks up the tables of the rows that are not known yet, all in one query.
    pub(super) async fn learn(
        &mut self,
        session: &Session,
        cluster: &Cluster,
        rows: &[LogRow],
    ) -> Result<(), ApplyError> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        let mut seen: HashSet<TableName<'_>> = HashSet::new();
        let mut last: Option<TableName<'_>> = None;
        for row in rows.iter().filter(|row| row.table.is_some()) {
            let name = TableName::of(row);
            if last == Some(name) {
                continue;
            }
            last = Some(name);
            if self.tables.get(name).is_none() && seen.insert(name) {
                names.push(text_of(name, row)?);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        let found = relation::describe(session, cluster, session.server_version(), &names).await?;
        let tables = Arc::make_mut(&mut self.tables);
        for ((schema, table), relation) in found {
            let name = OwnedName { schema, table };
            let relation = match self.doubted.remove(&name) {
                // The same table as before stays the same object: what was prepared with it is still good.
                Some(before) if *before == relation => before,
                Some(before) => {
                    self.statements.retain(|name, _| name.table != before.oid);
                    Arc::new(relation)
                }
                None => Arc::new(relation),
            };
            tables.by_name.insert(name, relation);
        }
        Ok(())
    }

    /// The local table of a row.
    pub(super) fn relation(&self, row: &LogRow, node: i32) -> Result<Arc<Relation>, ApplyError> {
        let name = TableName::of(row);
        self.tables.get(name).cloned().ok_or_else(|| ApplyError::MissingTable {
            table: name.qualified(),
            node,
        })
    }

    /// A prepared statement, if there is one.
    pub(super) fn prepared(
        &self,
        relation: &Relation,
        shape: Shape,
        set: &[usize],
        key: &[usize],
    ) -> Option<Statement> {
        let name = StatementName {
            table: relation.oid,
            shape,
            set,
            key,
        };
        self.statements.get(&name).cloned()
    }

    pub(super) fn keep(
        &mut self,
        relation: &Relation,
        shape: Shape,
        set: &[usize],
        key: &[usize],
        statement: &Statement,
    ) {
        if self.statements.len() >= self.limit {
            self.statements.clear();
        }
        let name = StatementKey {
            table: relation.oid,
            shape,
            set: set.to_vec(),
            key: key.to_vec(),
        };
        self.statements.insert(name, statement.clone());
    }
}

fn text_of<'a>(name: TableName<'a>, row: &LogRow) -> Result<(&'a str, &'a str), ApplyError> {
    std::str::from_utf8(name.schema)
        .ok()
        .zip(std::str::from_utf8(name.table).ok())
        .ok_or_else(|| ApplyError::Malformed {
            table: format!("with id {}", row.table.unwrap_or(-1)),
            action: row.action,
            what: "the table's name is not UTF-8",
        })
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn borrowed_names_are_found_under_owned_ones() {
        let owned = StatementKey {
            table: 7,
            shape: Shape::BulkUpdate,
            set: vec![1, 2],
            key: vec![0],
        };
        let borrowed = StatementName {
            table: 7,
            shape: Shape::BulkUpdate,
            set: &[1, 2],
            key: &[0],
        };
        let hasher = hashbrown::DefaultHashBuilder::default();
        assert!(borrowed.equivalent(&owned));
        assert_eq!(hasher.hash_one(&owned), hasher.hash_one(&borrowed));
        let owned = OwnedName {
            schema: "s".to_owned(),
            table: "t".to_owned(),
        };
        assert!(owned.borrowed().equivalent(&owned));
        assert_eq!(hasher.hash_one(&owned), hasher.hash_one(owned.borrowed()));
    }
}
