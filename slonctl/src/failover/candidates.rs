//! Which survivors could take over, and why the others could not.

use std::fmt;

use crate::console::age;
use crate::view::{ClusterView, SetStanding, Subscription};

/// A survivor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) node: i32,
    /// Newest event it has of each lost origin, with its age; None: none.
    pub(super) newest: Vec<(i32, Option<(i64, f64)>)>,
    /// Whether it gets all the sets straight from the lost origin.
    pub(super) direct: bool,
    /// Why it cannot take over; empty: it can.
    pub(super) obstacles: Vec<String>,
    /// Why it does not answer, in the words of the connection attempts; empty: it does.
    pub(super) silence: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest: Vec<String> = self
            .newest
            .iter()
            .map(|(origin, newest)| match newest {
                Some((event, seconds)) => format!("has event {event} of node {origin}, made {} ago", age(*seconds)),
                None => format!("has no event of node {origin}"),
            })
            .collect();
        f.write_str(if self.obstacles.is_empty() {
            "could take over"
        } else {
            "cannot take over"
        })?;
        if !newest.is_empty() {
            write!(f, "; {}", newest.join(", "))?;
        }
        if !self.silence.is_empty() {
            write!(f, "; {}", self.silence)?;
        }
        self.obstacles
            .iter()
            .try_for_each(|obstacle| write!(f, "\n  - {obstacle}"))
    }
}

impl Candidate {
    /// Sum of what it has: the survivors' numbers of one origin are comparable, and origins do not make up for each other
    /// in practice.
    fn progress(&self) -> i64 {
        self.newest
            .iter()
            .map(|(_, newest)| newest.map_or(0, |(event, _)| event))
            .fold(0, i64::saturating_add)
    }
}

/// All survivors, the best first.
pub(super) fn candidates(view: &ClusterView, failed: &[i32], sets: &[SetStanding]) -> Vec<Candidate> {
    // A set that no survivor has is lost with its origin, whoever takes over; if none has any, nobody can.
    let kept: Vec<SetStanding> = sets.iter().filter(|set| has_survivor(set, failed)).cloned().collect();
    let sets = if kept.is_empty() { sets } else { &kept };
    let mut found: Vec<Candidate> = view
        .nodes
        .values()
        .filter(|node| !failed.contains(&node.id) && view.outcast(node.id).is_none())
        .map(|node| Candidate {
            node: node.id,
            newest: newest(view, node.id, failed, sets),
            direct: sets
                .iter()
                .all(|set| set.subscription(node.id).is_some_and(|own| own.provider == set.origin)),
            obstacles: obstacles(view, node.id, failed, sets),
            silence: node.silence().join("; "),
        })
        .collect();
    found.sort_by_key(|candidate| {
        (
            !candidate.obstacles.is_empty(),
            std::cmp::Reverse(candidate.progress()),
            !candidate.direct,
            candidate.node,
        )
    });
    found
}

/// Whether anybody who stays has the set, completely.
pub(super) fn has_survivor(set: &SetStanding, failed: &[i32]) -> bool {
    let mut subscriptions = set.subscriptions.iter();
    subscriptions.any(|own| own.active && !failed.contains(&own.receiver))
}

/// Nodes that stay and have not finished their first copy of the set.
pub(super) fn copying<'a>(set: &'a SetStanding, failed: &'a [i32]) -> impl Iterator<Item = &'a Subscription> {
    let subscriptions = set.subscriptions.iter();
    subscriptions.filter(|own| !own.active && !failed.contains(&own.receiver))
}

fn newest(view: &ClusterView, node: i32, failed: &[i32], sets: &[SetStanding]) -> Vec<(i32, Option<(i64, f64)>)> {
    let Some(facts) = view.facts(node) else {
        return Vec::new();
    };
    failed
        .iter()
        .filter(|origin| sets.iter().any(|set| set.origin == **origin))
        .map(|origin| {
            let events = facts.events_of(*origin);
            (*origin, events.map(|events| (events.newest, events.newest_age)))
        })
        .collect()
}

fn obstacles(view: &ClusterView, node: i32, failed: &[i32], sets: &[SetStanding]) -> Vec<String> {
    let mut obstacles = Vec::new();
    let Some(facts) = view.facts(node) else {
        return vec![format!("node {node} cannot be reached")];
    };
    if !facts.daemon.alive {
        obstacles.push(format!("no slon serves node {node}"));
    }
    for set in sets {
        match set.subscription(node) {
            None => obstacles.push(format!("node {node} does not subscribe to set {}", set.id)),
            Some(own) if !own.active => {
                let set = set.id;
                obstacles.push(format!("node {node} has not finished its first copy of set {set}"));
            }
            Some(own) => {
                let others = set
                    .subscriptions
                    .iter()
                    .any(|other| other.active && other.receiver != node && !failed.contains(&other.receiver));
                if !own.forward && others {
                    obstacles.push(format!(
                        "node {node} is not a forwarding subscriber of set {}: it could not bring the others up to date",
                        set.id
                    ));
                }
            }
        }
    }
    let mut orphans: Vec<i32> = sets
        .iter()
        .flat_map(|set| &set.subscriptions)
        .filter(|other| other.active && failed.contains(&other.provider) && !failed.contains(&other.receiver))
        .map(|other| other.receiver)
        .filter(|receiver| *receiver != node)
        .collect();
    orphans.sort_unstable();
    orphans.dedup();
    for receiver in orphans {
        // Either end may know the path first.
        let known = facts.path(node, receiver).is_some()
            || view
                .facts(receiver)
                .is_some_and(|facts| facts.path(node, receiver).is_some());
        if !known {
            obstacles.push(format!(
                "node {receiver} has no path to node {node}, which would be its provider; run `{}`",
                view.store_path(node, receiver)
            ));
        }
    }
    obstacles
}
