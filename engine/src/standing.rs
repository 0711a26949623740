//! What the cluster thinks of this node: asked before it is served, and again and again.
//!
//! A node that was cut off or down may have been failed over meanwhile. Nobody can tell it but its peers, so its daemon
//! asks them; if they have given the node up, it keeps writers out of the node's sets and ends. With
//! `fence_when_isolated` an origin that reaches no peer keeps writers out as well, until it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use trunkline_sql::configuration::{Configuration, PathRow};
use trunkline_sql::fence::{self, DROPPED, FAILED_OVER, Fence, ISOLATED, Opinion};
use trunkline_sql::{ConnectError, Session, error_text, trouble};

use crate::logging as log;
use crate::node::Node;
use crate::provider::Provider;

/// Rounds of an origin.
const ORIGIN_ROUND: Duration = Duration::from_secs(1);
/// Rounds of a node that is origin of nothing.
const OTHER_ROUND: Duration = Duration::from_secs(10);
/// How long a peer may take to answer before it counts as out of reach in this round.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the start is held up by peers that do not answer.
const START: Duration = Duration::from_millis(500);
/// How long writers are waited for before their sessions are ended.
const WRITERS: &str = "1s";

/// How long a failover that is under way may take until it is known who takes over.
const SUCCESSORS: Duration = Duration::from_secs(30);

/// The cluster goes on without this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Who says so: a node's number; `None`: this node's own record of an earlier answer.
    pub by: Option<i32>,
    /// The sets that were this node's.
    pub fences: Vec<Fence>,
    /// Whether nothing more is to be learned: the new origin of each set says so itself and takes writes. Until then a
    /// failover may still be under way, in which one node can lead and hand on to another.
    pub settled: bool,
}

impl std::fmt::Display for GivenUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            Some(by) => write!(f, "node {by} says that the cluster has given this node up")?,
            None => f.write_str("the cluster has given this node up")?,
        }
        for fence in &self.fences {
            match fence.new_origin {
                Some(origin) => write!(
                    f,
                    "; set {} originates on node {origin} now ({})",
                    fence.set, fence.reason
                )?,
                None => write!(f, "; set {} is no longer its own ({})", fence.set, fence.reason)?,
            }
        }
        Ok(())
    }
}

/// Why the watch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// No connection to the local database.
    #[error("local database: {0}")]
    Connect(#[from] ConnectError),
    /// The local database.
    #[error("local database: {}", error_text(.0))]
    Local(#[from] tokio_postgres::Error),
}

/// Peers and the connections to them.
#[derive(Default)]
struct Peers {
    sessions: BTreeMap<i32, Provider>,
}

impl Peers {
    /// Asks every peer that a path leads to, all at once. Who does not answer in time is left out.
    async fn ask(&mut self, node: &Node, configuration: &Configuration, limit: Duration) -> BTreeMap<i32, Opinion> {
        let sets = own_sets(configuration);
        let peers = peers(configuration);
        self.sessions.retain(|id, _| peers.contains(id));
        let attempts = peers.iter().map(|id| {
            let known = self.sessions.remove(id).filter(|peer| !peer.session.is_closed());
            let sets = &sets;
            async move {
                let asking = async {
                    let peer = match known {
                        Some(peer) => peer,
                        None => Provider::connect(node, *id, &format!("node_{id}_standing"))
                            .await
                            .ok()?,
                    };
                    let opinion = fence::opinion(&peer.session, &node.cluster, node.id, sets).await.ok()?;
                    Some((peer, opinion))
                };
                Some((*id, tokio::time::timeout(limit, asking).await.ok()??))
            }
        });
        let mut opinions = BTreeMap::new();
        for (id, (peer, opinion)) in join_all(attempts).await.into_iter().flatten() {
            self.sessions.insert(id, peer);
            opinions.insert(id, opinion);
        }
        opinions
    }
}

/// Nodes that can be asked.
fn peers(configuration: &Configuration) -> BTreeSet<i32> {
    configuration
        .nodes
        .values()
        .filter(|row| row.id != configuration.local && row.active && !row.failed)
        .map(|row| row.id)
        .filter(|id| configuration.paths.get(id).is_some_and(PathRow::is_usable))
        .collect()
}

/// Sets whose origin this node is by its own account.
fn own_sets(configuration: &Configuration) -> Vec<i32> {
    let sets = configuration.sets.values();
    sets.filter(|set| set.origin == configuration.local)
        .map(|set| set.id)
        .collect()
}

/// What the answers amount to: one peer that has given the node up outweighs others, who may not have heard yet.
///
/// A peer that knows no such node proves nothing by itself, since the node may be new there; if it knows another origin of
/// one of the node's sets, the node was dropped.
fn judge(configuration: &Configuration, opinions: &BTreeMap<i32, Opinion>) -> Option<GivenUp> {
    let local = configuration.local;
    let own = own_sets(configuration);
    // While a set is handed on, who says that it is the origin itself knows best.
    let by_itself = |set: i32| {
        let mut peers = opinions.iter();
        peers
            .find(|(peer, opinion)| opinion.origins.contains(&(set, **peer)))
            .map(|(peer, _)| *peer)
    };
    let by_others = |set: i32| {
        let mut origins = opinions.values().flat_map(|opinion| &opinion.origins);
        let found = origins.find(|(known, origin)| *known == set && *origin != local);
        found.map(|(_, origin)| *origin)
    };
    for (peer, opinion) in opinions {
        let elsewhere = |set: i32| {
            let mut origins = opinion.origins.iter();
            origins
                .find(|(known, origin)| *known == set && *origin != local)
                .map(|(_, origin)| by_itself(set).unwrap_or(*origin))
        };
        let fences: Vec<Fence> = match opinion.failed {
            Some(false) => continue,
            Some(true) => own
                .iter()
                .map(|set| Fence {
                    set: *set,
                    // Whoever says it: this peer may not have heard yet who takes over.
                    new_origin: by_itself(*set).or_else(|| elsewhere(*set)).or_else(|| by_others(*set)),
                    reason: FAILED_OVER.to_owned(),
                })
                .collect(),
            None => own
                .iter()
                .filter_map(|set| {
                    elsewhere(*set).map(|origin| Fence {
                        set: *set,
                        new_origin: Some(origin),
                        reason: DROPPED.to_owned(),
                    })
                })
                .collect(),
        };
        if opinion.failed == Some(true) || !fences.is_empty() {
            // Nobody has it: it is gone, or nobody ever heard of it, so no more will be learned of it.
            let unheard_of = |fence: &Fence| {
                let mut origins = opinions.values().flat_map(|opinion| &opinion.origins);
                origins.all(|(known, _)| *known != fence.set)
            };
            let takes_writes = |fence: &Fence| {
                let own_word = fence
                    .new_origin
                    .and_then(|origin| Some((origin, opinions.get(&origin)?)));
                own_word.is_some_and(|(origin, opinion)| {
                    opinion.origins.contains(&(fence.set, origin)) && !opinion.locked.contains(&fence.set)
                })
            };
            return Some(GivenUp {
                by: Some(*peer),
                settled: fences.iter().all(|fence| unheard_of(fence) || takes_writes(fence)),
                fences,
            });
        }
    }
    None
}

/// Has the cluster given the node up? Peers that do not answer at once are left out.
pub async fn asked(node: &Node) -> Option<GivenUp> {
    let configuration = node.current();
    let opinions = Peers::default().ask(node, &configuration, START).await;
    judge(&configuration, &opinions)
}

/// Asks on until those who have taken the node's sets over take writes: the network came back while the failover was under way,
/// and the error that writers get is to name who takes them in the end. `None`: that takes too long.
pub async fn successors(node: &Node) -> Option<GivenUp> {
    let asking = async {
        loop {
            if let Some(verdict) = asked(node).await.filter(|verdict| verdict.settled) {
                return verdict;
            }
            tokio::time::sleep(START).await;
        }
    };
    tokio::time::timeout(SUCCESSORS, asking).await.ok()
}

/// Before the node is served: has the cluster given it up, by what the peers say or have said before?
pub async fn at_start(node: &Node, local: &Session) -> Result<Option<GivenUp>, StandingError> {
    if let Some(verdict) = asked(node).await {
        return Ok(Some(verdict));
    }
    let own = own_sets(&node.current());
    let lasting: Vec<Fence> = fence::fences(local, &node.cluster)
        .await?
        .into_iter()
        .filter(|fence| own.contains(&fence.set) && (fence.reason == FAILED_OVER || fence.reason == DROPPED))
        .collect();
    Ok((!lasting.is_empty()).then_some(GivenUp {
        by: None,
        fences: lasting,
        // nobody is there who could tell
        settled: true,
    }))
}

/// Watches until the cluster gives the node up; `None`: cancelled.
pub async fn run(node: Arc<Node>) -> Result<Option<GivenUp>, StandingError> {
    let local = Session::connect(&node.conninfo, &node.session_options("standing")).await?;
    let isolation = Duration::from_secs(u64::from(node.parameters.fence_when_isolated));
    let mut peers = Peers::default();
    let mut contact = Instant::now();
    let mut isolated = fence::fences(&local, &node.cluster)
        .await?
        .iter()
        .any(|fence| fence.reason == ISOLATED);
    loop {
        let configuration = node.current();
        let own = own_sets(&configuration);
        let round = if own.is_empty() { OTHER_ROUND } else { ORIGIN_ROUND };
        let opinions = tokio::select! {
            () = node.cancel.cancelled() => return Ok(None),
            opinions = peers.ask(&node, &configuration, ANSWER) => opinions,
        };
        if let Some(verdict) = judge(&configuration, &opinions) {
            return Ok(Some(verdict));
        }
        if !opinions.is_empty() || self::peers(&configuration).is_empty() {
            contact = Instant::now();
            if isolated {
                open_again(&node, &local).await?;
                isolated = false;
            }
        } else if !isolation.is_zero() && !isolated && !own.is_empty() && contact.elapsed() >= isolation {
            let fences: Vec<Fence> = own
                .iter()
                .map(|set| Fence {
                    set: *set,
                    new_origin: None,
                    reason: ISOLATED.to_owned(),
                })
                .collect();
            log::error!(
                "standing: no other node was reached for {} s; writers are kept out of sets {} until one is",
                contact.elapsed().as_secs(),
                list(&own)
            );
            keep_out(&node, &local, &fences).await?;
            let message = format!(
                "no other node is reached; writers are kept out of sets {} (fence_when_isolated = {})",
                list(&own),
                isolation.as_secs()
            );
            trouble::report(&local, &node.cluster, "standing", node.id, &message).await?;
            isolated = true;
        }
        tokio::select! {
            () = node.cancel.cancelled() => return Ok(None),
            () = tokio::time::sleep(round) => {}
        }
    }
}

/// A peer that counts on this node was reached: what was closed for fear is opened.
async fn open_again(node: &Node, local: &Session) -> Result<(), StandingError> {
    let mut opened = Vec::new();
    for fence in fence::fences(local, &node.cluster).await? {
        if fence.reason == ISOLATED {
            local.batch_execute("begin").await?;
            fence::unfence(local, &node.cluster, fence.set).await?;
            local.batch_execute("commit").await?;
            opened.push(fence.set);
        }
    }
    trouble::clear(local, &node.cluster, "standing").await?;
    log::warn!(
        "standing: another node was reached again; sets {} are open for writers",
        list(&opened)
    );
    Ok(())
}

/// Keeps writers out of sets, each in a transaction of its own. Sessions that hold the tables too long are ended: what they
/// would still commit nobody else would have.
pub async fn keep_out(node: &Node, local: &Session, fences: &[Fence]) -> Result<(), StandingError> {
    let begin = format!("begin; set local lock_timeout to '{WRITERS}'");
    for fence in fences {
        loop {
            local.batch_execute(&begin).await?;
            match fence::fence_set(local, &node.cluster, fence).await {
                Ok(()) => {
                    local.batch_execute("commit").await?;
                    break;
                }
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    local.batch_execute("rollback").await?;
                    for writer in fence::end_writers_of(local, &node.cluster, fence.set).await? {
                        log::warn!(
                            "standing: ended {writer}, which was writing to tables of set {}",
                            fence.set
                        );
                    }
                }
                Err(error) => {
                    // The connection may be the cause.
                    let _ = local.batch_execute("rollback").await;
                    return Err(error.into());
                }
            }
        }
    }
    Ok(())
}

fn list(sets: &[i32]) -> String {
    sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trunkline_sql::configuration::{NodeRow, SetRow};

    use super::*;

    /// Node 1 of three, origin of sets 1 and 2.
    fn configuration() -> Configuration {
        let node = |id| NodeRow {
            id,
            active: true,
            failed: false,
            comment: String::new(),
        };
        let set = |id, origin| SetRow {
            id,
            origin,
            comment: String::new(),
        };
        Configuration {
            local: 1,
            nodes: (1..=3).map(|id| (id, node(id))).collect(),
            paths: BTreeMap::new(),
            listens: Vec::new(),
            sets: [(1, set(1, 1)), (2, set(2, 1)), (3, set(3, 2))].into(),
            subscriptions: Vec::new(),
        }
    }

    fn opinion(failed: Option<bool>, origins: &[(i32, i32)]) -> Opinion {
        Opinion {
            failed,
            origins: origins.to_vec(),
            locked: Vec::new(),
        }
    }

    #[test]
    fn one_peer_that_knows_of_the_failover_is_enough() {
        let opinions = [
            (2, opinion(Some(false), &[(1, 1), (2, 1)])),
            (3, opinion(Some(true), &[(1, 3), (2, 1)])),
        ];
        let verdict = judge(&configuration(), &opinions.into());
        let fence = |set, new_origin| Fence {
            set,
            new_origin,
            reason: FAILED_OVER.to_owned(),
        };
        assert_eq!(
            verdict,
            Some(GivenUp {
                by: Some(3),
                fences: vec![fence(1, Some(3)), fence(2, None)],
                settled: false,
            })
        );
    }

    #[test]
    fn who_takes_over_is_settled_when_that_node_says_so_and_takes_writes() {
        let both = |origin| [(1, origin), (2, origin)];
        let settled = |third: Opinion, second: Opinion| {
            let verdict = judge(&configuration(), &[(2, second), (3, third)].into());
            let verdict = verdict.unwrap();
            (verdict.fences[0].new_origin, verdict.settled)
        };
        let leads = opinion(Some(true), &both(3));
        let mut hands_on = leads.clone();
        hands_on.locked = vec![1, 2];
        let not_yet = opinion(Some(true), &both(1));
        assert_eq!(settled(hands_on, not_yet.clone()), (Some(3), false));
        assert_eq!(settled(leads, not_yet.clone()), (Some(3), true));
        let moved = opinion(Some(true), &both(2));
        assert_eq!(settled(moved.clone(), not_yet), (Some(2), false));
        assert_eq!(settled(moved.clone(), moved), (Some(2), true));
    }

    #[test]
    fn a_set_that_no_peer_has_is_not_waited_for() {
        let settled = |second: Opinion| judge(&configuration(), &[(2, second)].into()).map(|verdict| verdict.settled);
        assert_eq!(settled(opinion(Some(true), &[(1, 2)])), Some(true));
        assert_eq!(settled(opinion(Some(true), &[(1, 2), (2, 1)])), Some(false));
    }

    #[test]
    fn a_peer_that_does_not_know_the_node_yet_proves_nothing() {
        let new_here = [(2, opinion(None, &[]))];
        assert_eq!(judge(&configuration(), &new_here.into()), None);
        let dropped = [(2, opinion(None, &[(1, 2)]))];
        let verdict = judge(&configuration(), &dropped.into());
        assert_eq!(verdict.map(|given_up| given_up.fences.len()), Some(1));
        // A set on its way between two nodes that are both well.
        let moving = [(2, opinion(Some(false), &[(1, 2), (2, 1)]))];
        assert_eq!(judge(&configuration(), &moving.into()), None);
    }
}
