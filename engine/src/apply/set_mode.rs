//! The net change of a stretch applied with a few statements per table.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::{Client, Statement};
use trunkline_sql::apply_statement as build;
use trunkline_sql::relation::{Relation, Transport};
use trunkline_sql::wire::{ArrayBuilder, ArrayKind, Encoded, push_copy_text};

use super::catalog::Shape;
use super::change;
use super::error::ApplyError;
use super::{Applied, Applier};
use crate::fold::{Fold, Key, Net, Values};
use crate::log_row::LogRow;

/// Rows from which on COPY is cheaper than an INSERT from arrays.
const COPY_FROM_ROWS: usize = 50;

/// Most rows of one statement, which bounds its parameters together with the size of a chunk.
const ROWS_PER_STATEMENT: usize = 5_000;

/// Bytes of a COPY message.
const COPY_MESSAGE: usize = 64 * 1024;

impl Applier<'_> {
    /// Applies the rows (`I`, `U`, `D` only): per table the net change where it can be folded, else in order.
    ///
    /// An error leaves the transaction as it is; the caller goes back to its savepoint.
    pub(super) async fn set_based(&mut self, rows: &[LogRow]) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        let mut tables: Vec<(Arc<Relation>, Vec<&LogRow>)> = Vec::new();
        let mut index: HashMap<u32, usize> = HashMap::new();
        for row in rows {
            let relation = self.catalog.relation(row, self.node)?;
            let slot = *index.entry(relation.oid).or_insert_with(|| {
                tables.push((relation, Vec::new()));
                tables.len() - 1
            });
            tables[slot].1.push(row);
        }
        for (relation, rows) in tables {
            match fold(&relation, &rows, &mut applied) {
                Some(net) if !net.moves_collide => self.apply_net(&relation, net, &mut applied).await?,
                _ => {
                    applied.in_order += rows.len() as u64;
                    let counted = self.row_by_row(&rows).await?;
                    applied.add_effects(counted);
                }
            }
        }
        Ok(applied)
    }

    async fn apply_net(&mut self, relation: &Relation, net: Net, applied: &mut Applied) -> Result<(), ApplyError> {
        let expected = net.deletes.len() + net.updates.len();
        let mut found = 0;
        for keys in net.deletes.chunks(ROWS_PER_STATEMENT) {
            let parameters = encode(relation, &relation.key, keys.iter().map(key_values))?;
            found += self.run(relation, Shape::BulkDelete, &[], "DELETE", parameters).await?;
        }
        for (columns, updates) in by_columns(net.updates) {
            for updates in updates.chunks(ROWS_PER_STATEMENT) {
                let all: Vec<usize> = columns.iter().chain(&relation.key).copied().collect();
                let rows = updates
                    .iter()
                    .map(|(key, values)| values.iter().cloned().chain(key_values(key)).collect());
                let parameters = encode(relation, &all, rows)?;
                found += self
                    .run(relation, Shape::BulkUpdate, &columns, "UPDATE", parameters)
                    .await?;
            }
        }
        let inserts = net.inserts.into_iter().map(|values| ((), values)).collect();
        for (columns, rows) in by_columns(inserts) {
            if rows.len() >= COPY_FROM_ROWS && !columns.is_empty() {
                self.copy_rows(relation, &columns, &rows).await?;
            } else if columns.is_empty() {
                // Rows of which every column is computed here.
                for _ in &rows {
                    self.session.batch_execute(&build::insert_row(relation, &[])).await?;
                }
            } else {
                let parameters = encode(relation, &columns, rows.into_iter().map(|((), values)| values))?;
                self.run(relation, Shape::BulkInsert, &columns, "INSERT", parameters)
                    .await?;
            }
        }
        if found > expected as u64 {
            return Err(ApplyError::Ambiguous {
                table: relation.qualified.clone(),
                node: self.node,
            });
        }
        let absent = (expected as u64).saturating_sub(found);
        if absent > 0 {
            applied.missing(&relation.qualified, absent);
        }
        Ok(())
    }

    async fn run(
        &mut self,
        relation: &Relation,
        shape: Shape,
        set: &[usize],
        command: &'static str,
        parameters: Vec<Encoded>,
    ) -> Result<u64, ApplyError> {
        let node = self.node;
        let refused = |source| ApplyError::Refused {
            command,
            table: relation.qualified.clone(),
            node,
            source,
        };
        let statement = self.bulk_statement(relation, shape, set).await.map_err(refused)?;
        self.session.execute_raw(&statement, parameters).await.map_err(refused)
    }

    async fn bulk_statement(
        &mut self,
        relation: &Relation,
        shape: Shape,
        set: &[usize],
    ) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.catalog.prepared(relation, shape, set, &[]) {
            return Ok(statement);
        }
        let text = match shape {
            Shape::BulkDelete => build::bulk_delete(relation),
            Shape::BulkUpdate => build::bulk_update(relation, set),
            Shape::CopyIn => build::copy_in(relation, set),
            _ => build::bulk_insert(relation, set),
        };
        let statement = self.session.prepare(&text).await?;
        self.catalog.keep(relation, shape, set, &[], &statement);
        Ok(statement)
    }

    async fn copy_rows(
        &mut self,
        relation: &Relation,
        columns: &[usize],
        rows: &[((), Vec<Option<Bytes>>)],
    ) -> Result<(), ApplyError> {
        let node = self.node;
        let refused = |source| ApplyError::Refused {
            command: "INSERT",
            table: relation.qualified.clone(),
            node,
            source,
        };
        let statement = self
            .bulk_statement(relation, Shape::CopyIn, columns)
            .await
            .map_err(refused)?;
        let client: &Client = self.session;
        let sink = client.copy_in::<_, Bytes>(&statement).await.map_err(refused)?;
        let mut sink = std::pin::pin!(sink);
        let mut buffer = BytesMut::with_capacity(COPY_MESSAGE + 4096);
        for ((), values) in rows {
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    buffer.put_u8(b'\t');
                }
                push_copy_text(&mut buffer, value.as_deref());
            }
            buffer.put_u8(b'\n');
            if buffer.len() >= COPY_MESSAGE {
                sink.send(buffer.split().freeze()).await.map_err(refused)?;
            }
        }
        if !buffer.is_empty() {
            sink.send(buffer.freeze()).await.map_err(refused)?;
        }
        sink.finish().await.map_err(refused)?;
        Ok(())
    }
}

/// One array parameter per column.
fn encode(
    relation: &Relation,
    columns: &[usize],
    rows: impl Iterator<Item = Vec<Option<Bytes>>>,
) -> Result<Vec<Encoded>, ApplyError> {
    let mut arrays: Vec<ArrayBuilder> = columns
        .iter()
        .map(|position| {
            ArrayBuilder::new(match relation.columns[*position].transport {
                Transport::Int2 => ArrayKind::Int2,
                Transport::Int4 => ArrayKind::Int4,
                Transport::Int8 => ArrayKind::Int8,
                Transport::Text | Transport::Cast => ArrayKind::Text,
                Transport::Literal => ArrayKind::Literal,
            })
        })
        .collect();
    for row in rows {
        for (array, value) in arrays.iter_mut().zip(&row) {
            array.push(value.as_deref()).map_err(|source| ApplyError::Value {
                table: relation.qualified.clone(),
                source,
            })?;
        }
    }
    Ok(arrays.into_iter().map(ArrayBuilder::finish).collect())
}

fn key_values(key: &Key) -> Vec<Option<Bytes>> {
    key.iter().cloned().map(Some).collect()
}

/// Folds the rows of one table; None where that is not possible. Counts what the rows were either way.
fn fold(relation: &Relation, rows: &[&LogRow], applied: &mut Applied) -> Option<Net> {
    for row in rows {
        applied.count(row.command);
    }
    if !relation.is_foldable() {
        return None;
    }
    let mut fold = Fold::default();
    for row in rows {
        let change = change::read(row, relation).ok()?.to_fold(relation)?;
        fold.push(change).ok()?;
    }
    Some(fold.finish())
}

/// Columns, and the rows that have just those, with their values in the columns' order.
type Alike<T> = (Vec<usize>, Vec<(T, Vec<Option<Bytes>>)>);

/// Groups rows that have the same columns; values come out in the columns' order.
fn by_columns<T>(rows: Vec<(T, Values)>) -> Vec<Alike<T>> {
    let mut groups: Vec<Alike<T>> = Vec::new();
    let mut index: HashMap<Vec<usize>, usize> = HashMap::new();
    for (what, mut values) in rows {
        values.sort_unstable_by_key(|(position, _)| *position);
        let columns: Vec<usize> = values.iter().map(|(position, _)| *position).collect();
        let slot = index.get(&columns).copied().unwrap_or_else(|| {
            groups.push((columns.clone(), Vec::new()));
            index.insert(columns, groups.len() - 1);
            groups.len() - 1
        });
        groups[slot]
            .1
            .push((what, values.into_iter().map(|(_, value)| value).collect()));
    }
    groups
}
