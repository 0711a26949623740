//! The net change of a stretch of the log of one table, per key. Pure: no database, no types, only logged values.
//!
//! Insert then update is an insert, update then update is one update, insert then delete is nothing, update then delete
//! is a delete; a row whose key changes keeps its identity. What comes out is applied as deletes, then updates, then
//! inserts; the caller must fall back to the original order when [`Net::moves_collide`] or the server says so.
//!
//! Keys and values stay where they are, in the buffers they were received in. They are borrowed and put into a few long
//! vectors, so a change costs no allocation of its own.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::hash_table::{Entry as Place, HashTable};
use hashbrown::{DefaultHashBuilder, HashSet};

/// A logged value; None is null.
pub type Value<'a> = Option<&'a [u8]>;

/// One logged change. Columns are positions in the relation, keys are in the relation's key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'c, 'a> {
    /// A new row with all its columns.
    Insert {
        /// Its key.
        key: &'c [&'a [u8]],
        /// The columns ...
        columns: &'c [usize],
        /// ... and their values.
        values: &'c [Value<'a>],
    },
    /// A changed row.
    Update {
        /// Key before the change.
        key: &'c [&'a [u8]],
        /// Key after it, where it is another one.
        moved_to: Option<&'c [&'a [u8]]>,
        /// The changed columns ...
        columns: &'c [usize],
        /// ... and their values.
        values: &'c [Value<'a>],
    },
    /// A row gone.
    Delete {
        /// Its key.
        key: &'c [&'a [u8]],
    },
}

/// Changes that contradict each other: a row inserted twice, or changed after its deletion.
///
/// Cannot come from a key that identifies rows; the caller applies such a stretch row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

/// A row that the stretch changes.
#[derive(Debug)]
struct Entry {
    /// Where its key before the stretch begins in [`Fold::keys`]; None for a row born in it.
    before: Option<usize>,
    /// Where its present key begins.
    now: usize,
    /// Changed (or, for a new row, all) columns; None once deleted.
    cells: Option<Cells>,
    /// Whether the key differs from `before`.
    moved: bool,
}

/// Values of a row.
#[derive(Debug, Clone, Copy)]
struct Cells {
    /// Which columns: an index into [`Fold::layouts`].
    layout: usize,
    /// Where the values begin in [`Fold::cells`].
    start: usize,
}

/// What is known of a key.
#[derive(Debug)]
struct Slot {
    /// Where the key begins in [`Fold::keys`].
    key: usize,
    /// The row that has it now; None: its row of before the stretch was deleted or moved away and nobody took it since.
    entry: Option<usize>,
}

/// Folds the changes of one table.
#[derive(Debug)]
pub struct Fold<'a> {
    /// Columns of a key.
    width: usize,
    keys: Vec<&'a [u8]>,
    cells: Vec<Value<'a>>,
    entries: Vec<Entry>,
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    layouts: Vec<Box<[usize]>>,
    layout_index: HashMap<Box<[usize]>, usize>,
}

/// Rows with the same columns.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The columns.
    pub columns: Box<[usize]>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row of a [`Group`]: see [`Net::key`] and [`Net::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    key: usize,
    cells: usize,
}

/// What is left of a stretch.
#[derive(Debug)]
pub struct Net<'a> {
    width: usize,
    keys: Vec<&'a [u8]>,
    cells: Vec<Value<'a>>,
    /// Rows to delete, first: only their keys (before the stretch) count.
    pub deletes: Vec<Row>,
    /// Rows to change, second: their keys (before the stretch) and new values.
    pub updates: Vec<Group>,
    /// Rows to insert, last: only their values count.
    pub inserts: Vec<Group>,
    /// A changed row takes the key that another changed row gives up, so the order of updates matters.
    pub moves_collide: bool,
}

impl<'a> Fold<'a> {
    /// Nothing yet, for a table whose key has `width` columns; `rows` changes are expected.
    #[must_use]
    pub fn new(width: usize, rows: usize) -> Self {
        Self {
            width,
            keys: Vec::with_capacity(rows * width),
            cells: Vec::with_capacity(rows * 2),
            entries: Vec::with_capacity(rows),
            slots: HashTable::with_capacity(rows),
            hasher: DefaultHashBuilder::default(),
            layouts: Vec::new(),
            layout_index: HashMap::new(),
        }
    }

    /// Adds the next change.
    ///
    /// # Errors
    /// [`Contradiction`]; the fold is useless afterwards.
    pub fn push(&mut self, change: Change<'_, 'a>) -> Result<(), Contradiction> {
        match change {
            Change::Insert { key, columns, values } => {
                let entry = self.entries.len();
                let now = self.occupy(key, entry)?;
                let cells = self.store(columns, values);
                self.entries.push(Entry {
                    before: None,
                    now,
                    cells: Some(cells),
                    moved: false,
                });
            }
            Change::Update {
                key,
                moved_to,
                columns,
                values,
            } => {
                let (index, is_new) = self.locate(key)?;
                if is_new {
                    let cells = self.store(columns, values);
                    self.entries[index].cells = Some(cells);
                } else if let Some(cells) = self.entries[index].cells {
                    let merged = self.merge(cells, columns, values);
                    self.entries[index].cells = Some(merged);
                }
                if let Some(new_key) = moved_to {
                    self.vacate(key);
                    let now = self.occupy(new_key, index)?;
                    self.entries[index].now = now;
                    self.entries[index].moved = match self.entries[index].before {
                        Some(before) => self.keys[before..before + self.width] != *new_key,
                        None => true,
                    };
                }
            }
            Change::Delete { key } => {
                let (index, _) = self.locate(key)?;
                self.entries[index].cells = None;
                self.vacate(key);
            }
        }
        Ok(())
    }

    fn hash(hasher: &DefaultHashBuilder, key: &[&[u8]]) -> u64 {
        hasher.hash_one(key)
    }

    /// The place of a key in the table of slots; `fresh` is where the key would begin if it is new.
    fn place(&mut self, key: &[&'a [u8]]) -> Place<'_, Slot> {
        let (keys, width, hasher) = (&self.keys, self.width, &self.hasher);
        let of = |slot: &Slot| &keys[slot.key..slot.key + width];
        self.slots.entry(
            Self::hash(hasher, key),
            |slot| of(slot) == key,
            |slot| Self::hash(hasher, of(slot)),
        )
    }

    /// Gives a key to a row; returns where the key begins.
    fn occupy(&mut self, key: &[&'a [u8]], entry: usize) -> Result<usize, Contradiction> {
        let fresh = self.keys.len();
        let begins = match self.place(key) {
            Place::Occupied(mut place) => {
                let slot = place.get_mut();
                if slot.entry.replace(entry).is_some() {
                    return Err(Contradiction);
                }
                return Ok(slot.key);
            }
            Place::Vacant(place) => {
                place.insert(Slot {
                    key: fresh,
                    entry: Some(entry),
                });
                fresh
            }
        };
        self.keys.extend_from_slice(key);
        Ok(begins)
    }

    /// The row with that key has it no more.
    fn vacate(&mut self, key: &[&'a [u8]]) {
        if let Place::Occupied(mut place) = self.place(key) {
            place.get_mut().entry = None;
        }
    }

    /// Index of the row with that key, and whether it was not met before: then it existed before the stretch.
    fn locate(&mut self, key: &[&'a [u8]]) -> Result<(usize, bool), Contradiction> {
        let (fresh, index) = (self.keys.len(), self.entries.len());
        match self.place(key) {
            Place::Occupied(place) => return place.get().entry.map(|entry| (entry, false)).ok_or(Contradiction),
            Place::Vacant(place) => {
                place.insert(Slot {
                    key: fresh,
                    entry: Some(index),
                });
            }
        }
        self.keys.extend_from_slice(key);
        self.entries.push(Entry {
            before: Some(fresh),
            now: fresh,
            cells: None,
            moved: false,
        });
        Ok((index, true))
    }

    fn layout(&mut self, columns: &[usize]) -> usize {
        // Nearly always the columns of a row met shortly before.
        if let Some(index) = self.layouts.iter().take(4).position(|known| **known == *columns) {
            return index;
        }
        if let Some(index) = self.layout_index.get(columns) {
            return *index;
        }
        let index = self.layouts.len();
        self.layouts.push(columns.into());
        self.layout_index.insert(columns.into(), index);
        index
    }

    fn store(&mut self, columns: &[usize], values: &[Value<'a>]) -> Cells {
        let layout = self.layout(columns);
        let start = self.cells.len();
        self.cells.extend_from_slice(values);
        Cells { layout, start }
    }

    /// Puts newer values over older ones.
    fn merge(&mut self, older: Cells, columns: &[usize], values: &[Value<'a>]) -> Cells {
        let known = &self.layouts[older.layout];
        let mut added: Vec<usize> = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            match known.iter().position(|present| present == column) {
                Some(place) => self.cells[older.start + place] = values[index],
                None => added.push(index),
            }
        }
        if added.is_empty() {
            return older;
        }
        let mut union: Vec<usize> = known.to_vec();
        union.extend(added.iter().map(|index| columns[*index]));
        let start = self.cells.len();
        self.cells
            .extend_from_within(older.start..older.start + self.layouts[older.layout].len());
        self.cells.extend(added.iter().map(|index| values[*index]));
        Cells {
            layout: self.layout(&union),
            start,
        }
    }

    /// The net change.
    #[must_use]
    pub fn finish(self) -> Net<'a> {
        let moves_collide = self.moves_collide();
        let mut net = Net {
            width: self.width,
            keys: self.keys,
            cells: self.cells,
            deletes: Vec::new(),
            updates: Vec::new(),
            inserts: Vec::new(),
            moves_collide,
        };
        let mut updates: Vec<Vec<Row>> = self.layouts.iter().map(|_| Vec::new()).collect();
        let mut inserts: Vec<Vec<Row>> = self.layouts.iter().map(|_| Vec::new()).collect();
        for entry in self.entries {
            match (entry.before, entry.cells) {
                (None, Some(cells)) => inserts[cells.layout].push(Row {
                    key: entry.now,
                    cells: cells.start,
                }),
                (Some(key), None) => net.deletes.push(Row { key, cells: 0 }),
                (Some(key), Some(cells)) if !self.layouts[cells.layout].is_empty() => {
                    updates[cells.layout].push(Row {
                        key,
                        cells: cells.start,
                    });
                }
                _ => {}
            }
        }
        for ((columns, updates), inserts) in self.layouts.into_iter().zip(updates).zip(inserts) {
            for (rows, groups) in [(updates, &mut net.updates), (inserts, &mut net.inserts)] {
                if !rows.is_empty() {
                    groups.push(Group {
                        columns: columns.clone(),
                        rows,
                    });
                }
            }
        }
        net
    }

    /// A moved row may land on the former key of another moved row: then one must go before the other.
    fn moves_collide(&self) -> bool {
        let key = |start: usize| &self.keys[start..start + self.width];
        let moved = || {
            self.entries
                .iter()
                .filter(|entry| entry.moved && entry.cells.is_some())
                .filter_map(|entry| entry.before.map(|before| (before, entry.now)))
        };
        if moved().next().is_none() {
            return false;
        }
        let taken: HashSet<&[&[u8]]> = moved().map(|(_, now)| key(now)).collect();
        moved().any(|(before, _)| taken.contains(key(before)))
    }
}

impl<'a> Net<'a> {
    /// The key of a row: before the stretch, or that of a new row.
    #[must_use]
    pub fn key(&self, row: Row) -> &[&'a [u8]] {
        &self.keys[row.key..row.key + self.width]
    }

    /// The values of a row, in the order of its group's columns.
    #[must_use]
    pub fn values(&self, group: &Group, row: Row) -> &[Value<'a>] {
        &self.cells[self.range(group, row)]
    }

    #[expect(
        clippy::unused_self,
        reason = "rows mean something only together with their net change"
    )]
    fn range(&self, group: &Group, row: Row) -> Range<usize> {
        row.cells..row.cells + group.columns.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Each number as one byte that lives for ever: what stands for a logged value here.
    static BYTES: [u8; 256] = {
        let mut bytes = [0; 256];
        let mut number = 0u8;
        loop {
            bytes[number as usize] = number;
            if number == u8::MAX {
                break bytes;
            }
            number += 1;
        }
    };

    fn text(number: u8) -> &'static [u8] {
        &BYTES[usize::from(number)..=usize::from(number)]
    }

    /// Columns and their values.
    type Columns = Vec<(usize, Option<u8>)>;

    /// A change of a table whose columns are 0 (the key), 1 and 2 (values, `None` is null).
    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, Option<u8>, Option<u8>),
        Update(u8, Columns),
        Delete(u8),
    }
    use Step::{Delete, Insert, Update};

    fn moved(id: u8, to: u8) -> Step {
        Update(id, vec![(0, Some(to))])
    }

    fn update(id: u8, a: u8) -> Step {
        Update(id, vec![(1, Some(a))])
    }

    /// The key is (k, id): two columns, of which the first is the same for all, so that whole keys are compared.
    fn push(fold: &mut Fold<'static>, step: &Step) -> Result<(), Contradiction> {
        let key = |id: u8| [text(7), text(id)];
        match step {
            Insert(id, a, b) => fold.push(Change::Insert {
                key: &key(*id),
                columns: &[0, 1, 2],
                values: &[Some(text(*id)), a.map(text), b.map(text)],
            }),
            Update(id, values) => {
                let new_key = values
                    .iter()
                    .find(|(column, _)| *column == 0)
                    .map(|(_, value)| key(value.unwrap()));
                let columns: Vec<usize> = values.iter().map(|(column, _)| *column).collect();
                let values: Vec<Value<'static>> = values.iter().map(|(_, value)| value.map(text)).collect();
                fold.push(Change::Update {
                    key: &key(*id),
                    moved_to: new_key.as_ref().map(|key| &key[..]),
                    columns: &columns,
                    values: &values,
                })
            }
            Delete(id) => fold.push(Change::Delete { key: &key(*id) }),
        }
    }

    /// A net change in plain numbers.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Plain {
        deletes: Vec<u8>,
        updates: Vec<(u8, Columns)>,
        inserts: Vec<Columns>,
        moves_collide: bool,
    }

    fn plain(net: &Net<'static>) -> Plain {
        let id = |row: Row| net.key(row)[1][0];
        let values = |group: &Group, row: Row| {
            let values = net.values(group, row).iter().map(|value| value.map(|text| text[0]));
            let mut all: Columns = group.columns.iter().copied().zip(values).collect();
            all.sort_unstable();
            all
        };
        let mut result = Plain {
            deletes: net.deletes.iter().map(|row| id(*row)).collect(),
            moves_collide: net.moves_collide,
            ..Plain::default()
        };
        for group in &net.updates {
            result
                .updates
                .extend(group.rows.iter().map(|row| (id(*row), values(group, *row))));
        }
        for group in &net.inserts {
            result.inserts.extend(group.rows.iter().map(|row| values(group, *row)));
        }
        result
    }

    fn fold(steps: &[Step]) -> Plain {
        let mut fold = Fold::new(2, steps.len());
        for step in steps {
            push(&mut fold, step).expect("no contradiction");
        }
        plain(&fold.finish())
    }

    fn row(id: u8, a: u8, b: u8) -> Columns {
        vec![(0, Some(id)), (1, Some(a)), (2, Some(b))]
    }

    fn insert(id: u8, a: u8) -> Step {
        Insert(id, Some(a), Some(0))
    }

    #[test]
    fn the_four_rules() {
        assert_eq!(fold(&[insert(1, 1), update(1, 2)]).inserts, vec![row(1, 2, 0)]);
        assert_eq!(
            fold(&[update(1, 1), update(1, 2)]).updates,
            vec![(1, vec![(1, Some(2))])]
        );
        assert_eq!(fold(&[insert(1, 1), Delete(1)]), Plain::default());
        assert_eq!(fold(&[update(1, 1), Delete(1)]).deletes, vec![1]);
    }

    #[test]
    fn delete_then_insert_of_one_key_stays_both() {
        let net = fold(&[Delete(1), insert(1, 5)]);
        assert_eq!((net.deletes, net.inserts), (vec![1], vec![row(1, 5, 0)]));
    }

    #[test]
    fn changes_of_different_columns_become_one() {
        let net = fold(&[update(1, 3), Update(1, vec![(2, None)]), update(1, 4), update(2, 9)]);
        assert_eq!(
            net.updates,
            vec![(2, vec![(1, Some(9))]), (1, vec![(1, Some(4)), (2, None)])]
        );
    }

    #[test]
    fn a_moved_row_keeps_its_identity() {
        let net = fold(&[moved(1, 2), update(2, 9), moved(2, 3)]);
        assert_eq!(net.updates, vec![(1, vec![(0, Some(3)), (1, Some(9))])]);
        assert!(!net.moves_collide);
        assert_eq!(fold(&[moved(1, 2), Delete(2)]).deletes, vec![1]);
        assert_eq!(fold(&[insert(1, 4), moved(1, 2)]).inserts, vec![row(2, 4, 0)]);
        assert!(!fold(&[moved(1, 2), moved(2, 1)]).moves_collide, "back where it was");
    }

    #[test]
    fn chains_and_swaps_of_keys_are_told() {
        assert!(fold(&[moved(2, 3), moved(1, 2)]).moves_collide);
        assert!(fold(&[moved(1, 9), moved(2, 1), moved(9, 2)]).moves_collide);
        assert!(!fold(&[Delete(2), moved(1, 2)]).moves_collide, "deletes come first");
    }

    #[test]
    fn contradictions_are_not_guessed_at() {
        for steps in [
            vec![insert(1, 1), insert(1, 2)],
            vec![Delete(1), update(1, 1)],
            vec![Delete(1), Delete(1)],
            vec![moved(1, 2), Delete(1)],
        ] {
            let mut fold = Fold::new(2, 2);
            assert!(steps.iter().any(|step| push(&mut fold, step).is_err()));
        }
    }

    #[test]
    fn keys_of_several_columns_are_not_run_together() {
        let mut fold = Fold::new(2, 2);
        for key in [[&b"ab"[..], b"c"], [b"a", b"bc"]] {
            fold.push(Change::Insert {
                key: &key,
                columns: &[0, 1],
                values: &[Some(key[0]), Some(key[1])],
            })
            .unwrap();
        }
        assert_eq!(fold.finish().inserts[0].rows.len(), 2);
    }

    type Pair = (Option<u8>, Option<u8>);
    type Table = BTreeMap<u8, Pair>;

    fn set(row: &mut (u8, Pair), values: &[(usize, Option<u8>)]) {
        for (column, value) in values {
            match column {
                0 => row.0 = value.unwrap(),
                1 => row.1.0 = *value,
                _ => row.1.1 = *value,
            }
        }
    }

    fn apply(table: &mut Table, net: &Plain) {
        for id in &net.deletes {
            assert!(table.remove(id).is_some());
        }
        // As one statement would: all rows are found by their old keys.
        let rows: Vec<(u8, Pair)> = net
            .updates
            .iter()
            .map(|(id, values)| {
                let mut row = (*id, table.remove(id).unwrap());
                set(&mut row, values);
                row
            })
            .collect();
        for (id, columns) in rows {
            assert!(table.insert(id, columns).is_none());
        }
        for values in &net.inserts {
            let mut row = (0, (None, None));
            set(&mut row, values);
            assert!(table.insert(row.0, row.1).is_none());
        }
    }

    /// What an origin would do next: `what` chooses, the rest are numbers to do it with.
    fn next(origin: &Table, id: u8, what: u8, other: u8, fresh: Option<u8>) -> Step {
        match what {
            _ if !origin.contains_key(&id) => Insert(id, fresh, Some(other)),
            0 => Delete(id),
            1 if id != other && !origin.contains_key(&other) => moved(id, other),
            2 if id != other && !origin.contains_key(&other) => Update(id, vec![(0, Some(other)), (2, fresh)]),
            3 => Update(id, vec![(2, fresh)]),
            4 => Update(id, vec![(1, fresh), (2, Some(other))]),
            5 => Update(id, Vec::new()),
            _ => Update(id, vec![(1, fresh)]),
        }
    }

    fn do_it(table: &mut Table, step: &Step) {
        match step {
            Insert(id, a, b) => assert!(table.insert(*id, (*a, *b)).is_none()),
            Update(id, values) => {
                let mut row = (*id, table.remove(id).unwrap());
                set(&mut row, values);
                assert!(table.insert(row.0, row.1).is_none());
            }
            Delete(id) => assert!(table.remove(id).is_some()),
        }
    }

    proptest! {
        #[test]
        fn the_net_change_gives_what_the_changes_give_one_by_one(
            start in proptest::collection::btree_map(0u8..8, (any::<Option<u8>>(), any::<Option<u8>>()), 0..8),
            steps in proptest::collection::vec((0u8..8, 0u8..7, 0u8..8, any::<Option<u8>>()), 0..80),
        ) {
            let mut origin: Table = start.clone();
            let mut fold = Fold::new(2, 4);
            for (id, what, other, fresh) in steps {
                let step = next(&origin, id, what, other, fresh);
                do_it(&mut origin, &step);
                prop_assert_eq!(push(&mut fold, &step), Ok(()));
            }
            let net = plain(&fold.finish());
            let mut touched: Vec<u8> = net.deletes.iter().copied().chain(net.updates.iter().map(|(id, _)| *id)).collect();
            touched.sort_unstable();
            touched.dedup();
            prop_assert_eq!(touched.len(), net.deletes.len() + net.updates.len(), "a row is touched once");
            let mut subscriber = start;
            apply(&mut subscriber, &net);
            prop_assert_eq!(subscriber, origin);
        }
    }
}
