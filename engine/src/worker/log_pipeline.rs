//! Log rows of a long window on their way: a task of its own reads and decodes them and works out what they ask for while
//! the local database is still busy with the rows before.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::apply::{Prepared, Tables};
use crate::log_row::LogRow;
use crate::provider::{LogStream, ProviderError};

/// Bytes of log rows in a chunk. A chunk may be longer by one row, which may be a long one.
const CHUNK_BYTES: usize = 3 * 1024 * 1024;
/// Log rows in a chunk.
const CHUNK_ROWS: usize = 25_000;
/// Bytes of log rows that are being read, are ready, or are being applied and forwarded: four chunks of short rows, one row
/// of several megabytes. What is made of each comes on top: statements of about the same size.
const READY_BYTES: usize = 14 * 1024 * 1024;

/// Log rows that the initial copy of a set already held, by table.
pub(super) type Copied = Arc<HashMap<i32, Arc<HashSet<i64>>>>;

/// Some log rows in their order, and what they ask for if that could be worked out.
pub(super) struct Chunk {
    pub(super) rows: Arc<Rows>,
    pub(super) prepared: Option<Prepared>,
}

/// The rows of a chunk; shared between applying them and forwarding them.
pub(super) struct Rows {
    rows: Vec<LogRow>,
    /// Given back when both are done.
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Rows {
    type Target = [LogRow];

    fn deref(&self) -> &[LogRow] {
        &self.rows
    }
}

/// The rows of one window.
pub(super) struct LogPipeline {
    first: Option<Chunk>,
    later: Option<Later>,
}

struct Later {
    chunks: mpsc::Receiver<Result<Chunk, ProviderError>>,
    tables: watch::Sender<Arc<Tables>>,
    /// Ends with the pipeline.
    _reader: JoinSet<()>,
}

impl LogPipeline {
    /// Reads the first rows. Only if there are more does a task go on reading: most windows are short.
    pub(super) async fn start(
        mut stream: LogStream,
        copied: Copied,
        tables: Arc<Tables>,
    ) -> Result<Self, ProviderError> {
        let mut rows = stream.chunk(CHUNK_BYTES, CHUNK_ROWS).await?;
        leave_out(&copied, &mut rows);
        let first = Some(Chunk {
            rows: Arc::new(Rows { rows, _room: None }),
            prepared: None,
        });
        if stream.is_complete() {
            return Ok(Self { first, later: None });
        }
        let (tables, known) = watch::channel(tables);
        let (sender, chunks) = mpsc::channel(1);
        let mut reader = JoinSet::new();
        reader.spawn(read(stream, copied, known, sender));
        Ok(Self {
            first,
            later: Some(Later {
                chunks,
                tables,
                _reader: reader,
            }),
        })
    }

    /// Whether there are more rows than a chunk holds.
    pub(super) fn is_long(&self) -> bool {
        self.later.is_some()
    }

    /// The next chunk; None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, ProviderError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match &mut self.later {
            Some(later) => later.chunks.recv().await.transpose(),
            None => Ok(None),
        }
    }

    /// Tells the reading task what is known of the local tables.
    pub(super) fn learned(&self, tables: Arc<Tables>) {
        if let Some(later) = &self.later {
            later.tables.send_if_modified(|known| {
                let changed = !Arc::ptr_eq(known, &tables);
                *known = tables;
                changed
            });
        }
    }
}

async fn read(
    mut stream: LogStream,
    copied: Copied,
    tables: watch::Receiver<Arc<Tables>>,
    chunks: mpsc::Sender<Result<Chunk, ProviderError>>,
) {
    let room = Arc::new(Semaphore::new(READY_BYTES));
    // Room is taken before a chunk is read, as much as the last one needed: the next row of a table of long rows is long, too.
    let mut expected = CHUNK_BYTES;
    loop {
        let Ok(mut permit) = Arc::clone(&room).acquire_many_owned(permits(expected)).await else {
            return;
        };
        let outcome = stream.chunk(CHUNK_BYTES, CHUNK_ROWS).await;
        let mut rows = match outcome {
            Ok(rows) if rows.is_empty() => return,
            Ok(rows) => rows,
            Err(error) => {
                // Nobody listens any more if the group has failed meanwhile.
                let _ = chunks.send(Err(error)).await;
                return;
            }
        };
        leave_out(&copied, &mut rows);
        let size: usize = rows.iter().map(LogRow::size).sum();
        let size = size.min(READY_BYTES);
        if size > expected {
            // Whoever holds the rest gives it back without this reader's help.
            match Arc::clone(&room).acquire_many_owned(permits(size - expected)).await {
                Ok(more) => permit.merge(more),
                Err(_) => return,
            }
        } else {
            drop(permit.split(expected - size));
        }
        expected = size.max(CHUNK_BYTES);
        let tables = Arc::clone(&tables.borrow());
        let work = tokio::task::spawn_blocking(move || {
            let prepared = Prepared::new(&rows, &tables);
            (rows, prepared)
        });
        let Ok((rows, prepared)) = work.await else { return };
        let rows = Arc::new(Rows {
            rows,
            _room: Some(permit),
        });
        let chunk = Chunk { rows, prepared };
        if chunks.send(Ok(chunk)).await.is_err() {
            return;
        }
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Drops rows that the initial copy already held.
fn leave_out(copied: &Copied, rows: &mut Vec<LogRow>) {
    if !copied.is_empty() {
        rows.retain(|row| {
            let held = row.table.and_then(|table| copied.get(&table));
            held.is_none_or(|actions| !actions.contains(&row.action))
        });
    }
}
