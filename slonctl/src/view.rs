//! The cluster as it can be seen from here: which nodes answered, what each of them says, and whose word counts.

mod discovery;
mod lag;
mod missing_path;
mod search;
pub(crate) mod standing;
mod stuck;

use std::collections::{BTreeMap, BTreeSet};

use trunkline_sql::admin::SETTINGS;
use trunkline_sql::operator::NodeFacts;
use trunkline_sql::session::redact;
use trunkline_sql::{Cluster, ConnectError, Session, SessionOptions};

use crate::configuration::Configuration;

pub(crate) use discovery::{CONNECT_TIMEOUT, DiscoveryError};
pub(crate) use lag::{Lag, lag};
pub(crate) use search::PATIENCE_WITH_LOST;
pub(crate) use standing::{SetStanding, Subscription};
pub(crate) use stuck::{call_in_words, overdue_in_words};

/// What slonctl asks is asked in the ten worst minutes: it must not queue behind somebody's lock.
const NEVER_QUEUE: &str = "set lock_timeout to '5s'";

/// Where a conninfo comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configuration file.
    File,
    /// The command line.
    CommandLine,
    /// `sl_path` of node `told_by`: how the slon of node `client` reaches the node.
    Path {
        /// Whose table it is.
        told_by: i32,
        /// Whose way it is.
        client: i32,
    },
}

/// A way to a node.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) conninfo: String,
    pub(crate) source: Source,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way")
            .field("conninfo", &redact(&self.conninfo))
            .field("source", &self.source)
            .finish()
    }
}

/// A node that answered.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) session: Session,
    pub(crate) way: Way,
    pub(crate) facts: NodeFacts,
}

/// What became of asking a node.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It answered.
    Reached(Box<Reached>),
    /// It did not; one reason per way that was tried.
    Silent(Vec<String>),
}

/// One node.
#[derive(Debug)]
pub(crate) struct NodeView {
    pub(crate) id: i32,
    /// Ways to it, the best first.
    pub(crate) ways: Vec<Way>,
    pub(crate) answer: Answer,
}

impl NodeView {
    /// What the node says, if it answered.
    pub(crate) fn facts(&self) -> Option<&NodeFacts> {
        match &self.answer {
            Answer::Reached(reached) => Some(&reached.facts),
            Answer::Silent(_) => None,
        }
    }

    /// The open session to the node, if it answered.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.answer {
            Answer::Reached(reached) => Some(&reached.session),
            Answer::Silent(_) => None,
        }
    }

    /// Why it did not answer; empty if it did.
    pub(crate) fn silence(&self) -> &[String] {
        match &self.answer {
            Answer::Reached(_) => &[],
            Answer::Silent(reasons) => reasons,
        }
    }

    /// The conninfo by which it answered, else the first one known.
    pub(crate) fn conninfo(&self) -> Option<&str> {
        match &self.answer {
            Answer::Reached(reached) => Some(&reached.way.conninfo),
            Answer::Silent(_) => self.ways.first().map(|way| way.conninfo.as_str()),
        }
    }
}

/// The cluster as seen from here.
#[derive(Debug)]
pub(crate) struct ClusterView {
    pub(crate) cluster: Cluster,
    pub(crate) configuration: Configuration,
    /// All nodes anybody knows, by number.
    pub(crate) nodes: BTreeMap<i32, NodeView>,
    /// Nodes said to be lost that had not answered when they were not waited for any longer: slow, perhaps.
    pub(crate) hurried: BTreeSet<i32>,
    /// What is odd about what was found: a conninfo that leads elsewhere, nodes that contradict each other.
    pub(crate) notes: Vec<String>,
}

impl ClusterView {
    /// Node `id`, if anybody knows it.
    pub(crate) fn node(&self, id: i32) -> Option<&NodeView> {
        self.nodes.get(&id)
    }

    /// What node `id` says, if it answered.
    pub(crate) fn facts(&self, id: i32) -> Option<&NodeFacts> {
        self.node(id)?.facts()
    }

    /// The nodes that answered, with what they say.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.values().filter_map(NodeView::facts)
    }

    /// A session of one's own to node `id`, over the way by which it answered.
    pub(crate) async fn connect(&self, id: i32) -> Option<Result<Session, ConnectError>> {
        let conninfo = self.node(id)?.conninfo()?;
        Some(Session::connect(conninfo, &session_options()).await)
    }
}

/// How slonctl connects.
pub(crate) fn session_options() -> SessionOptions {
    SessionOptions {
        application_name: "slonctl".to_owned(),
        on_connect: SETTINGS.into_iter().chain([NEVER_QUEUE]).map(str::to_owned).collect(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        ..SessionOptions::default()
    }
}
