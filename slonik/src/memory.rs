//! What slonik remembers between statements: each node's newest event, and on which node the last one was made.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_grammar::Id;

/// The event memory. The node of the last event survives from one script to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    last_event: BTreeMap<Id, i64>,
    last_event_node: Option<Id>,
    /// Nodes this script has dropped. Until their own daemon learns of it they still look like nodes, but nobody
    /// fetches their events any more.
    dropped: BTreeSet<Id>,
}

impl Memory {
    /// Newest event of `node`; None where nothing is known (not reachable, not a node yet); 0: it has none.
    pub(crate) fn last_event(&self, node: Id) -> Option<i64> {
        self.last_event.get(&node).copied()
    }

    /// All that is known, by node.
    pub(crate) fn known(&self) -> impl Iterator<Item = (Id, i64)> + '_ {
        self.last_event.iter().map(|(node, seqno)| (*node, *seqno))
    }

    pub(crate) fn remember(&mut self, node: Id, seqno: Option<i64>) {
        match seqno.filter(|_| !self.dropped.contains(&node)) {
            Some(seqno) => self.last_event.insert(node, seqno),
            None => self.last_event.remove(&node),
        };
    }

    /// Node on which the last event was made that others should wait for.
    pub(crate) fn last_event_node(&self) -> Option<Id> {
        self.last_event_node
    }

    pub(crate) fn set_last_event_node(&mut self, node: Id) {
        self.last_event_node = Some(node);
    }

    /// The node has been dropped: its events do not count any more.
    pub(crate) fn drop_node(&mut self, node: Id) {
        self.last_event.remove(&node);
        self.dropped.insert(node);
    }

    /// The node has been made (again).
    pub(crate) fn store_node(&mut self, node: Id) {
        self.dropped.remove(&node);
    }

    /// Forgets the events at the start of a script with other nodes.
    pub(crate) fn start_script(&mut self) {
        self.last_event.clear();
        self.dropped.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_of_the_last_event_outlives_a_script() {
        let mut memory = Memory::default();
        memory.remember(1, Some(7));
        memory.set_last_event_node(1);
        memory.start_script();
        assert_eq!(memory.last_event(1), None);
        assert_eq!(memory.last_event_node(), Some(1));
    }

    #[test]
    fn a_dropped_node_has_no_events_until_it_is_made_again() {
        let mut memory = Memory::default();
        memory.remember(3, Some(7));
        memory.drop_node(3);
        memory.remember(3, Some(8));
        assert_eq!(memory.last_event(3), None);
        memory.store_node(3);
        memory.remember(3, Some(9));
        assert_eq!(memory.last_event(3), Some(9));
    }
}
