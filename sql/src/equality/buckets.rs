//! Buckets of rows: small enough to look into, few enough to remember.

use std::collections::BTreeMap;

use super::Slice;

/// Rows a bucket should hold: so many are read again for each row that differs, and each bucket is a row to fetch.
const ROWS_PER_BUCKET: i64 = 16;
/// Most buckets of a table or slice; what both sides say of them is held in memory, some 16 MB a side here, 64 MB on each server
/// (see `SCAN_SETTINGS`).
const MOST_BUCKETS: i64 = 1 << 18;

/// How rows are told into buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketPlan {
    /// By an integer key: `width` neighbouring values from `low` on make a bucket. The index finds its rows again.
    Range {
        /// The key column, quoted.
        column: String,
        /// Smallest value on either side.
        low: i64,
        /// Values per bucket.
        width: i64,
    },
    /// By the hash of the key.
    Hash {
        /// Hash of the key, a bigint.
        expression: String,
        /// Bits of it that number the bucket.
        mask: i64,
    },
}

/// What one side says of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum {
    /// Rows.
    pub rows: i64,
    /// Sum of their hashes.
    pub sum: i128,
}

impl BucketPlan {
    /// Buckets for about `rows` rows by an integer key between `low` and `high`; None if the values are too far apart.
    #[must_use]
    pub fn ranges(column: String, low: i64, high: i64, rows: i64) -> Option<Self> {
        let span = high.checked_sub(low)?.checked_add(1)?;
        let count = wanted(rows);
        Some(Self::Range {
            column,
            low,
            width: (span / count + i64::from(span % count != 0)).max(1),
        })
    }

    /// Buckets for about `rows` rows by the hash of the key.
    #[must_use]
    pub fn hashes(expression: String, rows: i64) -> Self {
        let count = u64::try_from(wanted(rows)).unwrap_or(1).next_power_of_two();
        Self::Hash {
            expression,
            mask: i64::try_from(count).unwrap_or(1) - 1,
        }
    }

    /// The number of a row's bucket, an expression of type bigint.
    #[must_use]
    pub fn expression(&self) -> String {
        match self {
            Self::Range { column, low, width } => {
                format!(
                    "({column}::pg_catalog.int8 operator(pg_catalog.-) ({low})::pg_catalog.int8) operator(pg_catalog./) {width}"
                )
            }
            Self::Hash { expression, mask } => format!("({expression}) operator(pg_catalog.&) {mask}::pg_catalog.int8"),
        }
    }

    /// First and last key of a bucket of [`Self::Range`].
    #[must_use]
    pub fn bounds(low: i64, width: i64, bucket: i64) -> (i64, i64) {
        let first = low.saturating_add(bucket.saturating_mul(width));
        (first, first.saturating_add(width - 1))
    }

    /// Number, rows and sum of each bucket: one scan. `pace` is a condition that slows the scan down, true for every row.
    ///
    /// `offset 0` keeps the planner from pulling the subquery up. It would carry whole rows into the grouping, and take the buckets for
    /// as many as there are keys: a sort, or a hash table, of the whole table on disk.
    #[must_use]
    pub(super) fn checksum_statement(
        &self,
        table: &str,
        row_hash: &str,
        slice: Option<&Slice>,
        pace: Option<&str>,
    ) -> String {
        let conditions: Vec<&str> = slice.and_then(Slice::condition).into_iter().chain(pace).collect();
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" where {}", conditions.join(" and "))
        };
        format!(
            "select q.b, pg_catalog.count(*), pg_catalog.sum(q.h)::pg_catalog.text \
             from (select {} as b, {row_hash} as h from only {table}{filter} offset 0) q \
             group by q.b",
            self.expression()
        )
    }
}

/// Buckets wanted for so many rows.
fn wanted(rows: i64) -> i64 {
    (rows / ROWS_PER_BUCKET).clamp(1, MOST_BUCKETS)
}

/// The buckets whose rows differ, with the number of rows to look at on both sides.
#[must_use]
pub fn differing(source: &BTreeMap<i64, Checksum>, target: &BTreeMap<i64, Checksum>) -> Vec<(i64, i64)> {
    let none = Checksum::default();
    let mut differing: Vec<(i64, i64)> = source
        .iter()
        .filter_map(|(bucket, here)| {
            let there = target.get(bucket).unwrap_or(&none);
            (here != there).then_some((*bucket, here.rows + there.rows))
        })
        .collect();
    differing.extend(
        target
            .iter()
            .filter(|(bucket, _)| !source.contains_key(bucket))
            .map(|(bucket, there)| (*bucket, there.rows)),
    );
    differing.sort_unstable();
    differing
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_lies_within_the_bounds_of_its_bucket(
            a in any::<i64>(), b in any::<i64>(), share in 0.0f64..1.0, rows in 0i64..100_000_000,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let Some(BucketPlan::Range { width, .. }) = BucketPlan::ranges("k".into(), low, high, rows) else {
                // Only a span that does not fit is refused.
                prop_assert!(i128::from(high) - i128::from(low) + 1 > i128::from(i64::MAX));
                return Ok(());
            };
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let key = low + ((i128::from(high - low) as f64) * share) as i64;
            let bucket = (key - low) / width;
            let (first, last) = BucketPlan::bounds(low, width, bucket);
            prop_assert!(first <= key && key <= last, "{first} {key} {last}");
            prop_assert!((high - low) / width < MOST_BUCKETS);
        }

        #[test]
        fn exactly_the_buckets_that_differ_are_found(
            base in proptest::collection::btree_map(0i64..50, 1i64..5, 0..30),
            changed in proptest::collection::btree_map(0i64..50, 0i64..5, 0..10),
        ) {
            let side = |rows: &BTreeMap<i64, i64>| -> BTreeMap<i64, Checksum> {
                rows.iter().filter(|(_, n)| **n > 0).map(|(b, n)| (*b, Checksum { rows: *n, sum: i128::from(*n) * 7 })).collect()
            };
            let mut other = base.clone();
            other.extend(changed.iter().map(|(b, n)| (*b, *n)));
            let (source, target) = (side(&base), side(&other));
            let found: Vec<i64> = differing(&source, &target).into_iter().map(|(bucket, _)| bucket).collect();
            let expected: Vec<i64> = (0..50).filter(|b| source.get(b) != target.get(b)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
