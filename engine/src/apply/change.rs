//! Reading a log row as a change of a local table.

use trunkline_sql::relation::Relation;

use super::error::ApplyError;
use crate::fold::{Change, Contradiction, Fold, Value};
use crate::log_row::LogRow;

/// A log row in terms of the local table's columns; one reader serves many rows, so that none of them allocates.
#[derive(Debug, Default)]
pub(super) struct RowReader<'a> {
    /// `log_cmdtype`: `I`, `U` or `D`.
    pub(super) command: u8,
    /// Columns to write; those the server computes are left out.
    pub(super) columns: Vec<usize>,
    /// Their values.
    pub(super) values: Vec<Value<'a>>,
    /// Identifying columns (`U`, `D`).
    pub(super) key_columns: Vec<usize>,
    /// Their old values.
    pub(super) key_values: Vec<&'a [u8]>,
    /// Column of each pair of the row before: nearly always that of this row, too.
    guesses: Vec<usize>,
    /// The key in the order of the relation's.
    key: Vec<&'a [u8]>,
    /// The key after the change.
    key_after: Vec<&'a [u8]>,
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

impl<'a> RowReader<'a> {
    /// Reads an `I`, `U` or `D` row.
    pub(super) fn read(&mut self, row: &'a LogRow, relation: &Relation) -> Result<(), Unreadable> {
        let count = row.argument_count();
        if !count.is_multiple_of(2) {
            return Err(Unreadable::Malformed("log_cmdargs does not consist of pairs"));
        }
        let values_end = match row.command {
            b'I' => count / 2,
            b'U' if row.changed * 2 <= count => row.changed,
            b'U' => {
                return Err(Unreadable::Malformed(
                    "log_cmdupdncols exceeds the pairs of log_cmdargs",
                ));
            }
            b'D' => 0,
            _ => return Err(Unreadable::Malformed("unknown log_cmdtype")),
        };
        self.command = row.command;
        self.columns.clear();
        self.values.clear();
        self.key_columns.clear();
        self.key_values.clear();
        let mut arguments = row.arguments();
        let mut index = 0;
        while let Some(name) = arguments.next() {
            let name = name.ok_or(Unreadable::Malformed("a column name is null"))?;
            let value = arguments.next().flatten();
            let position = self.position(index, name, relation)?;
            if index < values_end {
                if !relation.columns[position].generated {
                    self.columns.push(position);
                    self.values.push(value);
                }
            } else {
                let value = value.ok_or(Unreadable::Malformed("an old key value is null"))?;
                self.key_columns.push(position);
                self.key_values.push(value);
            }
            index += 1;
        }
        if row.command != b'I' && self.key_columns.is_empty() {
            return Err(Unreadable::Malformed("no key in log_cmdargs"));
        }
        Ok(())
    }

    /// Position of the column that pair `index` names.
    fn position(&mut self, index: usize, name: &[u8], relation: &Relation) -> Result<usize, Unreadable> {
        if let Some(guess) = self.guesses.get(index)
            && let Some(column) = relation.columns.get(*guess)
            && column.name.as_bytes() == name
        {
            return Ok(*guess);
        }
        let name = std::str::from_utf8(name).map_err(|_| Unreadable::Malformed("a column name is not UTF-8"))?;
        let position = relation
            .position(name)
            .ok_or_else(|| Unreadable::Column(name.to_owned()))?;
        if self.guesses.len() <= index {
            self.guesses.resize(index + 1, 0);
        }
        self.guesses[index] = position;
        Ok(position)
    }

    /// The command as SQL calls it.
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
                .columns
                .iter()
                .any(|position| relation.columns[*position].identity_always)
    }

    /// Adds the change to a fold; None where the row cannot be identified by the local key.
    pub(super) fn fold(&mut self, relation: &Relation, fold: &mut Fold<'a>) -> Option<Result<(), Contradiction>> {
        let value_of = |columns: &[usize], position: usize| columns.iter().position(|column| *column == position);
        self.key.clear();
        if self.command == b'I' {
            for position in &relation.key {
                self.key
                    .push(value_of(&self.columns, *position).and_then(|index| self.values[index])?);
            }
            return Some(fold.push(Change::Insert {
                key: &self.key,
                columns: &self.columns,
                values: &self.values,
            }));
        }
        if self.key_columns.len() != relation.key.len() || self.changes_identity(relation) {
            return None;
        }
        for position in &relation.key {
            self.key
                .push(value_of(&self.key_columns, *position).map(|index| self.key_values[index])?);
        }
        if self.command == b'D' {
            return Some(fold.push(Change::Delete { key: &self.key }));
        }
        self.key_after.clear();
        for (index, position) in relation.key.iter().enumerate() {
            self.key_after.push(match value_of(&self.columns, *position) {
                Some(changed) => self.values[changed]?,
                None => self.key[index],
            });
        }
        let moved_to = (self.key_after != self.key).then_some(&self.key_after[..]);
        Some(fold.push(Change::Update {
            key: &self.key,
            moved_to,
            columns: &self.columns,
            values: &self.values,
        }))
    }
}
