//! Forwarding beside applying: the log rows of a long window are stored by a second session while the first one applies
//! them.
//!
//! Its transaction is committed just before the one that applies. If that one fails, the log holds rows that no event
//! speaks of: nobody reads them, and the next group removes them before it stores its own. Short windows are forwarded
//! by the applying session itself.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trunkline_sql::forward::{self, LogTable, LogWriter};
use trunkline_sql::snapshot::Snapshot;
use trunkline_sql::subscription::SetPosition;
use trunkline_sql::{Cluster, Session};

use super::log_pipeline::Rows;
use super::{Worker, WorkerError, gone};
use crate::logging as log;

/// Chunks that may wait to be stored; their bytes are bounded where they are read.
const AHEAD: usize = 4;

/// Log rows that were stored beside a group that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// There are none.
    None,
    /// There may be some: the worker has just begun, or a group has failed.
    Possible,
    /// The running transaction has removed them.
    Removed,
}

/// A second session that stores chunks as they are handed to it.
pub(super) struct Beside {
    chunks: mpsc::Sender<Arc<Rows>>,
    /// One task; it ends with this object.
    task: JoinSet<Result<Session, tokio_postgres::Error>>,
}

impl Beside {
    /// Hands a chunk over. That it was not taken is told by [`Self::finish`].
    pub(super) async fn put(&self, rows: &Arc<Rows>) -> bool {
        self.chunks.send(Arc::clone(rows)).await.is_ok()
    }

    /// Waits until all is stored; the session's transaction is left open.
    pub(super) async fn finish(mut self) -> Result<Session, WorkerError> {
        drop(self.chunks);
        match self.task.join_next().await {
            Some(Ok(stored)) => Ok(stored?),
            _ => Err(gone()),
        }
    }
}

impl Worker {
    /// Begins to store beside; None where the log cannot be written by two sessions now.
    pub(super) async fn beside(
        &mut self,
        log_table: LogTable,
        forwarded: &Arc<HashSet<i32>>,
    ) -> Result<Option<Beside>, WorkerError> {
        let session = if let Some(session) = self.beside.take() {
            session
        } else {
            let session = match self.idle_beside.take().filter(|session| !session.is_closed()) {
                Some(session) => session,
                None => self.connect_as("local").await?,
            };
            if !forward::begin_beside(&session, &self.node.cluster, self.origin, log_table).await? {
                self.idle_beside = Some(session);
                return Ok(None);
            }
            session
        };
        let (chunks, receiver) = mpsc::channel(AHEAD);
        let mut task = JoinSet::new();
        task.spawn(write(
            session,
            self.node.cluster.clone(),
            log_table,
            Arc::clone(forwarded),
            receiver,
        ));
        Ok(Some(Beside { chunks, task }))
    }

    /// Commits what was stored beside; the transaction that applies is committed next.
    pub(super) async fn commit_beside(&mut self) -> Result<(), WorkerError> {
        if let Some(session) = self.beside.take() {
            session.batch_execute("commit").await?;
            self.idle_beside = Some(session);
        }
        Ok(())
    }

    /// Removes what an earlier attempt stored beside and could not announce, of all sets: the next group may be another one
    /// than that which failed.
    pub(super) async fn remove_leftovers(&self, positions: &[SetPosition]) -> Result<(), WorkerError> {
        let (local, cluster) = (self.local.as_ref().ok_or_else(gone)?, &self.node.cluster);
        if forward::is_stored_beside(local, cluster, self.origin).await? {
            return Err(WorkerError::Waiting(
                "a session that stored log rows for an attempt that failed has not ended yet".to_owned(),
            ));
        }
        let mut removed = 0;
        for position in positions.iter().filter(|position| !position.awaits_accept_set()) {
            let tables: Vec<i32> = self.tables_of(std::iter::once(position.set)).collect();
            let snapshot: Snapshot = position.snapshot.parse().map_err(|source| WorkerError::Snapshot {
                origin: self.origin,
                seqno: position.seqno,
                source,
            })?;
            removed += forward::remove_unannounced(local, cluster, self.origin, &tables, &snapshot).await?;
        }
        if removed > 0 {
            log::info!(
                "{}: {removed} log rows of an attempt that failed are removed; they come again",
                self.actor
            );
        }
        Ok(())
    }
}

async fn write(
    session: Session,
    cluster: Cluster,
    log_table: LogTable,
    forwarded: Arc<HashSet<i32>>,
    mut chunks: mpsc::Receiver<Arc<Rows>>,
) -> Result<Session, tokio_postgres::Error> {
    let mut writer = LogWriter::open(&session, &cluster, log_table).await?;
    while let Some(rows) = chunks.recv().await {
        for row in rows.iter() {
            if row.table.is_some_and(|table| forwarded.contains(&table)) {
                writer.put(&row.raw).await?;
            }
        }
    }
    writer.finish().await?;
    Ok(session)
}
