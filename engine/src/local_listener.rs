//! The local listener: hears restart requests and follows the events this node itself makes.
//!
//! Its connection holds the node lock. slonik changes the configuration in this database and emits the event here, so an own
//! event means: read the configuration again. Event types it does not know change nothing and are no reason to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_sql::daemon::{self, OwnEvent};
use trunkline_sql::session::SessionClosed;
use trunkline_sql::{Session, error_text};

use crate::logging as log;
use crate::monitor::MAIN_LOOP;
use crate::node::Node;

/// Least time between two looks at the own events; under load every SYNC rings.
const LOOK_SPACING: Duration = Duration::from_millis(100);
/// Looks without a ring, where events ring (our schema): a safety net.
const IDLE_LOOK: Duration = Duration::from_secs(10);
/// Looks without a ring, where they do not (Slony's schema).
const BLIND_LOOK: Duration = Duration::from_secs(1);

/// Why the local listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The instance ends.
    Cancelled,
    /// Somebody asked for a restart (`"_C_Restart"`).
    Restart,
    /// This node was dropped from the cluster.
    Dropped,
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LocalListenerError {
    /// The connection, and with it the node lock, is lost.
    #[error("localListenThread: {0}")]
    Closed(#[from] SessionClosed),
    /// A statement failed.
    #[error("localListenThread: {}", error_text(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// Listens on both channels; to be done before the configuration is read, so that no change is missed between.
pub async fn listen(session: &Session, cluster: &trunkline_sql::Cluster) -> Result<(), tokio_postgres::Error> {
    session
        .batch_execute(&format!(
            "listen {}; listen {}",
            cluster.restart_channel(),
            cluster.event_channel()
        ))
        .await
}

/// Follows the own events behind `last` until cancelled or told to restart.
pub async fn run(node: Arc<Node>, session: Arc<Session>, ours: bool, last: i64) -> Result<Ending, LocalListenerError> {
    log::info!("localListenThread: thread starts");
    node.board
        .set("local_listen", node.id, session.backend_pid(), MAIN_LOOP, None);
    let statement = session.prepare(&daemon::own_events_statement(&node.cluster)).await?;
    let restart = node.cluster.restart_channel_name();
    let idle = if ours { IDLE_LOOK } else { BLIND_LOOK };
    let mut last = last;
    let mut next_look = Instant::now() + idle;
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            () = node.cancel.cancelled() => return Ok(Ending::Cancelled),
            rung = session.notified() => {
                if rung?.contains(&restart) {
                    log::info!("localListenThread: got restart notification");
                    return Ok(Ending::Restart);
                }
                node.local_news.notify_waiters();
                next_look = next_look.min(looked + LOOK_SPACING);
                continue;
            }
            () = tokio::time::sleep(next_look.saturating_duration_since(Instant::now())) => {}
        }
        looked = Instant::now();
        let rows = session.query(&statement, &[&node.id, &last]).await?;
        // A full answer means there is more.
        next_look = looked + if rows.len() >= 1000 { Duration::ZERO } else { idle };
        let mut reload = false;
        for row in &rows {
            let event = daemon::own_event(row)?;
            last = event.seqno;
            if event.kind == "SYNC" {
                continue;
            }
            log::debug2!(
                "localListenThread: Received event {},{} {}",
                node.id,
                event.seqno,
                event.kind
            );
            if drops(&event, node.id) {
                log::warn!("localListenThread: this node was dropped from the cluster");
                return Ok(Ending::Dropped);
            }
            reload = true;
        }
        if reload {
            node.reload(&session).await?;
            node.board.set(
                "local_listen",
                node.id,
                session.backend_pid(),
                MAIN_LOOP,
                Some((last, "n/a")),
            );
        }
    }
}

/// Is it a `DROP_NODE` that names this node? Its data is a list of ids.
fn drops(event: &OwnEvent, node: i32) -> bool {
    event.kind == "DROP_NODE"
        && event
            .data
            .first()
            .is_some_and(|ids| ids.split(',').any(|id| id.trim().parse() == Ok(node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> OwnEvent {
        OwnEvent {
            seqno: 5_000_000_001,
            kind: kind.to_owned(),
            data: vec![data.to_owned()],
        }
    }

    #[test]
    fn a_drop_names_its_nodes() {
        assert!(drops(&event("DROP_NODE", "3, 12,2"), 2));
        assert!(!drops(&event("DROP_NODE", "3,12"), 2));
        assert!(!drops(&event("STORE_NODE", "2"), 2));
    }
}
