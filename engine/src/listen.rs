//! The remote listener: fetches events and confirmations from one provider and hands them on.
//!
//! It wakes on the provider's `"_C_Event"` notification and polls as well, so a provider served by a real Slony slon,
//! which does not notify, is read too. Events go to the queues of the origins' workers; confirmations are stored here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::Statement;
use tokio_util::sync::CancellationToken;
use trunkline_sql::configuration::Configuration;
use trunkline_sql::event_source::{self, Wish};
use trunkline_sql::events::{self, Confirmation};
use trunkline_sql::{Session, error_text};

use crate::backoff::{Backoff, TroubleReport};
use crate::logging as log;
use crate::node::Node;
use crate::provider::{Provider, ProviderError};
use crate::queue::EventQueue;

/// Most events per origin in one poll.
const EVENTS_PER_POLL: i64 = 500;
/// Between two looks at what waits for the workers.
const BACKLOG_LOOK: Duration = Duration::from_secs(2);

/// Idle polls of a provider that notifies: a safety net only.
const IDLE_POLL: Duration = Duration::from_secs(5);
/// Idle polls of a provider that does not notify.
const BLIND_POLL: Duration = Duration::from_secs(1);
/// How long a provider may lack events before it counts as trouble.
const GAP_PATIENCE: Duration = Duration::from_secs(3);
/// Polls of a provider that lacks events which it may have soon.
const LACKING_POLL: Duration = Duration::from_millis(500);
/// Least time between two polls, so that a flood of notifications costs one poll per pause.
const LEAST_PAUSE: Duration = Duration::from_millis(4);

/// Queues of all origins that have a worker.
#[derive(Debug, Default)]
pub struct Queues {
    by_origin: Mutex<HashMap<i32, Arc<EventQueue>>>,
}

impl Queues {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Arc<EventQueue>>> {
        self.by_origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of an origin, if it has a worker.
    #[must_use]
    pub fn get(&self, origin: i32) -> Option<Arc<EventQueue>> {
        self.lock().get(&origin).cloned()
    }

    /// Adds the queue of a new worker.
    pub fn insert(&self, origin: i32, queue: Arc<EventQueue>) {
        self.lock().insert(origin, queue);
    }

    /// Removes the queue of a worker that ended.
    pub fn remove(&self, origin: i32) {
        self.lock().remove(&origin);
    }
}

#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("{0}")]
    Provider(#[from] ProviderError),
    #[error("local database: {}", error_text(.0))]
    Local(tokio_postgres::Error),
    #[error("local database: {0}")]
    Connect(#[from] trunkline_sql::ConnectError),
    #[error(
        "node {node} did not answer within {seconds} s (remote_listen_timeout); it is overloaded or the network is cut"
    )]
    Timeout { node: i32, seconds: u64 },
    #[error("node {node}: the connection was closed")]
    Closed { node: i32 },
}

/// Listens to one provider until cancelled.
pub async fn run(node: Arc<Node>, provider: i32, queues: Arc<Queues>, cancel: CancellationToken) {
    let mut report = TroubleReport::new(format!("remoteListenThread_{provider}"), node.id);
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    log::debug1!("remoteListenThread_{provider}: thread starts");
    let mut local = None;
    loop {
        let started = Instant::now();
        let outcome = tokio::select! {
            () = cancel.cancelled() => break,
            outcome = serve(&node, provider, &queues, &mut local, &mut report) => outcome,
        };
        let Err(error) = outcome;
        if started.elapsed() > Duration::from_secs(5) {
            backoff.reset();
        }
        let pause = backoff.next_pause();
        report.note(&error.to_string());
        if let Some(session) = &local {
            report.publish(session, &node.cluster).await;
        }
        let mut configuration = node.configuration.subscribe();
        let path = node.current().paths.get(&provider).cloned();
        let path_changed = async {
            // A new conninfo is tried at once.
            while configuration.changed().await.is_ok() {
                if configuration.borrow().paths.get(&provider) != path.as_ref() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            () = path_changed => backoff.reset(),
        }
    }
    if let Some(session) = local.filter(|_| report.is_open()) {
        report.clear(&session, &node.cluster).await;
    }
    log::debug1!("remoteListenThread_{provider}: thread done");
}

struct Listener<'a> {
    node: &'a Node,
    provider: Provider,
    local: &'a Session,
    queues: &'a Queues,
    fetch: Statement,
    confirmations: Statement,
    /// Newest confirmation known here, by origin and receiver.
    known: HashMap<(i32, i32), i64>,
    /// Origins whose events the provider has without a gap from where this node stands.
    trusted: HashSet<i32>,
    /// When the worker's backlogs were looked at last, and the first event of each.
    looked: (Instant, HashMap<i32, i64>),
    /// What it cannot show to have, and since when this node stands still there.
    lacking: Option<(Wish, Instant)>,
}

async fn serve(
    node: &Node,
    provider: i32,
    queues: &Queues,
    local: &mut Option<Session>,
    report: &mut TroubleReport,
) -> Result<std::convert::Infallible, ListenError> {
    if local.as_ref().is_none_or(|session| session.is_closed()) {
        *local = Some(
            Session::connect(
                &node.conninfo,
                &node.session_options(&format!("node_{provider}_listen")),
            )
            .await?,
        );
    }
    let Some(local) = local.as_ref() else {
        return Err(ListenError::Closed { node: node.id });
    };
    let remote = Provider::connect(node, provider, &format!("node_{provider}_listen")).await?;
    let database = |source| ListenError::Provider(ProviderError::Database { node: provider, source });
    let channel = node.cluster.event_channel_name();
    remote
        .session
        .batch_execute(&format!("listen {}", node.cluster.event_channel()))
        .await
        .map_err(database)?;
    let delayed = node.parameters.lag_interval.is_some();
    let fetch = remote
        .session
        .prepare(&events::fetch_statement(&node.cluster, delayed))
        .await
        .map_err(database)?;
    let confirmations = remote
        .session
        .prepare(&events::confirmations_statement(&node.cluster))
        .await
        .map_err(database)?;
    let ours = node.cluster.sql(
        "select exists (select 1 from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                         where n.nspname = @CLUSTER@ and p.proname = 'tl_version')",
    );
    let notifies = remote
        .session
        .query_one(&ours, &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(database)?;
    report.clear(local, &node.cluster).await;
    log::debug1!(
        "remoteListenThread_{provider}: connected to {}",
        remote.session.target()
    );

    let mut listener = Listener {
        node,
        provider: remote,
        local,
        queues,
        fetch,
        confirmations,
        known: HashMap::new(),
        trusted: HashSet::from([provider]),
        looked: (Instant::now(), HashMap::new()),
        lacking: None,
    };
    let mut configuration = node.configuration.subscribe();
    let most = if delayed {
        Duration::from_secs(1)
    } else if notifies {
        IDLE_POLL
    } else {
        BLIND_POLL
    };
    let mut pause = LEAST_PAUSE;
    loop {
        let current = configuration.borrow_and_update().clone();
        let polled_at = Instant::now();
        let found = listener.poll(&current, report).await?;
        // Without notifications the polls thin out slowly, so that a busy provider is read often.
        pause = if found || !current.nodes.contains_key(&provider) {
            LEAST_PAUSE
        } else if listener.lacking.is_some() {
            LACKING_POLL
        } else if notifies {
            most
        } else {
            (pause * 2).min(most)
        };
        if node.ours && listener.note_backlogs(&current).await? {
            pause = pause.min(BACKLOG_LOOK);
        }
        let full: Vec<Arc<EventQueue>> = current
            .listens
            .iter()
            .filter(|listen| listen.provider == provider)
            .filter_map(|listen| queues.get(listen.origin))
            .filter(|queue| queue.wanted_after().is_none())
            .collect();
        tokio::select! {
            rung = listener.provider.session.notified() => {
                let channels = rung.map_err(|_| ListenError::Closed { node: provider })?;
                if !channels.contains(&channel) {
                    continue;
                }
            }
            () = tokio::time::sleep(pause) => {}
            changed = configuration.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = async {
                match full.first() {
                    Some(queue) => queue.room().await,
                    None => std::future::pending().await,
                }
            } => {}
        }
        if let Some(rest) = LEAST_PAUSE.checked_sub(polled_at.elapsed()) {
            tokio::time::sleep(rest).await;
        }
    }
}

impl Listener<'_> {
    /// Finds out from which origins the provider has all events that this node still wants.
    async fn gather_evidence(
        &mut self,
        configuration: &Configuration,
        report: &mut TroubleReport,
    ) -> Result<(), ListenError> {
        let id = self.provider.id;
        self.trusted
            .retain(|origin| *origin == id || configuration.nodes.contains_key(origin));
        let wishes: Vec<Wish> = configuration
            .listens
            .iter()
            .filter(|listen| listen.provider == id && !self.trusted.contains(&listen.origin))
            .filter_map(|listen| {
                let after = self.queues.get(listen.origin)?.wanted_after()?;
                Some(Wish {
                    origin: listen.origin,
                    after,
                })
            })
            .collect();
        if wishes.is_empty() {
            if self.lacking.take().is_some() {
                report.clear(self.local, &self.node.cluster).await;
            }
            return Ok(());
        }
        let timeout = Duration::from_secs(u64::from(self.node.parameters.remote_listen_timeout));
        let asked = event_source::without_gap(self.local, &self.provider.session, &self.node.cluster, &wishes);
        let found = tokio::time::timeout(timeout, asked)
            .await
            .map_err(|_| ListenError::Timeout {
                node: id,
                seconds: timeout.as_secs(),
            })?
            .map_err(|(theirs, source)| {
                if theirs {
                    ListenError::Provider(ProviderError::Database { node: id, source })
                } else {
                    ListenError::Local(source)
                }
            })?;
        self.trusted.extend(found);
        let Some(wish) = wishes.iter().find(|wish| !self.trusted.contains(&wish.origin)) else {
            self.lacking = None;
            report.clear(self.local, &self.node.cluster).await;
            return Ok(());
        };
        let since = match self.lacking {
            Some((known, since)) if known == *wish => since,
            // Another provider has brought it further: no trouble.
            _ => {
                report.clear(self.local, &self.node.cluster).await;
                Instant::now()
            }
        };
        self.lacking = Some((*wish, since));
        if since.elapsed() > GAP_PATIENCE {
            report.note(&format!(
                "node {id} cannot show that it has all events of node {} behind {}: it joined later, or has not heard of that \
                 node yet; they are awaited from node {} itself or another node that has them",
                wish.origin, wish.after, wish.origin
            ));
            report.publish(self.local, &self.node.cluster).await;
        }
        Ok(())
    }

    /// Keeps in the database how far this node knows to be behind where a worker does not get on: if the origin dies, nobody else
    /// may know. Returns whether anything waits.
    async fn note_backlogs(&mut self, configuration: &Configuration) -> Result<bool, ListenError> {
        let mut waiting = HashMap::new();
        let listens = configuration.listens.iter();
        for listen in listens.filter(|listen| listen.provider == self.provider.id) {
            if let Some(backlog) = self.queues.get(listen.origin).and_then(|queue| queue.backlog()) {
                waiting.insert(listen.origin, backlog);
            }
        }
        let any = !waiting.is_empty();
        let (looked, before) = &self.looked;
        if looked.elapsed() < BACKLOG_LOOK {
            return Ok(any);
        }
        for (origin, (first, newest)) in &waiting {
            if before.get(origin) == Some(&first.seqno) {
                events::note_backlog(self.local, &self.node.cluster, first, *newest)
                    .await
                    .map_err(ListenError::Local)?;
            }
        }
        let firsts = waiting.into_iter().map(|(origin, (first, _))| (origin, first.seqno));
        self.looked = (Instant::now(), firsts.collect());
        Ok(any)
    }

    /// Reads what is new; returns whether there was anything.
    async fn poll(&mut self, configuration: &Configuration, report: &mut TroubleReport) -> Result<bool, ListenError> {
        let id = self.provider.id;
        self.gather_evidence(configuration, report).await?;
        let mut origins: Vec<i32> = Vec::new();
        let mut after: Vec<i64> = Vec::new();
        let listens = configuration.listens.iter().filter(|listen| listen.provider == id);
        for listen in listens.filter(|listen| self.trusted.contains(&listen.origin)) {
            if let Some(seqno) = self.queues.get(listen.origin).and_then(|queue| queue.wanted_after()) {
                origins.push(listen.origin);
                after.push(seqno);
            }
        }
        let mut pair_origins = Vec::new();
        let mut pair_receivers = Vec::new();
        for origin in configuration.nodes.keys() {
            for receiver in configuration.nodes.keys().filter(|receiver| **receiver != self.node.id) {
                if origin != receiver {
                    pair_origins.push(*origin);
                    pair_receivers.push(*receiver);
                }
            }
        }
        let timeout = Duration::from_secs(u64::from(self.node.parameters.remote_listen_timeout));
        let session = &self.provider.session;
        let lag = self.node.parameters.lag_interval.clone().unwrap_or_default();
        let reads = async {
            // Both are sent before the first answer is awaited.
            let fetched = async {
                if origins.is_empty() {
                    return Ok(Vec::new());
                }
                if self.node.parameters.lag_interval.is_some() {
                    session
                        .query(&self.fetch, &[&origins, &after, &EVENTS_PER_POLL, &lag])
                        .await
                } else {
                    session.query(&self.fetch, &[&origins, &after, &EVENTS_PER_POLL]).await
                }
            };
            let confirmed = async {
                session
                    .query(&self.confirmations, &[&pair_origins, &pair_receivers])
                    .await
            };
            futures_util::future::try_join(fetched, confirmed).await
        };
        let (fetched, confirmed) = tokio::time::timeout(timeout, reads)
            .await
            .map_err(|_| ListenError::Timeout {
                node: id,
                seconds: timeout.as_secs(),
            })?
            .and_then(|(fetched, confirmed)| {
                Ok((events::events_from(&fetched)?, events::confirmations_from(&confirmed)?))
            })
            .map_err(|source| ProviderError::Database { node: id, source })?;
        let mut found = false;
        let mut events = fetched.into_iter().peekable();
        while let Some(first) = events.peek() {
            let origin = first.origin;
            let mut of_origin = Vec::new();
            while let Some(event) = events.next_if(|event| event.origin == origin) {
                log::debug2!(
                    "remoteListenThread_{id}: queue event {origin},{} {}",
                    event.seqno,
                    event.kind
                );
                of_origin.push(event);
            }
            if let Some(queue) = self.queues.get(origin) {
                found |= queue.offer(id, of_origin) > 0;
            }
        }
        let newer: Vec<Confirmation> = confirmed
            .into_iter()
            .filter(|one| {
                self.known
                    .get(&(one.origin, one.received))
                    .is_none_or(|known| *known < one.seqno)
            })
            .collect();
        if !newer.is_empty() {
            events::forward_confirmations(self.local, &self.node.cluster, &newer)
                .await
                .map_err(ListenError::Local)?;
            for one in newer {
                self.known.insert((one.origin, one.received), one.seqno);
            }
            self.node.local_news.notify_waiters();
        }
        Ok(found)
    }
}
