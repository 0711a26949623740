//! The net change of a stretch applied with a few statements per table.

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{Client, Statement};
use trunkline_sql::apply_statement as build;
use trunkline_sql::relation::Relation;

use super::catalog::Shape;
use super::error::ApplyError;
use super::prepare::{Step, TableWork};
use super::{Applied, Applier};
use crate::log_row::LogRow;

impl Applier<'_> {
    /// Applies the work of a stretch table by table: the net change where there is one, else its rows in order.
    ///
    /// An error leaves the transaction as it is; the caller goes back to its savepoint.
    pub(super) async fn by_table(&mut self, rows: &[LogRow], tables: Vec<TableWork>) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        for table in tables {
            match table {
                TableWork::Net {
                    relation,
                    steps,
                    expected,
                } => self.net(&relation, steps, expected, &mut applied).await?,
                TableWork::Rows { rows: positions } => {
                    applied.in_order += positions.len() as u64;
                    let own: Vec<&LogRow> = positions.iter().map(|position| &rows[*position]).collect();
                    let counted = self.row_by_row(&own).await?;
                    applied.add_effects(counted);
                }
            }
        }
        Ok(applied)
    }

    async fn net(
        &mut self,
        relation: &Relation,
        steps: Vec<Step>,
        expected: u64,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let node = self.node;
        let mut found = 0;
        for step in steps {
            match step {
                Step::Bulk {
                    shape,
                    command,
                    columns,
                    parameters,
                } => {
                    let refused = |source| refused(relation, command, node, source);
                    let statement = self.bulk_statement(relation, shape, &columns).await.map_err(refused)?;
                    let rows = self
                        .session
                        .execute_raw(&statement, parameters)
                        .await
                        .map_err(refused)?;
                    if shape != Shape::BulkInsert {
                        found += rows;
                    }
                }
                Step::Copy { columns, messages } => {
                    self.copy_in(relation, &columns, messages)
                        .await
                        .map_err(|source| refused(relation, "INSERT", node, source))?;
                }
                Step::Defaults(rows) => {
                    for _ in 0..rows {
                        self.session.batch_execute(&build::insert_row(relation, &[])).await?;
                    }
                }
            }
        }
        if found > expected {
            return Err(ApplyError::Ambiguous {
                table: relation.qualified.clone(),
                node,
            });
        }
        if found < expected {
            applied.missing(&relation.qualified, expected - found);
        }
        Ok(())
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

    async fn copy_in(
        &mut self,
        relation: &Relation,
        columns: &[usize],
        messages: Vec<Bytes>,
    ) -> Result<(), tokio_postgres::Error> {
        let statement = self.bulk_statement(relation, Shape::CopyIn, columns).await?;
        let client: &Client = self.session;
        let mut sink = std::pin::pin!(client.copy_in::<_, Bytes>(&statement).await?);
        for message in messages {
            sink.feed(message).await?;
        }
        sink.finish().await?;
        Ok(())
    }
}

fn refused(relation: &Relation, command: &'static str, node: i32, source: tokio_postgres::Error) -> ApplyError {
    ApplyError::Refused {
        command,
        table: relation.qualified.clone(),
        node,
        source,
    }
}
