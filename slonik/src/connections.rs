//! One connection per node of the preamble, each with its own transaction.

mod blockers;
mod statement;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use trunkline_grammar::{Id, Script, SourceMap};
use trunkline_sql::admin::SETTINGS;
use trunkline_sql::{Cluster, Session, SessionOptions, error_text};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::plan::Rehearsal;
use crate::report::Report;

/// A connection attempt that just failed is not repeated at once: the host may take its full timeout again.
const FRESH: Duration = Duration::from_secs(1);

/// The right it takes may be missing, which matters only to some statements.
const LOCAL_ROLE: &str = "set session_replication_role to local";

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
    let mut on_connect: Vec<String> = SETTINGS.map(str::to_owned).into();
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
