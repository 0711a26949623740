//! One worker instance: from the connection to the local database to the end of all its parts.
//!
//! Instances come and go; a restart request, a lost connection, a dropped schema each end one, and the supervisor starts
//! the next. All lasting state is in the databases.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_sql::configuration;
use trunkline_sql::daemon::{self, LockHolder, PROTOCOL_VERSION, Readiness, Versions};
use trunkline_sql::{Cluster, ConnectError, Session, error_text, trouble};

use crate::backoff::{Backoff, TroubleReport};
use crate::logging as log;
use crate::monitor::{self, Board};
use crate::node::Node;
use crate::parameters::Parameters;
use crate::replicate::{self, ReplicateError};
use crate::standing::{self, GivenUp};
use crate::{cleanup, configuration_log, local_listener, node_lock, partitions, sessions, sync_thread};

/// Looks for a node that does not exist yet, or is not fit to be served.
const READINESS_LOOK: Duration = Duration::from_millis(500);
/// How long the parts get to end after they were told to.
const PARTS_GRACE: Duration = Duration::from_millis(500);
/// How long giving the lock back may take; a dead backend gives it back as well.
const RELEASE_LIMIT: Duration = Duration::from_millis(50);

/// What one instance leaves to the next.
#[derive(Debug)]
pub struct Legacy {
    /// Backend that held the node lock.
    pub lock_backend: Option<i32>,
    /// Local trouble, so that a lasting one is not logged anew by each instance.
    pub trouble: TroubleReport,
}

impl Legacy {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lock_backend: None,
            trouble: TroubleReport::new("main".to_owned(), -1),
        }
    }
}

impl Default for Legacy {
    fn default() -> Self {
        Self::new()
    }
}

/// How an instance ended, other than by an error.
#[derive(Debug)]
pub enum Ending {
    /// It was told to.
    Cancelled,
    /// A restart was requested through the database.
    Restart,
    /// The node was dropped; the next instance waits for a new one.
    Dropped,
    /// The cluster goes on without this node, which is not served any more.
    GivenUp(GivenUp),
    /// Another slon serves the node.
    Conflict {
        /// The node.
        node: i32,
        /// Who.
        holder: Box<LockHolder>,
    },
}

/// Why an instance ended.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The local database refused something at the start.
    #[error("local database: {}", error_text(.0))]
    Database(#[from] tokio_postgres::Error),
    /// `cleanup_interval` or `lag_interval` is no interval.
    #[error("parameter `{name}` = `{value}` is not an interval PostgreSQL understands: {reason}")]
    Interval {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// What the database said.
        reason: String,
    },
    /// The node's standing in the cluster could not be found out or acted upon.
    #[error("standing: {0}")]
    Standing(#[from] standing::StandingError),
    /// A part failed.
    #[error("{0}")]
    Part(String),
}

impl InstanceError {
    /// Will it be the same next time, whatever happens outside?
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Interval { .. })
    }
}

/// Waits for the node, takes its lock and serves it.
pub async fn run(
    parameters: &Arc<Parameters>,
    cluster: &Cluster,
    legacy: &mut Legacy,
    cancel: CancellationToken,
) -> Result<Ending, InstanceError> {
    let found = tokio::select! {
        () = cancel.cancelled() => return Ok(Ending::Cancelled),
        found = find_node(parameters, cluster, legacy) => found?,
    };
    let Found { mut session, id, ours } = found;
    log::config!("main: local node id = {id}");
    let cleanup_interval = interval(&session, "cleanup_interval", &parameters.cleanup_interval).await?;
    if let Some(lag) = &parameters.lag_interval {
        interval(&session, "lag_interval", lag).await?;
    }
    let locked = tokio::select! {
        () = cancel.cancelled() => return Ok(Ending::Cancelled),
        locked = node_lock::acquire(&mut session, cluster, id, ours, legacy.lock_backend) => locked?,
    };
    if let Err(holder) = locked {
        return Ok(Ending::Conflict {
            node: id,
            holder: Box::new(holder),
        });
    }
    legacy.lock_backend = Some(session.backend_pid());
    log::info!("main: main process started");
    log::config!("main: loading current cluster configuration");
    // The channels first, then the number of the newest event, then the configuration: a change made meanwhile is seen
    // at least by one of them.
    local_listener::listen(&session, cluster).await?;
    if ours {
        trouble::clear_all(&session, cluster, id).await?;
    }
    let last_event = daemon::last_own_event(&session, cluster, id).await?;
    let configuration = Arc::new(configuration::load(&session, cluster).await?);
    configuration_log::print(None, &configuration);
    log::config!("main: last local event sequence = {last_event}");
    let node = Arc::new(Node {
        cluster: cluster.clone(),
        id,
        ours,
        conninfo: parameters.conn_info.clone().unwrap_or_default(),
        parameters: Arc::clone(parameters),
        configuration: watch::Sender::new(Arc::clone(&configuration)),
        generation: AtomicU64::new(0),
        local_news: Notify::new(),
        board: Board::default(),
        cancel: cancel.child_token(),
    });
    if ours && let Some(verdict) = standing::at_start(&node, &session).await? {
        return leave(&node, &session, verdict, &cancel).await;
    }
    log::config!("main: configuration complete - starting threads");
    let session = Arc::new(session);
    let mut parts = Parts::default();
    {
        let (node, session) = (Arc::clone(&node), Arc::clone(&session));
        parts.start(async move {
            match local_listener::run(node, session, ours, last_event).await {
                Ok(local_listener::Ending::Cancelled) => PartEnd::Done,
                Ok(local_listener::Ending::Restart) => PartEnd::Restart,
                Ok(local_listener::Ending::Dropped) => PartEnd::Dropped,
                Err(error) => PartEnd::Failed(error.to_string()),
            }
        });
    }
    parts.start(failing(sync_thread::run(Arc::clone(&node), ours)));
    {
        let node = Arc::clone(&node);
        parts.start(async move {
            match replicate::run(node).await {
                Ok(()) => PartEnd::Done,
                Err(ReplicateError::Dropped) => PartEnd::Dropped,
                Err(ReplicateError::GivenUp(verdict)) => PartEnd::GivenUp(verdict),
                Err(error) => PartEnd::Failed(error.to_string()),
            }
        });
    }
    if ours {
        let node = Arc::clone(&node);
        parts.start(async move {
            match standing::run(node).await {
                Ok(Some(verdict)) => PartEnd::GivenUp(verdict),
                Ok(None) => PartEnd::Done,
                Err(error) => PartEnd::Failed(format!("standing: {error}")),
            }
        });
    }
    parts.start(endless(cleanup::run(Arc::clone(&node), cleanup_interval)));
    parts.start(endless(monitor::run(Arc::clone(&node))));
    parts.start(endless(partitions::run(Arc::clone(&node), ours)));
    parts.start(endless(configuration_log::run(Arc::clone(&node), configuration)));

    let end = tokio::select! {
        () = cancel.cancelled() => PartEnd::Done,
        end = parts.first_end() => end,
    };
    node.cancel.cancel();
    parts.wait(PARTS_GRACE).await;
    let end = match end {
        PartEnd::GivenUp(verdict) => return leave(&node, &session, verdict, &cancel).await,
        end => end,
    };
    if !session.is_closed() {
        let release = daemon::release_node_lock(&session, cluster, id, ours);
        match tokio::time::timeout(RELEASE_LIMIT, release).await {
            Ok(Ok(())) => log::debug1!("main: node lock released"),
            Ok(Err(error)) => log::debug1!("main: node lock not released: {}", error_text(&error)),
            Err(_) => log::debug1!("main: node lock not released in time; it goes with the connection"),
        }
    }
    match end {
        PartEnd::Done => Ok(Ending::Cancelled),
        PartEnd::Restart => Ok(Ending::Restart),
        PartEnd::Dropped => Ok(Ending::Dropped),
        PartEnd::GivenUp(verdict) => Ok(Ending::GivenUp(verdict)),
        PartEnd::Failed(reason) => Err(InstanceError::Part(reason)),
    }
}

/// How a part of the instance ended.
#[derive(Debug)]
enum PartEnd {
    /// It was cancelled.
    Done,
    Restart,
    Dropped,
    GivenUp(GivenUp),
    Failed(String),
}

/// Keeps writers out of what was this node's, and says so where others look for it.
async fn leave(
    node: &Node,
    session: &Session,
    mut verdict: GivenUp,
    cancel: &CancellationToken,
) -> Result<Ending, InstanceError> {
    // An event names the node that leads a failover; the peers know who the origin is in the end.
    if let Some(asked) = standing::asked(node).await
        && asked.fences.len() >= verdict.fences.len()
    {
        verdict = asked;
    }
    standing::keep_out(node, session, &verdict.fences).await?;
    trouble::report(session, &node.cluster, "standing", node.id, &verdict.to_string()).await?;
    if !verdict.settled {
        log::warn!("standing: {verdict}; writers are kept out, waiting to learn who takes over in the end");
        let named = tokio::select! {
            () = cancel.cancelled() => None,
            named = standing::successors(node) => named,
        };
        if let Some(named) = named {
            verdict = named;
            standing::keep_out(node, session, &verdict.fences).await?;
            trouble::report(session, &node.cluster, "standing", node.id, &verdict.to_string()).await?;
        }
    }
    daemon::release_node_lock(session, &node.cluster, node.id, node.ours).await?;
    Ok(Ending::GivenUp(verdict))
}

async fn failing<E: std::fmt::Display>(part: impl Future<Output = Result<(), E>>) -> PartEnd {
    match part.await {
        Ok(()) => PartEnd::Done,
        Err(error) => PartEnd::Failed(error.to_string()),
    }
}

async fn endless(part: impl Future<Output = ()>) -> PartEnd {
    part.await;
    PartEnd::Done
}

/// The tasks of an instance; those that still run are aborted when it is dropped.
#[derive(Default)]
struct Parts {
    tasks: JoinSet<PartEnd>,
}

impl Parts {
    fn start(&mut self, part: impl Future<Output = PartEnd> + Send + 'static) {
        self.tasks.spawn(part);
    }

    /// Waits for the first part that ends.
    async fn first_end(&mut self) -> PartEnd {
        match self.tasks.join_next().await {
            Some(Ok(end)) => end,
            Some(Err(error)) => PartEnd::Failed(format!("a thread ended unexpectedly: {error}")),
            None => PartEnd::Done,
        }
    }

    /// Waits for all parts to end, then aborts the rest.
    async fn wait(&mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            log::debug1!("main: {} threads did not end in time and are cut off", self.tasks.len());
            self.tasks.shutdown().await;
        }
    }
}

/// A node that can be served.
struct Found {
    session: Session,
    id: i32,
    /// Our schema, or Slony's own.
    ours: bool,
}

/// Connects to the local database and waits until it holds a node we can serve: for ever, each change of the reason
/// logged once, with reminders.
async fn find_node(parameters: &Parameters, cluster: &Cluster, legacy: &mut Legacy) -> Result<Found, InstanceError> {
    let conninfo = parameters.conn_info.as_deref().unwrap_or_default();
    let options = sessions::options(parameters, "local_listen");
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let session = match Session::connect(conninfo, &options).await {
            Ok(session) => session,
            Err(error) => {
                legacy.trouble.note(&no_connection(&error));
                tokio::time::sleep(backoff.next_pause()).await;
                continue;
            }
        };
        backoff.reset();
        loop {
            match unfit(&session, parameters, cluster).await {
                Ok(Fitness::Fit { id, ours }) => {
                    legacy.trouble.clear(&session, cluster).await;
                    return Ok(Found { session, id, ours });
                }
                Ok(Fitness::Unfit(reason)) => {
                    legacy.trouble.note(&reason);
                    tokio::time::sleep(READINESS_LOOK).await;
                }
                Err(error) => {
                    legacy
                        .trouble
                        .note(&format!("local database {}: {}", session.target(), error_text(&error)));
                    if session.is_closed() {
                        break;
                    }
                    tokio::time::sleep(READINESS_LOOK).await;
                }
            }
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

fn no_connection(error: &ConnectError) -> String {
    format!("Cannot connect to local database - {error}")
}

enum Fitness {
    Fit { id: i32, ours: bool },
    Unfit(String),
}

/// Is there a node, of the right version, in good health?
async fn unfit(
    session: &Session,
    parameters: &Parameters,
    cluster: &Cluster,
) -> Result<Fitness, tokio_postgres::Error> {
    let id = match daemon::readiness(session, cluster).await? {
        Readiness::Ready(id) => id,
        Readiness::NoSchema => {
            return Ok(Fitness::Unfit(format!(
                "Node is not initialized properly - database {} has no schema {}; waiting for `init cluster` or \
                 `store node`",
                session.target(),
                cluster.namespace()
            )));
        }
        Readiness::NotInitialised => {
            return Ok(Fitness::Unfit(format!(
                "Node is not initialized properly - schema {} in {} has no node id yet; waiting for slonik to finish",
                cluster.namespace(),
                session.target()
            )));
        }
    };
    let versions = daemon::versions(session, cluster).await?;
    if parameters.enable_version_check
        && let Some(reason) = wrong_version(&versions)
    {
        return Ok(Fitness::Unfit(reason));
    }
    if !daemon::is_healthy(session, cluster).await? {
        return Ok(Fitness::Unfit(format!(
            "slon_node_health_check() of node {id} failed: the warnings above name what differs between sl_table and the \
             catalog; correct it with `repair config`, waiting for that"
        )));
    }
    Ok(Fitness::Fit {
        id,
        ours: versions.ours.is_some(),
    })
}

fn wrong_version(versions: &Versions) -> Option<String> {
    let Versions { schema, module, .. } = versions;
    if schema == PROTOCOL_VERSION && module == PROTOCOL_VERSION {
        return None;
    }
    Some(format!(
        "the cluster schema answers version {schema} and module {module}, this slon speaks {PROTOCOL_VERSION}; run \
         `update functions`, or start with `enable_version_check = off`"
    ))
}

async fn interval(session: &Session, name: &'static str, value: &str) -> Result<Duration, InstanceError> {
    daemon::interval(session, value)
        .await
        .map_err(|error| match error.as_db_error() {
            // Data exceptions: the text is wrong, not the connection.
            Some(db) if db.code().code().starts_with("22") => InstanceError::Interval {
                name,
                value: value.to_owned(),
                reason: db.message().to_owned(),
            },
            _ => error.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_must_be_those_of_the_protocol() {
        let versions = |schema: &str, module: &str| Versions {
            schema: schema.to_owned(),
            module: module.to_owned(),
            ours: None,
        };
        assert_eq!(wrong_version(&versions("2.2.11", "2.2.11")), None);
        assert!(wrong_version(&versions("2.2.11", "2.2.10")).is_some_and(|text| text.contains("`update functions`")));
    }
}
