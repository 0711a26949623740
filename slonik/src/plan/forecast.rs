//! How the cluster will look while a script runs: the stored functions, simulated on what the nodes know now.
//!
//! Every node has a configuration of its own, but slonik's automatic waits let an event arrive before the next
//! statement builds on it, so what one node decides is foreseen for all. Each function is judged by the node it runs on.

mod failover;
mod member;
mod node;
mod set;
mod subscription;

use std::collections::BTreeMap;

use trunkline_grammar::Id;
use trunkline_sql::admin::{Call, KnownSet, NodeState, Value};

/// What a call will do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Foreseen {
    /// Why the stored function will refuse, one reason each.
    pub(crate) obstacles: Vec<String>,
    /// The events it will make, in that order.
    pub(crate) events: Vec<&'static str>,
    /// What is worth knowing besides.
    pub(crate) notes: Vec<String>,
}

impl Foreseen {
    fn events(events: &[&'static str]) -> Self {
        Self {
            events: events.to_vec(),
            ..Self::default()
        }
    }

    fn refuse(&mut self, reason: String) {
        self.obstacles.push(reason);
    }
}

/// The foreseen configuration of every node of the preamble that is one, or will be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forecast {
    states: BTreeMap<Id, NodeState>,
    last_events: BTreeMap<Id, i64>,
}

impl Forecast {
    /// What node `id` knows at this point; None: it will not be a node.
    pub(crate) fn state(&self, id: Id) -> Option<&NodeState> {
        self.states.get(&id)
    }

    /// What node `id` knows now.
    pub(crate) fn found(&mut self, id: Id, state: NodeState) {
        self.states.insert(id, state);
    }

    /// The newest event that the script will have made on node `id`.
    pub(crate) fn last_event(&self, id: Id) -> Option<i64> {
        self.last_events.get(&id).copied()
    }

    pub(crate) fn set_last_event(&mut self, id: Id, seqno: i64) {
        self.last_events.insert(id, seqno);
    }

    /// The cluster schema will be gone from node `id`.
    pub(crate) fn uninstall(&mut self, id: Id) {
        self.states.remove(&id);
        self.last_events.remove(&id);
    }

    /// An empty cluster schema will be there.
    pub(crate) fn install(&mut self, id: Id) {
        let state = NodeState {
            local: -1,
            ..NodeState::default()
        };
        self.states.insert(id, state);
    }

    /// Node `to` will take over what `from` knows.
    pub(crate) fn copy_configuration(&mut self, from: Id, to: Id) {
        let Some(source) = self.states.get(&from).cloned() else {
            return;
        };
        let Some(state) = self.states.get_mut(&to) else { return };
        for (node, known) in source.nodes {
            state.nodes.entry(node).or_insert(known);
        }
        state.paths = source.paths;
        state.sets = source.sets;
        state.subscriptions = source.subscriptions;
    }

    /// The origin of a set, asked of each node in turn.
    pub(crate) fn origin_of(&self, set: Id) -> Option<Id> {
        let known = self.states.values().find_map(|state| state.sets.get(&set));
        known.map(|set| set.origin)
    }

    /// Whether every copy of the set will be confirmed.
    pub(crate) fn is_copied(&self, node: Id, set: Id) -> bool {
        let Some(state) = self.states.get(&node) else {
            return true;
        };
        state
            .subscriptions
            .iter()
            .all(|((of, _), subscription)| *of != set || subscription.copied)
    }

    /// Somebody will have waited until `receiver` (None: everybody) has confirmed the events of `origin`.
    pub(crate) fn confirmed(&mut self, origin: Option<Id>, receiver: Option<Id>) {
        for state in self.states.values_mut() {
            for ((set, to), subscription) in &mut state.subscriptions {
                let of = state.sets.get(set).map(|set| set.origin);
                if receiver.is_none_or(|receiver| receiver == *to) && (origin.is_none() || origin == of) {
                    subscription.copied = true;
                }
            }
        }
    }

    /// Node `node` will have processed the events of `origin`: it knows of that node's sets what the node itself knows.
    pub(crate) fn catch_up(&mut self, node: Id, origin: Id) {
        let Some(source) = self.states.get(&origin).cloned() else {
            return;
        };
        let Some(state) = self.states.get_mut(&node) else {
            return;
        };
        let theirs = |set: &Id| source.sets.get(set).is_some_and(|set| set.origin == origin);
        for (id, known) in &source.nodes {
            state.nodes.entry(*id).or_insert(*known);
        }
        for (path, usable) in &source.paths {
            *state.paths.entry(*path).or_insert(false) |= usable;
        }
        let own: Vec<Id> = state
            .sets
            .iter()
            .filter(|(_, set)| set.origin == origin)
            .map(|(set, _)| *set)
            .collect();
        state.sets.retain(|_, set| set.origin != origin);
        state
            .subscriptions
            .retain(|(set, _), _| !own.contains(set) && !theirs(set));
        state.sets.extend(source.sets.iter().filter(|(set, _)| theirs(set)));
        state
            .subscriptions
            .extend(source.subscriptions.iter().filter(|((set, _), _)| theirs(set)));
    }

    /// Somebody will have waited for all copies of the set.
    pub(crate) fn copied(&mut self, set: Id) {
        for state in self.states.values_mut() {
            for ((of, _), subscription) in &mut state.subscriptions {
                subscription.copied |= *of == set;
            }
        }
    }

    /// Foresees a call on `node`.
    pub(crate) fn call(&mut self, node: Id, call: &Call) -> Foreseen {
        let Some(function) = call.stored_function() else {
            return Foreseen::default();
        };
        if !self.states.contains_key(&node) {
            return Foreseen {
                obstacles: vec![format!(
                    "the cluster schema is not installed in the database of node {node}; `init cluster` or `store node` \
                     come first"
                )],
                ..Foreseen::default()
            };
        }
        let mut numbers = Vec::new();
        for value in call.arguments() {
            if let Value::Int(number) = value {
                numbers.push(Id::try_from(*number).unwrap_or(-1));
            }
        }
        match (function, call.arguments(), numbers.as_slice()) {
            ("createEvent", [_, Value::Text(_)], _) => Foreseen::events(&["SYNC"]),
            ("initializeLocalNode", _, [id]) => self.initialize_local_node(node, *id),
            ("enableNode", _, [id]) => self.enable_node(node, *id),
            ("enableNode_int", _, [id]) => self.enable_node_int(node, *id),
            ("storeNode", _, [id]) => self.store_node(node, *id),
            ("dropNode", [Value::Ids(ids)], _) => self.drop_node(node, ids),
            ("cloneNodePrepare", _, [id, provider]) => self.clone_node_prepare(node, *id, *provider),
            ("cloneNodeFinish", _, [id, provider]) => self.clone_node_finish(node, *id, *provider),
            ("storePath", [_, _, Value::Conninfo(problem), _], [server, client, _]) => {
                self.store_path(node, *server, *client, problem.as_deref())
            }
            ("dropPath", _, [server, client]) => self.drop_path(node, *server, *client),
            ("storeListen", _, _) => Foreseen::events(&["STORE_LISTEN"]),
            ("dropListen", _, _) => Foreseen::events(&["DROP_LISTEN"]),
            ("storeSet", _, [set]) => self.store_set(node, *set),
            ("dropSet", _, [set]) => self.drop_set(node, *set),
            ("mergeSet", _, [set, added]) => self.merge_set(node, *set, *added),
            ("lockSet", _, [set]) => self.lock_set(node, *set),
            ("tl_lockSets", [Value::Ids(sets)], _) => self.lock_sets(node, sets),
            ("unlockSet", _, [set]) => self.unlock_set(node, *set),
            ("moveSet", _, [set, new_origin]) => self.move_set(node, *set, *new_origin),
            ("setAddTable", [_, _, Value::Text(name), ..], [set, table]) => {
                self.set_add_table(node, *set, *table, name)
            }
            ("setAddSequence", [_, _, Value::Text(name), ..], [set, sequence]) => {
                self.set_add_sequence(node, *set, *sequence, name)
            }
            ("setDropTable", _, [table]) => self.set_drop_table(node, *table),
            ("setDropSequence", _, [sequence]) => self.set_drop_sequence(node, *sequence),
            ("setMoveTable", _, [table, set]) => self.set_move_table(node, *table, *set),
            ("setMoveSequence", _, [sequence, set]) => self.set_move_sequence(node, *sequence, *set),
            ("subscribeSet", [.., Value::Bool(forward), Value::Bool(_)], [set, provider, receiver]) => {
                self.subscribe_set(node, *set, *provider, *receiver, *forward)
            }
            ("unsubscribeSet", _, [set, receiver]) => self.unsubscribe_set(node, *set, *receiver),
            ("resubscribeNode", _, [origin, provider, receiver]) => {
                self.resubscribe_node(node, *origin, *provider, *receiver)
            }
            ("failedNode2", [.., Value::Ids(failed)], _) => self.failed_node_2(failed),
            ("tl_endUnfinishedCopy", _, [set, receiver]) => self.end_unfinished_copy(node, *set, *receiver),
            ("failedNode3", _, [failed, leader, ..]) => self.failed_node_3(*failed, *leader),
            ("logswitch_start", _, _) => self.switch_log(node),
            ("ddlCapture", [_, Value::Text(list)], _) => self.capture_script(node, list),
            _ => Foreseen::default(),
        }
    }

    fn everywhere(&mut self, mut change: impl FnMut(&mut NodeState)) {
        for state in self.states.values_mut() {
            change(state);
        }
    }

    /// The set as `node` knows it, if it originates there; else the reason against it.
    fn local_set(&self, node: Id, set: Id) -> Result<KnownSet, String> {
        let state = self.states.get(&node);
        match state.and_then(|state| state.sets.get(&set)) {
            None => Err(format!("set {set} does not exist")),
            Some(known) if known.origin != node => Err(format!(
                "set {set} originates on node {}, not on node {node}",
                known.origin
            )),
            Some(known) => Ok(*known),
        }
    }

    /// Receivers whose copy of the set is not confirmed yet, as a reason to refuse.
    fn copies_in_progress(&self, node: Id, set: Id) -> Option<String> {
        let state = self.states.get(&node)?;
        let open: Vec<String> = state
            .subscriptions
            .iter()
            .filter(|((of, _), subscription)| *of == set && !subscription.copied)
            .map(|((_, receiver), _)| format!("node {receiver}"))
            .collect();
        (!open.is_empty()).then(|| {
            format!(
                "the copy of set {set} to {} is not confirmed; `wait for event` first",
                open.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trunkline_sql::Cluster;
    use trunkline_sql::admin;

    use super::*;

    struct Stage {
        cluster: Cluster,
        forecast: Forecast,
    }

    impl Stage {
        /// Nodes 1, 2, 3 with paths between all, set 1 of node 1.
        fn new() -> Self {
            let cluster = Cluster::new("c").unwrap();
            let mut stage = Self {
                cluster,
                forecast: Forecast::default(),
            };
            let cluster = stage.cluster.clone();
            stage.forecast.install(1);
            for call in admin::initialize_first_node(&cluster, 1, "") {
                stage.holds(1, &call);
            }
            for id in [2, 3] {
                stage.forecast.install(id);
                for call in admin::initialize_further_node(&cluster, id, "") {
                    stage.holds(id, &call);
                }
                stage.forecast.copy_configuration(1, id);
                stage.holds(1, &admin::store_node(&cluster, id, ""));
                stage.holds(1, &admin::enable_node(&cluster, id));
            }
            for (server, client) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)] {
                stage.holds(client, &admin::store_path(&cluster, server, client, "dbname=x", 10));
            }
            stage.holds(1, &admin::store_set(&cluster, 1, ""));
            stage
        }

        fn holds(&mut self, node: Id, call: &Call) -> Vec<&'static str> {
            let foreseen = self.forecast.call(node, call);
            assert!(foreseen.obstacles.is_empty(), "{call}: {:?}", foreseen.obstacles);
            foreseen.events
        }

        fn refused(&mut self, node: Id, call: &Call) -> String {
            let foreseen = self.forecast.call(node, call);
            assert!(!foreseen.obstacles.is_empty(), "{call} is not refused");
            foreseen.obstacles.join("; ")
        }
    }

    #[test]
    fn a_cluster_that_is_only_planned_has_nodes_sets_and_subscriptions() {
        let mut stage = Stage::new();
        let c = stage.cluster.clone();
        stage.holds(1, &admin::set_add_table(&c, 1, 7, "public.t", "t_pkey", ""));
        assert!(
            stage
                .refused(1, &admin::set_add_table(&c, 1, 7, "public.u", "u_pkey", ""))
                .contains("number 7")
        );
        assert_eq!(
            stage.holds(1, &admin::subscribe_set(&c, 1, 1, 2, true, false)),
            ["SUBSCRIBE_SET", "ENABLE_SUBSCRIPTION"]
        );
        assert!(
            stage
                .refused(1, &admin::subscribe_set(&c, 1, 1, 1, true, false))
                .contains("originates")
        );
        assert!(
            stage
                .refused(1, &admin::subscribe_set(&c, 9, 1, 2, true, false))
                .contains("set 9 does not exist")
        );
        assert!(
            stage
                .refused(1, &admin::subscribe_set(&c, 1, 3, 2, true, false))
                .contains("node 3")
        );
        assert_eq!(
            stage.holds(1, &admin::subscribe_set(&c, 1, 1, 2, true, false)),
            ["SUBSCRIBE_SET"]
        );
    }

    #[test]
    fn a_set_moves_only_when_it_is_locked_and_copied() {
        let mut stage = Stage::new();
        let c = stage.cluster.clone();
        stage.holds(1, &admin::subscribe_set(&c, 1, 1, 2, true, false));
        stage.holds(1, &admin::subscribe_set(&c, 1, 2, 3, true, false));
        let reasons = stage.refused(1, &admin::move_set(&c, 1, 3));
        assert!(
            reasons.contains("not locked") && reasons.contains("node 2, node 3"),
            "{reasons}"
        );
        let mut stage = Stage::new();
        stage.holds(1, &admin::subscribe_set(&c, 1, 1, 2, true, false));
        stage.holds(1, &admin::subscribe_set(&c, 1, 2, 3, true, false));
        stage.forecast.confirmed(Some(1), None);
        stage.holds(1, &admin::lock_set(&c, 1));
        assert!(stage.refused(1, &admin::lock_set(&c, 1)).contains("locked already"));
        assert_eq!(stage.holds(1, &admin::move_set(&c, 1, 3)), ["SYNC", "MOVE_SET"]);
        let known = stage.forecast.state(1).unwrap();
        assert_eq!(known.sets[&1].origin, 3);
        assert!(!known.sets[&1].locked);
        let providers: Vec<(Id, Id)> = known
            .subscriptions
            .iter()
            .map(|((_, to), from)| (*to, from.provider))
            .collect();
        assert_eq!(providers, [(1, 2), (2, 3)]);
        assert!(
            stage
                .refused(1, &admin::unlock_set(&c, 1))
                .contains("originates on node 3")
        );
    }

    #[test]
    fn a_provider_is_not_dropped_from_under_its_receivers() {
        let mut stage = Stage::new();
        let c = stage.cluster.clone();
        stage.holds(1, &admin::subscribe_set(&c, 1, 1, 2, true, false));
        stage.holds(1, &admin::subscribe_set(&c, 1, 2, 3, true, false));
        assert!(stage.refused(1, &admin::drop_node(&c, &[2])).contains("provider"));
        assert!(stage.refused(2, &admin::unsubscribe_set(&c, 1, 2)).contains("provider"));
        assert!(
            stage
                .refused(3, &admin::drop_path(&c, 2, 3))
                .contains("subscription of set 1")
        );
        assert!(stage.refused(3, &admin::drop_node(&c, &[1])).contains("origin"));
        let mut stage = Stage::new();
        stage.holds(1, &admin::drop_node(&c, &[2, 3]));
        assert!(stage.refused(1, &admin::drop_node(&c, &[3])).contains("node 3"));
    }

    #[test]
    fn nothing_runs_on_a_node_that_is_none() {
        let mut stage = Stage::new();
        let c = stage.cluster.clone();
        assert!(stage.refused(9, &admin::store_set(&c, 5, "")).contains("not installed"));
        stage.forecast.uninstall(1);
        assert!(stage.refused(1, &admin::store_set(&c, 5, "")).contains("not installed"));
    }
}
