//! Having the local server write its WAL early while much is stored.
//!
//! The server's WAL writer sleeps for 200 ms at a time (`wal_writer_delay`). Where a window stores 100 MB of WAL a second, the
//! buffers (16 MB at most by default) are full long before, and then the sessions write and flush them themselves, one
//! at a time, with everybody else waiting. An asynchronous commit wakes the WAL writer as soon as a megabyte is to be
//! flushed; so a session of its own makes a small one every few milliseconds as long as a long window or a copy is
//! stored: up to a fifth of a backlog's rate, see docs/src/internals.md. Each of them takes a transaction number.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use trunkline_sql::daemon::wake_wal_writer;
use trunkline_sql::{Session, error_text};

use super::Worker;
use crate::logging as log;
use crate::node::Node;

/// A megabyte of WAL, of a fast window, is there after about this time.
const PAUSE: Duration = Duration::from_millis(10);

/// So long after the last long window the connection is given back.
const IDLE: Duration = Duration::from_secs(30);

/// Wakes the WAL writer while somebody is busy.
pub(super) struct EarlyWal {
    busy: watch::Sender<bool>,
    /// One task, which ends with this object.
    _task: JoinSet<()>,
}

impl Worker {
    /// Begun when there is much to store for the first time.
    pub(super) fn early_wal(&mut self) -> Arc<EarlyWal> {
        let early = self
            .early_wal
            .get_or_insert_with(|| Arc::new(EarlyWal::new(&self.node, &self.actor)));
        Arc::clone(early)
    }
}

/// The server is kept writing for as long as this lives.
pub(super) struct Busy<'a>(&'a watch::Sender<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl EarlyWal {
    /// Nothing is connected before [`Self::begin`]. `actor` names the session.
    fn new(node: &Arc<Node>, actor: &str) -> Self {
        let (busy, watched) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(run(Arc::clone(node), format!("{actor}_wal"), watched));
        Self { busy, _task: task }
    }

    /// Much is stored from now on.
    pub(super) fn begin(&self) -> Busy<'_> {
        self.busy.send_replace(true);
        Busy(&self.busy)
    }
}

/// It is a matter of speed alone: what fails here is noted, and tried again with the next long window.
async fn run(node: Arc<Node>, actor: String, mut busy: watch::Receiver<bool>) {
    let mut session: Option<Session> = None;
    loop {
        if !*busy.borrow_and_update() {
            match tokio::time::timeout(IDLE, busy.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return,
                Err(_) => session = None,
            }
            if busy.changed().await.is_err() {
                return;
            }
            continue;
        }
        let woken = match session.take() {
            Some(open) => wake_wal_writer(&open)
                .await
                .map(|()| open)
                .map_err(|error| error_text(&error)),
            None => Session::connect(&node.conninfo, &node.session_options(&actor))
                .await
                .map_err(|error| error.to_string()),
        };
        match woken {
            Ok(open) => session = Some(open),
            Err(error) => {
                log::debug1!("{actor}: the WAL writer is not woken early: {error}");
                if busy.wait_for(|busy| !busy).await.is_err() {
                    return;
                }
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
