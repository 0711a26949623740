//! What `verify` found, for people and programs.

use std::fmt::{self, Write as _};

use serde::Serialize;
use trunkline_sql::equality::{KeyDifference, Side};

/// All comparisons.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Whether nothing differs, or nothing any more.
    pub(crate) equal: bool,
    /// By origin and receiver.
    pub(crate) subscriptions: Vec<SubscriptionReport>,
}

/// One subscriber compared with one origin.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionReport {
    pub(crate) origin: i32,
    pub(crate) receiver: i32,
    pub(crate) sets: Vec<i32>,
    pub(crate) tables: Vec<TableReport>,
    pub(crate) sequences: Vec<SequenceReport>,
}

/// One table.
#[derive(Debug, Serialize)]
pub(crate) struct TableReport {
    pub(crate) set: i32,
    pub(crate) id: i32,
    /// Quoted `schema.table`.
    pub(crate) name: String,
    /// Columns of the key.
    pub(crate) key: Vec<String>,
    /// First and last SYNC of the origin at which it was compared.
    pub(crate) syncs: (i64, i64),
    pub(crate) origin_rows: i64,
    pub(crate) receiver_rows: i64,
    /// Keys that differed.
    pub(crate) differing: usize,
    /// There are more than were counted.
    pub(crate) more: bool,
    /// The first of them.
    pub(crate) keys: Vec<KeyReport>,
    /// Keys that were made equal.
    pub(crate) repaired: usize,
    pub(crate) seconds: f64,
}

/// A key that differs.
#[derive(Debug, Serialize)]
pub(crate) struct KeyReport {
    pub(crate) key: Vec<String>,
    /// `differs`, `missing` (on the subscriber) or `surplus` (the origin does not have it).
    pub(crate) what: &'static str,
}

impl From<&KeyDifference> for KeyReport {
    fn from(difference: &KeyDifference) -> Self {
        Self {
            key: difference.key.clone(),
            what: match difference.side {
                Side::Both => "differs",
                Side::SourceOnly => "missing",
                Side::TargetOnly => "surplus",
            },
        }
    }
}

/// A sequence that differs.
#[derive(Debug, Serialize)]
pub(crate) struct SequenceReport {
    pub(crate) set: i32,
    pub(crate) id: i32,
    pub(crate) name: String,
    pub(crate) at_origin: i64,
    pub(crate) at_receiver: i64,
    pub(crate) repaired: bool,
}

impl TableReport {
    fn is_equal(&self) -> bool {
        self.differing == self.repaired && !self.more
    }
}

impl Report {
    pub(super) fn add(&mut self, subscription: SubscriptionReport) {
        self.subscriptions.push(subscription);
        self.equal = self.subscriptions.iter().all(|subscription| {
            subscription.tables.iter().all(TableReport::is_equal)
                && subscription.sequences.iter().all(|sequence| sequence.repaired)
        });
    }

    /// Number of comparisons of tables.
    pub(crate) fn tables(&self) -> usize {
        self.subscriptions
            .iter()
            .map(|subscription| subscription.tables.len())
            .sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for subscription in &self.subscriptions {
            let SubscriptionReport { origin, receiver, .. } = subscription;
            writeln!(f, "node {receiver} compared with node {origin}, the origin")?;
            for table in &subscription.tables {
                table.write(f, *receiver)?;
            }
            for sequence in &subscription.sequences {
                writeln!(
                    f,
                    "  set {}  sequence {}: {} on the origin, {} on node {receiver}{}",
                    sequence.set,
                    sequence.name,
                    sequence.at_origin,
                    sequence.at_receiver,
                    if sequence.repaired { ", repaired" } else { "" }
                )?;
            }
        }
        writeln!(
            f,
            "{}",
            if self.equal {
                "all that was compared is equal"
            } else {
                "NOT EQUAL; `slonctl verify --repair` makes the subscribers equal to their origins"
            }
        )
    }
}

impl TableReport {
    fn write(&self, f: &mut fmt::Formatter<'_>, receiver: i32) -> fmt::Result {
        let verdict = if self.differing == 0 {
            "equal".to_owned()
        } else {
            let more = if self.more { "more than " } else { "" };
            let repaired = match self.repaired {
                0 => String::new(),
                n if n == self.differing => ", repaired".to_owned(),
                n => format!(", {n} of them repaired"),
            };
            format!(
                "{more}{} rows differ ({} on the origin, {} on node {receiver}){repaired}",
                self.differing, self.origin_rows, self.receiver_rows
            )
        };
        let at = if self.syncs.0 == self.syncs.1 {
            format!("SYNC {}", self.syncs.0)
        } else {
            format!("SYNCs {} to {}", self.syncs.0, self.syncs.1)
        };
        writeln!(
            f,
            "  set {}  {}: {verdict}; {} rows at {at}, {:.1} s",
            self.set, self.name, self.origin_rows, self.seconds
        )?;
        for key in &self.keys {
            let mut text = String::new();
            for (index, (column, value)) in self.key.iter().zip(&key.key).enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                let _ = write!(text, "{separator}{column} = {value}");
            }
            let what = match key.what {
                "missing" => format!("is missing on node {receiver}"),
                "surplus" => format!("is only on node {receiver}"),
                _ => "differs".to_owned(),
            };
            writeln!(f, "      {text} {what}")?;
        }
        if self.differing > self.keys.len() {
            writeln!(f, "      and {} more", self.differing - self.keys.len())?;
        }
        Ok(())
    }
}
