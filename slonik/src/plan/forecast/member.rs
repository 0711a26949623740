//! Tables and sequences of sets.

use std::collections::BTreeMap;

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, KnownMember, NodeState};

use super::{Forecast, Foreseen};

/// Tables or sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Sequence,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Sequence => "sequence",
        }
    }

    fn of(self, state: &NodeState) -> &BTreeMap<Id, KnownMember> {
        match self {
            Self::Table => &state.tables,
            Self::Sequence => &state.sequences,
        }
    }

    fn of_mut(self, state: &mut NodeState) -> &mut BTreeMap<Id, KnownMember> {
        match self {
            Self::Table => &mut state.tables,
            Self::Sequence => &mut state.sequences,
        }
    }
}

impl Forecast {
    /// One more than the highest number of a table in use on any node, partitions left out.
    pub(crate) fn next_table(&self) -> Option<Id> {
        self.highest(Kind::Table, admin::FIRST_PARTITION).checked_add(1)
    }

    /// The number that node `origin` will give its next partition.
    pub(crate) fn next_partition(&self, origin: Id) -> Option<Id> {
        const EACH: Id = 1_000_000;
        let first = admin::FIRST_PARTITION + origin.rem_euclid(1000) * EACH;
        let state = self.states.get(&origin)?;
        let used = state.tables.range(first..first + EACH).next_back();
        Some(used.map_or(first, |(id, _)| id + 1))
    }

    /// One more than the highest number of a sequence in use on any node.
    pub(crate) fn next_sequence(&self) -> Option<Id> {
        self.highest(Kind::Sequence, Id::MAX).checked_add(1)
    }

    fn highest(&self, kind: Kind, below: Id) -> Id {
        let numbers = self.states.values().flat_map(|state| kind.of(state).keys());
        numbers.copied().filter(|id| *id < below).max().unwrap_or(0)
    }

    pub(super) fn set_add_table(&mut self, node: Id, set: Id, id: Id, name: &str) -> Foreseen {
        self.add(Kind::Table, node, set, id, name, "SET_ADD_TABLE")
    }

    pub(super) fn set_add_sequence(&mut self, node: Id, set: Id, id: Id, name: &str) -> Foreseen {
        self.add(Kind::Sequence, node, set, id, name, "SET_ADD_SEQUENCE")
    }

    fn add(&mut self, kind: Kind, node: Id, set: Id, id: Id, written: &str, event: &'static str) -> Foreseen {
        let mut foreseen = Foreseen::events(&[event]);
        let word = kind.word();
        foreseen.obstacles.extend(self.local_set(node, set).err());
        let Some(state) = self.states.get_mut(&node) else {
            return foreseen;
        };
        if let Some(other) = kind.of(state).get(&id) {
            foreseen.refuse(format!(
                "{word} number {id} is in use: {}.{} of set {}; leave `id` out to get a free one",
                other.schema, other.name, other.set
            ));
        }
        let Some((schema, name)) = admin::read_name(written) else {
            foreseen.refuse(format!("`{written}` has no schema; write `schema.{word}`"));
            return foreseen;
        };
        let same = |member: &&KnownMember| member.schema == schema && member.name == name;
        if let Some(other) = kind.of(state).values().find(same) {
            foreseen.refuse(format!("{word} {schema}.{name} is in set {} already", other.set));
        }
        kind.of_mut(state)
            .entry(id)
            .or_insert(KnownMember { set, schema, name });
        foreseen
    }

    pub(super) fn set_drop_table(&mut self, node: Id, id: Id) -> Foreseen {
        self.remove(Kind::Table, node, id, "SET_DROP_TABLE")
    }

    pub(super) fn set_drop_sequence(&mut self, node: Id, id: Id) -> Foreseen {
        self.remove(Kind::Sequence, node, id, "SET_DROP_SEQUENCE")
    }

    fn remove(&mut self, kind: Kind, node: Id, id: Id, event: &'static str) -> Foreseen {
        let mut foreseen = Foreseen::events(&[event]);
        match self.set_of(kind, node, id) {
            Ok(set) => foreseen.obstacles.extend(self.local_set(node, set).err()),
            Err(reason) => foreseen.refuse(reason),
        }
        self.everywhere(|state| {
            kind.of_mut(state).remove(&id);
        });
        foreseen
    }

    pub(super) fn set_move_table(&mut self, node: Id, id: Id, set: Id) -> Foreseen {
        self.transfer(Kind::Table, node, id, set, &["SYNC", "SET_MOVE_TABLE"])
    }

    pub(super) fn set_move_sequence(&mut self, node: Id, id: Id, set: Id) -> Foreseen {
        self.transfer(Kind::Sequence, node, id, set, &["SET_MOVE_SEQUENCE"])
    }

    fn transfer(&mut self, kind: Kind, node: Id, id: Id, set: Id, events: &[&'static str]) -> Foreseen {
        let mut foreseen = Foreseen::events(events);
        match self.set_of(kind, node, id) {
            Ok(old) if old == set => foreseen.refuse(format!("{} {id} is in set {set} already", kind.word())),
            Ok(old) => self.require_alike(node, old, set, &mut foreseen),
            Err(reason) => foreseen.refuse(reason),
        }
        self.everywhere(|state| {
            if let Some(member) = kind.of_mut(state).get_mut(&id) {
                member.set = set;
            }
        });
        foreseen
    }

    fn set_of(&self, kind: Kind, node: Id, id: Id) -> Result<Id, String> {
        let member = self.states.get(&node).and_then(|state| kind.of(state).get(&id));
        member
            .map(|member| member.set)
            .ok_or_else(|| format!("{} {id} is in no set of node {node}", kind.word()))
    }
}
