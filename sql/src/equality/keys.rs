//! Matching the rows of buckets that differ.

use std::collections::HashMap;

/// A row as it is fetched for matching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedHash {
    /// Values of the key's columns as text, in the order of the index.
    pub key: Vec<String>,
    /// Hash of the key.
    pub key_hash: i64,
    /// Hash of the whole row.
    pub row_hash: i64,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// On both, with different values.
    Both,
    /// On the source (the origin) only: the target lacks it.
    SourceOnly,
    /// On the target (the subscriber) only.
    TargetOnly,
}

/// A key whose rows differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDifference {
    /// Values of the key's columns as text, in the order of the index.
    pub key: Vec<String>,
    /// Where the row is.
    pub side: Side,
}

/// The keys whose rows differ.
///
/// Rows are equal if their hashes and those of their keys are; keys are not compared as text, because servers of
/// different versions write some values differently.
#[must_use]
pub fn match_rows(source: Vec<KeyedHash>, target: Vec<KeyedHash>) -> Vec<KeyDifference> {
    let mut open: HashMap<i64, Vec<KeyedHash>> = HashMap::with_capacity(source.len());
    for row in source {
        open.entry(row.key_hash).or_default().push(row);
    }
    let mut left: Vec<KeyedHash> = Vec::new();
    for row in target {
        let equal = open.get_mut(&row.key_hash).and_then(|rows| {
            rows.iter()
                .position(|there| there.row_hash == row.row_hash)
                .map(|at| rows.swap_remove(at))
        });
        if equal.is_none() {
            left.push(row);
        }
    }
    let mut differences = Vec::new();
    for row in left {
        let changed = open.get_mut(&row.key_hash).and_then(Vec::pop);
        differences.push(match changed {
            Some(there) => KeyDifference {
                key: there.key,
                side: Side::Both,
            },
            None => KeyDifference {
                key: row.key,
                side: Side::TargetOnly,
            },
        });
    }
    differences.extend(open.into_values().flatten().map(|row| KeyDifference {
        key: row.key,
        side: Side::SourceOnly,
    }));
    differences.sort_unstable();
    differences
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn rows(table: &BTreeMap<i64, i64>) -> Vec<KeyedHash> {
        table
            .iter()
            .map(|(key, value)| KeyedHash {
                key: vec![key.to_string()],
                key_hash: key * 31,
                row_hash: key * 1_000_003 + value,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn planted_differences_are_found_and_nothing_else(
            base in proptest::collection::btree_map(0i64..200, 0i64..3, 0..150),
            other in proptest::collection::btree_map(0i64..200, 0i64..3, 0..40),
            deleted in proptest::collection::btree_set(0i64..200, 0..20),
        ) {
            let mut target = base.clone();
            target.extend(other);
            target.retain(|key, _| !deleted.contains(key));
            let found = match_rows(rows(&base), rows(&target));
            let mut expected: Vec<KeyDifference> = (0..200)
                .filter_map(|key| {
                    let side = match (base.get(&key), target.get(&key)) {
                        (Some(a), Some(b)) if a != b => Side::Both,
                        (Some(_), None) => Side::SourceOnly,
                        (None, Some(_)) => Side::TargetOnly,
                        _ => return None,
                    };
                    Some(KeyDifference { key: vec![key.to_string()], side })
                })
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
