//! How far a copy is: in the log and on the board every few seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use trunkline_sql::copy::SetTable;

use crate::logging as log;
use crate::node::Node;

/// Pause between progress lines.
const PAUSE: Duration = Duration::from_secs(2);

/// Progress of a copy, shared by the sessions that take part.
pub(super) struct CopyProgress<'a> {
    node: &'a Node,
    /// The worker, its origin, its session and the event, for the board.
    actor: &'a str,
    origin: i32,
    backend: i32,
    event: i64,
    set: i32,
    tables: usize,
    /// What all tables take on the provider's disk.
    expected: u64,
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    shown: Instant,
    tables: usize,
    rows: u64,
    bytes: u64,
    /// What the tables that are done take on the provider's disk.
    done: u64,
    /// Tables being copied: number, rows expected, rows so far, what it takes on the provider's disk.
    open: Vec<(i32, f32, u64, u64)>,
    name: String,
}

impl<'a> CopyProgress<'a> {
    /// `worker` is the actor, its origin and its session's process, `event` the number of the ENABLE_SUBSCRIPTION.
    pub(super) fn new(node: &'a Node, worker: (&'a str, i32, i32), event: i64, set: i32, tables: &[SetTable]) -> Self {
        let now = Instant::now();
        Self {
            node,
            actor: worker.0,
            origin: worker.1,
            backend: worker.2,
            event,
            set,
            tables: tables.len(),
            expected: tables.iter().map(size).sum(),
            started: now,
            inner: Mutex::new(Inner {
                shown: now,
                tables: 0,
                rows: 0,
                bytes: 0,
                done: 0,
                open: Vec::new(),
                name: String::new(),
            }),
        }
    }

    /// The node that copies.
    pub(super) fn node(&self) -> &Node {
        self.node
    }

    pub(super) fn begin(&self, table: &SetTable) {
        self.with(|inner| {
            inner.name = table.qualified();
            inner.open.push((table.id, table.rows, 0, size(table)));
        });
    }

    /// Counts what has been transferred of a table.
    pub(super) fn add(&self, table: &SetTable, rows: u64, bytes: u64) {
        self.with(|inner| {
            inner.rows += rows;
            inner.bytes += bytes;
            if let Some(open) = inner.open.iter_mut().find(|open| open.0 == table.id) {
                open.2 += rows;
            }
        });
    }

    pub(super) fn end(&self, table: &SetTable) {
        self.with(|inner| {
            inner.open.retain(|open| open.0 != table.id);
            inner.tables += 1;
            inner.done += size(table);
        });
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner);
        if inner.shown.elapsed() >= PAUSE {
            inner.shown = Instant::now();
            self.show(&inner);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn show(&self, inner: &Inner) {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let open: f64 = inner
            .open
            .iter()
            .map(|(_, expected, rows, bytes)| share(*rows, *expected) * *bytes as f64)
            .sum();
        let share = ((inner.done as f64 + open) / (self.expected as f64).max(1.0)).min(1.0);
        let left = if share > 0.01 {
            format!(", about {:.0} s left", seconds * (1.0 - share) / share)
        } else {
            String::new()
        };
        let done = format!(
            "{} of {} tables, {:.0} %{left}",
            inner.tables,
            self.tables,
            share * 100.0
        );
        let megabytes = inner.bytes as f64 / 1_048_576.0;
        log::info!(
            "copy_set {}: {done}; {} rows and {megabytes:.1} MB so far, {:.1} MB/s, now {}",
            self.set,
            inner.rows,
            megabytes / seconds,
            inner.name
        );
        self.node.board.set(
            self.actor,
            self.origin,
            self.backend,
            &format!("copying set {}: {done}", self.set),
            Some((self.event, "ENABLE_SUBSCRIPTION")),
        );
    }
}

/// What a table takes; an empty one counts as well.
fn size(table: &SetTable) -> u64 {
    u64::try_from(table.bytes).unwrap_or(0).max(8192)
}

/// Which part of the rows is there, as far as their number is known.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn share(rows: u64, expected: f32) -> f64 {
    if expected < 1.0 {
        return 0.0;
    }
    (rows as f64 / f64::from(expected)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_unknown_size_counts_when_it_is_done() {
        assert!(share(1000, -1.0) < f64::EPSILON);
        assert!((share(50, 100.0) - 0.5).abs() < 1e-9);
        assert!((share(200, 100.0) - 1.0).abs() < 1e-9, "statistics may be old");
    }
}
