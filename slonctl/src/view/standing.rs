//! Who is origin of what, by the word that counts.
//!
//! While all is well every node says the same. After a failover the node that was given up still believes in its old
//! role, and while a set moves its old origin is ahead of the others; so the word of a node that the others gave up does
//! not count, and who calls himself origin counts more than what is said of others.

use std::collections::BTreeMap;

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

impl ClusterView {
    /// Why the word of node `id` about the cluster does not count; None: it does.
    pub(crate) fn outcast(&self, id: i32) -> Option<String> {
        let others = || self.answers().filter(move |facts| facts.local != id);
        let row = |facts: &NodeFacts| facts.nodes.iter().find(|node| node.id == id).map(|node| node.failed);
        // A node that came back and was stored again is a node like any other.
        if let Some(judge) = others().find(|facts| row(facts) == Some(true)) {
            return Some(format!("node {} says that it was failed over", judge.local));
        }
        let forgotten = others().next().is_some() && others().all(|facts| row(facts).is_none());
        (forgotten && self.facts(id).is_some()).then(|| "no other node knows it any more: it was dropped".to_owned())
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
        let (facts, origin) = claims
            .iter()
            .max_by_key(|(facts, origin)| (facts.local == *origin, count(*origin), news(facts)))?;
        let set = facts.sets.iter().find(|set| set.id == id)?;
        let subscriptions = facts
            .subscriptions
            .iter()
            .filter(|subscription| subscription.set == id)
            .map(|subscription| Subscription {
                provider: subscription.provider,
                receiver: subscription.receiver,
                forward: subscription.forward,
                active: subscription.active,
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
