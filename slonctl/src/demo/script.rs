//! The demo's slonik scripts: what a DBA would write, nothing special.

use std::fmt::Write as _;

use super::cluster::DemoCluster;

/// The cluster's name.
pub(super) const CLUSTER: &str = "demo";
/// The replicated tables, in the order of their ids.
pub(super) const TABLES: [&str; 5] = [
    "pgbench_branches",
    "pgbench_tellers",
    "pgbench_accounts",
    "pgbench_history",
    "client_write",
];
/// The replicated sequence.
pub(super) const SEQUENCE: &str = "pgbench_history_id_seq";

/// Cluster name and conninfos.
pub(super) fn preamble(demo: &DemoCluster) -> String {
    let mut text = format!("cluster name = {CLUSTER};\n");
    for node in 1..=3 {
        let _ = writeln!(text, "node {node} admin conninfo = '{}';", demo.conninfo(node));
    }
    text
}

/// Nodes, paths and the set.
pub(super) fn cluster(demo: &DemoCluster) -> String {
    let mut text = "init cluster (id = 1, comment = 'first origin');\n".to_owned();
    for node in [2, 3] {
        let _ = writeln!(
            text,
            "store node (id = {node}, comment = 'node {node}', event node = 1);"
        );
    }
    for (server, client) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)] {
        let conninfo = demo.conninfo(server);
        let _ = writeln!(
            text,
            "store path (server = {server}, client = {client}, conninfo = '{conninfo}');"
        );
    }
    text += "create set (id = 1, origin = 1, comment = 'pgbench');\n";
    for (id, table) in (1..).zip(TABLES) {
        let _ = writeln!(
            text,
            "set add table (set id = 1, origin = 1, id = {id}, fully qualified name = 'public.{table}');"
        );
    }
    let _ = writeln!(
        text,
        "set add sequence (set id = 1, origin = 1, id = 1, fully qualified name = 'public.{SEQUENCE}');"
    );
    text
}

/// Node 2 from node 1, node 3 from node 2.
pub(super) fn subscribe() -> String {
    "subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);\n\
     wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 120);\n\
     subscribe set (id = 1, provider = 2, receiver = 3, forward = yes);\n\
     wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 120);\n"
        .to_owned()
}

/// The controlled move.
pub(super) fn move_to_second() -> String {
    "lock set (id = 1, origin = 1);\n\
     move set (id = 1, old origin = 1, new origin = 2);\n\
     wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 120);\n"
        .to_owned()
}

/// A last SYNC of the new origin, confirmed by all.
pub(super) fn confirm() -> String {
    "sync (id = 2);\n\
     wait for event (origin = 2, confirmed = all, wait on = 2, timeout = 120);\n"
        .to_owned()
}
