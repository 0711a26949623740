//! One connection per node of the preamble, each with its own transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use trunkline_grammar::{Id, Script, SourceMap};
use trunkline_sql::admin::{self, Blocker, Call, CallError, Locks};
use trunkline_sql::{Cluster, Session, SessionOptions, error_text};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::plan::Rehearsal;
use crate::progress::{Announcements, duration_text};
use crate::report::Report;

/// A connection attempt that just failed is not repeated at once: the host may take its full timeout again.
const FRESH: Duration = Duration::from_secs(1);

/// Settings of every session.
const DATES: &str = "set datestyle to 'ISO'";
/// Without statistics the planner takes the small tables of the cluster schema for large ones, and compiles queries for
/// seconds that run for a millisecond. PostgreSQL 10 has no such setting.
const NO_COMPILING: &str =
    "select pg_catalog.set_config(s.name, 'off', false) from pg_catalog.pg_settings s where s.name = 'jit'";
/// The right it takes may be missing, which matters only to some statements.
const LOCAL_ROLE: &str = "set session_replication_role to local";

/// How often it is looked who blocks a call, before it counts as working.
const LOOKS: usize = 10;

/// Pause between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// The administrator's way to one node.
struct NodeConnection {
    conninfo: String,
    /// `file:line` of its line in the preamble.
    declared: String,
    session: Option<Session>,
    /// Why `session_replication_role` could not be set.
    role_problem: Option<String>,
    in_transaction: bool,
    /// Node number the database reports; None: not known (yet).
    identity: Option<Id>,
    refused: Option<(Instant, String)>,
    /// A second connection, to look at what the first one waits for.
    observer: Option<Session>,
}

/// All connections of a script.
pub(crate) struct Connections {
    cluster: Cluster,
    report: Report,
    interrupt: Interrupt,
    nodes: BTreeMap<Id, NodeConnection>,
    /// Nodes in the order of the preamble.
    order: Vec<Id>,
    /// Nodes with an open transaction, in the order they began.
    begun: Vec<Id>,
    /// Set while a script is only planned: what would change something is noted here instead, and nothing is sent.
    rehearsal: Option<Rehearsal>,
}

impl Connections {
    pub(crate) fn new(
        cluster: Cluster,
        report: Report,
        interrupt: Interrupt,
        script: &Script,
        sources: &SourceMap,
    ) -> Self {
        let mut nodes = BTreeMap::new();
        let mut order = Vec::new();
        for node in &script.nodes {
            let connection = NodeConnection {
                conninfo: node.conninfo.clone(),
                declared: sources.location(node.span),
                session: None,
                role_problem: None,
                in_transaction: false,
                identity: None,
                refused: None,
                observer: None,
            };
            if nodes.insert(node.id, connection).is_none() {
                order.push(node.id);
            }
        }
        Self {
            cluster,
            report,
            interrupt,
            nodes,
            order,
            begun: Vec::new(),
            rehearsal: None,
        }
    }

    /// From now on everything is only planned.
    pub(crate) fn begin_rehearsal(&mut self, rehearsal: Rehearsal) {
        self.rehearsal = Some(rehearsal);
    }

    /// Where the steps are noted while a script is only planned.
    pub(crate) fn rehearsal(&mut self) -> Option<&mut Rehearsal> {
        self.rehearsal.as_mut()
    }

    /// Ends the planning.
    pub(crate) fn take_rehearsal(&mut self) -> Option<Rehearsal> {
        self.rehearsal.take()
    }

    /// Whether the script is only planned.
    pub(crate) fn rehearses(&self) -> bool {
        self.rehearsal.is_some()
    }

    /// All nodes of the preamble, in its order.
    pub(crate) fn nodes(&self) -> Vec<Id> {
        self.order.clone()
    }

    /// Whether the preamble names `node`.
    pub(crate) fn knows(&self, node: Id) -> bool {
        self.nodes.contains_key(&node)
    }

    /// `file:line` of the node's line in the preamble.
    pub(crate) fn declared(&self, node: Id) -> &str {
        self.nodes.get(&node).map_or("the preamble", |node| &node.declared)
    }

    /// Whether the node's connection has an open transaction.
    pub(crate) fn in_transaction(&self, node: Id) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.in_transaction)
    }

    /// Node number that the database behind `node` reports, if that is known.
    pub(crate) fn identity(&self, node: Id) -> Option<Id> {
        self.nodes.get(&node).and_then(|node| node.identity)
    }

    pub(crate) fn set_identity(&mut self, node: Id, identity: Option<Id>) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.identity = identity;
        }
    }

    /// Connects to every node that is not connected, all at the same time. Says which ones cannot be reached. Nodes that are
    /// said to have failed are left out: a host that is gone does not even refuse, and others wait for what comes now.
    pub(crate) async fn open_all(&mut self, failed: &BTreeSet<Id>) {
        let report = &self.report;
        let read_only = self.rehearses();
        let attempts = self.order.iter().filter(|id| !failed.contains(id)).filter_map(|id| {
            let node = self.nodes.get(id)?;
            (node.needs_connecting() && !node.just_refused())
                .then_some(async move { (*id, connect(*id, &node.conninfo, report, read_only).await) })
        });
        let outcomes = join_all(attempts).await;
        for (id, outcome) in outcomes {
            if let Err(reason) = self.settle(id, outcome) {
                self.report.say(&reason);
            }
        }
    }

    /// Takes over the outcome of a connection attempt.
    fn settle(&mut self, id: Id, outcome: Result<(Session, Option<String>), String>) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        node.identity = None;
        match outcome {
            Ok((session, role_problem)) => {
                node.session = Some(session);
                node.role_problem = role_problem;
                node.refused = None;
                Ok(())
            }
            Err(reason) => {
                node.session = None;
                node.refused = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    /// The connection to `node`, made if need be.
    pub(crate) async fn session(&mut self, id: Id) -> Result<&Session, Failure> {
        let node = self.nodes.get(&id).ok_or(Failure::NoConninfo(id))?;
        if node.needs_connecting() {
            if let Some((_, reason)) = node.refused.as_ref().filter(|_| node.just_refused()) {
                return Err(Failure::Unreachable(reason.clone()));
            }
            let outcome = connect(id, &node.conninfo, &self.report, self.rehearsal.is_some()).await;
            self.settle(id, outcome).map_err(Failure::Unreachable)?;
        }
        self.nodes
            .get(&id)
            .and_then(|node| node.session.as_ref())
            .ok_or(Failure::NoConninfo(id))
    }

    /// The connection to `node` if it is open now.
    pub(crate) fn open_session(&self, id: Id) -> Option<&Session> {
        self.nodes
            .get(&id)?
            .session
            .as_ref()
            .filter(|session| !session.is_closed())
    }

    /// Forgets that connecting just failed, and a connection that broke outside a transaction.
    pub(crate) fn retry(&mut self, id: Id) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.refused = None;
        }
    }

    /// Begins a transaction unless one is open. Inside a `try` block (`event_lock`) it starts with the event lock, so
    /// that no daemon makes an event between ours.
    pub(crate) async fn begin(&mut self, id: Id, event_lock: bool) -> Result<(), Failure> {
        self.session(id).await?;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Err(Failure::NoConninfo(id));
        };
        if node.in_transaction {
            return Ok(());
        }
        if let Some(problem) = &node.role_problem {
            return Err(Failure::Refused(format!("node {id}: {problem}")));
        }
        self.begin_unprivileged(id, event_lock).await
    }

    /// Begins without the right to set `session_replication_role`: for installing, which explains what to grant.
    pub(crate) async fn begin_unprivileged(&mut self, id: Id, event_lock: bool) -> Result<(), Failure> {
        if self.in_transaction(id) {
            return Ok(());
        }
        let cluster = self.cluster.clone();
        self.session(id).await?;
        if let Some(rehearsal) = &mut self.rehearsal {
            if event_lock && rehearsal.knows(id) {
                rehearsal.lock(id, Locks::Event);
            }
            if let Some(node) = self.nodes.get_mut(&id) {
                node.in_transaction = true;
            }
            self.begun.push(id);
            return Ok(());
        }
        let session = self.session(id).await?;
        let begin = "begin transaction isolation level read committed read write";
        session
            .batch_execute(begin)
            .await
            .map_err(|error| Failure::Sql(CallError::of_query(begin, error)))?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.in_transaction = true;
        }
        self.begun.push(id);
        if event_lock {
            let session = self.session(id).await?;
            let installed = admin::schema_exists(session, &cluster)
                .await
                .map_err(Failure::of_query("is the cluster schema installed"))?;
            if installed && let Some(lock) = Locks::Event.call(&cluster) {
                self.run(id, &lock).await?;
            }
        }
        Ok(())
    }

    /// Runs a statement; while it waits for a lock, says who holds it.
    pub(crate) async fn run(&mut self, id: Id, call: &Call) -> Result<Option<String>, Failure> {
        self.run_in_wait(id, call, &mut Announcements::new()).await
    }

    /// The same as one attempt of a longer wait.
    pub(crate) async fn run_in_wait(
        &mut self,
        id: Id,
        call: &Call,
        wait: &mut Announcements,
    ) -> Result<Option<String>, Failure> {
        self.session(id).await?;
        if self.rehearses() {
            return self.rehearse(id, call).await;
        }
        self.send(id, call, wait).await
    }

    /// While planning: asks what only asks, and foresees what would be changed.
    async fn rehearse(&mut self, id: Id, call: &Call) -> Result<Option<String>, Failure> {
        let Some(rehearsal) = &mut self.rehearsal else {
            return Ok(None);
        };
        if call.asks() {
            return if rehearsal.is_installed(id) {
                self.send(id, call, &mut Announcements::new()).await
            } else {
                Ok(None)
            };
        }
        let event = rehearsal.call(id, call);
        let found = crate::plan::examine(self, id, call).await;
        if let Some(rehearsal) = &mut self.rehearsal {
            for obstacle in found {
                rehearsal.obstacle(obstacle);
            }
        }
        Ok(event.map(|event| event.to_string()))
    }

    async fn send(&mut self, id: Id, call: &Call, wait: &mut Announcements) -> Result<Option<String>, Failure> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Err(Failure::NoConninfo(id));
        };
        let Some(session) = &node.session else {
            return Err(Failure::NoConninfo(id));
        };
        let pid = session.backend_pid();
        let waiting = watch_locks(id, pid, &node.conninfo, &mut node.observer, &self.report, wait);
        let _running = self.interrupt.running(session);
        tokio::select! {
            biased;
            answer = call.run(session) => Ok(answer?),
            never = waiting => match never {},
        }
    }

    /// Like [`run`](Self::run), for several statements.
    pub(crate) async fn run_all(&mut self, id: Id, calls: &[Call]) -> Result<(), Failure> {
        for call in calls {
            self.run(id, call).await?;
        }
        Ok(())
    }

    /// Takes locks.
    pub(crate) async fn lock(&mut self, id: Id, locks: Locks) -> Result<(), Failure> {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.lock(id, locks);
            return Ok(());
        }
        if let Some(call) = locks.call(&self.cluster) {
            self.run(id, &call).await?;
        }
        Ok(())
    }

    /// Puts every setting of a node's session back to what it was after connecting.
    pub(crate) async fn reset_settings(&mut self, id: Id) -> Result<(), Failure> {
        if self.rehearses() {
            return Ok(());
        }
        for sql in [
            "reset session authorization",
            "reset role",
            "reset all",
            DATES,
            NO_COMPILING,
            LOCAL_ROLE,
        ] {
            self.run(id, &Call::statement(sql)).await?;
        }
        Ok(())
    }

    /// Runs a longer piece of work on a node's client under the same watch.
    pub(crate) async fn work<T, E>(
        &mut self,
        id: Id,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
        wrap: impl FnOnce(E) -> Failure,
    ) -> Result<T, Failure> {
        self.session(id).await?;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Err(Failure::NoConninfo(id));
        };
        let Some(session) = &node.session else {
            return Err(Failure::NoConninfo(id));
        };
        let mut announcements = Announcements::new();
        let waiting = watch_locks(
            id,
            session.backend_pid(),
            &node.conninfo,
            &mut node.observer,
            &self.report,
            &mut announcements,
        );
        let _running = self.interrupt.running(session);
        tokio::select! {
            biased;
            answer = work(session) => answer.map_err(wrap),
            never = waiting => match never {},
        }
    }

    /// Commits one node's transaction, if it has one.
    pub(crate) async fn commit(&mut self, id: Id) -> Result<(), Failure> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        if !node.in_transaction {
            return Ok(());
        }
        node.in_transaction = false;
        self.begun.retain(|begun| *begun != id);
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.commit(id);
            return Ok(());
        }
        let Some(session) = &node.session else { return Ok(()) };
        let outcome = session.batch_execute("commit").await;
        outcome.map_err(|error| {
            if error.as_db_error().is_some() {
                return Failure::Sql(CallError::of_query("commit", error));
            }
            Failure::Refused(format!(
                "node {id}: the connection was lost while the transaction was being committed ({}); look whether its \
                 changes are there before running the script again",
                error_text(&error)
            ))
        })
    }

    /// Commits all open transactions, one node after the other in the order they began; there is no two-phase commit.
    /// After a failure the others are rolled back, and the message says which nodes have committed.
    pub(crate) async fn commit_all(&mut self) -> Result<(), Failure> {
        let mut done = Vec::new();
        while let Some(id) = self.begun.first().copied() {
            if let Err(failure) = self.commit(id).await {
                let undone = self.begun.clone();
                self.rollback_all().await;
                if !done.is_empty() || !undone.is_empty() {
                    self.report.say(&format!(
                        "Error: commit failed on node {id}; already committed: {}; rolled back: {}",
                        list(&done),
                        list(&undone)
                    ));
                }
                return Err(failure);
            }
            done.push(id);
        }
        Ok(())
    }

    /// Rolls back all open transactions. A connection that cannot even do that is dropped, which does it too.
    pub(crate) async fn rollback_all(&mut self) {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.roll_back();
            for id in std::mem::take(&mut self.begun) {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.in_transaction = false;
                }
            }
            return;
        }
        for id in std::mem::take(&mut self.begun) {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.in_transaction = false;
            let broken = match &node.session {
                Some(session) => session.batch_execute("rollback").await.is_err(),
                None => false,
            };
            if broken {
                node.session = None;
                node.identity = None;
            }
        }
    }

    /// Closes a node's connection, so that nothing cached about its schema survives.
    pub(crate) fn disconnect(&mut self, id: Id) {
        self.begun.retain(|begun| *begun != id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.in_transaction = false;
            node.session = None;
            node.observer = None;
            node.identity = None;
        }
    }
}

impl NodeConnection {
    fn just_refused(&self) -> bool {
        self.refused.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH)
    }

    fn needs_connecting(&self) -> bool {
        // A broken connection inside a transaction must fail the next statement, not silently begin anew.
        !self.in_transaction && self.session.as_ref().is_none_or(|session| session.is_closed())
    }
}

/// `1, 2` or `none`.
fn list(nodes: &[Id]) -> String {
    if nodes.is_empty() {
        return "none".to_owned();
    }
    nodes
        .iter()
        .map(|id| format!("node {id}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Connects and sets the session up. The second value says why `session_replication_role` could not be set: only what
/// needs it fails then.
///
/// `read_only`: the server itself refuses every change in this session.
async fn connect(
    id: Id,
    conninfo: &str,
    report: &Report,
    read_only: bool,
) -> Result<(Session, Option<String>), String> {
    let mut on_connect = vec![DATES.to_owned(), NO_COMPILING.to_owned()];
    if read_only {
        on_connect.push("set default_transaction_read_only to on".to_owned());
    }
    let options = SessionOptions {
        application_name: "slonik".to_owned(),
        on_connect,
        notice: Some(report.notice_sink()),
        ..SessionOptions::default()
    };
    let failed = |reason: &dyn std::fmt::Display| format!("connection to server of node {id} failed: {reason}");
    let session = Session::connect(conninfo, &options)
        .await
        .map_err(|error| failed(&error))?;
    let role_problem = match session.batch_execute(LOCAL_ROLE).await {
        Ok(()) => None,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Some(format!(
            "{}; run as a superuser: `grant set on parameter session_replication_role to …` (PostgreSQL 15 or newer), \
             or use a superuser in the admin conninfo",
            error.as_db_error().map_or("permission denied", |error| error.message())
        )),
        Err(error) => return Err(failed(&error_text(&error))),
    };
    Ok((session, role_problem))
}

/// Never ends: as long as it is polled beside a statement, says who holds the lock that the statement waits for.
async fn watch_locks(
    id: Id,
    pid: i32,
    conninfo: &str,
    observer: &mut Option<Session>,
    report: &Report,
    announcements: &mut Announcements,
) -> std::convert::Infallible {
    loop {
        tokio::time::sleep_until(announcements.next().into()).await;
        let Some(elapsed) = announcements.due() else { continue };
        if observer.as_ref().is_none_or(|session| session.is_closed()) {
            let options = SessionOptions {
                application_name: "slonik".to_owned(),
                ..SessionOptions::default()
            };
            *observer = Session::connect(conninfo, &options).await.ok();
        }
        let Some(session) = observer else {
            report.say(&format!("waiting for node {id} for {}", duration_text(elapsed)));
            continue;
        };
        let waited = duration_text(elapsed);
        let blockers = look_for_blockers(session, pid).await;
        for blocker in &blockers {
            report.say(&format!(
                "waiting for {waited} on node {id} for a lock held by {blocker}"
            ));
        }
        if blockers.is_empty() {
            report.say(&format!("node {id} has been working for {waited}"));
        }
    }
}

/// Who keeps the server process from a lock. A stored function that takes locks with little patience, so as not to be in
/// the way of applications, waits in short turns: it is looked at a few times.
async fn look_for_blockers(session: &Session, pid: i32) -> Vec<Blocker> {
    for _ in 0..LOOKS {
        let blockers = admin::lock_holders(session, pid).await.unwrap_or_default();
        if !blockers.is_empty() {
            return blockers;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Vec::new()
}
