//! What a failover has to do, from what the survivors say: pure decisions, no database.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_grammar::{FailedNode, Id};
use trunkline_sql::admin::{Announcement, Survey};
use trunkline_sql::configuration::{Configuration, SubscriptionRow};

/// How far the failover of one node has come, perhaps in an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing that counts has been done.
    Fresh,
    /// A survivor has announced it and has not taken over yet.
    Announced(Announcement),
    /// That survivor is origin; perhaps it has not handed on yet.
    TakenOver {
        /// The survivor.
        leader: Id,
        /// Its announcement.
        seqno: i64,
    },
    /// The node that led it has failed itself: its own failover takes the sets along.
    Superseded(Id),
    /// Everything has been done.
    Done,
}

/// What is known when a failover begins.
#[derive(Debug, Default)]
pub(crate) struct Situation {
    /// The failed nodes and who is to take over.
    pub(crate) pairs: Vec<FailedNode>,
    /// What the nodes say that could be asked.
    pub(crate) surveys: BTreeMap<Id, Survey>,
    /// Why others could not be asked.
    pub(crate) unreachable: BTreeMap<Id, String>,
    /// Subscriptions of survivors to sets of failed nodes whose first copy is not done. They are no longer in the surveys.
    pub(crate) unfinished: BTreeSet<Unfinished>,
}

/// A subscription of a survivor to a set of a failed node whose first copy is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unfinished {
    pub(crate) origin: Id,
    pub(crate) set: Id,
    pub(crate) receiver: Id,
    pub(crate) forward: bool,
}

/// A subscriber that knows more of the failed node than anybody who could pass it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) node: Id,
    /// Its newest event of the failed node.
    pub(crate) seqno: i64,
    /// The sets it has.
    pub(crate) sets: Vec<Id>,
}

/// Who leads a failover, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The survivor that has most of what can be passed on.
    pub(crate) leader: Id,
    /// Its newest event of the failed node.
    pub(crate) last_seqno: i64,
    /// Who has more and cannot pass it on.
    pub(crate) ahead: Vec<Ahead>,
}

impl Situation {
    /// All failed nodes the statement names.
    pub(crate) fn failed(&self) -> Vec<Id> {
        self.pairs.iter().map(|pair| pair.id).collect()
    }

    fn is_failed(&self, node: Id) -> bool {
        self.pairs.iter().any(|pair| pair.id == node)
    }

    /// Only the receiver knows whether its copy is done: everybody else has every subscription for active as soon as he hears of
    /// it. What is not done cannot be done any more, and counts as not subscribed.
    pub(crate) fn ask_receivers(&mut self) {
        let receivers: BTreeMap<Id, (Configuration, bool)> = self
            .surveys
            .iter()
            .map(|(id, survey)| (*id, (survey.configuration.clone(), self.is_failed(*id))))
            .collect();
        let failed = self.failed();
        for survey in self.surveys.values_mut() {
            let sets = &survey.configuration.sets;
            let unfinished = &mut self.unfinished;
            survey.configuration.subscriptions.retain_mut(|row| {
                let origin = sets.get(&row.set).map(|set| set.origin);
                let Some(origin) = origin.filter(|origin| failed.contains(origin)) else {
                    return true;
                };
                let Some((own, false)) = receivers.get(&row.receiver) else {
                    return true;
                };
                // It has followed an earlier run: nothing is open there.
                if own.sets.get(&row.set).is_some_and(|set| set.origin != origin) {
                    return true;
                }
                row.active = subscription(own, row.set, row.receiver).is_some_and(|own| own.active);
                if !row.active {
                    unfinished.insert(Unfinished {
                        origin,
                        set: row.set,
                        receiver: row.receiver,
                        forward: row.forward,
                    });
                }
                row.active
            });
        }
    }

    /// Nodes whose first copy of a set is not done.
    pub(crate) fn copying(&self, set: Id) -> Vec<Id> {
        let of = |one: &&Unfinished| one.set == set;
        self.unfinished.iter().filter(of).map(|one| one.receiver).collect()
    }

    fn view(&self, node: Id) -> Option<&Configuration> {
        self.surveys.get(&node).map(|survey| &survey.configuration)
    }

    /// How those who stay see a failed node and its sets: the backup node, unless another has more of its events. The failed one may
    /// have taken sets over from another failed node, which not all have heard of.
    fn witness(&self, pair: FailedNode) -> Option<&Configuration> {
        let newest = |survey: &Survey| survey.newest.get(&pair.id).copied().unwrap_or(0);
        let backup = self.surveys.get(&pair.backup_node)?;
        let survivors = self.survivors();
        let stay = self.surveys.iter().filter(|(id, _)| survivors.contains(id));
        // Who has followed an earlier run counts its sets as somebody else's.
        let open = |survey: &&Survey| survey.configuration.nodes.get(&pair.id).is_some_and(|node| node.active);
        stay.map(|(_, survey)| survey)
            .filter(|survey| newest(survey) > newest(backup))
            .filter(open)
            .max_by_key(|survey| newest(survey))
            .or(Some(backup))
            .map(|survey| &survey.configuration)
    }

    /// The nodes that stay, as the backup nodes know them.
    pub(crate) fn survivors(&self) -> BTreeSet<Id> {
        let views = self.pairs.iter().filter_map(|pair| self.view(pair.backup_node));
        views
            .flat_map(|view| view.nodes.values())
            .filter(|node| node.active && !node.failed && !self.is_failed(node.id))
            .map(|node| node.id)
            .collect()
    }

    /// Whether a node that cannot be asked was dropped by a survivor, and a backup node has not heard of it yet.
    pub(crate) fn awaits_a_drop(&self) -> bool {
        let survivors = self.survivors();
        survivors
            .iter()
            .filter(|node| !self.surveys.contains_key(node))
            .any(|silent| {
                let mut others = survivors.iter().filter_map(|node| self.view(*node));
                others.any(|view| !view.nodes.contains_key(silent))
            })
    }

    /// How far the failover of a node has come.
    pub(crate) fn stage(&self, pair: FailedNode) -> Stage {
        let announced = |survey: &Survey, leader: Option<Id>| {
            let known = survey.announcements.iter().rev();
            known
                .filter(|one| one.failed == pair.id && leader.is_none_or(|leader| one.leader == leader))
                .find(|one| leader.is_some() || self.is_failed(one.leader))
                .cloned()
        };
        for (id, survey) in &self.surveys {
            // A node of a former life was dropped with its mark; only who still counts it as failed speaks of this one.
            let Some(node) = survey.configuration.nodes.get(&pair.id).filter(|node| node.failed) else {
                continue;
            };
            if let Some(own) = announced(survey, Some(*id)) {
                if node.active {
                    return Stage::Announced(own);
                }
                let seqno = own.seqno;
                if *id == pair.backup_node || self.sets_to_hand_on(pair, *id).is_empty() {
                    return Stage::Done;
                }
                return Stage::TakenOver { leader: *id, seqno };
            }
        }
        let Some(view) = self.view(pair.backup_node) else {
            return Stage::Fresh;
        };
        let node = view.nodes.get(&pair.id);
        let dropped = || {
            self.surveys[&pair.backup_node]
                .taken_over
                .iter()
                .any(|over| over.failed == pair.id)
        };
        if node.is_none() && dropped() {
            return Stage::Done;
        }
        // The backup node may not have heard of it yet.
        let counts = |survey: &&Survey| survey.configuration.nodes.get(&pair.id).is_some_and(|node| node.failed);
        let mut surveys = self.surveys.values().filter(counts);
        if let Some(lost) = surveys.find_map(|survey| announced(survey, None))
            && self.goes_on(&lost)
        {
            return Stage::Superseded(lost.leader);
        }
        match node {
            Some(node) if node.failed && !node.active => Stage::Done,
            _ => Stage::Fresh,
        }
    }

    /// Whether the failover of a dead leader takes along what it took over: somebody who can lead it, or leads it already, has heard of
    /// its announcement. Otherwise the announcement is void, and its failed node is given up anew.
    fn goes_on(&self, lost: &Announcement) -> bool {
        let Some(pair) = self.pairs.iter().find(|pair| pair.id == lost.leader) else {
            return false;
        };
        self.surveys.iter().any(|(id, survey)| {
            let leads = |one: &Announcement| one.failed == pair.id && one.leader == *id;
            survey.announcements.contains(lost)
                && (survey.announcements.iter().any(leads) || self.is_candidate(*pair, *id))
        })
    }

    /// Sets of the failed node that `leader` has taken over and the backup node does not have from it yet.
    pub(crate) fn sets_to_hand_on(&self, pair: FailedNode, leader: Id) -> Vec<Id> {
        let Some(survey) = self.surveys.get(&leader).filter(|_| leader != pair.backup_node) else {
            return Vec::new();
        };
        let taken = survey.taken_over.iter().rev();
        let sets = taken
            .filter(|over| over.failed == pair.id && over.successor == leader)
            .map(|over| over.sets.clone())
            .next()
            .unwrap_or_default();
        let is_leaders =
            |view: &Configuration, set: Id| view.sets.get(&set).is_some_and(|known| known.origin == leader);
        sets.into_iter()
            .filter(|set| {
                let here =
                    is_leaders(&survey.configuration, *set) && receives(&survey.configuration, *set, pair.backup_node);
                here || self.view(pair.backup_node).is_some_and(|view| is_leaders(view, *set))
            })
            .collect()
    }

    /// Why the failover cannot be done; nothing has been changed yet. One line each.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let stages: Vec<Stage> = self.pairs.iter().map(|pair| self.stage(*pair)).collect();
        for (pair, stage) in self.pairs.iter().zip(&stages) {
            if *stage != Stage::Done {
                self.refusals_of(*pair, stage, &mut reasons);
            }
        }
        if stages.contains(&Stage::Fresh) {
            for node in self.survivors() {
                if self.surveys.contains_key(&node) || self.pairs.iter().any(|pair| pair.backup_node == node) {
                    continue;
                }
                reasons.push(match self.unreachable.get(&node) {
                    Some(reason) => format!(
                        "node {node} cannot be asked: {reason}; if it is lost as well, name it in the statement too \
                         (`failover (node = (id = …, backup node = …), node = (id = {node}, backup node = …))`) or drop it \
                         first"
                    ),
                    None => format!(
                        "error no conninfo for candidate for {node}: every node that stays needs its admin conninfo in the \
                         preamble"
                    ),
                });
            }
        }
        let mut seen = BTreeSet::new();
        reasons.retain(|reason| seen.insert(reason.clone()));
        reasons
    }

    fn refusals_of(&self, pair: FailedNode, stage: &Stage, reasons: &mut Vec<String>) {
        let (failed, backup) = (pair.id, pair.backup_node);
        if self.is_failed(backup) {
            reasons.push(format!(
                "node {backup} is to take over from node {failed} and is itself among the failed nodes"
            ));
            return;
        }
        let (Some(view), Some(witness)) = (self.view(backup), self.witness(pair)) else {
            let reason = self.unreachable.get(&backup).map_or("unknown", String::as_str);
            reasons.push(format!("backup node {backup} cannot be asked: {reason}"));
            return;
        };
        if !view.nodes.contains_key(&failed) {
            reasons.push(format!("node {backup} knows no node {failed}"));
            return;
        }
        if view.nodes.get(&backup).is_none_or(|node| !node.active || node.failed) {
            reasons.push(format!("node {backup} is not an active node of the cluster"));
        }
        if *stage != Stage::Fresh {
            return;
        }
        let view = witness;
        let subscribed = self.subscribed_sets(view, failed);
        if let Some(one) = self
            .unfinished
            .iter()
            .find(|one| one.origin == failed && subscribed.is_empty())
        {
            reasons.push(format!(
                "no node that stays has a set of node {failed} completely, so nothing can be taken over: node {} has not finished its \
                 first copy of set {}. Bring node {failed} back; if it is gone for good, `unsubscribe set (id = {}, receiver = {})` \
                 first, and the failover gives node {backup} the empty set",
                one.receiver, one.set, one.set, one.receiver
            ));
        }
        for set in subscribed {
            if self.copying(set).contains(&backup) {
                let mut complete: Vec<String> = Vec::new();
                for row in view
                    .subscriptions
                    .iter()
                    .filter(|row| row.set == set && row.receiver != failed)
                {
                    complete.push(row.receiver.to_string());
                }
                reasons.push(format!(
                    "node {backup} has not finished its first copy of set {set} from node {failed} and cannot take over; node {} \
                     has it: name a backup node that has all the sets",
                    complete.join(", ")
                ));
            } else if !forwards(view, set, backup) {
                reasons.push(format!(
                    "node {backup} is not a forwarding subscriber of set {set} from node {failed}"
                ));
            }
        }
        for receiver in self.stranded_receivers(view, failed, backup) {
            if !self.surveys[&backup].paths.contains(&(backup, receiver)) {
                reasons.push(format!(
                    "can't failover node {receiver} does not have a path to {backup}"
                ));
            }
        }
        for subscription in self.fed_by(view, failed) {
            let origin = view.sets.get(&subscription.set).map_or(failed, |set| set.origin);
            let (set, receiver) = (subscription.set, subscription.receiver);
            if self.is_failed(origin)
                || receiver != backup && forwards(view, set, backup)
                || self.surveys[&backup].paths.contains(&(origin, receiver))
            {
                continue;
            }
            reasons.push(format!(
                "node {receiver} gets set {set} of node {origin} from node {failed}, node {backup} cannot pass it on, and \
                 node {receiver} has no path to node {origin}; run `store path (server = {origin}, client = {receiver}, \
                 conninfo = …)`"
            ));
        }
    }

    /// Sets of an origin that anybody who stays has.
    fn subscribed_sets(&self, view: &Configuration, origin: Id) -> Vec<Id> {
        let sets = view.sets.values().filter(|set| set.origin == origin);
        sets.map(|set| set.id)
            .filter(|set| {
                let mut receivers = view.subscriptions.iter().filter(|one| one.set == *set);
                receivers.any(|one| !self.is_failed(one.receiver))
            })
            .collect()
    }

    /// Whether a failed node is the origin of any set, by the word of those who stay.
    pub(crate) fn originated(&self, failed: Id) -> bool {
        let mut sets = self
            .surveys
            .values()
            .flat_map(|survey| survey.configuration.sets.values());
        sets.any(|set| set.origin == failed)
    }

    /// Sets of an origin that nobody who stays has completely.
    pub(crate) fn lost_sets(&self, pair: FailedNode) -> Vec<Id> {
        let Some(view) = self.witness(pair) else {
            return Vec::new();
        };
        let kept = self.subscribed_sets(view, pair.id);
        let sets = view.sets.values().filter(|set| set.origin == pair.id);
        sets.map(|set| set.id).filter(|set| !kept.contains(set)).collect()
    }

    /// Who stays and gets sets from the failed node, or its sets from another failed one: they need a path to `leader`.
    fn stranded_receivers(&self, view: &Configuration, failed: Id, leader: Id) -> BTreeSet<Id> {
        let is_origin = |set: Id| view.sets.get(&set).is_some_and(|set| set.origin == failed);
        view.subscriptions
            .iter()
            .filter(|one| {
                is_origin(one.set) && self.is_failed(one.provider)
                    || one.provider == failed && forwards(view, one.set, leader)
            })
            .map(|one| one.receiver)
            .filter(|receiver| *receiver != leader && !self.is_failed(*receiver))
            .collect()
    }

    /// Subscriptions of those who stay that the failed node feeds.
    fn fed_by<'a>(&'a self, view: &'a Configuration, failed: Id) -> impl Iterator<Item = &'a SubscriptionRow> {
        view.subscriptions
            .iter()
            .filter(move |one| one.provider == failed && !self.is_failed(one.receiver))
    }

    /// Whether a survivor could lead: it has every set of the failed node and can pass it on.
    pub(crate) fn is_candidate(&self, pair: FailedNode, node: Id) -> bool {
        let Some(view) = self.witness(pair) else {
            return false;
        };
        let passes_on = |view: &Configuration, sets: &[Id]| sets.iter().all(|set| forwards(view, *set, node));
        // Its own database will ask that once more, by what it knows itself.
        let own = self.view(node).unwrap_or(view);
        let sets = self.subscribed_sets(view, pair.id);
        !sets.is_empty() && passes_on(view, &sets) && passes_on(own, &self.subscribed_sets(own, pair.id))
    }

    /// Who leads, given the newest event of the failed node that each survivor has. An error says why nobody can.
    pub(crate) fn leadership(&self, pair: FailedNode, newest: &BTreeMap<Id, i64>) -> Result<Leadership, Vec<String>> {
        let backup = pair.backup_node;
        let seqno = |node: Id| newest.get(&node).copied().unwrap_or(0);
        let candidates = newest.keys().filter(|node| self.is_candidate(pair, **node));
        // On a tie the backup node itself, then the lowest number.
        let leader = candidates
            .copied()
            .max_by_key(|node| (seqno(*node), *node == backup, -i64::from(*node)))
            .unwrap_or(backup);
        let last_seqno = seqno(leader);
        let Some(view) = self.witness(pair) else {
            return Ok(Leadership {
                leader,
                last_seqno,
                ahead: Vec::new(),
            });
        };
        let mut reasons = Vec::new();
        if last_seqno == 0 {
            reasons.push(format!("node {leader} has no event of node {} yet", pair.id));
        }
        if leader != backup {
            let mut wanted: Vec<(Id, Id)> = self
                .stranded_receivers(view, pair.id, leader)
                .into_iter()
                .map(|receiver| (leader, receiver))
                .collect();
            wanted.push((backup, leader));
            for (server, client) in wanted {
                if !self.surveys[&backup].paths.contains(&(server, client)) {
                    reasons.push(format!(
                        "node {leader} has more of node {} than node {backup} and must lead, but node {client} has no path to \
                         node {server}; run `store path (server = {server}, client = {client}, conninfo = …)`",
                        pair.id
                    ));
                }
            }
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let ahead = newest
            .iter()
            .filter(|(node, seqno)| **node != leader && **seqno > last_seqno)
            .map(|(node, seqno)| Ahead {
                node: *node,
                seqno: *seqno,
                sets: self
                    .subscribed_sets(view, pair.id)
                    .into_iter()
                    .filter(|set| receives(view, *set, *node))
                    .collect(),
            })
            .filter(|ahead| !ahead.sets.is_empty())
            .collect();
        Ok(Leadership {
            leader,
            last_seqno,
            ahead,
        })
    }
}

fn subscription(view: &Configuration, set: Id, receiver: Id) -> Option<&SubscriptionRow> {
    view.subscriptions
        .iter()
        .find(|one| one.set == set && one.receiver == receiver)
}

fn receives(view: &Configuration, set: Id, receiver: Id) -> bool {
    subscription(view, set, receiver).is_some()
}

fn forwards(view: &Configuration, set: Id, receiver: Id) -> bool {
    subscription(view, set, receiver).is_some_and(|one| one.active && one.forward)
}

#[cfg(test)]
mod tests;
