//! Large tables are compared slice by slice: ranges of the key, each within a snapshot of its own.

use super::TableShape;
use crate::{quote_ident, quote_literal};

/// Bytes a slice should have.
const SLICE_BYTES: i64 = 128 * 1024 * 1024;
/// From this correlation on reading a range of the key reads neighbouring pages.
const ORDERLY: f32 = 0.9;

/// A range of the key: more than `after`, up to and with `up_to`.
///
/// The rows of all slices are the table, on either side: whatever order a server's collation makes of the bounds, a
/// row is more than one bound and not more than the next, because each is either or.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    condition: Option<String>,
}

impl Slice {
    /// The slice between two keys as text; None is the end of the table.
    #[must_use]
    pub fn between(shape: &TableShape, after: Option<&[String]>, up_to: Option<&[String]>) -> Self {
        let bound = |operator: &str, key: &[String]| {
            let names: Vec<String> = shape.key_names().map(quote_ident).collect();
            let values: Vec<String> = shape
                .key
                .iter()
                .zip(key)
                .map(|(position, value)| format!("{}::{}", quote_literal(value), shape.columns[*position].type_name))
                .collect();
            if values.len() == 1 {
                format!("{} {operator} {}", names[0], values[0])
            } else {
                format!("({}) {operator} ({})", names.join(", "), values.join(", "))
            }
        };
        let conditions: Vec<String> = after
            .map(|key| bound(">", key))
            .into_iter()
            .chain(up_to.map(|key| bound("<=", key)))
            .collect();
        Self {
            condition: (!conditions.is_empty()).then(|| conditions.join(" and ")),
        }
    }

    /// The range as a condition; None: all rows.
    #[must_use]
    pub fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }
}

/// How many rows to take at a time; None: the whole table at once, because it is small, or because reading it in the
/// order of its key would read its pages again and again.
#[must_use]
pub fn rows_per_slice(shape: &TableShape) -> Option<i64> {
    let orderly = shape
        .correlation
        .is_some_and(|correlation| correlation.abs() >= ORDERLY);
    if shape.bytes <= SLICE_BYTES * 3 / 2 || !shape.walkable || !orderly || shape.rows < 1.0 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    let rows = (f64::from(shape.rows) * (SLICE_BYTES as f64) / (shape.bytes as f64)) as i64;
    Some(rows.max(1))
}

impl TableShape {
    /// The key of the row that is `rows` rows after `after`: one row of text, or none if the table ends before.
    #[must_use]
    pub fn next_bound_statement(&self, after: Option<&[String]>, rows: i64) -> String {
        let names: Vec<String> = self.key_names().map(quote_ident).collect();
        let texts: Vec<String> = names.iter().map(|name| format!("pg_catalog.concat({name})")).collect();
        let slice = Slice::between(self, after, None);
        let filter = slice.condition().map(|c| format!(" where {c}")).unwrap_or_default();
        format!(
            "select array[{}]::pg_catalog.text[] from only {}{filter} order by {} offset {} limit 1",
            texts.join(", "),
            self.qualified(),
            names.join(", "),
            (rows - 1).max(0)
        )
    }
}
