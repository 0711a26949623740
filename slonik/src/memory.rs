//! What slonik remembers between statements: each node's newest event, and on which node the last one was made.

use std::collections::BTreeMap;

use trunkline_grammar::Id;

/// The event memory. The node of the last event survives from one script to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    last_event: BTreeMap<Id, i64>,
    last_event_node: Option<Id>,
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
        match seqno {
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

    /// Forgets the events at the start of a script with other nodes.
    pub(crate) fn start_script(&mut self) {
        self.last_event.clear();
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
}
