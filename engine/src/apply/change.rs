//! Reading a log row as a change of a local table.

use bytes::Bytes;
use trunkline_sql::relation::Relation;

use super::error::ApplyError;
use crate::fold::{Change, Key, Values};
use crate::log_row::LogRow;

/// A log row in terms of the local table's columns.
#[derive(Debug)]
pub(super) struct RowChange {
    /// `log_cmdtype`: `I`, `U` or `D`.
    pub(super) command: u8,
    /// Columns to write; those the server computes are left out.
    pub(super) values: Values,
    /// Identifying columns and their old values (`U`, `D`).
    pub(super) key: Values,
}

impl RowChange {
    pub(super) fn command_name(&self) -> &'static str {
        match self.command {
            b'I' => "INSERT",
            b'U' => "UPDATE",
            _ => "DELETE",
        }
    }

    /// Whether the change writes an `identity always` column of an existing row, which an UPDATE may not.
    pub(super) fn changes_identity(&self, relation: &Relation) -> bool {
        self.command == b'U'
            && self
                .values
                .iter()
                .any(|(position, _)| relation.columns[*position].identity_always)
    }

    /// The change for folding; None where the row cannot be identified by the local key.
    pub(super) fn to_fold(&self, relation: &Relation) -> Option<Change> {
        match self.command {
            b'I' => Some(Change::Insert {
                key: pick(&relation.key, &self.values)?,
                values: self.values.clone(),
            }),
            _ if self.key.len() != relation.key.len() || self.changes_identity(relation) => None,
            b'U' => {
                let key = pick(&relation.key, &self.key)?;
                let mut after = key.clone();
                for (slot, position) in after.iter_mut().zip(&relation.key) {
                    if let Some((_, value)) = self.values.iter().find(|(column, _)| column == position) {
                        *slot = value.clone()?;
                    }
                }
                let moved_to = (after != key).then_some(after);
                Some(Change::Update {
                    key,
                    moved_to,
                    values: self.values.clone(),
                })
            }
            _ => Some(Change::Delete {
                key: pick(&relation.key, &self.key)?,
            }),
        }
    }
}

/// The values of the key columns, none of them null.
fn pick(key: &[usize], values: &Values) -> Option<Key> {
    key.iter()
        .map(|position| {
            values
                .iter()
                .find(|(column, _)| column == position)
                .and_then(|(_, value)| value.clone())
        })
        .collect::<Option<Vec<Bytes>>>()
        .map(Vec::into_boxed_slice)
}

/// Why a row could not be read with what is known of the table.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// A column that is not known (yet).
    Column(String),
    /// Nothing that looking at the catalog again could mend.
    Malformed(&'static str),
}

impl Unreadable {
    pub(super) fn into_error(self, relation: &Relation, row: &LogRow, node: i32) -> ApplyError {
        let table = relation.qualified.clone();
        match self {
            Self::Column(column) => ApplyError::MissingColumn { table, column, node },
            Self::Malformed(what) => ApplyError::Malformed {
                table,
                action: row.action,
                what,
            },
        }
    }
}

/// Reads an `I`, `U` or `D` row.
pub(super) fn read(row: &LogRow, relation: &Relation) -> Result<RowChange, Unreadable> {
    if !row.arguments.len().is_multiple_of(2) {
        return Err(Unreadable::Malformed("log_cmdargs does not consist of pairs"));
    }
    let values_end = match row.command {
        b'I' => row.arguments.len(),
        b'U' if row.changed * 2 <= row.arguments.len() => row.changed * 2,
        b'U' => {
            return Err(Unreadable::Malformed(
                "log_cmdupdncols exceeds the pairs of log_cmdargs",
            ));
        }
        b'D' => 0,
        _ => return Err(Unreadable::Malformed("unknown log_cmdtype")),
    };
    let mut change = RowChange {
        command: row.command,
        values: Vec::new(),
        key: Vec::new(),
    };
    change.values.reserve(values_end / 2);
    for (index, pair) in row.arguments.chunks_exact(2).enumerate() {
        let name = pair[0].as_ref().ok_or(Unreadable::Malformed("a column name is null"))?;
        let name = std::str::from_utf8(name).map_err(|_| Unreadable::Malformed("a column name is not UTF-8"))?;
        let position = relation
            .position(name)
            .ok_or_else(|| Unreadable::Column(name.to_owned()))?;
        if index * 2 < values_end {
            if !relation.columns[position].generated {
                change.values.push((position, pair[1].clone()));
            }
        } else {
            if pair[1].is_none() {
                return Err(Unreadable::Malformed("an old key value is null"));
            }
            change.key.push((position, pair[1].clone()));
        }
    }
    if row.command != b'I' && change.key.is_empty() {
        return Err(Unreadable::Malformed("no key in log_cmdargs"));
    }
    Ok(change)
}
