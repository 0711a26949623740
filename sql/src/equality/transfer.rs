//! Making the rows of given keys equal: delete them on the target, copy them from the source.

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::Client;

use super::{KeyDifference, Side, TableShape};
use crate::{quote_ident, quote_literal};

/// Keys per statement.
const KEYS_PER_STATEMENT: usize = 500;

/// Which side refused a transfer.
#[derive(Debug)]
pub(super) enum TransferError {
    /// The node the rows come from.
    Source(tokio_postgres::Error),
    /// The node they go to.
    Target(tokio_postgres::Error),
}

/// What a transfer moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Rows deleted on the target.
    pub deleted: u64,
    /// Rows inserted on the target.
    pub inserted: u64,
    /// Their bytes as they travelled.
    pub bytes: u64,
}

/// Texts of the key's columns as an array; `order` says which columns and in which order: the source's.
pub(super) fn key_texts(shape: &TableShape, order: &TableShape) -> String {
    let texts: Vec<String> = order
        .key_names()
        .filter(|name| shape.column(name).is_some())
        .map(|name| format!("pg_catalog.concat({})", quote_ident(name)))
        .collect();
    format!("array[{}]::pg_catalog.text[]", texts.join(", "))
}

/// The named keys as a relation, and the condition that joins them to table `t`: `(unnest(…) as tl_keys (…), t.k = …)`.
///
/// (`unnest` of several arrays is syntax, not a function, and takes no schema.)
///
/// Keys are texts in the order of `order`'s key; they are read by the input function of this side's type.
fn keys_relation(shape: &TableShape, order: &TableShape, keys: &[&[String]]) -> (String, String) {
    let mut arrays = Vec::new();
    let mut names = Vec::new();
    let mut conditions = Vec::new();
    for (at, name) in order.key_names().enumerate() {
        let Some(column) = shape.column(name) else { continue };
        let values: Vec<String> = keys
            .iter()
            .filter_map(|key| key.get(at))
            .map(|value| quote_literal(value))
            .collect();
        arrays.push(format!("array[{}]::pg_catalog.text[]", values.join(", ")));
        names.push(format!("tl_key_{at}"));
        conditions.push(format!(
            "t.{} {} tl_keys.tl_key_{at}::{}",
            quote_ident(name),
            column.equals.as_deref().unwrap_or("="),
            column.type_name
        ));
    }
    (
        format!("unnest({}) as tl_keys ({})", arrays.join(", "), names.join(", ")),
        conditions.join(" and "),
    )
}

/// `unnest(…) as tl_keys (…), only table as t where key of t = …`: the rows of the keys, as table `t`.
pub(super) fn rows_of_keys(shape: &TableShape, order: &TableShape, keys: &[&[String]]) -> String {
    let (relation, condition) = keys_relation(shape, order, keys);
    format!("{relation}, only {} as t where {condition}", shape.qualified())
}

/// Statements that find rows by key must use the index, however wrong the planner's guesses after a load are.
pub(super) const BY_INDEX: &str =
    "set local enable_seqscan to off; set local enable_hashjoin to off; set local enable_mergejoin to off";
/// The settings before.
pub(super) const AS_BEFORE: &str = "set local enable_seqscan to default; set local enable_hashjoin to default; \
     set local enable_mergejoin to default";

/// Makes the target's rows of the keys equal to the source's, in the running transactions of both.
///
/// What the target has of them goes first, so that no other unique value stands in the way of what comes.
///
/// # Errors
/// `Err(TransferError)` names the side whose database refused something.
pub(super) async fn equalize(
    (source, source_shape): (&Client, &TableShape),
    (target, target_shape): (&Client, &TableShape),
    differences: &[KeyDifference],
) -> Result<Transferred, TransferError> {
    let keys_of = |but: Side| -> Vec<&[String]> {
        differences
            .iter()
            .filter(|difference| difference.side != but)
            .map(|difference| difference.key.as_slice())
            .collect()
    };
    target.batch_execute(BY_INDEX).await.map_err(TransferError::Target)?;
    let mut transferred = Transferred::default();
    for part in keys_of(Side::SourceOnly).chunks(KEYS_PER_STATEMENT) {
        let (keys, condition) = keys_relation(target_shape, source_shape, part);
        let sql = format!(
            "delete from only {} as t using {keys} where {condition}",
            target_shape.qualified()
        );
        transferred.deleted += target.execute(&sql, &[]).await.map_err(TransferError::Target)?;
    }
    source.batch_execute(BY_INDEX).await.map_err(TransferError::Source)?;
    let columns: Vec<String> = source_shape
        .columns
        .iter()
        .filter(|column| target_shape.column(&column.name).is_some_and(|there| !there.generated))
        .map(|column| quote_ident(&column.name))
        .collect();
    let columns = columns.join(", ");
    for part in keys_of(Side::TargetOnly).chunks(KEYS_PER_STATEMENT) {
        let select = format!(
            "copy (select {columns} from {}) to stdout",
            rows_of_keys(source_shape, source_shape, part)
        );
        let rows = source.copy_out(&select).await.map_err(TransferError::Source)?;
        let mut rows = std::pin::pin!(rows);
        let sink = target
            .copy_in::<_, Bytes>(&format!("copy {} ({columns}) from stdin", target_shape.qualified()))
            .await
            .map_err(TransferError::Target)?;
        let mut sink = std::pin::pin!(sink);
        while let Some(message) = rows.try_next().await.map_err(TransferError::Source)? {
            transferred.bytes += message.len() as u64;
            sink.send(message).await.map_err(TransferError::Target)?;
        }
        transferred.inserted += sink.finish().await.map_err(TransferError::Target)?;
    }
    source.batch_execute(AS_BEFORE).await.map_err(TransferError::Source)?;
    target.batch_execute(AS_BEFORE).await.map_err(TransferError::Target)?;
    Ok(transferred)
}
