//! The nodes a script may talk to.

use std::collections::BTreeMap;

use crate::ast::{AdminNode, Id};
use crate::source::Span;

/// Node numbers listed in a message before it says "and more".
const MAX_LISTED: usize = 12;

/// The `node N admin conninfo` lines of a script.
#[derive(Debug, Default)]
pub(crate) struct Preamble {
    pub(crate) nodes: Vec<AdminNode>,
    known: BTreeMap<Id, Span>,
    /// Where in `nodes` each node stands.
    complete: BTreeMap<Id, usize>,
    /// A line could not be read, so nothing is known about the nodes that are not listed.
    pub(crate) uncertain: bool,
}

impl Preamble {
    /// Notes a node; returns where it was named before, if it was.
    pub(crate) fn note(&mut self, node: Id, place: Span) -> Option<Span> {
        let before = self.known.get(&node).copied();
        self.known.entry(node).or_insert(place);
        before
    }

    /// Adds a complete line.
    pub(crate) fn add(&mut self, node: AdminNode) {
        self.complete.insert(node.id, self.nodes.len());
        self.nodes.push(node);
    }

    /// How a node is reached, if a complete line says so.
    pub(crate) fn conninfo(&self, node: Id) -> Option<&str> {
        let index = *self.complete.get(&node)?;
        self.nodes.get(index).map(|named| named.conninfo.as_str())
    }

    /// Whether slonik can talk to a node, as far as the preamble could be read.
    pub(crate) fn knows(&self, node: Id) -> bool {
        self.uncertain || self.known.contains_key(&node)
    }

    /// The nodes of the preamble, for messages.
    pub(crate) fn listing(&self) -> String {
        let mut listed: Vec<String> = self.known.keys().take(MAX_LISTED).map(ToString::to_string).collect();
        match self.known.len() {
            0 => "the preamble names no node".to_owned(),
            1 => format!("the preamble names node {}", listed.join("")),
            count => {
                if count > MAX_LISTED {
                    listed.push("…".to_owned());
                }
                format!("the preamble names nodes {}", listed.join(", "))
            }
        }
    }
}
