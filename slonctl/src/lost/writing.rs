//! The three forms in which losses are written.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use trunkline_sql::lost::{
    ChangeKind, Former, LostChange, LostSequence, LostTransaction, SCRIPT_SETTINGS, SurvivorTable, Values, statement,
};

use super::former::{Current, Judged, Unknown};
use super::{Summary, TransactionLine};

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
    /// Of an update the values of the columns it changed, of a delete all values, as far as they are known.
    old: Option<Map<String, Value>>,
    /// Why some or all of them are not known; of an insert, what has taken its place.
    old_unknown: Option<String>,
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
        let elsewhere: Vec<String> = summary
            .origins
            .iter()
            .filter(|(_, origin)| **origin != summary.successor)
            .map(|(set, origin)| format!("; origin of set {set} is node {origin} now"))
            .collect();
        let elsewhere = elsewhere.concat();
        let text = format!(
            "node {} was failed over at {} to node {} (sets {}); the survivors had its events up to {}{elsewhere}",
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
                "-- {text}\n-- {count}\n-- Judge each transaction before you run it on the new origin. Statements change rows only where they still are what they\n\
                 -- were before; `UPDATE 0` or `DELETE 0` says that one was not. Where that is not known they are comments.\n{SCRIPT_SETTINGS}"
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
        table: Option<&SurvivorTable>,
        survivor: Option<i32>,
        judged: &Judged,
    ) -> Result<()> {
        let none = Values::new();
        let former = match judged.unknown {
            Some(_) => Former::Unknown,
            None => Former::Known(judged.old.as_ref().unwrap_or(&none)),
        };
        let sql = statement(change, table, former);
        let unknown = judged.unknown.map(|why| why.text(survivor));
        match self {
            Self::Table => {
                writeln!(out, "  {}", told(change, judged))?;
                remark(change, judged, survivor).map_or(Ok(()), |remark| writeln!(out, "      {remark}"))
            }
            Self::Sql => {
                if let Some(remark) = remark(change, judged, survivor) {
                    writeln!(out, "-- {}", remark.replace('\n', "\n-- "))?;
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
                    old: judged.old.as_ref().filter(|old| !old.is_empty()).map(object),
                    old_unknown: unknown,
                    new: object(&change.new),
                    survivor: survivor.filter(|_| judged.current != Current::Unknown),
                    current: match &judged.current {
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

    pub(super) fn sequences(self, out: &mut impl Write, node: i32, sequences: &[(i32, LostSequence)]) -> Result<()> {
        if !sequences.is_empty() && self != Self::Json {
            writeln!(out)?;
        }
        for (survivor, sequence) in sequences {
            let LostSequence {
                name,
                id,
                failed,
                survivor: here,
            } = sequence;
            let place = format!(" on node {survivor}");
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

/// A change on one line: `set 1  public.orders  update  id = "1": paid = "f" -> "t"`.
fn told(change: &LostChange, judged: &Judged) -> String {
    let set = change.set.map_or_else(String::new, |set| format!("set {set}  "));
    let table = match change.table {
        Some(_) => format!("{}.{}  ", change.name.0, change.name.1),
        None => String::new(),
    };
    let what = match change.kind {
        ChangeKind::Insert | ChangeKind::Script => shown(&change.new),
        ChangeKind::Update => {
            let columns: Vec<String> = change
                .new
                .iter()
                .map(|(column, new)| {
                    let old = judged.old.iter().flatten().find(|(name, _)| name == column);
                    let old = old.map_or_else(|| "?".to_owned(), |(_, old)| quoted(old.as_ref()));
                    format!("{column} = {old} -> {}", quoted(new.as_ref()))
                })
                .collect();
            format!("{}: {}", shown(&change.key), columns.join(", "))
        }
        // The key is among the old values where they are known.
        ChangeKind::Delete => match &judged.old {
            Some(old) if judged.unknown.is_none() => shown(old),
            _ => shown(&change.key),
        },
        ChangeKind::Truncate => String::new(),
    };
    format!("{set}{table}{}  {what}", word(change.kind))
        .trim_end()
        .to_owned()
}

/// What the survivor has in the row's place, and why its old values are not known.
fn remark(change: &LostChange, judged: &Judged, survivor: Option<i32>) -> Option<String> {
    let now = survivor.and_then(|node| match &judged.current {
        Current::Unknown => None,
        Current::Absent => Some(format!("node {node} has no such row")),
        Current::Row(values) if judged.unknown.is_none() && judged.old.as_ref() == Some(values) => {
            Some(format!("node {node} still has the old values"))
        }
        Current::Row(values) if values.is_empty() => Some(format!("node {node} has such a row")),
        Current::Row(values) => Some(format!("node {node} has {}", shown(values))),
    });
    let unknown = judged.unknown.map(|why| match (change.kind, why) {
        (ChangeKind::Insert, _) | (_, Unknown::Unexplained) => why.text(survivor),
        _ => format!("old values not known: {}", why.text(survivor)),
    });
    let parts: Vec<String> = unknown.into_iter().chain(now).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
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

fn quoted(value: Option<&String>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| format!("{value:?}"))
}

fn shown(values: &Values) -> String {
    let parts: Vec<String> = values
        .iter()
        .map(|(column, value)| format!("{column} = {}", quoted(value.as_ref())))
        .collect();
    parts.join(", ")
}

fn object(values: &Values) -> Map<String, Value> {
    values
        .iter()
        .map(|(column, value)| (column.clone(), value.clone().map_or(Value::Null, Value::String)))
        .collect()
}
