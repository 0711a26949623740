//! Finding all nodes from the ones that are named.
//!
//! Every node knows all nodes and all paths. So the named nodes are asked first, then the nodes they know of over the
//! conninfos in `sl_path`, and so on until nobody new is named. Nobody waits for anybody: what one node tells is followed while
//! another is still silent, so a host that is frozen costs one time limit and not one for each way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use trunkline_sql::operator::{self, NodeFacts};
use trunkline_sql::session::redact;
use trunkline_sql::{Cluster, ClusterNameError, Session, error_text};

use super::search::Search;
use super::{Answer, ClusterView, NodeView, Reached, Source, Way, session_options};
use crate::configuration::Configuration;

/// Per host, where a conninfo does not say: a dead host must not hold up the answer for long.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that let us in may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// The name.
    #[error(transparent)]
    Name(#[from] ClusterNameError),
    /// Nobody answered.
    #[error("no node can be reached:\n  {}", .0.join("\n  "))]
    NobodyAnswers(Vec<String>),
    /// The database holds no cluster.
    #[error(
        "the database behind `{conninfo}` holds no node of a cluster. If it was one and was dropped, its schema is gone: `store node` \
         and `subscribe set` take it in anew"
    )]
    NoCluster {
        /// Where, without its password.
        conninfo: String,
    },
    /// The name is not given and there is a choice.
    #[error("the database behind `{conninfo}` holds several clusters ({}); say which with `--cluster`", names.join(", "))]
    SeveralClusters {
        /// Where, without its password.
        conninfo: String,
        /// Their names.
        names: Vec<String>,
    },
}

/// What a conninfo led to.
pub(super) enum Found {
    Node(Box<(Session, NodeFacts)>),
    Nothing(String),
}

impl ClusterView {
    /// Finds the cluster and asks every node. Those of `lost` are said to be gone: they are not waited for as long as others.
    pub(crate) async fn discover(configuration: Configuration, lost: &[i32]) -> Result<Self, DiscoveryError> {
        let cluster = match &configuration.cluster {
            Some(name) => Cluster::new(name)?,
            None => find_name(&configuration).await?,
        };
        let mut view = Self {
            cluster,
            configuration,
            nodes: BTreeMap::new(),
            hurried: BTreeSet::new(),
            notes: Vec::new(),
        };
        view.ask_named(lost).await?;
        view.compare();
        Ok(view)
    }

    /// Asks a node that was not waited for once more over all known ways, with the usual limits. Ok: it answers.
    pub(crate) async fn ask_patiently(&self, id: i32) -> Result<(), Vec<String>> {
        let ways = self.node(id).map_or(&[][..], |node| &node.ways);
        let mut asked: FuturesUnordered<_> = ways.iter().map(|way| find(&self.cluster, &way.conninfo)).collect();
        let mut reasons = Vec::new();
        while let Some(found) = asked.next().await {
            match found {
                Found::Node(found) if found.1.local == id => return Ok(()),
                Found::Node(_) => {}
                Found::Nothing(reason) if reasons.contains(&reason) => {}
                Found::Nothing(reason) => reasons.push(reason),
            }
        }
        Err(reasons)
    }

    /// Asks everybody again: nodes that answered over their open sessions, the others anew.
    pub(crate) async fn refresh(self) -> Result<Self, DiscoveryError> {
        let Self {
            cluster,
            mut configuration,
            nodes,
            ..
        } = self;
        configuration.cluster = Some(cluster.name().to_owned());
        let again = nodes.into_iter().map(|(id, node)| {
            let cluster = &cluster;
            async move {
                let NodeView { ways, answer, .. } = node;
                let answer = match answer {
                    Answer::Reached(reached) => {
                        let Reached { session, way, .. } = *reached;
                        match ask(&session, cluster).await {
                            Ok(Some(facts)) if facts.local == id => {
                                Answer::Reached(Box::new(Reached { session, way, facts }))
                            }
                            _ => Answer::Silent(Vec::new()),
                        }
                    }
                    silent @ Answer::Silent(_) => silent,
                };
                (id, NodeView { id, ways, answer })
            }
        });
        let asked: BTreeMap<i32, NodeView> = join_all(again).await.into_iter().collect();
        let mut view = Self {
            cluster,
            configuration,
            nodes: BTreeMap::new(),
            hurried: BTreeSet::new(),
            notes: Vec::new(),
        };
        let (reached, silent): (Vec<_>, Vec<_>) = asked
            .into_values()
            .partition(|node| matches!(node.answer, Answer::Reached(_)));
        if reached.is_empty() {
            // Nobody is left to ask over an open session.
            drop(silent);
            return Self::discover(view.configuration, &[]).await;
        }
        for node in reached {
            view.nodes.insert(node.id, node);
        }
        // What the others could be reached by before is tried again, all of it at once.
        let ways = silent
            .into_iter()
            .flat_map(|node| node.ways.into_iter().map(move |way| (Some(node.id), way)));
        Search::run(&mut view, ways.collect(), &[]).await;
        view.compare();
        Ok(view)
    }

    /// Asks the nodes that the configuration names.
    async fn ask_named(&mut self, lost: &[i32]) -> Result<(), DiscoveryError> {
        let mut named: Vec<(Option<i32>, Way)> = self
            .configuration
            .nodes
            .iter()
            .map(|(id, conninfo)| {
                let way = Way {
                    conninfo: conninfo.clone(),
                    source: Source::File,
                };
                (Some(*id), way)
            })
            .collect();
        named.extend(self.configuration.seeds.iter().map(|conninfo| {
            let way = Way {
                conninfo: conninfo.clone(),
                source: Source::CommandLine,
            };
            (None, way)
        }));
        let mut reasons = Search::run(self, named, lost).await;
        if self.answers().next().is_none() {
            reasons.append(&mut self.notes);
            reasons.dedup();
            return Err(DiscoveryError::NobodyAnswers(reasons));
        }
        Ok(())
    }

    pub(super) fn reached(&mut self, session: Session, way: Way, facts: NodeFacts) {
        let id = facts.local;
        let mut ways = self.nodes.remove(&id).map(|node| node.ways).unwrap_or_default();
        ways.retain(|known| known.conninfo != way.conninfo);
        ways.insert(0, way.clone());
        let answer = Answer::Reached(Box::new(Reached { session, way, facts }));
        self.nodes.insert(id, NodeView { id, ways, answer });
    }

    pub(super) fn silent(&mut self, id: i32, way: Way, reason: String) {
        let node = self.nodes.entry(id).or_insert_with(|| NodeView {
            id,
            ways: Vec::new(),
            answer: Answer::Silent(Vec::new()),
        });
        if !node.ways.iter().any(|known| known.conninfo == way.conninfo) {
            node.ways.push(way);
        }
        if let Answer::Silent(reasons) = &mut node.answer
            && !reasons.contains(&reason)
        {
            reasons.push(reason);
        }
    }
}

/// Connects and asks.
pub(super) async fn find(cluster: &Cluster, conninfo: &str) -> Found {
    let session = match Session::connect(conninfo, &session_options()).await {
        Ok(session) => session,
        Err(error) => return Found::Nothing(error.to_string()),
    };
    match ask(&session, cluster).await {
        Ok(Some(facts)) => Found::Node(Box::new((session, facts))),
        Ok(None) => Found::Nothing(format!(
            "the database behind `{}` holds no node of cluster {}",
            redact(conninfo),
            cluster.name()
        )),
        Err(reason) => Found::Nothing(format!("{}: {reason}", session.target())),
    }
}

/// Asks over an open session, within the time a server has for it.
async fn ask(session: &Session, cluster: &Cluster) -> Result<Option<NodeFacts>, String> {
    match tokio::time::timeout(ANSWER_TIMEOUT, operator::look(session, cluster)).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(error)) => Err(error_text(&error)),
        Err(_) => Err(format!(
            "the server let us in, but did not answer within {} s",
            ANSWER_TIMEOUT.as_secs()
        )),
    }
}

/// The name of the only cluster in the database that answers first.
async fn find_name(configuration: &Configuration) -> Result<Cluster, DiscoveryError> {
    let mut asked: FuturesUnordered<_> = configuration
        .seeds
        .iter()
        .chain(configuration.nodes.values())
        .map(|conninfo| async move { (conninfo, names_behind(conninfo).await) })
        .collect();
    let mut reasons = Vec::new();
    let mut unclear = None;
    while let Some((conninfo, names)) = asked.next().await {
        match names {
            Ok(names) => match names.as_slice() {
                // One that knows is enough, whoever answers first.
                [name] => return Ok(Cluster::new(name)?),
                [] => {
                    unclear.get_or_insert(DiscoveryError::NoCluster {
                        conninfo: redact(conninfo),
                    });
                }
                _ => {
                    unclear = Some(DiscoveryError::SeveralClusters {
                        conninfo: redact(conninfo),
                        names,
                    });
                }
            },
            Err(reason) => reasons.push(reason),
        }
    }
    Err(unclear.unwrap_or(DiscoveryError::NobodyAnswers(reasons)))
}

/// The clusters that the database behind a conninfo holds a node of; Err: why that cannot be known.
async fn names_behind(conninfo: &str) -> Result<Vec<String>, String> {
    let session = Session::connect(conninfo, &session_options())
        .await
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(ANSWER_TIMEOUT, operator::find_clusters(&session)).await {
        Ok(Ok(names)) => Ok(names),
        Ok(Err(error)) => Err(format!("{}: {}", session.target(), error_text(&error))),
        Err(_) => Err(format!(
            "{}: the server let us in, but did not answer within {} s",
            session.target(),
            ANSWER_TIMEOUT.as_secs()
        )),
    }
}
