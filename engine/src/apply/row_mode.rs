//! Changes applied one by one in the order of the log: always right, whatever watches the order.

use std::sync::Arc;

use tokio_postgres::{Client, Statement};
use trunkline_sql::apply_statement as build;
use trunkline_sql::relation::Relation;
use trunkline_sql::wire::TextValue;

use super::catalog::Shape;
use super::change::{RowReader, Unreadable};
use super::error::ApplyError;
use super::pipeline::Pipeline;
use super::{Applied, Applier};
use crate::log_row::LogRow;

/// What a sent statement was, for messages.
type Sent = (Arc<Relation>, &'static str);

impl Applier<'_> {
    /// Applies the rows (`I`, `U`, `D` only) in order.
    pub(super) async fn row_by_row(&mut self, rows: &[&LogRow]) -> Result<Applied, ApplyError> {
        let node = self.node;
        let client: &Client = self.session;
        let mut applied = Applied::default();
        let mut pipeline: Pipeline<'_, Sent> = Pipeline::new();
        let refused = |((relation, command), source): (Sent, tokio_postgres::Error)| ApplyError::Refused {
            command,
            table: relation.qualified.clone(),
            node,
            source,
        };
        let mut change = RowReader::default();
        for row in rows.iter().copied() {
            let mut relation = self.catalog.relation(row, node)?;
            let mut read = change.read(row, &relation);
            if matches!(read, Err(Unreadable::Column(_))) {
                // The column may have been added since the table was looked at.
                pipeline.drain().await.map_err(refused)?;
                self.catalog.forget_relation(row);
                self.catalog
                    .learn(self.session, self.cluster, std::slice::from_ref(row))
                    .await?;
                relation = self.catalog.relation(row, node)?;
                read = change.read(row, &relation);
            }
            read.map_err(|unreadable| unreadable.into_error(&relation, row, node))?;
            applied.count(change.command);
            let Some((shape, set, key, values)) = plan(&change, &relation) else {
                continue;
            };
            let statement = if let Some(statement) = self.catalog.prepared(&relation, shape, &set, &key) {
                statement
            } else {
                pipeline.drain().await.map_err(refused)?;
                let text = match shape {
                    Shape::InsertRow => build::insert_row(&relation, &set),
                    Shape::UpdateRow => build::update_row(&relation, &set, &key),
                    Shape::ReplaceRow => build::replace_row(&relation, &set, &key),
                    _ => build::delete_row(&relation, &key),
                };
                let statement = client.prepare(&text).await.map_err(|source| ApplyError::Refused {
                    command: change.command_name(),
                    table: relation.qualified.clone(),
                    node,
                    source,
                })?;
                self.catalog.keep(&relation, shape, &set, &key, &statement);
                statement
            };
            let what = (Arc::clone(&relation), change.command_name());
            pipeline
                .send(what, execute(client, statement, values))
                .await
                .map_err(refused)?;
        }
        pipeline.drain().await.map_err(refused)?;
        if let Some((relation, _)) = pipeline.ambiguous {
            return Err(ApplyError::Ambiguous {
                table: relation.qualified.clone(),
                node,
            });
        }
        for (relation, command) in pipeline.without_effect {
            if command != "INSERT" {
                applied.missing(&relation.qualified, 1);
            }
        }
        Ok(applied)
    }
}

async fn execute(
    client: &Client,
    statement: Statement,
    values: Vec<TextValue<'_>>,
) -> Result<u64, tokio_postgres::Error> {
    client.execute_raw(&statement, values).await
}

type Plan<'a> = (Shape, Vec<usize>, Vec<usize>, Vec<TextValue<'a>>);

/// Which statement with which parameters; None where there is nothing to do.
fn plan<'a>(change: &RowReader<'a>, relation: &Relation) -> Option<Plan<'a>> {
    let key = change.key_columns.clone();
    let mut set = change.columns.clone();
    let mut values = change.values.clone();
    let shape = match change.command {
        b'I' => Shape::InsertRow,
        b'U' if change.changes_identity(relation) => Shape::ReplaceRow,
        b'U' => {
            if set.is_empty() {
                // An update that changed nothing matters only to triggers: it sets a column to what it is.
                let writable = |position: &usize| {
                    !relation.columns[*position].generated && !relation.columns[*position].identity_always
                };
                let index = key.iter().position(writable).filter(|_| relation.fires_triggers)?;
                set.push(key[index]);
                values.push(Some(change.key_values[index]));
            }
            Shape::UpdateRow
        }
        _ => Shape::DeleteRow,
    };
    values.extend(change.key_values.iter().map(|value| Some(*value)));
    Some((shape, set, key, values.into_iter().map(TextValue).collect()))
}
