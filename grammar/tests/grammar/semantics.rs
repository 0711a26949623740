//! What is said about options and their values.

use trunkline_grammar::{ParseOptions, Phase, parse_text};

use crate::fixture::{PREAMBLE, check, parse, rendered};

/// The first lines of all findings, without `s:5: `; statements stand on line 5.
#[track_caller]
fn check_messages(statements: &str, expected: &[&str]) {
    let parsed = parse(format!("{PREAMBLE}{statements}"));
    let messages: Vec<&str> = parsed
        .diagnostics
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(messages, expected);
}

// ---- options -------------------------------------------------------------------------------------

#[test]
fn options_that_do_not_belong_or_stand_twice() {
    check(
        "lock set (id = 1,\n  provider = 1,\n  id = 2, id = 3);\ndate (full qualified name = 'x');\nrepair config (set id = 1, execute only on = '1,2');\n",
        "
        s:6: option provider not allowed here
          6 |   provider = 1,
            |   ^^^^^^^^
          help: `lock set` takes `id` and `origin`
        s:7: option id already defined on line 5
          7 |   id = 2, id = 3);
            |   ^^
          s:5: given here before
          5 | lock set (id = 1,
            |           ^^
        s:7: option id already defined on line 5
          7 |   id = 2, id = 3);
            |           ^^
          s:5: given here before
          5 | lock set (id = 1,
            |           ^^
        s:8: option full qualified name not allowed here
          8 | date (full qualified name = 'x');
            |       ^^^^^^^^^^^^^^^^^^^
          help: `date` takes `format`
        s:9: option execute only on not allowed here
          9 | repair config (set id = 1, execute only on = '1,2');
            |                            ^^^^^^^^^^^^^^^
          help: `repair config` takes one number behind `execute only on`",
    );
    let phases: Vec<Phase> = parse(format!("{PREAMBLE}lock set (provider = 1);"))
        .diagnostics
        .iter()
        .map(|finding| finding.phase)
        .collect();
    assert_eq!(phases, [Phase::Option]);
}

// ---- semantics -----------------------------------------------------------------------------------

#[test]
fn a_node_without_conninfo() {
    check(
        "lock set (id = 1,\n  origin = 7);",
        "
        s:5: Error: No admin conninfo provided for node 7
          6 |   origin = 7);
            |            ^
          help: the preamble names nodes 1, 2, 3; add `node 7 admin conninfo = '…';` to the preamble",
    );
    check(
        "init cluster;",
        "
        s:5: Error: No admin conninfo provided for node -1
          5 | init cluster;
            | ^^^^^^^^^^^^
          help: add `id = <number>`: `init cluster` takes `id` and `comment`",
    );
    for statement in [
        "init cluster (id=9);",
        "store node (id=2, event node=9);",
        "drop node (id=2, event node=9);",
        "uninstall node (id=9);",
        "restart node 9;",
        "update functions (id=9);",
        "clone prepare (id=2, provider=9);",
        "clone finish (id=9, provider=1);",
        "resubscribe node (origin=9, provider=2, receiver=3);",
        "repair config (set id=1, event node=9);",
        "store path (server=1, client=9, conninfo='x');",
        "drop path (server=1, client=9);",
        "drop path (server=1, client=1, event node=9);",
        "store listen (origin=1, receiver=9);",
        "drop listen (origin=1, receiver=9);",
        "create set (id=1, origin=9);",
        "drop set (id=1, origin=9);",
        "merge set (id=1, add id=2, origin=9);",
        "lock set (id=1, origin=9);",
        "unlock set (id=1, origin=9);",
        "move set (id=1, old origin=9, new origin=1);",
        "subscribe set (id=1, provider=9, receiver=2);",
        "unsubscribe set (id=1, receiver=9);",
        "set add table (set id=1, origin=9, tables='x');",
        "set add sequence (set id=1, origin=9, sequences='x');",
        "set drop table (id=1, origin=9);",
        "set drop sequence (id=1, origin=9);",
        "set move table (id=1, origin=9, new set=2);",
        "set move sequence (id=1, origin=9, new set=2);",
        "execute script (sql='x', event node=9);",
        "switch log (id=9);",
        "failover (id=1, backup node=9);",
        "failover (node=(id=1, backup node=9));",
        "sync (id=9);",
        "wait for event (origin=1, confirmed=2, wait on=9);",
    ] {
        check_messages(statement, &["Error: No admin conninfo provided for node 9"]);
    }
}

#[test]
fn options_that_must_be_given() {
    const SET: &str = "Error: set id must be specified";
    const NO_NODE: &str = "Error: No admin conninfo provided for node -1";
    for (statement, messages) in [
        (
            "store node;",
            &["Error: require EVENT NODE", "Error: node ID must be specified"] as &[&str],
        ),
        (
            "drop node;",
            &["Error: require EVENT NODE", "Error: A node id must be provided"],
        ),
        (
            "drop node (id='', event node=1);",
            &["Error: A node id must be provided"],
        ),
        ("uninstall node;", &[NO_NODE]),
        ("update functions;", &[NO_NODE]),
        ("clone prepare;", &["Error: new node ID must be specified", NO_NODE]),
        ("clone finish;", &[NO_NODE, "Error: provider must be specified"]),
        (
            "resubscribe node;",
            &[
                "Error: require ORIGIN node",
                "Error: require PROVIDER node",
                "Error: require RECEIVER node",
            ],
        ),
        ("repair config;", &[SET]),
        (
            "store path;",
            &[
                "Error: server must be specified",
                NO_NODE,
                "Error: conninfo must be specified",
            ],
        ),
        (
            "drop path;",
            &["Error: server must be specified", "Error: client must be specified"],
        ),
        ("store listen;", &[NO_NODE, "Error: origin must be specified"]),
        ("create set;", &[SET, NO_NODE]),
        ("drop set;", &[SET, NO_NODE]),
        (
            "merge set;",
            &[SET, "Error: set id to merge (add) must be specified", NO_NODE],
        ),
        ("lock set;", &[SET, "Error: origin must be specified"]),
        ("unlock set;", &[SET, "Error: origin must be specified"]),
        (
            "move set;",
            &[
                SET,
                "Error: old origin must be specified",
                "Error: new origin must be specified",
            ],
        ),
        (
            "subscribe set;",
            &[
                SET,
                "Error: provider must be specified",
                "Error: receiver must be specified",
            ],
        ),
        ("unsubscribe set;", &[SET, NO_NODE]),
        (
            "set add table;",
            &[SET, "Error: 'fully qualfied name' or 'tables' must be specified"],
        ),
        (
            "set add sequence;",
            &[SET, "Error: sequence FQ-name or sequences must be specified"],
        ),
        (
            "set drop table;",
            &["Error: origin must be specified", "Error: table id must be specified"],
        ),
        (
            "set drop sequence;",
            &[
                "Error: origin must be specified",
                "Error: sequence id must be specified",
            ],
        ),
        (
            "set move table;",
            &[
                "Error: origin must be specified",
                "Error: table id must be specified",
                "Error: new set id must be specified",
            ],
        ),
        (
            "set move sequence;",
            &[
                "Error: origin must be specified",
                "Error: sequence id must be specified",
                "Error: new set id must be specified",
            ],
        ),
        (
            "execute script;",
            &[
                "Error: require EVENT NODE",
                "Error: script file name or sql must be specified",
            ],
        ),
        ("switch log;", &["Error: node ID must be specified"]),
        (
            "failover;",
            &["Error: node ID must be specified", "Error: require BACKUP NODE"],
        ),
        ("sync;", &["Error: node ID must be specified"]),
        ("sleep;", &["Error:  sleep time (-1) must be positive"]),
        (
            "wait for event;",
            &[
                "Error: event origin to wait for must be specified",
                "Error: confirming node to wait for must be specified",
                NO_NODE,
            ],
        ),
    ] {
        check_messages(statement, messages);
    }
}

#[test]
fn values_that_contradict_each_other() {
    for (statement, message) in [
        ("exit 256;", "Error: exitcode was 256 - must be in range [0-255]"),
        ("exit -1;", "Error: exitcode was -1 - must be in range [0-255]"),
        (
            "store node (id=1, event node=1);",
            "Error: ev_origin for store_node cannot be the new node",
        ),
        (
            "drop node (id='2,1', event node=1);",
            "Error: Node ID (1) and event node cannot be identical",
        ),
        ("drop node (id='2,x', event node=1);", "Error: `x` is not a node number"),
        (
            "drop node (id='2,-3', event node=1);",
            "Error: `-3` is not a node number",
        ),
        (
            "move set (id=1, old origin=1, new origin=1);",
            "Error: old and new origin cannot be identical",
        ),
        (
            "failover (id=1, backup node=1);",
            "Error: Node ID and backup node cannot be identical",
        ),
        (
            "set add table (set id=1, fully qualified name='x', tables='y');",
            "Error: 'fully qualified name' and 'tables' can not both be specified",
        ),
        (
            "set add sequence (set id=1, fully qualified name='x', sequences='y');",
            "Error: 'fully qualified name' and 'sequences' can not both be specified",
        ),
        (
            "set add table (set id=1, tables='y', key='k');",
            "ERROR: 'key' can not be used with the 'tables' option.",
        ),
        (
            "execute script (sql='x', filename='y', event node=1);",
            "Error: script file name and sql are mutually exclusive",
        ),
        (
            "execute script (sql='x', event node=1, execute only on=1, execute only on='2');",
            "Error: cannot specify singular node as well as node list",
        ),
        (
            "execute script (sql='x', event node=1, execute only on='all');",
            "Error: `all` is not a node number",
        ),
        (
            "set add table (set id=1, id='5', tables='y');",
            "WARNING: an `id` in quotes is ignored, the next free one is used",
        ),
    ] {
        check_messages(statement, &[message]);
    }
}

#[test]
fn values_of_the_wrong_kind() {
    check(
        "lock set (id = '1', origin = all);",
        "
        s:5: Error: set id must be specified
          5 | lock set (id = '1', origin = all);
            |                ^^^
          help: `id` of `lock set` is a number: write it without quotes
        s:5: Error: origin must be specified
          5 | lock set (id = '1', origin = all);
            |                              ^^^
          help: `all` means something only in `wait for event`: write `origin = <number>`",
    );
}

#[test]
fn a_sql_file_that_cannot_be_read() {
    let text = format!("{PREAMBLE}execute script (filename = 'no.sql', event node = 1);");
    let parsed = parse_text(
        "s",
        text,
        &ParseOptions {
            directory: Some("/nonexistent".into()),
            ..ParseOptions::default()
        },
    );
    assert_eq!(
        rendered(&parsed),
        "s:5: Error: no.sql - No such file or directory
  5 | execute script (filename = 'no.sql', event node = 1);
    |                            ^^^^^^^^
  help: a relative name starts at the directory slonik was started in
"
    );
}

#[test]
fn findings_of_all_phases_come_together_in_order() {
    check_messages(
        "exit 256; foo; lock set (provider = 1); sync; @x date;",
        &[
            "Error: exitcode was 256 - must be in range [0-255]",
            "ERROR: syntax error at or near foo",
            "option provider not allowed here",
            "Error: node ID must be specified",
            "WARNING: `@x` is not defined and stands for nothing",
        ],
    );
}
