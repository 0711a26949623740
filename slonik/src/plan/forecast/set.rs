//! Sets: made, dropped, merged, locked, moved.

use std::collections::BTreeMap;

use trunkline_grammar::Id;
use trunkline_sql::admin::{KnownSet, KnownSubscription, NodeState};

use super::{Forecast, Foreseen};

impl Forecast {
    pub(super) fn store_set(&mut self, node: Id, set: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["STORE_SET"]);
        if let Some(known) = self.states.get(&node).and_then(|state| state.sets.get(&set)) {
            foreseen.refuse(format!("set {set} exists already, its origin is node {}", known.origin));
        }
        let made = KnownSet {
            origin: node,
            locked: false,
        };
        self.everywhere(|state| {
            state.sets.entry(set).or_insert(made);
        });
        foreseen
    }

    pub(super) fn drop_set(&mut self, node: Id, set: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["DROP_SET"]);
        foreseen.obstacles.extend(self.local_set(node, set).err());
        self.everywhere(|state| {
            state.sets.remove(&set);
            state.subscriptions.retain(|(of, _), _| *of != set);
            state.tables.retain(|_, member| member.set != set);
            state.sequences.retain(|_, member| member.set != set);
        });
        foreseen
    }

    pub(super) fn merge_set(&mut self, node: Id, set: Id, added: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["SYNC", "MERGE_SET"]);
        if set == added {
            foreseen.refuse("a set cannot be merged with itself".to_owned());
            return foreseen;
        }
        self.require_alike(node, set, added, &mut foreseen);
        self.everywhere(|state| {
            for member in state.tables.values_mut().chain(state.sequences.values_mut()) {
                if member.set == added {
                    member.set = set;
                }
            }
            state.subscriptions.retain(|(of, _), _| *of != added);
            state.sets.remove(&added);
        });
        foreseen
    }

    /// Both sets are local, have the same subscribers, and all copies are confirmed.
    pub(super) fn require_alike(&self, node: Id, set: Id, other: Id, foreseen: &mut Foreseen) {
        for id in [set, other] {
            match self.local_set(node, id) {
                Ok(_) => foreseen.obstacles.extend(self.copies_in_progress(node, id)),
                Err(reason) => foreseen.refuse(reason),
            }
        }
        let Some(state) = self.states.get(&node) else { return };
        if subscribers(state, set) != subscribers(state, other) {
            foreseen.refuse(format!(
                "sets {set} and {other} have different subscribers: {} and {}",
                text_of(&subscribers(state, set)),
                text_of(&subscribers(state, other))
            ));
        }
    }

    pub(super) fn lock_set(&mut self, node: Id, set: Id) -> Foreseen {
        let mut foreseen = Foreseen::default();
        match self.local_set(node, set) {
            Ok(known) if known.locked => foreseen.refuse(format!("set {set} is locked already; `unlock set` opens it")),
            Ok(_) => {}
            Err(reason) => foreseen.refuse(reason),
        }
        self.set_locked(node, set, true);
        foreseen
    }

    pub(super) fn lock_sets(&mut self, node: Id, sets: &[Id]) -> Foreseen {
        let mut foreseen = Foreseen::default();
        for set in sets {
            foreseen.obstacles.extend(self.lock_set(node, *set).obstacles);
        }
        foreseen
    }

    pub(super) fn unlock_set(&mut self, node: Id, set: Id) -> Foreseen {
        let mut foreseen = Foreseen::default();
        match self.local_set(node, set) {
            Ok(known) if !known.locked => foreseen.refuse(format!("set {set} is not locked")),
            Ok(_) => {}
            Err(reason) => foreseen.refuse(reason),
        }
        self.set_locked(node, set, false);
        foreseen
    }

    fn set_locked(&mut self, node: Id, set: Id, locked: bool) {
        let known = self.states.get_mut(&node).and_then(|state| state.sets.get_mut(&set));
        if let Some(known) = known {
            known.locked = locked;
        }
    }

    pub(super) fn move_set(&mut self, node: Id, set: Id, new_origin: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["SYNC", "MOVE_SET"]);
        match self.local_set(node, set) {
            Ok(known) => {
                if !known.locked {
                    foreseen.refuse(format!("set {set} is not locked; `lock set` comes first"));
                }
                foreseen.obstacles.extend(self.copies_in_progress(node, set));
                self.require_new_origin(node, set, new_origin, &mut foreseen);
            }
            Err(reason) => foreseen.refuse(reason),
        }
        self.everywhere(|state| {
            let chain = chain(state, set, node, new_origin);
            let mut last = new_origin;
            for (provider, receiver) in chain {
                last = receiver;
                if provider == node {
                    break;
                }
                if let Some(subscription) = state.subscriptions.get_mut(&(set, provider)) {
                    subscription.provider = receiver;
                }
            }
            state.subscriptions.remove(&(set, new_origin));
            let back = KnownSubscription {
                provider: last,
                forward: true,
                active: true,
                copied: true,
            };
            state.subscriptions.insert((set, node), back);
            let moved = KnownSet {
                origin: new_origin,
                locked: false,
            };
            state.sets.insert(set, moved);
        });
        foreseen
    }

    fn require_new_origin(&self, node: Id, set: Id, new_origin: Id, foreseen: &mut Foreseen) {
        let Some(state) = self.states.get(&node) else { return };
        match state.subscriptions.get(&(set, new_origin)) {
            None => foreseen.refuse(format!(
                "node {new_origin} does not subscribe to set {set}, so it cannot become its origin"
            )),
            Some(subscription) if !subscription.active => {
                foreseen.refuse(format!(
                    "the subscription of node {new_origin} to set {set} is not active yet"
                ));
            }
            Some(_) => {}
        }
        for (provider, receiver) in chain(state, set, node, new_origin) {
            if !state.paths.contains_key(&(receiver, provider)) {
                foreseen.refuse(format!(
                    "node {provider} has no path to node {receiver}, from which it will get set {set}; \
                     `store path (server = {receiver}, client = {provider}, …)`"
                ));
            }
        }
    }
}

/// The subscriptions over which `receiver` gets a set, from itself upwards: (provider, receiver).
fn chain(state: &NodeState, set: Id, origin: Id, receiver: Id) -> Vec<(Id, Id)> {
    let mut steps = Vec::new();
    let mut at = receiver;
    while let Some(subscription) = state.subscriptions.get(&(set, at)) {
        if steps.len() > state.subscriptions.len() {
            break;
        }
        steps.push((subscription.provider, at));
        at = subscription.provider;
        if at == origin {
            break;
        }
    }
    steps
}

fn subscribers(state: &NodeState, set: Id) -> BTreeMap<Id, Id> {
    state
        .subscriptions
        .iter()
        .filter(|((of, _), _)| *of == set)
        .map(|((_, receiver), subscription)| (*receiver, subscription.provider))
        .collect()
}

fn text_of(subscribers: &BTreeMap<Id, Id>) -> String {
    if subscribers.is_empty() {
        return "none".to_owned();
    }
    let all: Vec<String> = subscribers
        .iter()
        .map(|(receiver, provider)| format!("{receiver} (from {provider})"))
        .collect();
    all.join(", ")
}
