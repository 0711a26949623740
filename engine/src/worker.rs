//! The remote worker: takes the events of one origin in order and brings this node to where they lead.
//!
//! Each event, or group of SYNCs, is one local transaction with its effect, its row in `sl_event` and its confirmation.
//! Whatever fails is rolled back, reported, and done again: no event is skipped.

mod configuration_event;
mod copy_by_table;
mod copy_differences;
mod copy_progress;
mod copy_set;
mod copy_stream;
mod forwarding;
mod log_pipeline;
mod scripts;
mod sync_group;
mod wal_writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use trunkline_sql::forward::LogTable;
use trunkline_sql::snapshot::{Snapshot, SnapshotError};
use trunkline_sql::{Session, error_text, events};

use self::forwarding::Leftovers;
use self::wal_writer::EarlyWal;
use crate::apply::{ApplyError, ApplyState};
use crate::backoff::{Backoff, TroubleReport};
use crate::logging as log;
use crate::node::Node;
use crate::provider::{Provider, ProviderError};
use crate::queue::{EventQueue, Queued};
use crate::standing::GivenUp;

/// Most SYNCs in a group while `sync_group_maxsize` is at its default: what they hold is bounded in bytes elsewhere.
const ADAPTIVE_GROUP: usize = 500;

/// Prepared statements kept per worker at least, whatever `apply_cache_size` says: sets of a thousand tables are common.
const LEAST_STATEMENTS: usize = 2000;

/// How long what is known of the local tables is trusted: nobody tells when a trigger is enabled on the replica.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// So many attempts in a row may find that another node is not as far yet before it counts as trouble: about a second.
const SHORT_WAITS: u32 = 4;

/// Why an event could not be processed (yet).
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another node's database.
    #[error("{0}")]
    Provider(#[from] ProviderError),
    /// Applying changes.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// The local database.
    #[error("local database: {}", error_text(.0))]
    Local(#[from] tokio_postgres::Error),
    /// Connecting to the local database.
    #[error("local database: {0}")]
    Connect(#[from] trunkline_sql::ConnectError),
    /// An event with unusable data.
    #[error("{0}")]
    Malformed(#[from] events::MalformedEvent),
    /// An event with an unusable snapshot.
    #[error("event {origin},{seqno}: {source}")]
    Snapshot {
        /// Its origin.
        origin: i32,
        /// Its number.
        seqno: i64,
        /// What is wrong.
        source: SnapshotError,
    },
    /// Something has to happen elsewhere first.
    #[error("{0}")]
    Waiting(String),
    /// Tables, columns, sequences that the set needs and this node lacks.
    #[error("cannot copy set {set}: {}; create what is missing, the subscription goes on by itself", obstacles.join("; "))]
    Obstacles {
        /// The set.
        set: i32,
        /// One line each.
        obstacles: Vec<String>,
    },
}

impl WorkerError {
    /// Short pauses suit what other nodes are about to do; everything else backs off further.
    fn most_pause(&self) -> Duration {
        match self {
            Self::Waiting(_) => Duration::from_millis(500),
            Self::Obstacles { .. } => Duration::from_secs(2),
            _ => Duration::from_secs(10),
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored and confirmed.
    Done,
    /// The local node was dropped from the cluster and its schema removed.
    Dropped,
    /// The cluster goes on without the local node; nothing of the event was done.
    GivenUp(GivenUp),
}

/// The worker of one origin.
pub struct Worker {
    pub(crate) node: Arc<Node>,
    pub(crate) origin: i32,
    actor: String,
    queue: Arc<EventQueue>,
    local: Option<Session>,
    providers: HashMap<i32, Provider>,
    apply: ApplyState,
    /// Configuration generation that `apply` and `table_sets` belong to.
    generation: u64,
    table_sets: Arc<Vec<(i32, i32)>>,
    /// Snapshot of the last SYNC processed, from which scripts are wanted; None: not known yet.
    last_snapshot: Option<Snapshot>,
    last_done: i64,
    /// The local log table written last: a guess that saves a round trip.
    log_table: Option<LogTable>,
    /// A session whose transaction holds log rows stored beside the group being applied.
    beside: Option<Session>,
    /// The same session between two groups.
    idle_beside: Option<Session>,
    leftovers: Leftovers,
    /// Begun with the first long window or copy.
    early_wal: Option<Arc<EarlyWal>>,
    /// When the local tables were looked at last.
    looked: Instant,
    logged_sync: Option<Instant>,
}

/// Runs the worker of an origin until cancelled; returns early if the local node was dropped.
pub async fn run(
    node: Arc<Node>,
    origin: i32,
    queue: Arc<EventQueue>,
    last: i64,
    cancel: CancellationToken,
) -> Outcome {
    let actor = format!("remoteWorkerThread_{origin}");
    log::info!("{actor}: thread starts");
    let statements = usize::try_from(node.parameters.apply_cache_size)
        .unwrap_or(0)
        .max(LEAST_STATEMENTS);
    let mut worker = Worker {
        node,
        origin,
        actor: actor.clone(),
        queue,
        local: None,
        providers: HashMap::new(),
        apply: ApplyState::new(statements),
        generation: u64::MAX,
        table_sets: Arc::default(),
        last_snapshot: None,
        last_done: last,
        log_table: None,
        beside: None,
        idle_beside: None,
        // Whoever worked here before may have died at the wrong moment.
        leftovers: Leftovers::Possible,
        early_wal: None,
        looked: Instant::now(),
        logged_sync: None,
    };
    let outcome = tokio::select! {
        () = cancel.cancelled() => Outcome::Done,
        outcome = worker.work() => outcome,
    };
    log::info!("{actor}: thread done");
    outcome
}

impl Worker {
    async fn work(&mut self) -> Outcome {
        let mut report = TroubleReport::new(self.actor.clone(), self.node.id);
        let first = Duration::from_millis(50);
        let mut backoff = Backoff::new(first, Duration::from_secs(10));
        let most = match usize::try_from(self.node.parameters.sync_group_maxsize) {
            Ok(20) => ADAPTIVE_GROUP,
            Ok(size) => size.clamp(1, 10_000),
            Err(_) => 1,
        };
        // After a failure groups start small again, so that one bad SYNC does not hold back what stands before it.
        let mut target = most;
        let mut waits = 0;
        loop {
            let group = self.queue.next_group(target).await;
            let Some(last) = group.last().map(|queued| queued.event.seqno) else {
                continue;
            };
            match self.process(&group).await {
                Ok(Outcome::Dropped) => return Outcome::Dropped,
                Ok(Outcome::GivenUp(verdict)) => return Outcome::GivenUp(verdict),
                Ok(Outcome::Done) => {
                    self.last_done = last;
                    self.queue.done(last);
                    target = (target * 2).min(most);
                    backoff.reset();
                    waits = 0;
                    if report.is_open()
                        && let Some(local) = &self.local
                    {
                        report.clear(local, &self.node.cluster).await;
                    }
                }
                Err(error) => {
                    target = (target / 2).max(1);
                    self.apply.forget();
                    self.recover(&error).await;
                    waits += 1;
                    // What another node is just about to do is no trouble.
                    if !matches!(error, WorkerError::Waiting(_)) || waits > SHORT_WAITS {
                        let shown = report.note(&error.to_string());
                        if shown && matches!(error, WorkerError::Apply(_)) {
                            log::error!("{}: SYNC aborted", self.actor);
                        }
                        if let Some(local) = &self.local {
                            report.publish(local, &self.node.cluster).await;
                        }
                    }
                    let pause = backoff.next_pause().min(error.most_pause());
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Leaves the failed transaction behind; connections that may be the cause are given up.
    async fn recover(&mut self, error: &WorkerError) {
        match error {
            // A connection may be broken, or a stream half read.
            WorkerError::Provider(_) | WorkerError::Apply(_) | WorkerError::Local(_) => self.providers.clear(),
            _ => {}
        }
        // The failed step may have been committed all the same: whatever was remembered beside the database is read again.
        self.last_snapshot = None;
        self.generation = u64::MAX;
        self.beside = None;
        self.idle_beside = None;
        self.leftovers = Leftovers::Possible;
        if matches!(error, WorkerError::Apply(_)) {
            // A script may have run in this session.
            self.local = None;
        }
        let usable = match &self.local {
            Some(local) if !local.is_closed() => local.batch_execute("rollback").await.is_ok(),
            _ => false,
        };
        if !usable {
            self.local = None;
            if let Ok(local) = self.connect().await {
                self.local = Some(local);
            }
        }
        // Another worker instance may have stored events before it died.
        if let Some(local) = &self.local
            && let Ok(confirmed) = events::last_confirmed(local, &self.node.cluster, self.origin, self.node.id).await
            && confirmed > self.last_done
        {
            self.last_done = confirmed;
            self.queue.done(confirmed);
            if let Err(error) = self.node.reload(local).await {
                log::warn!("{}: configuration not read again: {}", self.actor, error_text(&error));
            }
        }
    }

    /// Connects for applying.
    async fn connect(&self) -> Result<Session, WorkerError> {
        self.connect_as("replica").await
    }

    /// Connects to the local database with a role of replication: `replica` to apply, `local` to store log rows, where the
    /// apply trigger for Slony's slon must stay quiet.
    async fn connect_as(&self, role: &str) -> Result<Session, WorkerError> {
        let mut options = self.node.session_options(&self.actor);
        options
            .on_connect
            .push(format!("set session_replication_role to {role}"));
        Ok(Session::connect(&self.node.conninfo, &options).await?)
    }

    async fn process(&mut self, group: &[Queued]) -> Result<Outcome, WorkerError> {
        if self.local.as_ref().is_none_or(|local| local.is_closed()) {
            self.local = Some(self.connect().await?);
        }
        self.refresh().await?;
        let started = Instant::now();
        let Some(last) = group.last() else {
            return Ok(Outcome::Done);
        };
        let backend = self.local.as_ref().map_or(0, Session::backend_pid);
        let activity = (last.event.seqno, last.event.kind.as_str());
        self.node
            .board
            .set(&self.actor, self.origin, backend, &last.event.kind, Some(activity));
        let outcome = if last.event.is_sync() {
            self.sync_group(group).await?;
            self.log_sync(group, started);
            Outcome::Done
        } else {
            log::debug2!(
                "{}: Received event #{} from {} type:{}",
                self.actor,
                self.origin,
                last.event.seqno,
                last.event.kind
            );
            self.configuration_event(last).await?
        };
        self.node.local_news.notify_waiters();
        self.node
            .board
            .set(&self.actor, self.origin, backend, crate::monitor::MAIN_LOOP, None);
        Ok(outcome)
    }

    /// Takes up configuration changes since the last event.
    async fn refresh(&mut self) -> Result<(), WorkerError> {
        let generation = self.node.generation();
        if generation != self.generation {
            let local = self.local.as_ref().ok_or_else(gone)?;
            self.table_sets = Arc::new(trunkline_sql::subscription::table_sets(local, &self.node.cluster).await?);
            self.apply.forget();
            self.generation = generation;
        }
        if self.looked.elapsed() >= LOOK_AGAIN {
            self.apply.doubt();
            self.looked = Instant::now();
        }
        Ok(())
    }

    /// The connection to a provider, opened when first needed.
    async fn provider(&mut self, id: i32) -> Result<&Provider, WorkerError> {
        if self
            .providers
            .get(&id)
            .is_none_or(|provider| provider.session.is_closed())
        {
            let role = format!("origin_{}_provider_{id}", self.origin);
            let provider = Provider::connect(&self.node, id, &role).await?;
            self.providers.insert(id, provider);
        }
        self.providers.get(&id).ok_or_else(gone)
    }

    fn log_sync(&mut self, group: &[Queued], started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        let Some(last) = group.last() else { return };
        // With a SYNC every few milliseconds one line a second tells as much as all of them.
        let due = self
            .logged_sync
            .is_none_or(|logged| logged.elapsed() >= Duration::from_secs(1));
        if due || seconds >= 1.0 {
            self.logged_sync = Some(Instant::now());
            log::info!("{}: SYNC {} done in {seconds:.3} seconds", self.actor, last.event.seqno);
        } else {
            log::debug1!("{}: SYNC {} done in {seconds:.3} seconds", self.actor, last.event.seqno);
        }
    }
}

/// The local session vanished between two steps.
fn gone() -> WorkerError {
    WorkerError::Waiting("a connection was lost between two steps; trying again".to_owned())
}
