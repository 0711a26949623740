//! What is known of the local tables, and the statements prepared for them.

use std::collections::HashMap;
use std::sync::Arc;

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

type StatementKey = (u32, Shape, Vec<usize>, Vec<usize>);

/// Local tables by name and prepared statements by table and columns; forgotten as a whole when in doubt.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    relations: HashMap<(String, String), Arc<Relation>>,
    /// Tables known earlier, for comparison when they are met again.
    doubted: HashMap<(String, String), Arc<Relation>>,
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

    /// Forgets everything: tables may have been altered.
    pub(super) fn forget(&mut self) {
        self.relations.clear();
        self.doubted.clear();
        self.statements.clear();
    }

    /// Forgets one table, which has been altered since it was looked at.
    pub(super) fn forget_relation(&mut self, row: &LogRow) -> Result<(), ApplyError> {
        let (schema, table) = names_of(row)?;
        if let Some(relation) = self.relations.remove(&(schema.to_owned(), table.to_owned())) {
            self.statements.retain(|(oid, ..), _| *oid != relation.oid);
        }
        Ok(())
    }

    /// Has the tables looked at again when they are met next; statements of those that did not change are kept.
    pub(super) fn doubt(&mut self) {
        self.doubted.extend(self.relations.drain());
    }

    /// Looks up the tables of the rows that are not known yet, all in one query.
    pub(super) async fn learn(
        &mut self,
        session: &Session,
        cluster: &Cluster,
        rows: &[LogRow],
    ) -> Result<(), ApplyError> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        let mut last: Option<(&[u8], &[u8])> = None;
        for row in rows.iter().filter(|row| row.table.is_some()) {
            let pair = (row.schema.as_ref(), row.relation.as_ref());
            if last == Some(pair) {
                continue;
            }
            last = Some(pair);
            let name = names_of(row)?;
            if !names.contains(&name) && self.find(name).is_none() {
                names.push(name);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        let found = relation::describe(session, cluster, session.server_version(), &names).await?;
        for (name, relation) in found {
            if let Some(before) = self.doubted.remove(&name).filter(|before| **before != relation) {
                self.statements.retain(|(oid, ..), _| *oid != before.oid);
            }
            self.relations.insert(name, Arc::new(relation));
        }
        Ok(())
    }

    fn find(&self, (schema, table): (&str, &str)) -> Option<&Arc<Relation>> {
        self.relations.get(&(schema.to_owned(), table.to_owned()))
    }

    /// The local table of a row.
    pub(super) fn relation(&self, row: &LogRow, node: i32) -> Result<Arc<Relation>, ApplyError> {
        let name = names_of(row)?;
        self.find(name).cloned().ok_or_else(|| ApplyError::MissingTable {
            table: qualified(name),
            node,
        })
    }

    /// A prepared statement, prepared now if need be. No other statement may be without its answer meanwhile.
    pub(super) fn prepared(
        &self,
        relation: &Relation,
        shape: Shape,
        set: &[usize],
        key: &[usize],
    ) -> Option<Statement> {
        self.statements
            .get(&(relation.oid, shape, set.to_vec(), key.to_vec()))
            .cloned()
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
        self.statements
            .insert((relation.oid, shape, set.to_vec(), key.to_vec()), statement.clone());
    }
}

fn names_of(row: &LogRow) -> Result<(&str, &str), ApplyError> {
    std::str::from_utf8(&row.schema)
        .ok()
        .zip(std::str::from_utf8(&row.relation).ok())
        .ok_or_else(|| ApplyError::Malformed {
            table: format!("with id {}", row.table.unwrap_or(-1)),
            action: row.action,
            what: "the table's name is not UTF-8",
        })
}

/// `"schema"."name"`.
pub(super) fn qualified((schema, table): (&str, &str)) -> String {
    format!(
        "{}.{}",
        trunkline_sql::quote_ident(schema),
        trunkline_sql::quote_ident(table)
    )
}
