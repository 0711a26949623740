//! Who is origin of what, by the word that counts.
//!
//! While all is well every node says the same. After a failover the node that was given up still believes in its old
//! role, and while a set moves its old origin is ahead of the others; so the word of a node that the others gave up does
//! not count, and who calls himself origin counts more than what is said of others.

use std::collections::BTreeMap;

use trunkline_sql::fence::{DROPPED, FAILED_OVER};
use trunkline_sql::operator::NodeFacts;

use super::ClusterView;

/// A subscription, by the word that counts for its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) provider: i32,
    pub(crate) receiver: i32,
    pub(crate) forward: bool,
    /// The first copy is done.
    pub(crate) active: bool,
}

/// A set, by the word that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetStanding {
    pub(crate) id: i32,
    pub(crate) comment: String,
    pub(crate) origin: i32,
    /// Whose word this is.
    pub(crate) told_by: i32,
    /// Kept from being written by `lock set`.
    pub(crate) locked: bool,
    pub(crate) tables: i64,
    pub(crate) sequences: i64,
    /// By receiver.
    pub(crate) subscriptions: Vec<Subscription>,
    /// Nodes that name another origin, with that origin.
    pub(crate) disputed: Vec<(i32, i32)>,
}

impl SetStanding {
    /// The subscription of a node.
    pub(crate) fn subscription(&self, receiver: i32) -> Option<&Subscription> {
        self.subscriptions
            .iter()
            .find(|subscription| subscription.receiver == receiver)
    }
}

/// Why the word of node `id` does not count among these answers.
fn outcast(answers: &[&NodeFacts], id: i32) -> Option<String> {
    // Nodes that were given up together still take each other for members: they judge only where nobody else is left.
    let mut judges: Vec<&NodeFacts> = answers
        .iter()
        .filter(|facts| facts.local != id && !given_up(answers, facts))
        .copied()
        .collect();
    if judges.is_empty() {
        judges = answers.iter().filter(|facts| facts.local != id).copied().collect();
    }
    if let Some(reason) = judges.iter().find_map(|judge| failed_over(judge, id)) {
        return Some(reason);
    }
    let forgotten = !judges.is_empty() && judges.iter().all(|judge| row(judge, id).is_none());
    (forgotten && answers.iter().any(|facts| facts.local == id))
        .then(|| "no other node knows it any more: it was dropped".to_owned())
}

/// Whether a node found out itself that the cluster gave it up, or another one says so.
fn given_up(answers: &[&NodeFacts], facts: &NodeFacts) -> bool {
    let fenced = facts
        .fences
        .iter()
        .any(|fence| fence.reason == FAILED_OVER || fence.reason == DROPPED);
    fenced
        || answers
            .iter()
            .any(|judge| judge.local != facts.local && failed_over(judge, facts.local).is_some())
}

/// That `judge` has node `id` for failed over. A node that came back and was stored again is a node like any other.
fn failed_over(judge: &NodeFacts, id: i32) -> Option<String> {
    let known = row(judge, id);
    let remembered = known.is_none() && judge.failovers.iter().any(|failover| failover.failed == id);
    (known == Some(true) || remembered).then(|| format!("node {} says that it was failed over", judge.local))
}

/// What `judge` knows of node `id`: whether it counts as failed; None: there is no such node.
fn row(judge: &NodeFacts, id: i32) -> Option<bool> {
    judge.nodes.iter().find(|node| node.id == id).map(|node| node.failed)
}

impl ClusterView {
    /// Why the word of node `id` about the cluster does not count; None: it does.
    pub(crate) fn outcast(&self, id: i32) -> Option<String> {
        let answers: Vec<&NodeFacts> = self.answers().collect();
        outcast(&answers, id)
    }

    /// The nodes whose word counts, with what they say.
    pub(crate) fn witnesses(&self) -> impl Iterator<Item = &NodeFacts> {
        self.answers().filter(|facts| self.outcast(facts.local).is_none())
    }

    /// All sets, by number.
    pub(crate) fn sets(&self) -> Vec<SetStanding> {
        let mut claims: BTreeMap<i32, Vec<(&NodeFacts, i32)>> = BTreeMap::new();
        let witnesses: Vec<&NodeFacts> = self.witnesses().collect();
        let voices: Vec<&NodeFacts> = if witnesses.is_empty() {
            self.answers().collect()
        } else {
            witnesses
        };
        for facts in voices {
            for set in &facts.sets {
                claims.entry(set.id).or_default().push((facts, set.origin));
            }
        }
        claims
            .into_iter()
            .filter_map(|(id, claims)| self.settle(id, &claims))
            .collect()
    }

    fn settle(&self, id: i32, claims: &[(&NodeFacts, i32)]) -> Option<SetStanding> {
        let count = |origin: i32| claims.iter().filter(|(_, claimed)| *claimed == origin).count();
        let news = |facts: &NodeFacts| facts.events.iter().map(|events| events.newest).max().unwrap_or(0);
        // Who does not subscribe to it knows of the set, and nothing of its tables.
        let has_it = |facts: &NodeFacts| {
            let mut sets = facts.sets.iter().filter(|set| set.id == id);
            sets.any(|set| set.tables + set.sequences > 0)
        };
        let (facts, origin) = claims
            .iter()
            .max_by_key(|(facts, origin)| (facts.local == *origin, count(*origin), has_it(facts), news(facts)))?;
        let set = facts.sets.iter().find(|set| set.id == id)?;
        let subscriptions = facts
            .subscriptions
            .iter()
            .filter(|subscription| subscription.set == id)
            .map(|subscription| Subscription {
                provider: subscription.provider,
                receiver: subscription.receiver,
                forward: subscription.forward,
                active: self.has_copy(id, subscription.receiver).unwrap_or(subscription.active),
            })
            .collect();
        let disputed = self
            .answers()
            .filter_map(|other| {
                let claimed = other.sets.iter().find(|set| set.id == id)?.origin;
                (claimed != *origin).then_some((other.local, claimed))
            })
            .collect();
        Some(SetStanding {
            id,
            comment: set.comment.clone(),
            origin: *origin,
            told_by: facts.local,
            locked: set.locked,
            tables: set.tables,
            sequences: set.sequences,
            subscriptions,
            disputed,
        })
    }

    /// Whether the first copy of a set is done, by the receiver's word: everybody else takes every subscription for active as
    /// soon as he hears of it. None: it does not answer, or was given up.
    fn has_copy(&self, set: i32, receiver: i32) -> Option<bool> {
        let facts = self.facts(receiver).filter(|_| self.outcast(receiver).is_none())?;
        let mut own = facts.subscriptions.iter();
        Some(own.any(|own| own.set == set && own.receiver == receiver && own.active))
    }

    /// Whose word about the events of `origin` is the newest: its own, else that of the witness with its newest event.
    pub(crate) fn reporter(&self, origin: i32) -> Option<&NodeFacts> {
        self.facts(origin).or_else(|| {
            self.witnesses()
                .max_by_key(|facts| facts.events_of(origin).map_or(0, |events| events.newest))
        })
    }

    /// The newest event of `origin` that `receiver` is known to have confirmed, by anybody's word, and whose word it is.
    pub(crate) fn confirmed(&self, origin: i32, receiver: i32) -> Option<(i64, i32)> {
        self.answers()
            .filter_map(|facts| {
                let known = facts.confirmation(origin, receiver)?;
                Some((known.seqno, facts.local))
            })
            .max()
    }

    /// Notes what the nodes disagree about.
    pub(super) fn compare(&mut self) {
        let mut notes = Vec::new();
        for set in self.sets() {
            for (node, claimed) in &set.disputed {
                if self.outcast(*node).is_none() {
                    notes.push(format!(
                        "node {node} still takes node {claimed} for the origin of set {}; node {} says it is node {}",
                        set.id, set.told_by, set.origin
                    ));
                }
            }
        }
        self.notes.extend(notes);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use trunkline_sql::configuration::NodeRow;
    use trunkline_sql::operator::{DaemonFacts, FailoverFacts, FenceFacts, LogFacts};

    use super::*;

    /// A node with a daemon and nothing else to say.
    pub(crate) fn facts(local: i32) -> NodeFacts {
        NodeFacts {
            local,
            ours: true,
            nodes: Vec::new(),
            paths: Vec::new(),
            listens: Vec::new(),
            sets: Vec::new(),
            subscriptions: Vec::new(),
            events: Vec::new(),
            heard: Vec::new(),
            confirmations: Vec::new(),
            daemon: DaemonFacts {
                alive: true,
                up: Some(100.0),
                last_sign: Some(1.0),
                backend: Some(1),
                host: None,
                pid: None,
                version: None,
            },
            troubles: Vec::new(),
            missing_indexes: Vec::new(),
            log: LogFacts {
                active: 1,
                switching: false,
                switching_for: None,
                rows: [0.0; 3],
                bytes: 0,
            },
            failovers: Vec::new(),
            fences: Vec::new(),
        }
    }

    fn knows(local: i32, nodes: &[i32]) -> NodeFacts {
        let row = |id: &i32| NodeRow {
            id: *id,
            comment: String::new(),
            active: true,
            failed: false,
        };
        NodeFacts {
            nodes: nodes.iter().map(row).collect(),
            ..facts(local)
        }
    }

    fn outcasts(answers: &[NodeFacts]) -> Vec<i32> {
        let answers: Vec<&NodeFacts> = answers.iter().collect();
        let mut outcasts: Vec<i32> = answers.iter().map(|facts| facts.local).collect();
        outcasts.retain(|id| outcast(&answers, *id).is_some());
        outcasts
    }

    #[test]
    fn nodes_given_up_together_do_not_vouch_for_each_other() {
        let fenced = |local| NodeFacts {
            fences: vec![FenceFacts {
                set: 1,
                new_origin: Some(1),
                reason: DROPPED.to_owned(),
                age: 1.0,
            }],
            ..knows(local, &[1, 2, 3])
        };
        assert_eq!(outcasts(&[knows(1, &[1]), fenced(2), fenced(3)]), [2, 3]);
        // Their slons have not run yet: the survivor remembers.
        let failover = |failed| FailoverFacts {
            failed,
            seqno: 7,
            successor: 1,
            sets: vec![1],
            age: 1.0,
        };
        let survivor = NodeFacts {
            failovers: vec![failover(2), failover(3)],
            ..knows(1, &[1])
        };
        let others = [knows(2, &[1, 2, 3]), knows(3, &[1, 2, 3])];
        assert_eq!(
            outcasts(&[survivor.clone(), others[0].clone(), others[1].clone()]),
            [2, 3]
        );
        // One of them has come back.
        let survivor = NodeFacts {
            nodes: knows(1, &[1, 3]).nodes,
            ..survivor
        };
        assert_eq!(outcasts(&[survivor, fenced(2), knows(3, &[1, 3])]), [2]);
    }

    #[test]
    fn a_cluster_at_work_has_no_outcasts() {
        assert_eq!(outcasts(&[knows(1, &[1, 2]), knows(2, &[1, 2])]), [0; 0]);
        assert_eq!(outcasts(&[knows(1, &[1])]), [0; 0]);
    }
}
