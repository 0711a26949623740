//! Subscriptions.

use std::collections::BTreeSet;

use trunkline_grammar::Id;
use trunkline_sql::admin::{KnownSubscription, NodeState};

use super::{Forecast, Foreseen};

impl Forecast {
    pub(super) fn subscribe_set(&mut self, node: Id, set: Id, provider: Id, receiver: Id, forward: bool) -> Foreseen {
        let known = self
            .states
            .get(&node)
            .is_some_and(|state| state.subscriptions.contains_key(&(set, receiver)));
        let mut foreseen = Foreseen::events(if known {
            &["SUBSCRIBE_SET"]
        } else {
            &["SUBSCRIBE_SET", "ENABLE_SUBSCRIPTION"]
        });
        self.require_subscribable(node, set, provider, receiver, forward, &mut foreseen);
        self.everywhere(|state| {
            let subscription = state.subscriptions.entry((set, receiver)).or_insert(KnownSubscription {
                provider,
                forward,
                active: true,
                copied: false,
            });
            subscription.provider = provider;
            subscription.forward = forward;
            state.paths.entry((provider, receiver)).or_insert(false);
        });
        foreseen
    }

    fn require_subscribable(
        &self,
        node: Id,
        set: Id,
        provider: Id,
        receiver: Id,
        forward: bool,
        foreseen: &mut Foreseen,
    ) {
        let Some(state) = self.states.get(&node) else { return };
        require_nodes(state, provider, receiver, foreseen);
        if let Err(reason) = self.local_set(node, set) {
            foreseen.refuse(reason);
            return;
        }
        if receiver == node {
            foreseen.refuse(format!(
                "set {set} originates on node {receiver}, which cannot subscribe to it"
            ));
            return;
        }
        require_provider(state, set, node, provider, receiver, foreseen);
        let gives =
            |((of, _), subscription): (&(Id, Id), &KnownSubscription)| *of == set && subscription.provider == receiver;
        if !forward && state.subscriptions.iter().any(gives) {
            foreseen.refuse(format!(
                "node {receiver} provides set {set} to other nodes and must forward: `forward = yes`"
            ));
        }
        let known = state.subscriptions.contains_key(&(set, receiver));
        for (other, current) in sets_of_receiver(state, node, receiver) {
            if other != set && current != provider {
                foreseen.refuse(if known {
                    format!(
                        "node {receiver} gets set {other} of the same origin from node {current} as well; \
                         `resubscribe node` changes the provider of all"
                    )
                } else {
                    format!(
                        "node {receiver} gets set {other} of the same origin from node {current}; all sets of one origin \
                         come from one provider"
                    )
                });
            }
        }
        if !state.paths.get(&(provider, receiver)).copied().unwrap_or(false) {
            foreseen.notes.push(format!(
                "node {receiver} has no path to node {provider} yet; nothing is copied before \
                 `store path (server = {provider}, client = {receiver}, …)`"
            ));
        }
    }

    /// Sets of `origin` beside `set` that `receiver` gets from another node than `provider`.
    pub(crate) fn also_provided(&self, set: Id, origin: Id, provider: Id, receiver: Id) -> Vec<Id> {
        let Some(state) = self.states.get(&origin) else {
            return Vec::new();
        };
        sets_of_receiver(state, origin, receiver)
            .filter(|(other, current)| *other != set && *current != provider)
            .map(|(other, _)| other)
            .collect()
    }

    pub(super) fn unsubscribe_set(&mut self, node: Id, set: Id, receiver: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["UNSUBSCRIBE_SET"]);
        if let Some(state) = self.states.get(&node) {
            for ((of, to), subscription) in &state.subscriptions {
                if *of == set && subscription.provider == receiver {
                    foreseen.refuse(format!(
                        "node {receiver} is provider of set {set} for node {to}; unsubscribe that one first"
                    ));
                }
            }
            if state.sets.get(&set).is_some_and(|set| set.origin == receiver) {
                foreseen.refuse(format!(
                    "set {set} originates on node {receiver}; `drop set` ends the replication of a set"
                ));
            }
        }
        self.everywhere(|state| {
            state.subscriptions.remove(&(set, receiver));
        });
        if let Some(state) = self.states.get_mut(&node) {
            state.tables.retain(|_, member| member.set != set);
            state.sequences.retain(|_, member| member.set != set);
        }
        foreseen
    }

    pub(super) fn resubscribe_node(&mut self, node: Id, origin: Id, provider: Id, receiver: Id) -> Foreseen {
        let mut foreseen = Foreseen::default();
        let Some(state) = self.states.get(&node) else {
            return foreseen;
        };
        require_nodes(state, provider, receiver, &mut foreseen);
        let sets: BTreeSet<Id> = sets_of_receiver(state, origin, receiver).map(|(set, _)| set).collect();
        if sets.is_empty() {
            foreseen.refuse(format!("node {receiver} subscribes to no set of node {origin}"));
        }
        for set in &sets {
            require_provider(state, *set, origin, provider, receiver, &mut foreseen);
            foreseen.events.push("SUBSCRIBE_SET");
        }
        self.everywhere(|state| {
            for set in &sets {
                if let Some(subscription) = state.subscriptions.get_mut(&(*set, receiver)) {
                    subscription.provider = provider;
                }
            }
        });
        foreseen
    }
}

/// Sets of `origin` that `receiver` subscribes to, and from whom it gets them.
fn sets_of_receiver(state: &NodeState, origin: Id, receiver: Id) -> impl Iterator<Item = (Id, Id)> {
    state
        .subscriptions
        .iter()
        .filter(move |((set, to), _)| *to == receiver && state.sets.get(set).is_some_and(|set| set.origin == origin))
        .map(|((set, _), subscription)| (*set, subscription.provider))
}

fn require_nodes(state: &NodeState, provider: Id, receiver: Id, foreseen: &mut Foreseen) {
    for node in [receiver, provider] {
        if !state.nodes.contains_key(&node) {
            foreseen.refuse(format!("node {node} is no node of the cluster"));
        }
    }
    if provider == receiver {
        foreseen.refuse(format!("node {receiver} cannot be its own provider"));
    }
}

fn require_provider(state: &NodeState, set: Id, origin: Id, provider: Id, receiver: Id, foreseen: &mut Foreseen) {
    if provider == origin {
        return;
    }
    let forwards = state
        .subscriptions
        .get(&(set, provider))
        .is_some_and(|subscription| subscription.forward && subscription.active);
    if !forwards {
        foreseen.refuse(format!(
            "node {provider} does not forward set {set}: subscribe it first, with `forward = yes`"
        ));
        return;
    }
    let mut at = provider;
    for _ in 0..=state.subscriptions.len() {
        match state.subscriptions.get(&(set, at)) {
            Some(subscription) => at = subscription.provider,
            None => return,
        }
        if at == receiver {
            foreseen.refuse(format!("node {provider} gets set {set} from node {receiver} itself"));
            return;
        }
    }
}
