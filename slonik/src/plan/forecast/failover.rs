//! Failovers.

use trunkline_grammar::Id;

use super::{Forecast, Foreseen};

impl Forecast {
    pub(super) fn failed_node_2(&mut self, failed: &[i32]) -> Foreseen {
        self.everywhere(|state| {
            for id in failed {
                if let Some(known) = state.nodes.get_mut(id) {
                    known.failed = true;
                }
            }
        });
        Foreseen::events(&["FAILOVER_NODE"])
    }

    pub(super) fn end_unfinished_copy(&mut self, node: Id, set: Id, receiver: Id) -> Foreseen {
        let known = |state: &mut super::NodeState| state.subscriptions.remove(&(set, receiver)).is_some();
        match self.states.get_mut(&node).map(known) {
            Some(true) if node == receiver => Foreseen::events(&["UNSUBSCRIBE_SET"]),
            _ => Foreseen::default(),
        }
    }

    /// The leader is origin of what was the failed node's, and feeds whom a failed node fed.
    pub(super) fn failed_node_3(&mut self, failed: Id, leader: Id) -> Foreseen {
        self.everywhere(|state| {
            for set in state.sets.values_mut().filter(|set| set.origin == failed) {
                set.origin = leader;
            }
            let sets = &state.sets;
            state.subscriptions.retain(|(set, receiver), _| {
                *receiver != leader || sets.get(set).is_none_or(|set| set.origin != leader)
            });
            for ((_, receiver), subscription) in &mut state.subscriptions {
                if subscription.provider == failed && *receiver != failed {
                    subscription.provider = leader;
                }
            }
            if let Some(known) = state.nodes.get_mut(&failed) {
                known.active = false;
            }
        });
        Foreseen::default()
    }

    /// Whether node `id` will be known to `node` at this point.
    pub(crate) fn is_known_to(&self, node: Id, id: Id) -> bool {
        self.state(node).is_none_or(|state| state.nodes.contains_key(&id))
    }
}
