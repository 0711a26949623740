//! The three forms in which losses are written.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use trunkline_sql::lost::{ChangeKind, LostChange, LostSequence, LostTransaction, Values, statement};

use super::{Current, Summary, TransactionLine};

/// How losses are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// One object per line: a summary, then each transaction followed by its changes, then sequences.
    Json,
    /// To be judged and run on the new origin.
    Sql,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    summary: &'a Summary,
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    change: &'static str,
    set: Option<i32>,
    table: Option<String>,
    key: Option<Map<String, Value>>,
    new: Map<String, Value>,
    /// Node whose values these are.
    survivor: Option<i32>,
    /// Null: it has no such row.
    current: Option<Map<String, Value>>,
    sql: &'a str,
}

#[derive(Serialize)]
struct SequenceLine<'a> {
    sequence: &'a str,
    id: i32,
    failed: i64,
    survivor: i64,
}

impl Form {
    pub(super) fn head(self, out: &mut impl Write, summary: &Summary) -> Result<()> {
        let sets: Vec<String> = summary.sets.iter().map(ToString::to_string).collect();
        let text = format!(
            "node {} was failed over at {} to node {} (sets {}); the survivors had its events up to {}",
            summary.node,
            summary.failed_over,
            summary.successor,
            sets.join(", "),
            summary.last_event
        );
        let count = match summary.transactions {
            0 => "nothing is lost".to_owned(),
            1 => format!("1 transaction with {} is lost", counted(summary.changes)),
            n => format!("{n} transactions with {} are lost", counted(summary.changes)),
        };
        match self {
            Self::Table => writeln!(out, "{text}\n{count}"),
            Self::Sql => writeln!(
                out,
                "-- {text}\n-- {count}\n-- Judge each transaction before you run it on the new origin: its rows may have changed since."
            ),
            Self::Json => line(out, &SummaryLine { summary }),
        }
    }

    pub(super) fn begin(self, out: &mut impl Write, node: i32, transaction: &LostTransaction) -> Result<()> {
        let when = when(transaction);
        let txid = transaction.txid;
        let changes = counted(transaction.changes);
        match self {
            Self::Table => writeln!(out, "\ntransaction {txid}, {when}, {changes}"),
            Self::Sql => writeln!(out, "\n-- transaction {txid} of node {node}, {when}, {changes}\nbegin;"),
            Self::Json => line(out, &TransactionLine::from(transaction)),
        }
    }

    pub(super) fn change(
        self,
        out: &mut impl Write,
        change: &LostChange,
        survivor: Option<i32>,
        current: &Current,
    ) -> Result<()> {
        let sql = statement(change);
        let now = match (survivor, current) {
            (Some(node), Current::Absent) => Some(format!("node {node} has no such row")),
            (Some(node), Current::Row(values)) => Some(format!("node {node} has {}", shown(values))),
            _ => None,
        };
        match self {
            Self::Table => {
                let what = word(change.kind);
                let set = change.set.map_or_else(String::new, |set| format!("set {set}  "));
                let table = if change.table.is_some() {
                    format!("{}.{}  ", change.name.0, change.name.1)
                } else {
                    String::new()
                };
                let key = if change.key.is_empty() {
                    String::new()
                } else {
                    format!("{} ", shown(&change.key))
                };
                let new = if change.new.is_empty() {
                    String::new()
                } else {
                    format!("-> {}", shown(&change.new))
                };
                writeln!(out, "{}", format!("  {set}{table}{what}  {key}{new}").trim_end())?;
                now.map_or(Ok(()), |now| writeln!(out, "      {now}"))
            }
            Self::Sql => {
                if let Some(now) = now {
                    writeln!(out, "-- {}", now.replace('\n', "\n-- "))?;
                }
                writeln!(out, "{sql}")
            }
            Self::Json => line(
                out,
                &ChangeLine {
                    change: word(change.kind),
                    set: change.set,
                    table: change.table.map(|_| format!("{}.{}", change.name.0, change.name.1)),
                    key: (!change.key.is_empty()).then(|| object(&change.key)),
                    new: object(&change.new),
                    survivor: survivor.filter(|_| *current != Current::Unknown),
                    current: match current {
                        Current::Row(values) => Some(object(values)),
                        Current::Unknown | Current::Absent => None,
                    },
                    sql: &sql,
                },
            ),
        }
    }

    pub(super) fn end(self, out: &mut impl Write, _: &LostTransaction) -> Result<()> {
        match self {
            Self::Sql => writeln!(out, "commit;"),
            Self::Table | Self::Json => Ok(()),
        }
    }

    pub(super) fn sequences(
        self,
        out: &mut impl Write,
        node: i32,
        survivor: Option<i32>,
        sequences: &[LostSequence],
    ) -> Result<()> {
        if !sequences.is_empty() && self != Self::Json {
            writeln!(out)?;
        }
        for sequence in sequences {
            let LostSequence {
                name,
                id,
                failed,
                survivor: here,
            } = sequence;
            let place = survivor.map_or_else(String::new, |node| format!(" on node {node}"));
            match self {
                Self::Table => writeln!(
                    out,
                    "sequence {name} was at {failed} on node {node}, it is at {here}{place}"
                )?,
                // Values handed out there may be in use outside the database.
                Self::Sql => writeln!(
                    out,
                    "-- sequence {name} was at {failed} on node {node}, it is at {here}{place}\n-- select setval('{}', {failed});",
                    name.replace('\'', "''")
                )?,
                Self::Json => line(
                    out,
                    &SequenceLine {
                        sequence: name,
                        id: *id,
                        failed: *failed,
                        survivor: *here,
                    },
                )?,
            }
        }
        Ok(())
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value)?;
    writeln!(out, "{text}")
}

/// `1 change`, `2 changes`.
fn counted(count: i64) -> String {
    if count == 1 {
        "1 change".to_owned()
    } else {
        format!("{count} changes")
    }
}

fn word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Insert => "insert",
        ChangeKind::Update => "update",
        ChangeKind::Delete => "delete",
        ChangeKind::Truncate => "truncate",
        ChangeKind::Script => "script",
    }
}

/// `committed at …` where it is known, else what the SYNCs around it say.
fn when(transaction: &LostTransaction) -> String {
    if let Some(committed) = &transaction.committed {
        return format!("committed at {committed}");
    }
    match (&transaction.not_before, &transaction.not_after) {
        (Some(before), Some(after)) => format!("committed between {before} and {after}"),
        (Some(before), None) => format!("committed after {before}"),
        (None, Some(after)) => format!("committed before {after}"),
        (None, None) => "committed at an unknown time".to_owned(),
    }
}

fn shown(values: &Values) -> String {
    let parts: Vec<String> = values
        .iter()
        .map(|(column, value)| match value {
            Some(value) => format!("{column} = {value:?}"),
            None => format!("{column} = null"),
        })
        .collect();
    parts.join(", ")
}

fn object(values: &Values) -> Map<String, Value> {
    values
        .iter()
        .map(|(column, value)| (column.clone(), value.clone().map_or(Value::Null, Value::String)))
        .collect()
}
