//! Transaction snapshots of an origin and the window between two of them.
//!
//! A SYNC event carries the snapshot `xmin:xmax:xip,…` of its origin. The rows a subscriber has to apply for it are
//! those of the transactions this snapshot sees and the one of the last applied SYNC did not: the window.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// A `txid_snapshot`: which transactions had committed or aborted when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: i64,
    xmax: i64,
    in_progress: Vec<i64>,
}

/// A text that is not a snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a transaction snapshot of the form `xmin:xmax:xip,…`")]
pub struct SnapshotError {
    text: String,
}

impl Snapshot {
    /// The snapshot that sees nothing: `1:1:`, Slony's start value.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            xmin: 1,
            xmax: 1,
            in_progress: Vec::new(),
        }
    }

    /// Whether this is the start value `1:1:`.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.xmax == 1
    }

    /// First transaction that may still run.
    #[must_use]
    pub fn xmin(&self) -> i64 {
        self.xmin
    }

    /// First transaction that had not begun.
    #[must_use]
    pub fn xmax(&self) -> i64 {
        self.xmax
    }

    /// Transactions below `xmax` that were running, ascending.
    #[must_use]
    pub fn in_progress(&self) -> &[i64] {
        &self.in_progress
    }

    /// Whether the transaction had ended when the snapshot was taken.
    #[must_use]
    pub fn sees(&self, txid: i64) -> bool {
        txid < self.xmin || (txid < self.xmax && self.in_progress.binary_search(&txid).is_err())
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let error = || SnapshotError {
            text: text.chars().take(200).collect(),
        };
        let mut parts = text.trim().splitn(3, ':');
        let mut number = || {
            parts
                .next()
                .and_then(|part| part.parse::<i64>().ok())
                .filter(|number| *number > 0)
        };
        let (xmin, xmax) = (number().ok_or_else(error)?, number().ok_or_else(error)?);
        let list = parts.next().ok_or_else(error)?;
        let mut in_progress = Vec::new();
        if !list.is_empty() {
            for item in list.split(',') {
                in_progress.push(item.parse::<i64>().map_err(|_| error())?);
            }
        }
        in_progress.sort_unstable();
        in_progress.dedup();
        let inside = in_progress.iter().all(|txid| (xmin..xmax).contains(txid));
        if xmin > xmax || !inside {
            return Err(error());
        }
        Ok(Self {
            xmin,
            xmax,
            in_progress,
        })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, txid) in self.in_progress.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{txid}")?;
        }
        Ok(())
    }
}

/// The transactions that `to` sees and `from` did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Last applied snapshot.
    pub from: Snapshot,
    /// Snapshot to reach.
    pub to: Snapshot,
}

impl Window {
    /// Whether rows of the transaction belong to the window.
    #[must_use]
    pub fn contains(&self, txid: i64) -> bool {
        self.to.sees(txid) && !self.from.sees(txid)
    }

    /// The window as a condition on a bigint column, in ranges an index on that column can serve.
    ///
    /// Transactions begun after `from` form a range; those that ran during `from` are named one by one.
    #[must_use]
    pub fn condition(&self, column: &str) -> String {
        let low = self.from.xmax;
        let running: Vec<i64> = self
            .to
            .in_progress
            .iter()
            .copied()
            .filter(|txid| *txid >= low)
            .collect();
        let mut range = format!("({column} >= {low} and {column} < {}", self.to.xmax);
        if !running.is_empty() {
            let _ = write!(range, " and {column} <> all ('{{{}}}'::bigint[])", join(&running));
        }
        range.push(')');
        let ended: Vec<i64> = self
            .from
            .in_progress
            .iter()
            .copied()
            .filter(|txid| self.to.sees(*txid))
            .collect();
        if ended.is_empty() {
            return range;
        }
        format!("({range} or {column} = any ('{{{}}}'::bigint[]))", join(&ended))
    }
}

fn join(numbers: &[i64]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_writes_the_servers_form() {
        for text in ["1:1:", "10:10:", "10:20:10,15,19"] {
            assert_eq!(snapshot(text).to_string(), text);
        }
        for text in [
            "", "1", "1:2", "a:b:", "5:4:", "5:9:4", "5:9:9", "5:9:6,x", "0:0:", "5:9:6,",
        ] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_transaction_that_ran_during_from_belongs_to_the_window_in_which_it_ends() {
        let window = Window {
            from: snapshot("10:20:10,15"),
            to: snapshot("15:30:15,25"),
        };
        assert!(window.contains(10), "ended since");
        assert!(!window.contains(15), "still running");
        assert!(!window.contains(12), "seen before");
        assert!(window.contains(20) && window.contains(29));
        assert!(!window.contains(25) && !window.contains(30));
        assert_eq!(
            window.condition("t"),
            "((t >= 20 and t < 30 and t <> all ('{25}'::bigint[])) or t = any ('{10}'::bigint[]))"
        );
    }

    /// A history of transactions (begin, end) and the moments at which snapshots are taken.
    fn history() -> impl Strategy<Value = (Vec<(u32, u32)>, Vec<u32>)> {
        (
            proptest::collection::vec((0u32..60, 1u32..30), 1..40),
            proptest::collection::btree_set(0u32..100, 2..8),
        )
            .prop_map(|(spans, moments)| {
                let mut spans: Vec<(u32, u32)> = spans
                    .into_iter()
                    .map(|(begin, length)| (begin, begin + length))
                    .collect();
                spans.sort_unstable();
                (spans, moments.into_iter().collect())
            })
    }

    fn take(spans: &[(u32, u32)], moment: u32) -> Snapshot {
        // Transaction i has id 100 + i; ids are given in order of begin.
        let id = |index: usize| 100 + i64::try_from(index).unwrap();
        let begun = spans.iter().filter(|(begin, _)| *begin < moment).count();
        let running: Vec<i64> = (0..begun).filter(|index| spans[*index].1 >= moment).map(id).collect();
        let xmax = id(begun);
        Snapshot {
            xmin: running.first().copied().unwrap_or(xmax),
            xmax,
            in_progress: running,
        }
    }

    proptest! {
        #[test]
        fn successive_windows_hold_each_ended_transaction_exactly_once((spans, moments) in history()) {
            let mut from = Snapshot::nothing();
            let mut counts = vec![0; spans.len()];
            for moment in &moments {
                let to = take(&spans, *moment);
                prop_assert_eq!(&to.to_string().parse::<Snapshot>().unwrap(), &to);
                let window = Window { from, to: to.clone() };
                for (index, count) in counts.iter_mut().enumerate() {
                    let txid = 100 + i64::try_from(index).unwrap();
                    *count += i32::from(window.contains(txid));
                    let (from, to) = (&window.from, &window.to);
                    let protocol = (txid >= from.xmax && txid < to.xmax && to.sees(txid))
                        || (from.in_progress.contains(&txid) && !to.in_progress.contains(&txid));
                    prop_assert_eq!(window.contains(txid), protocol);
                }
                from = to;
            }
            let last = *moments.last().unwrap();
            for (index, span) in spans.iter().enumerate() {
                prop_assert_eq!(counts[index], i32::from(span.1 < last));
            }
        }

        #[test]
        fn garbage_is_refused_without_panic(text in ".{0,40}") {
            let _ = text.parse::<Snapshot>();
        }
    }
}
