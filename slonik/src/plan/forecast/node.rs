//! Nodes, paths, log switch, scripts.

use trunkline_grammar::Id;
use trunkline_sql::admin::KnownNode;

use super::{Forecast, Foreseen};

impl Forecast {
    pub(super) fn initialize_local_node(&mut self, node: Id, id: Id) -> Foreseen {
        if let Some(state) = self.states.get_mut(&node) {
            state.local = id;
            state.nodes.insert(
                id,
                KnownNode {
                    active: false,
                    failed: false,
                },
            );
        }
        Foreseen::default()
    }

    pub(super) fn enable_node_int(&mut self, node: Id, id: Id) -> Foreseen {
        let known = self.states.get_mut(&node).and_then(|state| state.nodes.get_mut(&id));
        if let Some(known) = known {
            known.active = true;
        }
        Foreseen::default()
    }

    pub(super) fn enable_node(&mut self, node: Id, id: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["ENABLE_NODE"]);
        let known = self.states.get(&node).and_then(|state| state.nodes.get(&id));
        if known.is_some_and(|known| known.active) {
            foreseen.refuse(format!(
                "node {id} is a node of the cluster already; `drop node` ends that"
            ));
        }
        self.everywhere(|state| {
            if let Some(known) = state.nodes.get_mut(&id) {
                known.active = true;
            }
        });
        foreseen
    }

    pub(super) fn store_node(&mut self, _node: Id, id: Id) -> Foreseen {
        self.expect_node(id);
        Foreseen::events(&["STORE_NODE"])
    }

    fn expect_node(&mut self, id: Id) {
        self.everywhere(|state| {
            state.nodes.entry(id).or_insert(KnownNode {
                active: false,
                failed: false,
            });
        });
    }

    pub(super) fn drop_node(&mut self, node: Id, ids: &[Id]) -> Foreseen {
        let mut foreseen = Foreseen::events(&["DROP_NODE"]);
        let Some(state) = self.states.get(&node) else {
            return foreseen;
        };
        if ids.contains(&node) {
            foreseen.refuse(format!(
                "node {node} cannot drop itself; name a node that stays as `event node`"
            ));
        }
        for id in ids {
            if !state.nodes.contains_key(id) {
                foreseen.refuse(format!("node {id} is no node of the cluster"));
            }
            let sets: Vec<String> = state
                .sets
                .iter()
                .filter(|(_, set)| set.origin == *id)
                .map(|(set, _)| format!("set {set}"))
                .collect();
            if !sets.is_empty() {
                foreseen.refuse(format!(
                    "node {id} is origin of {}; `move set` or `failover` give it another origin",
                    sets.join(", ")
                ));
            }
            for ((set, receiver), subscription) in &state.subscriptions {
                let failed = state.nodes.get(receiver).is_some_and(|known| known.failed);
                if subscription.provider == *id && !ids.contains(receiver) && !failed {
                    foreseen.refuse(format!(
                        "node {id} is provider of set {set} for node {receiver}; `resubscribe node` gives it another one"
                    ));
                }
            }
        }
        self.everywhere(|state| {
            state.nodes.retain(|id, _| !ids.contains(id));
            state
                .paths
                .retain(|(server, client), _| !ids.contains(server) && !ids.contains(client));
            let nodes = &state.nodes;
            let is_failed = |id: &Id| nodes.get(id).is_some_and(|known| known.failed);
            state.subscriptions.retain(|(_, receiver), one| {
                !(ids.contains(receiver) || ids.contains(&one.provider) && is_failed(receiver))
            });
        });
        foreseen
    }

    pub(super) fn clone_node_prepare(&mut self, node: Id, id: Id, provider: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["CLONE_NODE"]);
        let Some(model) = self.states.get(&node) else {
            return foreseen;
        };
        if !model.nodes.contains_key(&provider) {
            foreseen.refuse(format!("node {provider} is no node of the cluster"));
        }
        if model.nodes.get(&id).is_some_and(|known| known.active) {
            foreseen.refuse(format!("node {id} is a node of the cluster already"));
        }
        self.everywhere(|state| {
            let known = state.nodes.get(&provider).copied();
            state.nodes.extend(known.map(|known| (id, known)));
            let paths: Vec<(Id, Id)> = state.paths.keys().copied().collect();
            for (server, client) in paths {
                if client == provider && server != id {
                    state.paths.entry((server, id)).or_insert(false);
                }
                if server == provider && client != id {
                    state.paths.entry((id, client)).or_insert(false);
                }
            }
            let like: Vec<_> = state
                .subscriptions
                .iter()
                .filter(|((_, receiver), _)| *receiver == provider)
                .map(|((set, _), subscription)| ((*set, id), *subscription))
                .collect();
            state.subscriptions.extend(like);
        });
        foreseen
    }

    pub(super) fn clone_node_finish(&mut self, node: Id, id: Id, provider: Id) -> Foreseen {
        let mut foreseen = Foreseen::default();
        let Some(state) = self.states.get_mut(&node) else {
            return foreseen;
        };
        if !state.nodes.contains_key(&id) {
            foreseen.refuse(format!(
                "the database of node {id} does not know node {id}: it was copied before `clone prepare`"
            ));
        } else if state.local != provider {
            foreseen.refuse(format!(
                "the database of node {id} is no copy of node {provider}, but of node {}",
                state.local
            ));
        }
        state.local = id;
        foreseen
    }

    pub(super) fn store_path(&mut self, _node: Id, server: Id, client: Id, problem: Option<&str>) -> Foreseen {
        let mut foreseen = Foreseen::events(&["STORE_PATH"]);
        if let Some(problem) = problem {
            // It is stored all the same, as slonik always has; whoever reads it later may know more keywords.
            foreseen.notes.push(format!(
                "nobody can connect with the conninfo of the path, so node {client} will not reach node {server}: {problem}"
            ));
        }
        self.expect_node(server);
        self.expect_node(client);
        self.everywhere(|state| {
            state.paths.insert((server, client), true);
        });
        foreseen
    }

    pub(super) fn drop_path(&mut self, node: Id, server: Id, client: Id) -> Foreseen {
        let mut foreseen = Foreseen::events(&["DROP_PATH"]);
        let Some(state) = self.states.get(&node) else {
            return foreseen;
        };
        for ((set, receiver), subscription) in &state.subscriptions {
            if subscription.provider == server && *receiver == client {
                foreseen.refuse(format!(
                    "the path is needed: it serves the subscription of set {set} by node {client}"
                ));
            }
        }
        self.everywhere(|state| {
            state.paths.remove(&(server, client));
        });
        foreseen
    }

    pub(super) fn switch_log(&mut self, node: Id) -> Foreseen {
        let mut foreseen = Foreseen::default();
        if let Some(state) = self.states.get_mut(&node) {
            if state.log_switching {
                foreseen.refuse(format!(
                    "a log switch is under way on node {node}; it ends when every node has confirmed the rows of the old \
                     log table"
                ));
            }
            state.log_switching = true;
        }
        foreseen
    }

    pub(super) fn capture_script(&mut self, node: Id, only_on: &str) -> Foreseen {
        let mut foreseen = Foreseen::default();
        let Some(state) = self.states.get(&node) else {
            return foreseen;
        };
        let listed: Vec<Id> = only_on.split(',').filter_map(|id| id.trim().parse().ok()).collect();
        for id in &listed {
            if !state.nodes.contains_key(id) {
                foreseen.refuse(format!("node {id} of `execute only on` is no node of the cluster"));
            }
        }
        if !listed.is_empty() && !listed.contains(&node) {
            foreseen.refuse(format!("`execute only on` must name the event node {node} as well"));
        }
        foreseen
    }
}
