//! The net change of a stretch of the log, per table and key. Pure: no database, no types, only logged values.
//!
//! Insert then update is an insert, update then update is one update, insert then delete is nothing, update then delete
//! is a delete; a row whose key changes keeps its identity. What comes out is applied as deletes, then updates, then
//! inserts; the caller must fall back to the original order when [`Net::moves_collide`] or the server says so.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

/// Values of the key columns in the relation's key order.
pub type Key = Box<[Bytes]>;

/// Columns (positions in the relation) and their values.
pub type Values = Vec<(usize, Option<Bytes>)>;

/// One logged change of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert {
        /// Its key.
        key: Key,
        /// All its columns.
        values: Values,
    },
    /// A changed row.
    Update {
        /// Key before the change.
        key: Key,
        /// Key after it, where it is another one.
        moved_to: Option<Key>,
        /// Changed columns.
        values: Values,
    },
    /// A row gone.
    Delete {
        /// Its key.
        key: Key,
    },
}

/// Changes that contradict each other: a row inserted twice, or changed after its deletion.
///
/// Cannot come from a key that identifies rows; the caller applies such a stretch row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

#[derive(Debug)]
struct Entry {
    /// Key before the stretch; None for a row born in it.
    before: Option<Key>,
    /// Changed (or, for a new row, all) columns; None once deleted.
    values: Option<Values>,
    /// Whether the key differs from `before`.
    moved: bool,
}

/// Folds the changes of one table.
#[derive(Debug, Default)]
pub struct Fold {
    entries: Vec<Entry>,
    /// Rows that exist now, by their present key.
    live: HashMap<Key, usize>,
    /// Keys of rows of before the stretch that were deleted or moved away and not taken again since.
    vacated: HashSet<Key>,
}

/// What is left of a stretch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// Keys (before the stretch) of rows to delete, first.
    pub deletes: Vec<Key>,
    /// Keys (before the stretch) of rows to change and their new values, second.
    pub updates: Vec<(Key, Values)>,
    /// Rows to insert, last.
    pub inserts: Vec<Values>,
    /// A changed row takes the key that another changed row gives up, so the order of updates matters.
    pub moves_collide: bool,
}

impl Fold {
    /// Adds the next change.
    ///
    /// # Errors
    /// [`Contradiction`]; the fold is useless afterwards.
    pub fn push(&mut self, change: Change) -> Result<(), Contradiction> {
        match change {
            Change::Insert { key, values } => {
                self.vacated.remove(&key);
                let index = self.entries.len();
                if self.live.insert(key, index).is_some() {
                    return Err(Contradiction);
                }
                self.entries.push(Entry {
                    before: None,
                    values: Some(values),
                    moved: false,
                });
            }
            Change::Update { key, moved_to, values } => {
                let index = self.locate(&key, Some(Vec::new()))?;
                if let Some(merged) = self.entries[index].values.as_mut() {
                    merge(merged, values);
                }
                if let Some(new_key) = moved_to {
                    self.live.remove(&key);
                    self.vacated.insert(key);
                    self.vacated.remove(&new_key);
                    self.entries[index].moved = self.entries[index].before.as_ref() != Some(&new_key);
                    if self.live.insert(new_key, index).is_some() {
                        return Err(Contradiction);
                    }
                }
            }
            Change::Delete { key } => {
                let index = self.locate(&key, None)?;
                self.entries[index].values = None;
                self.live.remove(&key);
                self.vacated.insert(key);
            }
        }
        Ok(())
    }

    /// Index of the row with that key; a row not met yet existed before the stretch.
    fn locate(&mut self, key: &Key, values: Option<Values>) -> Result<usize, Contradiction> {
        if let Some(index) = self.live.get(key) {
            return Ok(*index);
        }
        if self.vacated.contains(key) {
            return Err(Contradiction);
        }
        let index = self.entries.len();
        self.entries.push(Entry {
            before: Some(key.clone()),
            values,
            moved: false,
        });
        self.live.insert(key.clone(), index);
        Ok(index)
    }

    /// The net change.
    #[must_use]
    pub fn finish(self) -> Net {
        let mut net = Net::default();
        let moving: Vec<&Key> = self
            .entries
            .iter()
            .filter(|entry| entry.moved && entry.values.is_some())
            .filter_map(|entry| entry.before.as_ref())
            .collect();
        if !moving.is_empty() {
            // A moved row may land on the former key of another moved row: then one must go before the other.
            let taken: HashSet<&Key> = self
                .live
                .iter()
                .filter(|(_, index)| self.entries[**index].moved && self.entries[**index].before.is_some())
                .map(|(key, _)| key)
                .collect();
            net.moves_collide = moving.iter().any(|key| taken.contains(*key));
        }
        for entry in self.entries {
            match (entry.before, entry.values) {
                (None, Some(values)) => net.inserts.push(values),
                (Some(key), None) => net.deletes.push(key),
                (Some(key), Some(values)) if !values.is_empty() => net.updates.push((key, values)),
                _ => {}
            }
        }
        net
    }
}

/// Puts newer values over older ones.
fn merge(into: &mut Values, newer: Values) {
    for (column, value) in newer {
        match into.iter_mut().find(|(present, _)| *present == column) {
            Some(slot) => slot.1 = value,
            None => into.push((column, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Key {
        vec![Bytes::from(number.to_string())].into()
    }

    #[expect(clippy::unnecessary_wraps, reason = "as values stand in the log")]
    fn value(number: u8) -> Option<Bytes> {
        Some(Bytes::from(number.to_string()))
    }

    /// Column 0 is the key, columns 1 and 2 are values.
    fn row(id: u8, a: u8, b: u8) -> Values {
        vec![(0, value(id)), (1, value(a)), (2, value(b))]
    }

    fn insert(id: u8, a: u8) -> Change {
        Change::Insert {
            key: key(id),
            values: row(id, a, 0),
        }
    }

    fn update(id: u8, a: u8) -> Change {
        Change::Update {
            key: key(id),
            moved_to: None,
            values: vec![(1, value(a))],
        }
    }

    fn moved(id: u8, to: u8) -> Change {
        Change::Update {
            key: key(id),
            moved_to: Some(key(to)),
            values: vec![(0, value(to))],
        }
    }

    fn delete(id: u8) -> Change {
        Change::Delete { key: key(id) }
    }

    fn fold(changes: Vec<Change>) -> Net {
        let mut fold = Fold::default();
        for change in changes {
            fold.push(change).expect("no contradiction");
        }
        fold.finish()
    }

    #[test]
    fn the_four_rules() {
        assert_eq!(fold(vec![insert(1, 1), update(1, 2)]).inserts, vec![row(1, 2, 0)]);
        assert_eq!(
            fold(vec![update(1, 1), update(1, 2)]).updates,
            vec![(key(1), vec![(1, value(2))])]
        );
        assert_eq!(fold(vec![insert(1, 1), delete(1)]), Net::default());
        assert_eq!(fold(vec![update(1, 1), delete(1)]).deletes, vec![key(1)]);
    }

    #[test]
    fn delete_then_insert_of_one_key_stays_both() {
        let net = fold(vec![delete(1), insert(1, 5)]);
        assert_eq!((net.deletes, net.inserts), (vec![key(1)], vec![row(1, 5, 0)]));
    }

    #[test]
    fn a_moved_row_keeps_its_identity() {
        let net = fold(vec![moved(1, 2), update(2, 9), moved(2, 3)]);
        assert_eq!(net.updates, vec![(key(1), vec![(0, value(3)), (1, value(9))])]);
        assert!(!net.moves_collide);
        assert_eq!(fold(vec![moved(1, 2), delete(2)]).deletes, vec![key(1)]);
        assert_eq!(fold(vec![insert(1, 4), moved(1, 2)]).inserts, vec![row(2, 4, 0)]);
        assert!(!fold(vec![moved(1, 2), moved(2, 1)]).moves_collide, "back where it was");
    }

    #[test]
    fn chains_and_swaps_of_keys_are_told() {
        assert!(fold(vec![moved(2, 3), moved(1, 2)]).moves_collide);
        assert!(fold(vec![moved(1, 9), moved(2, 1), moved(9, 2)]).moves_collide);
        assert!(!fold(vec![delete(2), moved(1, 2)]).moves_collide, "deletes come first");
    }

    #[test]
    fn contradictions_are_not_guessed_at() {
        for changes in [
            vec![insert(1, 1), insert(1, 2)],
            vec![delete(1), update(1, 1)],
            vec![moved(1, 2), delete(1)],
        ] {
            let mut fold = Fold::default();
            assert!(changes.into_iter().any(|change| fold.push(change).is_err()));
        }
    }

    type Table = BTreeMap<u8, (u8, u8)>;

    fn number(value: Option<&Bytes>) -> u8 {
        std::str::from_utf8(value.unwrap()).unwrap().parse().unwrap()
    }

    fn set(row: &mut (u8, (u8, u8)), values: &Values) {
        for (column, value) in values {
            let value = number(value.as_ref());
            match column {
                0 => row.0 = value,
                1 => row.1.0 = value,
                _ => row.1.1 = value,
            }
        }
    }

    fn apply(table: &mut Table, net: &Net) {
        for key in &net.deletes {
            assert!(table.remove(&number(key.first())).is_some());
        }
        // As one statement would: all rows are found by their old keys.
        let rows: Vec<(u8, (u8, u8))> = net
            .updates
            .iter()
            .map(|(key, values)| {
                let id = number(key.first());
                let mut row = (id, table.remove(&id).unwrap());
                set(&mut row, values);
                row
            })
            .collect();
        for (id, columns) in rows {
            assert!(table.insert(id, columns).is_none());
        }
        for values in &net.inserts {
            let mut row = (0, (0, 0));
            set(&mut row, values);
            assert!(table.insert(row.0, row.1).is_none());
        }
    }

    proptest! {
        #[test]
        fn the_net_change_gives_what_the_changes_give_one_by_one(
            start in proptest::collection::btree_map(0u8..8, (any::<u8>(), any::<u8>()), 0..8),
            steps in proptest::collection::vec((0u8..8, 0u8..4, 0u8..8, any::<u8>()), 0..60),
        ) {
            let mut origin: Table = start.clone();
            let mut fold = Fold::default();
            for (id, what, other, fresh) in steps {
                let change = match (what, origin.contains_key(&id)) {
                    (_, false) => {
                        origin.insert(id, (fresh, other));
                        Change::Insert { key: key(id), values: row(id, fresh, other) }
                    }
                    (0, true) => {
                        origin.remove(&id);
                        delete(id)
                    }
                    (1, true) if id != other && !origin.contains_key(&other) => {
                        let columns = origin.remove(&id).unwrap();
                        origin.insert(other, columns);
                        moved(id, other)
                    }
                    (2, true) => {
                        origin.get_mut(&id).unwrap().1 = fresh;
                        Change::Update { key: key(id), moved_to: None, values: vec![(2, value(fresh))] }
                    }
                    (_, true) => {
                        origin.get_mut(&id).unwrap().0 = fresh;
                        update(id, fresh)
                    }
                };
                prop_assert_eq!(fold.push(change), Ok(()));
            }
            let mut subscriber = start;
            apply(&mut subscriber, &fold.finish());
            prop_assert_eq!(subscriber, origin);
        }
    }
}
