//! What the altperl tools of Slony-I print is accepted, where they are installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use trunkline_grammar::Code;

use crate::fixture::{parse, rendered};

/// Three nodes, the third behind the second, and two sets.
const CONFIGURATION: &str = r"
$CLUSTER_NAME = 'shop';
$LOGDIR = '/nonexistent';
$MASTERNODE = 1;
add_node(node => 1, host => 'db1', dbname => 'shop', port => 5432, user => 'slony', password => 'geheim');
add_node(node => 2, host => 'db2', dbname => 'shop', port => 5432, user => 'slony', password => '');
add_node(node => 3, host => 'db3', dbname => 'shop', port => 5432, user => 'slony', password => '', parent => 2);
$SLONY_SETS = {
    'main' => {
        'set_id' => 1, 'origin' => 1, 'table_id' => 1, 'sequence_id' => 1,
        'pkeyedtables' => [ 'public.item', 'public.Order' ],
        'keyedtables' => { 'public.log' => 'log_uk' },
        'sequences' => [ 'public.item_id_seq' ],
    },
    'extra' => {
        'set_id' => 2, 'origin' => 1, 'table_id' => 11, 'sequence_id' => 11,
        'pkeyedtables' => [ 'public.more' ], 'keyedtables' => {}, 'sequences' => [],
    },
};
1;
";

const CALLS: &[&str] = &[
    "slonik_init_cluster",
    "slonik_store_node 3",
    "slonik_add_node 3 1",
    "slonik_create_set main",
    "slonik_create_set extra",
    "slonik_subscribe_set main 2",
    "slonik_subscribe_set main 3",
    "slonik_unsubscribe_set main 2",
    "slonik_drop_node 3 1",
    "slonik_drop_set main",
    "slonik_drop_table 1 1",
    "slonik_drop_sequence 1 1",
    "slonik_move_set main 1 2",
    "slonik_failover 1 2",
    "slonik_restart_node --all",
    "slonik_uninstall_nodes",
    "slonik_update_nodes",
];

#[test]
fn takes_what_the_tools_print() {
    let directory = tempfile::TempDir::new().unwrap();
    let configuration = directory.path().join("slon_tools.conf");
    fs::write(&configuration, CONFIGURATION).unwrap();
    let mut tried = 0;
    for call in CALLS {
        let mut words = call.split(' ');
        let program = Path::new("/usr/bin").join(words.next().unwrap());
        if !program.exists() {
            continue;
        }
        tried += 1;
        let output = Command::new(&program)
            .arg("--config")
            .arg(&configuration)
            .args(words)
            .output()
            .expect("the tool runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            printed.contains("cluster name = shop;"),
            "{call}: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let parsed = parse(printed.as_bytes());
        let unexpected = parsed
            .diagnostics
            .iter()
            .any(|finding| finding.code != Code::OldFullName);
        assert!(parsed.script.is_some() && !unexpected, "{call}: {}", rendered(&parsed));
    }
    if tried == 0 {
        eprintln!("skipped: no altperl tools of Slony-I here");
    }
}
