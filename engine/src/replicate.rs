//! Starts and ends listeners and workers as the configuration asks for them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_sql::configuration::{Configuration, PathRow};
use trunkline_sql::{ConnectError, Session, error_text, event_source, events, trouble};

use crate::listen::{self, Queues};
use crate::node::Node;
use crate::queue::EventQueue;
use crate::standing::GivenUp;
use crate::worker::{self, Outcome};

/// Why replication ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// The local database.
    #[error("local database: {}", error_text(.0))]
    Local(#[from] tokio_postgres::Error),
    /// Connecting to the local database.
    #[error("local database: {0}")]
    Connect(#[from] ConnectError),
    /// A part ended that never should.
    #[error("a part of slon ended unexpectedly: {0}")]
    Ended(String),
    /// The node was dropped from the cluster and its schema removed.
    #[error("this node was dropped from the cluster; its schema has been removed")]
    Dropped,
    /// The cluster goes on without this node.
    #[error("{0}")]
    GivenUp(GivenUp),
}

/// Which task ended.
enum Ended {
    Listener,
    Worker(Outcome),
}

/// Runs until the node's instance is cancelled or something ends that must not.
///
/// # Errors
/// [`ReplicateError`]; the instance starts over then.
pub async fn run(node: Arc<Node>) -> Result<(), ReplicateError> {
    let local = Session::connect(&node.conninfo, &node.session_options("replicate")).await?;
    trouble::clear_all(&local, &node.cluster, node.id).await.ok();
    let queues = Arc::new(Queues::default());
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let mut workers: HashMap<i32, CancellationToken> = HashMap::new();
    let mut listeners: HashMap<i32, CancellationToken> = HashMap::new();
    let mut configuration = node.configuration.subscribe();
    loop {
        let current = configuration.borrow_and_update().clone();
        let origins: BTreeSet<i32> = current.active_remote_nodes().map(|row| row.id).collect();
        let failed = failed_with_events(&current);
        let origins: BTreeSet<i32> = origins.union(&failed).copied().collect();
        workers.retain(|origin, token| {
            let keep = origins.contains(origin);
            if !keep {
                token.cancel();
                queues.remove(*origin);
            }
            keep
        });
        for origin in origins {
            if let Entry::Vacant(free) = workers.entry(origin) {
                let last = events::last_confirmed(&local, &node.cluster, origin, node.id).await?;
                // In this order: what was confirmed of a node that has just been dropped is forgotten, and a neighbour who
                // has not dropped it yet would give us its events from the beginning.
                if !events::knows_node(&local, &node.cluster, origin).await? {
                    continue;
                }
                event_source::note_start(&local, &node.cluster, origin, last).await?;
                let queue = Arc::new(EventQueue::new(last));
                queues.insert(origin, Arc::clone(&queue));
                let token = free.insert(node.cancel.child_token()).clone();
                let node = Arc::clone(&node);
                tasks.spawn(async move { Ended::Worker(worker::run(node, origin, queue, last, token).await) });
            }
        }
        let providers: BTreeSet<i32> = current
            .listens
            .iter()
            .filter(|listen| current.paths.get(&listen.provider).is_some_and(PathRow::is_usable))
            .map(|listen| listen.provider)
            .collect();
        listeners.retain(|provider, token| {
            let keep = providers.contains(provider);
            if !keep {
                token.cancel();
            }
            keep
        });
        for provider in providers {
            if let Entry::Vacant(free) = listeners.entry(provider) {
                let token = free.insert(node.cancel.child_token()).clone();
                let (node, queues) = (Arc::clone(&node), Arc::clone(&queues));
                tasks.spawn(async move {
                    listen::run(node, provider, queues, token).await;
                    Ended::Listener
                });
            }
        }
        tokio::select! {
            () = node.cancel.cancelled() => {
                tasks.shutdown().await;
                return Ok(());
            }
            changed = configuration.changed() => if changed.is_err() { return Ok(()) },
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ended::Worker(Outcome::GivenUp(verdict))) => return Err(ReplicateError::GivenUp(verdict)),
                Ok(Ended::Worker(Outcome::Dropped)) => return Err(ReplicateError::Dropped),
                Ok(Ended::Worker(Outcome::Done) | Ended::Listener) => {}
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(ReplicateError::Ended(error.to_string())),
            },
        }
    }
}

/// Failed nodes whose last events still arrive from survivors.
fn failed_with_events(configuration: &Configuration) -> BTreeSet<i32> {
    configuration
        .nodes
        .values()
        .filter(|row| row.failed && row.id != configuration.local)
        .filter(|row| configuration.listens.iter().any(|listen| listen.origin == row.id))
        .map(|row| row.id)
        .collect()
}
