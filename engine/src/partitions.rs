//! Looks on the origin for partitions of replicated tables that were made or dropped: new ones are replicated as well, dropped
//! ones leave their set.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use trunkline_sql::partition::Changes;
use trunkline_sql::{ConnectError, Session, error_text, partition};

use crate::backoff::TroubleReport;
use crate::logging as log;
use crate::node::Node;

/// Time between two looks: rows that a partition holds by then are logged with it, so nothing depends on it.
const LOOK: Duration = Duration::from_secs(5);

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum PartitionError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("new and dropped partitions of replicated tables cannot be followed: {}", error_text(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// Looks every few seconds until cancelled, while the node originates a set. `ours`: the schema knows about partitions.
pub async fn run(node: Arc<Node>, ours: bool) {
    if !ours {
        node.cancel.cancelled().await;
        return;
    }
    let mut report = TroubleReport::new("partitionThread".to_owned(), node.id);
    let mut session: Option<Session> = None;
    loop {
        tokio::select! {
            () = node.cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let originates = node.current().sets.values().any(|set| set.origin == node.id);
        if !originates {
            session = None;
            continue;
        }
        let looked = tokio::select! {
            () = node.cancel.cancelled() => return,
            looked = look(&node, &mut session) => looked,
        };
        match (looked, &session) {
            (Ok(Changes { added: 0, forgotten: 0 }), Some(local)) => report.clear(local, &node.cluster).await,
            (Ok(changes), Some(local)) => {
                if changes.added > 0 {
                    log::config!(
                        "partitionThread: {} new partitions of replicated tables added",
                        changes.added
                    );
                }
                if changes.forgotten > 0 {
                    log::config!(
                        "partitionThread: {} partitions that were dropped taken out of their sets; what subscribers have of \
                         them stays there until it is dropped as well",
                        changes.forgotten
                    );
                }
                report.clear(local, &node.cluster).await;
                if let Err(error) = node.reload(local).await {
                    log::warn!("partitionThread: configuration not read again: {}", error_text(&error));
                }
            }
            // Somebody writes to it, or changes the configuration: the next look comes soon.
            (Err(PartitionError::Database(error)), _) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            (Err(error), local) => {
                report.note(&error.to_string());
                if let Some(local) = local.as_ref().filter(|local| !local.is_closed()) {
                    report.publish(local, &node.cluster).await;
                }
            }
            (Ok(_), None) => {}
        }
    }
}

async fn look(node: &Node, session: &mut Option<Session>) -> Result<Changes, PartitionError> {
    if session.as_ref().is_none_or(|session| session.is_closed()) {
        *session = Some(Session::connect(&node.conninfo, &node.session_options("local_partitions")).await?);
    }
    match session {
        Some(session) => Ok(partition::follow(session, &node.cluster).await?),
        None => Ok(Changes::default()),
    }
}
