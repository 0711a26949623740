//! Says in the log how the configuration changes, in the lines log readers know from slon.

use std::fmt::Write as _;
use std::sync::Arc;

use trunkline_sql::configuration::{Configuration, PathRow};
use trunkline_sql::session::redact;

use crate::logging as log;
use crate::node::Node;

/// Logs each change of the configuration until cancelled; `known` was logged already.
pub async fn run(node: Arc<Node>, known: Arc<Configuration>) {
    let mut watch = node.configuration.subscribe();
    let mut known = known;
    loop {
        let current = watch.borrow_and_update().clone();
        print(Some(&known), &current);
        known = current;
        tokio::select! {
            () = node.cancel.cancelled() => return,
            changed = watch.changed() => if changed.is_err() { return },
        }
    }
}

/// Logs what is in `new` and was not, or was different, in `old`.
pub fn print(old: Option<&Configuration>, new: &Configuration) {
    for line in changes(old, new) {
        log::config!("{line}");
    }
}

fn store_path(path: &PathRow) -> String {
    let conninfo = redact(&path.conninfo);
    let mut line = format!("storePath: pa_server={} pa_client={} ", path.server, path.client);
    let _ = write!(line, "pa_conninfo=\"{conninfo}\" pa_connretry={}", path.connretry);
    line
}

fn changes(old: Option<&Configuration>, new: &Configuration) -> Vec<String> {
    let mut lines = Vec::new();
    let local = new.local;
    for node in new.nodes.values().filter(|node| node.id != local) {
        let before = old.and_then(|old| old.nodes.get(&node.id));
        if before.is_none_or(|before| before.comment != node.comment) {
            lines.push(format!("storeNode: no_id={} no_comment='{}'", node.id, node.comment));
        }
        if before.is_some_and(|before| before.active && !node.active) {
            lines.push(format!("disableNode: no_id={}", node.id));
        }
        if node.failed && before.is_some_and(|before| !before.failed) {
            lines.push(format!("failedNode: no_id={}", node.id));
        }
    }
    for path in new.paths.values().filter(|path| path.is_usable()) {
        if old.and_then(|old| old.paths.get(&path.server)) != Some(path) {
            lines.push(store_path(path));
        }
    }
    for listen in &new.listens {
        if old.is_none_or(|old| !old.listens.contains(listen)) {
            lines.push(format!(
                "storeListen: li_origin={} li_receiver={} li_provider={}",
                listen.origin, listen.receiver, listen.provider
            ));
        }
    }
    for set in new.sets.values() {
        let before = old.and_then(|old| old.sets.get(&set.id));
        if before != Some(set) {
            lines.push(format!(
                "storeSet: set_id={} set_origin={} set_comment='{}'",
                set.id, set.origin, set.comment
            ));
        }
    }
    for subscription in new
        .subscriptions
        .iter()
        .filter(|subscription| subscription.receiver == local)
    {
        let before = old.and_then(|old| old.local_subscription(subscription.set));
        let same = |before: &trunkline_sql::configuration::SubscriptionRow| {
            before.provider == subscription.provider && before.forward == subscription.forward
        };
        if !before.is_some_and(same) {
            lines.push(format!(
                "storeSubscribe: sub_set={} sub_provider={} sub_forward='{}'",
                subscription.set,
                subscription.provider,
                if subscription.forward { 't' } else { 'f' }
            ));
        }
        if subscription.active && !before.is_some_and(|before| before.active) {
            lines.push(format!("enableSubscription: sub_set={}", subscription.set));
        }
    }
    if let Some(old) = old {
        lines.extend(removals(old, new));
    }
    for node in new.active_remote_nodes() {
        if !old
            .and_then(|old| old.nodes.get(&node.id))
            .is_some_and(|before| before.active)
        {
            lines.push(format!("enableNode: no_id={}", node.id));
        }
    }
    lines
}

fn removals(old: &Configuration, new: &Configuration) -> Vec<String> {
    let mut lines = Vec::new();
    let subscriptions = old
        .subscriptions
        .iter()
        .filter(|subscription| subscription.receiver == old.local);
    for subscription in subscriptions.filter(|subscription| new.local_subscription(subscription.set).is_none()) {
        lines.push(format!("unsubscribeSet: sub_set={}", subscription.set));
    }
    for set in old.sets.keys().filter(|id| !new.sets.contains_key(id)) {
        lines.push(format!("dropSet: set_id={set}"));
    }
    for listen in old.listens.iter().filter(|listen| !new.listens.contains(listen)) {
        lines.push(format!(
            "dropListen: li_origin={} li_receiver={} li_provider={}",
            listen.origin, listen.receiver, listen.provider
        ));
    }
    for path in old.paths.values().filter(|path| path.is_usable()) {
        if !new.paths.get(&path.server).is_some_and(PathRow::is_usable) {
            lines.push(format!("dropPath: pa_server={} pa_client={}", path.server, path.client));
        }
    }
    for node in old.nodes.keys().filter(|id| !new.nodes.contains_key(id)) {
        lines.push(format!("dropNode: no_id={node}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trunkline_sql::configuration::{ListenRow, NodeRow, SetRow, SubscriptionRow};

    use super::*;

    fn node(id: i32, active: bool) -> (i32, NodeRow) {
        (
            id,
            NodeRow {
                id,
                active,
                failed: false,
                comment: format!("Node {id}"),
            },
        )
    }

    fn configuration() -> Configuration {
        Configuration {
            local: 2,
            nodes: BTreeMap::from([node(1, true), node(2, true)]),
            paths: BTreeMap::from([(
                1,
                PathRow {
                    server: 1,
                    client: 2,
                    conninfo: "dbname=n1 password=hunter2".to_owned(),
                    connretry: 10,
                },
            )]),
            listens: vec![ListenRow {
                origin: 1,
                provider: 1,
                receiver: 2,
            }],
            sets: BTreeMap::from([(
                1,
                SetRow {
                    id: 1,
                    origin: 1,
                    comment: "all".to_owned(),
                },
            )]),
            subscriptions: vec![SubscriptionRow {
                set: 1,
                provider: 1,
                receiver: 2,
                forward: true,
                active: true,
            }],
        }
    }

    #[test]
    fn a_load_lists_everything_but_passwords() {
        let lines = changes(None, &configuration());
        let text = lines.join("\n");
        assert!(!text.contains("hunter2"), "{text}");
        let mut lines = lines;
        lines.retain(|line| !line.starts_with("storePath"));
        assert_eq!(
            lines,
            [
                "storeNode: no_id=1 no_comment='Node 1'",
                "storeListen: li_origin=1 li_receiver=2 li_provider=1",
                "storeSet: set_id=1 set_origin=1 set_comment='all'",
                "storeSubscribe: sub_set=1 sub_provider=1 sub_forward='t'",
                "enableSubscription: sub_set=1",
                "enableNode: no_id=1",
            ]
        );
    }

    #[test]
    fn later_only_what_changed() {
        let mut old = configuration();
        let new = configuration();
        assert!(changes(Some(&old), &new).is_empty());
        old.subscriptions[0].active = false;
        assert_eq!(changes(Some(&old), &new), ["enableSubscription: sub_set=1"]);
        let mut gone = configuration();
        gone.subscriptions.clear();
        gone.sets.clear();
        assert_eq!(
            changes(Some(&new), &gone),
            ["unsubscribeSet: sub_set=1", "dropSet: set_id=1"]
        );
    }
}
