//! What rows were before their lost changes.
//!
//! When the node failed, the survivors had exactly what it had before the first lost change. So the row before the first lost
//! change of a key is what a survivor has, unless the survivor has written it since; before a later one it is what the former
//! lost change made of it. Where neither can be known, it is said why, and nothing is guessed.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read, Seek, SeekFrom, Write};

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use trunkline_sql::equality::TableShape;
use trunkline_sql::lost::{ChangeKind, LostChange, SurvivorRow, SurvivorTable, Values};

use super::{LostError, Survivor};

/// What a row of a table that has not been looked at yet is taken to weigh.
const UNKNOWN_ROW: usize = 1024;

/// Why values of before are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unknown {
    /// The survivor has written the row since it took over.
    ChangedSince,
    /// The survivor has deleted it, or given it another key.
    GoneSince,
    /// Another row has been put in its place on the survivor.
    TakenSince,
    /// A script that is lost as well may have done anything.
    Script,
    /// The survivor did not note where its own changes begin.
    NotNoted,
    /// The survivor lacks the table or its key.
    NoTable,
    /// No node that has the sets can be asked.
    NoSurvivor,
    /// The survivor lacks a column.
    NoColumn,
    /// The lost changes of before leave no such row, or another one: keys that are exchanged at the end of a transaction.
    Unexplained,
}

impl Unknown {
    /// In words; `survivor` is the node that was asked.
    pub(super) fn text(self, survivor: Option<i32>) -> String {
        let node = survivor.map_or_else(|| "the survivor".to_owned(), |node| format!("node {node}"));
        match self {
            Self::ChangedSince => format!("changed since on {node}"),
            Self::GoneSince => format!("deleted since on {node}, or its key was changed"),
            Self::TakenSince => format!("{node} has got a row with this key since"),
            Self::Script => "a lost script before it may have changed the row".to_owned(),
            Self::NotNoted => format!("{node} has no note of where its own changes begin"),
            Self::NoTable => format!("{node} has no such table with this key"),
            Self::NoSurvivor => "no node that has the set can be asked".to_owned(),
            Self::NoColumn => format!("{node} lacks a column"),
            Self::Unexplained => "the changes before it leave another row there, or none".to_owned(),
        }
    }
}

/// A change with what can be said of its row.
#[derive(Debug)]
pub(super) struct Judged {
    /// Of an update the values of the columns it changed, of a delete all values, as far as they are known; None: there was no row.
    pub(super) old: Option<Values>,
    /// Why some or all of them are not known.
    pub(super) unknown: Option<Unknown>,
    /// What the survivor has now.
    pub(super) current: Current,
}

/// What the survivor has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Current {
    /// It cannot be asked, or it makes no sense to.
    Unknown,
    /// No such row.
    Absent,
    /// Values of the columns in question.
    Row(Values),
}

/// A row between two lost changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum RowState {
    /// There is none.
    Absent,
    /// One with these values; `unknown` says why there are more, which are not known.
    Row { values: Values, unknown: Option<Unknown> },
}

/// Follows the rows through the lost changes.
pub(super) struct Follower<'a> {
    /// The tables as the failed node has them, by `tab_id`.
    failed: HashMap<i32, TableShape>,
    survivors: &'a BTreeMap<i32, Survivor<'a>>,
    tables: HashMap<i32, Option<SurvivorTable>>,
    /// Number of the last truncation of each table that was truncated. Nothing that was known of a table's rows counts behind it.
    truncated: HashMap<i32, u64>,
    /// Number of the last script, behind which nothing counts that was known of any table.
    script: u64,
    /// Truncations and scripts until now.
    barriers: u64,
    rows: Rows,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        failed: HashMap<i32, TableShape>,
        survivors: &'a BTreeMap<i32, Survivor<'a>>,
    ) -> io::Result<Self> {
        Ok(Self {
            failed,
            survivors,
            tables: HashMap::new(),
            truncated: HashMap::new(),
            script: 0,
            barriers: 0,
            rows: Rows::new()?,
        })
    }

    /// Who is asked about the row of a change; None: nobody has its set.
    pub(super) fn survivor(&self, change: &LostChange) -> Option<&'a Survivor<'a>> {
        self.survivors.get(&change.set?)
    }

    /// The survivor's table that a change is about, if it has been asked for.
    pub(super) fn table(&self, change: &LostChange) -> Option<&SurvivorTable> {
        self.tables.get(&change.table?)?.as_ref()
    }

    /// Takes the next changes: says what their rows were, and remembers what they are now.
    ///
    /// The survivors are asked about all of them at once: over a network the time is one answer's, not the sum of all.
    pub(super) async fn take(&mut self, changes: &[LostChange]) -> Result<Vec<Judged>, LostError> {
        for change in changes.iter().filter(|change| is_about_a_row(change)) {
            self.learn_table(change).await?;
        }
        let looked = try_join_all(changes.iter().map(|change| self.look(change))).await?;
        changes
            .iter()
            .zip(looked)
            .map(|(change, looked)| self.judge(change, looked))
            .collect()
    }

    /// What a change, and the survivor's row it is about, take in memory, about.
    pub(super) fn weight(&self, change: &LostChange) -> usize {
        let own: usize = [&change.new, &change.key]
            .into_iter()
            .flatten()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len))
            .sum();
        own + self.table(change).map_or(UNKNOWN_ROW, SurvivorTable::row_bytes)
    }

    /// Asks the survivor about the rows of a change.
    async fn look(&self, change: &LostChange) -> Result<Looked, LostError> {
        if !is_about_a_row(change) {
            return Ok(Looked::Nothing(None));
        }
        let Some(survivor) = self.survivor(change) else {
            return Ok(Looked::Nothing(Some(Unknown::NoSurvivor)));
        };
        let (session, takeover) = (survivor.session, survivor.takeover.as_ref());
        let Some(known) = self.table(change) else {
            return Ok(Looked::Nothing(Some(Unknown::NoTable)));
        };
        let asked = LostError::database(survivor.node, "reading current values");
        let key = match change.kind {
            ChangeKind::Insert => known.key_of(&change.new),
            _ => known.key_of(&change.key),
        };
        let Some(key) = key else {
            return Ok(Looked::Nothing(Some(Unknown::NoTable)));
        };
        let new_key = match change.kind {
            ChangeKind::Update => known.key_of(&overlaid(change.key.clone(), &change.new)),
            _ => None,
        };
        let look = async |key: Vec<String>| {
            let key = known.key_text(session, key).await.map_err(asked)?;
            let now = known.row(session, &key, takeover).await.map_err(asked)?;
            Ok::<_, LostError>(RowNow { key, now })
        };
        // As a rule the key is not changed, and is written as it was.
        let new_key = new_key.filter(|new_key| *new_key != key);
        let row = look(key).await?;
        let other = match new_key {
            Some(new_key) => Some(look(new_key).await?).filter(|other| other.key != row.key),
            None => None,
        };
        Ok(Looked::Rows { row, other })
    }

    /// Says what the row of the next change was.
    fn judge(&mut self, change: &LostChange, looked: Looked) -> Result<Judged, LostError> {
        let nothing = |unknown: Option<Unknown>| Judged {
            old: None,
            // A row that is inserted has none.
            unknown: unknown.filter(|_| change.kind != ChangeKind::Insert),
            current: Current::Unknown,
        };
        let Some(table) = change.table else {
            self.barriers += 1;
            self.script = self.barriers;
            return Ok(nothing(None));
        };
        if change.kind == ChangeKind::Truncate {
            self.barriers += 1;
            self.truncated.insert(table, self.barriers);
            return Ok(nothing(None));
        }
        let (RowNow { key, now }, other) = match looked {
            Looked::Rows { row, other } => (row, other),
            Looked::Nothing(unknown) => return Ok(nothing(unknown)),
        };
        let Some(Some(known)) = self.tables.get(&table) else {
            return Ok(nothing(Some(Unknown::NoTable)));
        };
        let followed = self.rows.get(table, &key)?;
        let before = self.before(table, known, followed, now.as_ref());
        let (old, mut unknown, mut after) = applied(change, before, now.is_some());
        if let Some(other) = other {
            let followed = self.rows.get(table, &other.key)?;
            if self.before(table, known, followed, other.now.as_ref()).has_row() {
                unknown = Some(Unknown::Unexplained);
                after = RowState::unknown(Unknown::Unexplained);
            }
            self.rows.put(table, &key, self.barriers, &RowState::Absent)?;
            self.rows.put(table, &other.key, self.barriers, &after)?;
        } else {
            self.rows.put(table, &key, self.barriers, &after)?;
        }
        let current = match now {
            None => Current::Absent,
            Some(row) if change.kind == ChangeKind::Delete => Current::Row(row.values),
            Some(row) => Current::Row(picked(&row.values, &change.new)),
        };
        Ok(Judged { old, unknown, current })
    }

    async fn learn_table(&mut self, change: &LostChange) -> Result<(), LostError> {
        let (Some(survivor), Some(table)) = (self.survivor(change), change.table) else {
            return Ok(());
        };
        let Entry::Vacant(entry) = self.tables.entry(table) else {
            return Ok(());
        };
        let session = survivor.session;
        let found = SurvivorTable::read(session, session.server_version(), change, self.failed.get(&table))
            .await
            .map_err(LostError::database(survivor.node, "reading its tables"))?;
        entry.insert(found);
        Ok(())
    }

    /// The row before a change.
    fn before(
        &self,
        table: i32,
        known: &SurvivorTable,
        followed: Option<(u64, RowState)>,
        now: Option<&SurvivorRow>,
    ) -> Before {
        let truncated = self.truncated.get(&table).copied().unwrap_or(0);
        let barrier = truncated.max(self.script);
        if let Some((written, state)) = followed
            && written >= barrier
        {
            return Before { state, first: false };
        }
        if barrier > 0 {
            let state = if barrier == truncated {
                RowState::Absent
            } else {
                RowState::unknown(Unknown::Script)
            };
            return Before { state, first: false };
        }
        let state = match now.map(|row| (row, row.unchanged)) {
            None => RowState::unknown(Unknown::GoneSince),
            Some((_, Some(false))) => RowState::unknown(Unknown::ChangedSince),
            Some((_, None)) => RowState::unknown(Unknown::NotNoted),
            Some((row, Some(true))) => RowState::Row {
                values: row.values.clone(),
                unknown: (!known.is_complete()).then_some(Unknown::NoColumn),
            },
        };
        Before { state, first: true }
    }
}

/// Whether a change names a row: scripts and truncations do not.
fn is_about_a_row(change: &LostChange) -> bool {
    change.table.is_some() && change.kind != ChangeKind::Truncate
}

/// What the survivor says of a change.
enum Looked {
    /// It is not asked, or has no such table: why.
    Nothing(Option<Unknown>),
    Rows {
        row: RowNow,
        /// The row with the new key, where the change gives it another.
        other: Option<RowNow>,
    },
}

/// A row as the survivor has it.
struct RowNow {
    key: Vec<String>,
    now: Option<SurvivorRow>,
}

/// The row before a change.
struct Before {
    state: RowState,
    /// No lost change has touched the key yet: it is the survivor's word.
    first: bool,
}

impl Before {
    /// Whether the failed node had a row there for certain.
    fn has_row(&self) -> bool {
        match &self.state {
            RowState::Absent => false,
            RowState::Row { unknown, .. } => !self.first || matches!(unknown, None | Some(Unknown::NoColumn)),
        }
    }
}

impl RowState {
    /// A row of which nothing is known.
    fn unknown(why: Unknown) -> Self {
        Self::Row {
            values: Values::new(),
            unknown: Some(why),
        }
    }
}

/// What a change makes of a row: its old values, why some are not known, and the row after it. `there`: the survivor has a row with
/// the key now.
fn applied(change: &LostChange, before: Before, there: bool) -> (Option<Values>, Option<Unknown>, RowState) {
    match change.kind {
        ChangeKind::Insert => {
            if before.has_row()
                && !matches!(
                    &before.state,
                    RowState::Row {
                        unknown: Some(Unknown::Script),
                        ..
                    }
                )
            {
                let why = Unknown::Unexplained;
                return (None, Some(why), RowState::unknown(why));
            }
            let after = RowState::Row {
                values: change.new.clone(),
                unknown: None,
            };
            // The failed node could insert it, so a row that is there now has come since.
            (None, (before.first && there).then_some(Unknown::TakenSince), after)
        }
        ChangeKind::Delete => match before.state {
            RowState::Row { values, unknown } => (Some(values), unknown, RowState::Absent),
            RowState::Absent => (None, Some(Unknown::Unexplained), RowState::Absent),
        },
        _ => {
            let (values, unknown) = match before.state {
                RowState::Row { values, unknown } => (values, unknown),
                RowState::Absent => (Values::new(), Some(Unknown::Unexplained)),
            };
            let old = picked(&values, &change.new);
            // What the changed columns were may be known though the rest of the row is not.
            let complete = old.len() == change.new.len();
            let after = RowState::Row {
                values: overlaid(overlaid(values, &change.key), &change.new),
                unknown,
            };
            let why = (!complete).then(|| unknown.unwrap_or(Unknown::NoColumn));
            (Some(old), why, after)
        }
    }
}

/// Those of `values` whose columns `wanted` names.
fn picked(values: &Values, wanted: &Values) -> Values {
    values
        .iter()
        .filter(|(column, _)| wanted.iter().any(|(name, _)| name == column))
        .cloned()
        .collect()
}

/// `values` with those of `newer` in their place.
fn overlaid(mut values: Values, newer: &Values) -> Values {
    for (column, value) in newer {
        match values.iter_mut().find(|(name, _)| name == column) {
            Some((_, old)) => old.clone_from(value),
            None => values.push((column.clone(), value.clone())),
        }
    }
    values
}

/// Rows as the lost changes leave them. The values are in a file without a name, so memory does not grow with their width: 40
/// bytes or so for each key.
struct Rows {
    file: File,
    end: u64,
    places: HashMap<(i32, u64, u64), Place>,
    hashers: (RandomState, RandomState),
}

#[derive(Clone, Copy)]
struct Place {
    start: u64,
    length: u32,
    /// Number of the barriers that were behind when it was written.
    written: u64,
}

impl Rows {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            end: 0,
            places: HashMap::new(),
            hashers: (RandomState::new(), RandomState::new()),
        })
    }

    /// Two hashes of 64 bits: keys are as good as told apart.
    fn place(&self, table: i32, key: &[String]) -> (i32, u64, u64) {
        (table, self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }

    fn get(&mut self, table: i32, key: &[String]) -> io::Result<Option<(u64, RowState)>> {
        let Some(place) = self.places.get(&self.place(table, key)).copied() else {
            return Ok(None);
        };
        let mut text = vec![0; place.length as usize];
        self.file.seek(SeekFrom::Start(place.start))?;
        self.file.read_exact(&mut text)?;
        Ok(Some((place.written, serde_json::from_slice(&text)?)))
    }

    fn put(&mut self, table: i32, key: &[String], written: u64, state: &RowState) -> io::Result<()> {
        let text = serde_json::to_vec(state)?;
        let length = u32::try_from(text.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&text)?;
        let place = Place {
            start: self.end,
            length,
            written,
        };
        self.end += u64::from(length);
        let at = self.place(table, key);
        self.places.insert(at, place);
        Ok(())
    }
}
