//! All ways to all nodes, tried at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use trunkline_sql::Cluster;
use trunkline_sql::session::redact;

use super::discovery::{Found, find};
use super::{Answer, ClusterView, NodeView, Source, Way};

/// Most ways that are tried per node; clients of a node usually share one.
const MOST_WAYS: usize = 8;
/// How long a node may leave the ways that were named unanswered before those of `sl_path` are tried beside them. Less than a time
/// limit, and enough for one that is well.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long a node that is said to be lost is waited for before the plan is shown. Before anything is done it is asked once more, with
/// the usual limits: a slow node is not a lost one.
pub(crate) const PATIENCE_WITH_LOST: Duration = Duration::from_secs(2);

/// A way that was tried to its end.
struct Outcome {
    place: usize,
    expected: Option<i32>,
    way: Way,
    found: Found,
}

/// A search that is under way.
pub(super) struct Search<'a> {
    view: &'a mut ClusterView,
    cluster: Cluster,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    /// Everything that was tried, in order, with the node it should lead to.
    tried: Vec<(Option<i32>, Way)>,
    /// Ways by their place in `tried` that are not at their end yet.
    open: BTreeSet<usize>,
    /// Ways that led nowhere, by their place, and why.
    failed: BTreeMap<usize, String>,
}

impl<'a> Search<'a> {
    /// Tries these ways and all that is learnt from the nodes that answer, until every node has answered or there is no other way.
    /// Why some of the first ways led nowhere comes back, in their order.
    pub(super) async fn run(view: &'a mut ClusterView, first: Vec<(Option<i32>, Way)>, lost: &'a [i32]) -> Vec<String> {
        let named = first.len();
        let cluster = view.cluster.clone();
        let mut search = Self {
            view,
            cluster,
            running: FuturesUnordered::new(),
            tried: Vec::new(),
            open: BTreeSet::new(),
            failed: BTreeMap::new(),
        };
        for (expected, way) in first {
            search.start(expected, way);
        }
        let head_start = tokio::time::sleep(HEAD_START);
        let patience = tokio::time::sleep(PATIENCE_WITH_LOST);
        tokio::pin!(head_start, patience);
        loop {
            search.follow_paths(!head_start.is_elapsed());
            let lost = if patience.is_elapsed() { lost } else { &[] };
            if !search.is_awaited(lost) {
                break;
            }
            tokio::select! {
                Some(outcome) = search.running.next() => search.take(outcome),
                () = &mut head_start, if !head_start.is_elapsed() => {}
                () = &mut patience, if !patience.is_elapsed() => {}
                else => break,
            }
        }
        search.conclude(named)
    }

    fn start(&mut self, expected: Option<i32>, way: Way) {
        let place = self.tried.len();
        self.tried.push((expected, way.clone()));
        self.open.insert(place);
        let cluster = self.cluster.clone();
        self.running.push(Box::pin(async move {
            let found = find(&cluster, &way.conninfo).await;
            Outcome {
                place,
                expected,
                way,
                found,
            }
        }));
    }

    /// Whether anything that is still under way could tell more: a way to a node that has answered could not, and those of `lost` are
    /// not waited for any longer.
    fn is_awaited(&self, lost: &[i32]) -> bool {
        let awaited = |id: i32| self.view.facts(id).is_none() && !lost.contains(&id);
        self.open.iter().any(|place| self.tried[*place].0.is_none_or(awaited))
    }

    fn take(&mut self, outcome: Outcome) {
        let Outcome {
            place,
            expected,
            way,
            found,
        } = outcome;
        self.open.remove(&place);
        let reason = match found {
            Found::Node(found) => {
                let (session, facts) = *found;
                match expected.filter(|id| *id != facts.local) {
                    None if self.view.facts(facts.local).is_some() && expected.is_some() => return,
                    None => return self.view.reached(session, way, facts),
                    Some(id) if way.source == Source::File => {
                        let local = facts.local;
                        let reason =
                            format!("the conninfo that the configuration file gives node {id} leads to node {local}");
                        self.view.notes.push(reason.clone());
                        reason
                    }
                    Some(id) => format!(
                        "`{}` leads to node {}, not to node {id}",
                        redact(&way.conninfo),
                        facts.local
                    ),
                }
            }
            Found::Nothing(reason) => reason,
        };
        self.failed.insert(place, reason);
    }

    /// Tries the paths that nodes which answered know to nodes which have not.
    fn follow_paths(&mut self, head_start: bool) {
        let known: BTreeSet<i32> = self
            .view
            .answers()
            .flat_map(|facts| facts.nodes.iter().map(|node| node.id))
            .collect();
        for id in known {
            let to_it = |(expected, _): &&(Option<i32>, Way)| *expected == Some(id);
            // A way that was named without a number may lead there as well.
            let under_way = self
                .open
                .iter()
                .any(|place| self.tried[*place].0.is_none_or(|other| other == id));
            if self.view.facts(id).is_some() || (head_start && under_way) {
                continue;
            }
            let mut tried: BTreeSet<String> = self
                .tried
                .iter()
                .filter(to_it)
                .map(|(_, way)| way.conninfo.clone())
                .collect();
            let mut ways = Vec::new();
            for facts in self.view.answers() {
                for path in facts.paths.iter().filter(|path| path.server == id && path.is_usable()) {
                    if tried.len() < MOST_WAYS && tried.insert(path.conninfo.clone()) {
                        ways.push(Way {
                            conninfo: path.conninfo.clone(),
                            source: Source::Path {
                                told_by: facts.local,
                                client: path.client,
                            },
                        });
                    }
                }
            }
            for way in ways {
                self.start(Some(id), way);
            }
        }
    }

    /// Notes the ways that led nowhere, and the nodes nobody knows a way to.
    fn conclude(self, named: usize) -> Vec<String> {
        let Self {
            view,
            tried,
            open,
            mut failed,
            ..
        } = self;
        let mut reasons = Vec::new();
        for (place, (expected, way)) in tried.into_iter().enumerate() {
            let reason = failed.remove(&place);
            if place < named {
                reasons.extend(reason.clone());
            }
            match (expected, reason) {
                (Some(id), Some(reason)) => view.silent(id, way, reason),
                // Still a way, though another one was faster, or it has taken too long.
                (Some(id), None) if open.contains(&place) => {
                    let reason = format!(
                        "`{}` did not answer within {} s",
                        redact(&way.conninfo),
                        PATIENCE_WITH_LOST.as_secs()
                    );
                    view.silent(id, way, reason);
                    if view.facts(id).is_none() {
                        view.hurried.insert(id);
                    }
                }
                (None, Some(reason)) => view.notes.push(reason),
                (_, None) => {}
            }
        }
        let known: BTreeSet<i32> = view
            .answers()
            .flat_map(|facts| facts.nodes.iter().map(|node| node.id))
            .filter(|id| view.node(*id).is_none())
            .collect();
        for id in known {
            let reason = format!(
                "no way to node {id} is known: nobody has a path to it, and the configuration does not name it"
            );
            let answer = Answer::Silent(vec![reason]);
            let ways = Vec::new();
            view.nodes.insert(id, NodeView { id, ways, answer });
        }
        reasons
    }
}
