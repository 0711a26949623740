//! What is to be done with a chunk of the log, worked out before the database is asked: pure, so it can be done while the
//! server is still busy with the chunk before.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use hashbrown::HashMap;
use trunkline_sql::relation::{Relation, Transport};
use trunkline_sql::wire::{ArrayBuilder, ArrayKind, Encoded, NotAnInteger, push_copy_text};

use super::catalog::{Shape, TableName, Tables};
use super::change::RowReader;
use super::{Applied, ApplyError};
use crate::fold::{Fold, Group, Net, Row};
use crate::log_row::LogRow;

/// Up to so many rows one by one are as quick as a net change.
const FEW_ROWS: usize = 12;

/// Rows from which on COPY is cheaper than an INSERT from arrays.
const COPY_FROM_ROWS: usize = 50;

/// Most rows of one statement, which bounds its parameters together with the size of a chunk.
const ROWS_PER_STATEMENT: usize = 5_000;

/// Bytes of a COPY message.
const COPY_MESSAGE: usize = 64 * 1024;

/// A chunk with the work it asks for.
#[derive(Debug)]
pub struct Prepared {
    pub(super) stretches: Vec<Stretch>,
    /// The tables it was worked out with.
    relations: Vec<(Arc<Relation>, usize)>,
}

/// Rows between two TRUNCATEs, or one TRUNCATE.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) rows: Range<usize>,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    /// The row is a TRUNCATE.
    Truncate,
    /// Row by row in the order of the log; `watched`: because somebody watches the order.
    InOrder { watched: bool },
    /// Table by table.
    ByTable { tables: Vec<TableWork>, counts: Applied },
    /// The net change cannot be put into parameters.
    Unfit(ApplyError),
}

/// What becomes of the rows of one table.
#[derive(Debug)]
pub(super) enum TableWork {
    /// The net change as statements.
    Net {
        relation: Arc<Relation>,
        steps: Vec<Step>,
        /// Rows that must be there to be deleted or changed.
        expected: u64,
    },
    /// The rows (positions in the chunk) in their order.
    Rows { rows: Vec<usize> },
}

/// One statement of a net change.
#[derive(Debug)]
pub(super) enum Step {
    /// A statement over arrays.
    Bulk {
        shape: Shape,
        command: &'static str,
        /// Columns to write.
        columns: Box<[usize]>,
        parameters: Vec<Encoded>,
    },
    /// New rows by COPY.
    Copy {
        columns: Box<[usize]>,
        messages: Vec<Bytes>,
    },
    /// So many rows of which every column is computed by the server.
    Defaults(usize),
}

impl Prepared {
    /// Works a chunk out; None where a table is not known yet.
    #[must_use]
    pub fn new(rows: &[LogRow], tables: &Tables) -> Option<Self> {
        let mut prepared = Self {
            stretches: Vec::new(),
            relations: Vec::new(),
        };
        let mut at = 0;
        while at < rows.len() {
            let end = rows[at..]
                .iter()
                .position(|row| row.command == b'T')
                .map_or(rows.len(), |length| at + length);
            if end > at {
                let work = prepared.stretch(rows, at..end, tables)?;
                prepared.stretches.push(Stretch { rows: at..end, work });
            }
            if end < rows.len() {
                tables.get(TableName::of(&rows[end]))?;
                prepared.stretches.push(Stretch {
                    rows: end..end + 1,
                    work: Work::Truncate,
                });
            }
            at = end + 1;
        }
        Some(prepared)
    }

    /// Whether the tables it was worked out with are still what is known of them.
    pub(super) fn fits(&self, rows: &[LogRow], tables: &Tables) -> bool {
        self.relations.iter().all(|(relation, row)| {
            let known = tables.get(TableName::of(&rows[*row]));
            known.is_some_and(|known| Arc::ptr_eq(known, relation))
        })
    }

    fn stretch(&mut self, rows: &[LogRow], range: Range<usize>, tables: &Tables) -> Option<Work> {
        let mut slots: Vec<TableRows<'_>> = Vec::new();
        let mut index: HashMap<TableName<'_>, usize> = HashMap::new();
        let few = range.len() <= FEW_ROWS;
        let mut watched = false;
        let mut last = usize::MAX;
        for at in range {
            let row = &rows[at];
            let name = TableName::of(row);
            if slots.get(last).is_none_or(|slot| slot.name != name) {
                last = if let Some(slot) = index.get(&name) {
                    *slot
                } else {
                    let relation = tables.get(name)?;
                    watched |= relation.fires_triggers;
                    self.relations.push((Arc::clone(relation), at));
                    slots.push(TableRows::new(name, relation));
                    index.insert(name, slots.len() - 1);
                    slots.len() - 1
                };
            }
            if !few && !watched {
                slots[last].push(at, row);
            }
        }
        if watched || few {
            return Some(Work::InOrder { watched });
        }
        let mut counts = Applied::default();
        let mut work = Vec::with_capacity(slots.len());
        for slot in slots {
            slot.count(&mut counts);
            match slot.finish() {
                Ok(table) => work.push(table),
                Err(error) => return Some(Work::Unfit(error)),
            }
        }
        Some(Work::ByTable { tables: work, counts })
    }
}

/// The rows of one table as they are met.
struct TableRows<'a> {
    name: TableName<'a>,
    relation: &'a Arc<Relation>,
    reader: RowReader<'a>,
    /// None once the rows cannot be folded.
    fold: Option<Fold<'a>>,
    rows: Vec<usize>,
    inserts: u64,
    updates: u64,
    deletes: u64,
}

impl<'a> TableRows<'a> {
    fn new(name: TableName<'a>, relation: &'a Arc<Relation>) -> Self {
        Self {
            name,
            relation,
            reader: RowReader::default(),
            fold: relation.is_foldable().then(|| Fold::new(relation.key.len(), 256)),
            rows: Vec::new(),
            inserts: 0,
            updates: 0,
            deletes: 0,
        }
    }

    /// Adds a row. One that does not fit what is known of the table has all of them applied in order, where the table is
    /// looked at again.
    fn push(&mut self, at: usize, row: &'a LogRow) {
        match row.command {
            b'I' => self.inserts += 1,
            b'U' => self.updates += 1,
            _ => self.deletes += 1,
        }
        self.rows.push(at);
        if let Some(fold) = &mut self.fold {
            let folded = self.reader.read(row, self.relation).is_ok()
                && matches!(self.reader.fold(self.relation, fold), Some(Ok(())));
            if !folded {
                self.fold = None;
            }
        }
    }

    fn count(&self, applied: &mut Applied) {
        applied.inserts += self.inserts;
        applied.updates += self.updates;
        applied.deletes += self.deletes;
    }

    fn finish(self) -> Result<TableWork, ApplyError> {
        let net = self.fold.map(Fold::finish).filter(|net| !net.moves_collide);
        let Some(net) = net else {
            return Ok(TableWork::Rows { rows: self.rows });
        };
        let expected = net.deletes.len() + net.updates.iter().map(|group| group.rows.len()).sum::<usize>();
        let steps = steps(self.relation, net).map_err(|source| ApplyError::Value {
            table: self.relation.qualified.clone(),
            source,
        })?;
        Ok(TableWork::Net {
            relation: Arc::clone(self.relation),
            steps,
            expected: expected as u64,
        })
    }
}

/// The statements of a net change: deletes, updates, inserts.
fn steps(relation: &Relation, mut net: Net<'_>) -> Result<Vec<Step>, NotAnInteger> {
    let mut steps = Vec::new();
    let nothing: Box<[usize]> = Box::default();
    let mut deletes = std::mem::take(&mut net.deletes);
    sort_by_key(relation, &net, &mut deletes);
    for part in deletes.chunks(ROWS_PER_STATEMENT) {
        let mut parameters = Vec::new();
        encode_keys(relation, &net, part, &mut parameters)?;
        steps.push(Step::Bulk {
            shape: Shape::BulkDelete,
            command: "DELETE",
            columns: nothing.clone(),
            parameters,
        });
    }
    for mut group in std::mem::take(&mut net.updates) {
        let mut rows = std::mem::take(&mut group.rows);
        sort_by_key(relation, &net, &mut rows);
        for part in rows.chunks(ROWS_PER_STATEMENT) {
            let mut parameters = Vec::new();
            encode_values(relation, &net, &group, part, &mut parameters)?;
            encode_keys(relation, &net, part, &mut parameters)?;
            steps.push(Step::Bulk {
                shape: Shape::BulkUpdate,
                command: "UPDATE",
                columns: group.columns.clone(),
                parameters,
            });
        }
    }
    for group in &net.inserts {
        if group.columns.is_empty() {
            steps.push(Step::Defaults(group.rows.len()));
        } else if group.rows.len() >= COPY_FROM_ROWS {
            steps.push(Step::Copy {
                columns: group.columns.clone(),
                messages: copy_lines(&net, group),
            });
        } else {
            let mut parameters = Vec::new();
            encode_values(relation, &net, group, &group.rows, &mut parameters)?;
            steps.push(Step::Bulk {
                shape: Shape::BulkInsert,
                command: "INSERT",
                columns: group.columns.clone(),
                parameters,
            });
        }
    }
    Ok(steps)
}

/// Rows in the order of the index, so that neighbours are found on the same pages. Only a matter of speed.
fn sort_by_key(relation: &Relation, net: &Net<'_>, rows: &mut [Row]) {
    let by_number = relation.key.first().is_some_and(|position| {
        matches!(
            relation.columns[*position].transport,
            Transport::Int2 | Transport::Int4 | Transport::Int8
        )
    });
    if by_number {
        let number = |row: &Row| -> i64 {
            std::str::from_utf8(net.key(*row)[0])
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        rows.sort_by_cached_key(number);
    } else {
        rows.sort_unstable_by(|one, other| net.key(*one).cmp(net.key(*other)));
    }
}

fn array_for(relation: &Relation, position: usize) -> ArrayBuilder {
    ArrayBuilder::new(match relation.columns[position].transport {
        Transport::Int2 => ArrayKind::Int2,
        Transport::Int4 => ArrayKind::Int4,
        Transport::Int8 => ArrayKind::Int8,
        Transport::Text | Transport::Cast => ArrayKind::Text,
        Transport::Literal => ArrayKind::Literal,
    })
}

/// One array parameter per column of the group.
fn encode_values(
    relation: &Relation,
    net: &Net<'_>,
    group: &Group,
    rows: &[Row],
    parameters: &mut Vec<Encoded>,
) -> Result<(), NotAnInteger> {
    for (index, position) in group.columns.iter().enumerate() {
        let mut array = array_for(relation, *position);
        for row in rows {
            array.push(net.values(group, *row)[index])?;
        }
        parameters.push(array.finish());
    }
    Ok(())
}

/// One array parameter per key column.
fn encode_keys(
    relation: &Relation,
    net: &Net<'_>,
    rows: &[Row],
    parameters: &mut Vec<Encoded>,
) -> Result<(), NotAnInteger> {
    for (index, position) in relation.key.iter().enumerate() {
        let mut array = array_for(relation, *position);
        for row in rows {
            array.push(Some(net.key(*row)[index]))?;
        }
        parameters.push(array.finish());
    }
    Ok(())
}

/// The lines of a COPY, cut into messages.
fn copy_lines(net: &Net<'_>, group: &Group) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut buffer = BytesMut::with_capacity(COPY_MESSAGE + 4096);
    for row in &group.rows {
        for (index, value) in net.values(group, *row).iter().enumerate() {
            if index > 0 {
                buffer.put_u8(b'\t');
            }
            push_copy_text(&mut buffer, *value);
        }
        buffer.put_u8(b'\n');
        if buffer.len() >= COPY_MESSAGE {
            let full = std::mem::replace(&mut buffer, BytesMut::with_capacity(COPY_MESSAGE + 4096));
            messages.push(full.freeze());
        }
    }
    if !buffer.is_empty() {
        messages.push(buffer.freeze());
    }
    messages
}
