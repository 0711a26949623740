//! What `status` shows, as data: the JSON of `--json`, and what the text is made from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use trunkline_sql::operator::{self, AdministrativeCall, FailoverFacts, NodeFacts};
use trunkline_sql::session::redact;

use crate::console::age;
use crate::view::{ClusterView, Lag, NodeView, SetStanding, call_in_words, lag, overdue_in_words};

/// A transaction open for so long holds the log back noticeably.
const LONG_TRANSACTION: f64 = 900.0;
/// Cleanup that is held back for less than this is nothing to talk about: it runs every ten minutes.
const HELD_BACK: f64 = 300.0;
/// An administrative call that takes longer is worth a line, in seconds.
const LONG_CALL: f64 = 2.0;
/// Changes that no SYNC announces for so long are stuck: slon makes one a minute at the very least when there is something.
const OVERDUE: f64 = 60.0;
/// A subscriber that lags for so long gets a line of its own about its slon.
const NOTICEABLE_LAG: f64 = 10.0;

/// The cluster at a glance.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// When this was seen, by our own clock.
    pub(crate) at: String,
    /// How many nodes answered.
    pub(crate) answered: usize,
    pub(crate) nodes: Vec<NodeReport>,
    pub(crate) sets: Vec<SetReport>,
    /// What keeps nodes from deleting events and log rows.
    pub(crate) cleanup: Vec<HeldBack>,
    /// Changes of the cluster that are under way and take long.
    pub(crate) calls: Vec<CallReport>,
    /// Everything else a person should know, one line each.
    pub(crate) notes: Vec<String>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    /// It answers and belongs to the cluster.
    Up,
    /// It does not answer.
    Unreachable,
    /// The others have failed it over or dropped it.
    Outcast,
    /// It answers, and keeps itself from being written to.
    Fenced,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodeReport {
    pub(crate) node: i32,
    pub(crate) comment: String,
    pub(crate) state: NodeState,
    /// Why it does not answer, or is not one of them any more.
    pub(crate) reasons: Vec<String>,
    /// How it is reached, without passwords.
    pub(crate) conninfo: Option<String>,
    /// Version of the server, as in `server_version_num`.
    pub(crate) server_version: Option<i32>,
    /// Sets it originates.
    pub(crate) origin_of: Vec<i32>,
    /// Sets it receives.
    pub(crate) receives: Vec<i32>,
    /// Sets it gives on to others.
    pub(crate) provides: Vec<i32>,
    /// Sets whose log it keeps, so that it could give them on.
    pub(crate) forwards: Vec<i32>,
    /// Its slon; None: the node does not answer, so nobody can tell.
    pub(crate) slon: Option<SlonReport>,
    /// Newest event of it that is known, and who told.
    pub(crate) last_event: Option<LastEvent>,
    pub(crate) troubles: Vec<TroubleReport>,
    /// Indexes that a first copy could not build.
    pub(crate) missing_indexes: Vec<MissingIndexReport>,
    pub(crate) log: Option<LogReport>,
    /// Sets it must not write to.
    pub(crate) fenced_sets: Vec<FenceReport>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct SlonReport {
    pub(crate) alive: bool,
    /// Seconds it runs, or since its last trace where it does not.
    pub(crate) since_seconds: Option<f64>,
    pub(crate) host: Option<String>,
    pub(crate) pid: Option<i32>,
    pub(crate) version: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct LastEvent {
    pub(crate) event: i64,
    pub(crate) age_seconds: f64,
    /// Node whose word this is; another than the node itself: stale.
    pub(crate) told_by: i32,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct TroubleReport {
    pub(crate) actor: String,
    pub(crate) message: String,
    pub(crate) since_seconds: f64,
    pub(crate) attempts: i64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct MissingIndexReport {
    pub(crate) index: String,
    pub(crate) table: String,
    /// The statement that makes it.
    pub(crate) definition: String,
    pub(crate) reason: String,
    pub(crate) since_seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogReport {
    pub(crate) active_table: i32,
    pub(crate) bytes: i64,
    pub(crate) switching: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct FenceReport {
    pub(crate) set: i32,
    pub(crate) new_origin: Option<i32>,
    pub(crate) reason: String,
    pub(crate) since_seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct SetReport {
    pub(crate) set: i32,
    pub(crate) comment: String,
    pub(crate) origin: i32,
    /// Node whose word this is.
    pub(crate) told_by: i32,
    pub(crate) locked: bool,
    pub(crate) tables: i64,
    pub(crate) sequences: i64,
    pub(crate) subscribers: Vec<SubscriberReport>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct SubscriberReport {
    pub(crate) node: i32,
    pub(crate) provider: i32,
    pub(crate) forward: bool,
    /// The first copy is done.
    pub(crate) active: bool,
    /// None: nothing is known of it.
    pub(crate) lag: Option<Lag>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct HeldBack {
    /// Node that cannot clean up.
    pub(crate) node: i32,
    /// Node it waits for, if it waits for one.
    pub(crate) waits_for: Option<i32>,
    pub(crate) seconds: f64,
    pub(crate) reason: String,
}

/// Somebody changes the cluster, `lock set` and `move set` among it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CallReport {
    pub(crate) node: i32,
    pub(crate) pid: Option<i32>,
    pub(crate) user: Option<String>,
    pub(crate) application: Option<String>,
    pub(crate) since_seconds: f64,
    /// It has the config lock; else it waits for it.
    pub(crate) holds_config_lock: bool,
    /// Sessions that keep it from going on.
    pub(crate) waits_for: Vec<String>,
    /// All of it in words.
    pub(crate) text: String,
}

impl Report {
    /// Asks what is still to be asked and puts it together.
    pub(crate) async fn of(view: &ClusterView) -> Self {
        let sets = view.sets();
        let mut set_reports = Vec::with_capacity(sets.len());
        for set in &sets {
            set_reports.push(set_report(view, set).await);
        }
        let node_reports: Vec<NodeReport> = view.nodes.values().map(|node| node_report(view, node, &sets)).collect();
        let mut cleanup: Vec<HeldBack> = view.answers().flat_map(held_back).collect();
        cleanup.extend(held_by_transactions(view).await);
        let calls = calls(view).await;
        let mut notes = remarks(view, &set_reports);
        notes.extend(view.waits_of_locked_sets(LONG_CALL).await);
        for (node, overdue) in view.overdue_syncs(OVERDUE).await {
            if let Ok(seconds) = overdue {
                notes.push(format!("node {node} {}", overdue_in_words(seconds)));
            }
        }
        Self {
            cluster: view.cluster.name().to_owned(),
            at: Timestamp::now().strftime("%F %T UTC").to_string(),
            answered: view.answers().count(),
            nodes: node_reports,
            sets: set_reports,
            cleanup,
            calls,
            notes,
        }
    }
}

fn node_report(view: &ClusterView, node: &NodeView, sets: &[SetStanding]) -> NodeReport {
    let id = node.id;
    let facts = node.facts();
    let outcast = view.outcast(id);
    let state = match facts {
        _ if outcast.is_some() => NodeState::Outcast,
        None => NodeState::Unreachable,
        Some(facts) if !facts.fences.is_empty() => NodeState::Fenced,
        Some(_) => NodeState::Up,
    };
    let mut reasons = node.silence().to_vec();
    reasons.extend(outcast);
    let comment = view
        .answers()
        .find_map(|facts| facts.nodes.iter().find(|row| row.id == id))
        .map(|row| row.comment.clone())
        .unwrap_or_default();
    let last_event = facts.or_else(|| view.reporter(id)).and_then(|facts| {
        let events = facts.events_of(id)?;
        Some(LastEvent {
            event: events.newest,
            age_seconds: events.newest_age,
            told_by: facts.local,
        })
    });
    let of_sets = |wanted: &dyn Fn(&SetStanding) -> bool| {
        sets.iter()
            .filter(|set| wanted(set))
            .map(|set| set.id)
            .collect::<Vec<_>>()
    };
    NodeReport {
        node: id,
        comment,
        state,
        reasons,
        conninfo: node.conninfo().map(redact),
        server_version: node.session().map(trunkline_sql::Session::server_version),
        origin_of: of_sets(&|set| set.origin == id),
        receives: of_sets(&|set| set.subscription(id).is_some()),
        provides: of_sets(&|set| set.subscriptions.iter().any(|other| other.provider == id)),
        forwards: of_sets(&|set| set.subscription(id).is_some_and(|own| own.forward)),
        slon: facts.map(|facts| SlonReport {
            alive: facts.daemon.alive,
            since_seconds: if facts.daemon.alive {
                facts.daemon.up
            } else {
                facts.daemon.last_sign
            },
            host: facts.daemon.host.clone(),
            pid: facts.daemon.pid,
            version: facts.daemon.version.clone(),
        }),
        last_event,
        troubles: facts.map_or_else(Vec::new, |facts| {
            facts
                .troubles
                .iter()
                .map(|trouble| TroubleReport {
                    actor: trouble.actor.clone(),
                    message: trouble.message.clone(),
                    since_seconds: trouble.seconds,
                    attempts: trouble.attempts,
                })
                .collect()
        }),
        missing_indexes: facts.map_or_else(Vec::new, |facts| {
            facts
                .missing_indexes
                .iter()
                .map(|missing| MissingIndexReport {
                    index: missing.index.clone(),
                    table: missing.table.clone(),
                    definition: missing.definition.clone(),
                    reason: missing.reason.clone(),
                    since_seconds: missing.age,
                })
                .collect()
        }),
        log: facts.map(|facts| LogReport {
            active_table: facts.log.active,
            bytes: facts.log.bytes,
            switching: facts.log.switching,
        }),
        fenced_sets: facts.map_or_else(Vec::new, |facts| {
            facts
                .fences
                .iter()
                .map(|fence| FenceReport {
                    set: fence.set,
                    new_origin: fence.new_origin,
                    reason: fence.reason.clone(),
                    since_seconds: fence.age,
                })
                .collect()
        }),
    }
}

async fn set_report(view: &ClusterView, set: &SetStanding) -> SetReport {
    let subscribers = join_all(set.subscriptions.iter().map(async |subscription| SubscriberReport {
        node: subscription.receiver,
        provider: subscription.provider,
        forward: subscription.forward,
        active: subscription.active,
        lag: lag(view, set, subscription).await,
    }))
    .await;
    SetReport {
        set: set.id,
        comment: set.comment.clone(),
        origin: set.origin,
        told_by: set.told_by,
        locked: set.locked,
        tables: set.tables,
        sequences: set.sequences,
        subscribers,
    }
}

/// Why this node keeps events and log rows that it would delete otherwise.
fn held_back(facts: &NodeFacts) -> Vec<HeldBack> {
    let mut held = Vec::new();
    for node in facts.nodes.iter().filter(|node| node.id != facts.local) {
        let own = facts.confirmation(facts.local, node.id);
        let Some(newest) = facts.events_of(facts.local) else {
            continue;
        };
        match own {
            Some(known) => {
                if let Some(seconds) = known.waiting.filter(|seconds| *seconds >= HELD_BACK) {
                    held.push(HeldBack {
                        node: facts.local,
                        waits_for: Some(node.id),
                        seconds,
                        reason: format!(
                            "node {} keeps {} events and their log rows for node {}, which has confirmed only event {}",
                            facts.local,
                            newest.newest - known.seqno,
                            node.id,
                            known.seqno
                        ),
                    });
                }
            }
            None if newest.oldest_age >= HELD_BACK => held.push(HeldBack {
                node: facts.local,
                waits_for: Some(node.id),
                seconds: newest.oldest_age,
                reason: format!(
                    "node {} keeps its events: node {} has never confirmed one; drop it if it does not exist any more",
                    facts.local, node.id
                ),
            }),
            None => {}
        }
    }
    if let Some(seconds) = facts.log.switching_for.filter(|seconds| *seconds >= HELD_BACK) {
        let old = 3 - facts.log.active;
        held.push(HeldBack {
            node: facts.local,
            waits_for: None,
            seconds,
            reason: format!(
                "node {} waits for {} to empty sl_log_{old}: rows in it are not confirmed by all, or a transaction older \
                 than the switch is still open",
                facts.local,
                age(seconds)
            ),
        });
    }
    held
}

async fn held_by_transactions(view: &ClusterView) -> Vec<HeldBack> {
    let asked = join_all(view.nodes.values().map(async |node| {
        let session = node.session()?;
        let found = operator::long_transactions(session, LONG_TRANSACTION).await.ok()?;
        Some((node.id, found))
    }))
    .await;
    let mut held = Vec::new();
    for (node, blockers) in asked.into_iter().flatten() {
        for blocker in blockers {
            held.push(HeldBack {
                node,
                waits_for: None,
                seconds: blocker.seconds.unwrap_or(0.0),
                reason: format!("node {node}: {blocker}"),
            });
        }
    }
    held
}

async fn calls(view: &ClusterView) -> Vec<CallReport> {
    let report = |node: i32, call: &AdministrativeCall| CallReport {
        node,
        pid: call.session.pid,
        user: call.session.user.clone(),
        application: call.session.application.clone(),
        since_seconds: call.session.seconds.unwrap_or(0.0),
        holds_config_lock: call.holds,
        waits_for: call.waits_for.iter().map(ToString::to_string).collect(),
        text: format!("node {node}: {}", call_in_words(call)),
    };
    let asked = view.administrative_calls(LONG_CALL).await;
    asked
        .iter()
        .flat_map(|(node, calls)| calls.iter().flatten().map(move |call| report(*node, call)))
        .collect()
}

fn remarks(view: &ClusterView, sets: &[SetReport]) -> Vec<String> {
    // Why a node does not answer stands with the node.
    let told = |note: &&String| view.nodes.values().any(|node| node.silence().contains(note));
    let mut notes: Vec<String> = view.notes.iter().filter(|note| !told(note)).cloned().collect();
    let witnesses: Vec<&NodeFacts> = view.witnesses().collect();
    notes.extend(failovers(&witnesses));
    for node in view.nodes.values() {
        let Some(facts) = node.facts() else { continue };
        if !facts.daemon.alive && view.outcast(node.id).is_none() {
            notes.push(format!(
                "no slon serves node {}: it gets and gives nothing until one is started",
                node.id
            ));
        }
    }
    for set in sets {
        if set.locked {
            notes.push(format!(
                "set {} is locked on node {}: writes to its tables are refused until `unlock set` or `move set`",
                set.set, set.origin
            ));
        }
        for subscriber in &set.subscribers {
            if !subscriber.active {
                notes.push(format!(
                    "node {} has not finished its first copy of set {}",
                    subscriber.node, set.set
                ));
            }
            let lag = subscriber.lag.as_ref().map_or(0.0, |lag| lag.seconds);
            if lag >= NOTICEABLE_LAG && view.facts(subscriber.node).is_none() {
                notes.push(format!(
                    "node {} does not answer; how far it is with set {} is what node {} last heard of it",
                    subscriber.node,
                    set.set,
                    subscriber.lag.as_ref().map_or(set.told_by, |lag| lag.confirmed_told_by)
                ));
            }
        }
    }
    notes
}

/// The last failover of each node that has not come back since, by the word of those who took part.
fn failovers(witnesses: &[&NodeFacts]) -> Vec<String> {
    let mut last: BTreeMap<i32, &FailoverFacts> = BTreeMap::new();
    for facts in witnesses {
        // A node that has come back since is a node like any other.
        let gone = |failover: &&FailoverFacts| {
            let known = facts.nodes.iter().find(|row| row.id == failover.failed);
            known.is_none_or(|row| row.failed)
        };
        for failover in facts.failovers.iter().filter(gone) {
            let known = last.entry(failover.failed).or_insert(failover);
            // An earlier failure of the same node tells nothing any more. Its numbers do not: it may have been made anew.
            if failover.age < known.age {
                *known = failover;
            }
        }
    }
    last.values()
        .map(|failover| {
            format!(
                "node {} was failed over to node {} {} ago, at its event {}{}",
                failover.failed,
                failover.successor,
                age(failover.age),
                failover.seqno,
                gone_on(failover, witnesses)
            )
        })
        .collect()
}

/// Sets of a failed node that are not with the node that led the failover, which had most, but have gone on to another.
fn gone_on(failover: &FailoverFacts, witnesses: &[&NodeFacts]) -> String {
    let mut text = String::new();
    for set in &failover.sets {
        let known = |facts: &&NodeFacts| facts.sets.iter().find(|row| row.id == *set).map(|row| row.origin);
        match witnesses.iter().find_map(known) {
            Some(origin) if origin != failover.successor => {
                let _ = write!(text, "; origin of set {set} is node {origin} now");
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use trunkline_sql::operator::SetFacts;

    use super::*;
    use crate::view::standing::tests::facts;

    #[test]
    fn only_the_last_failover_of_a_node_is_told() {
        let failover = |failed, seqno, successor, age| FailoverFacts {
            failed,
            seqno,
            successor,
            sets: vec![1],
            age,
        };
        let witness = |local| NodeFacts {
            failovers: vec![
                failover(1, 50, 2, 9000.0),
                failover(4, 7, 2, 5000.0),
                failover(1, 80, 3, 60.0 - f64::from(local)),
            ],
            ..facts(local)
        };
        assert_eq!(
            failovers(&[&witness(2), &witness(3)]),
            [
                "node 1 was failed over to node 3 57 s ago, at its event 80",
                "node 4 was failed over to node 2 83 min 20 s ago, at its event 7"
            ]
        );
    }

    #[test]
    fn a_set_that_went_on_to_a_third_node_is_told() {
        let set = |id, origin| SetFacts {
            id,
            origin,
            locked: false,
            comment: String::new(),
            tables: 1,
            sequences: 0,
        };
        let witness = NodeFacts {
            sets: vec![set(1, 3), set(2, 2)],
            failovers: vec![FailoverFacts {
                failed: 1,
                seqno: 50,
                successor: 3,
                sets: vec![1, 2],
                age: 60.0,
            }],
            ..facts(2)
        };
        assert_eq!(
            failovers(&[&witness]),
            ["node 1 was failed over to node 3 60 s ago, at its event 50; origin of set 2 is node 2 now"]
        );
    }
}
