//! What each part of this slon is doing, kept in memory and written to `sl_components`.
//!
//! Parts call [`Board::set`], which is cheap: the row is written at most once per `monitor_interval`, and only when
//! something changed. While nothing happens the monitor sleeps without a timer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use trunkline_sql::daemon::{self, Component};
use trunkline_sql::{ConnectError, Session};

pub use trunkline_sql::daemon::ApplyStats;

use crate::backoff::{Backoff, TroubleReport};
use crate::logging as log;
use crate::node::Node;

/// Activity of a part between two pieces of work, as in Slony.
pub const MAIN_LOOP: &str = "thread main loop";

/// The latest activity of each part.
#[derive(Debug, Default)]
pub struct Board {
    rows: Mutex<BTreeMap<String, Row>>,
    changed: Notify,
}

#[derive(Debug)]
struct Row {
    component: Component,
    dirty: bool,
}

impl Board {
    /// Says what `actor` is doing now, on its connection `backend_pid`, for node `node` (0: none in particular), with the
    /// event's number and type if it works on one.
    pub fn set(&self, actor: &str, node: i32, backend_pid: i32, activity: &str, event: Option<(i64, &str)>) {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let (event, event_type) = event.map_or((None, "n/a"), |(seqno, kind)| (Some(seqno), kind));
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get_mut(actor) {
            let component = &mut row.component;
            component.since = since;
            component.node = node;
            component.backend_pid = backend_pid;
            component.event = event;
            // Most calls change only the time and the number; texts are replaced when they differ.
            if component.activity != activity {
                activity.clone_into(&mut component.activity);
            }
            if component.event_type != event_type {
                event_type.clone_into(&mut component.event_type);
            }
            row.dirty = true;
        } else {
            let component = Component {
                actor: actor.to_owned(),
                node,
                backend_pid,
                activity: activity.to_owned(),
                since,
                event,
                event_type: event_type.to_owned(),
            };
            rows.insert(actor.to_owned(), Row { component, dirty: true });
        }
        drop(rows);
        self.changed.notify_one();
    }

    /// All rows count as changed: the table was emptied.
    fn touch(&self) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values_mut().for_each(|row| row.dirty = true);
    }

    /// Takes the rows that changed since the last call.
    fn take_changed(&self) -> Vec<Component> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values_mut()
            .filter_map(|row| std::mem::take(&mut row.dirty).then(|| row.component.clone()))
            .collect()
    }
}

/// Why the monitor cannot go on.
#[derive(Debug, thiserror::Error)]
enum MonitorError {
    /// No connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("{}", trunkline_sql::error_text(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// Writes the board to `sl_components` until cancelled. Monitoring is no reason to stop replicating: after an error it
/// starts over.
pub async fn run(node: Arc<Node>) {
    if !node.parameters.monitor_threads {
        node.cancel.cancelled().await;
        return;
    }
    log::info!("monitorThread: thread starts");
    let mut report = TroubleReport::new("monitorThread".to_owned(), node.id);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    loop {
        let outcome = tokio::select! {
            () = node.cancel.cancelled() => return,
            outcome = write(&node) => outcome,
        };
        let Err(error) = outcome;
        report.note(&error.to_string());
        tokio::select! {
            () = node.cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.next_pause()) => {}
        }
    }
}

async fn write(node: &Node) -> Result<std::convert::Infallible, MonitorError> {
    let session = Session::connect(&node.conninfo, &node.session_options("local_monitor")).await?;
    daemon::forget_components(&session, &node.cluster).await?;
    node.board
        .set("local_monitor", 0, session.backend_pid(), MAIN_LOOP, None);
    node.board.touch();
    let interval = Duration::from_millis(u64::from(node.parameters.monitor_interval));
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    loop {
        node.board.changed.notified().await;
        let components = node.board.take_changed();
        if !components.is_empty() {
            daemon::store_components(&session, &node.cluster, pid, &components).await?;
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let board = Board::default();
        board.set("local_sync", 0, 11, MAIN_LOOP, None);
        board.set("remoteWorkerThread_2", 2, 12, "SYNC", Some((5_000_000_001, "SYNC")));
        assert_eq!(board.take_changed().len(), 2);
        assert!(board.take_changed().is_empty());
        board.set("remoteWorkerThread_2", 2, 12, MAIN_LOOP, None);
        let changed = board.take_changed();
        assert_eq!(changed.len(), 1);
        assert_eq!(
            (
                changed[0].activity.as_str(),
                changed[0].event,
                changed[0].event_type.as_str()
            ),
            (MAIN_LOOP, None, "n/a")
        );
    }
}
