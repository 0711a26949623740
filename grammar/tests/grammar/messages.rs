//! Every kind of message, as it is printed.

use trunkline_grammar::{ParseOptions, Phase, parse_text};

use crate::fixture::{PREAMBLE, check, check_whole, parse, rendered};

/// The first lines of all findings, without `s:5: `; statements stand on line 5.
#[track_caller]
fn check_messages(statements: &str, expected: &[&str]) {
    let parsed = parse(format!("{PREAMBLE}{statements}"));
    let messages: Vec<&str> = parsed.diagnostics.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, expected);
}

// ---- preamble ------------------------------------------------------------------------------------

#[test]
fn an_empty_script() {
    check_whole(
        "",
        "
        s:1: ERROR: syntax error at or near end of script
          help: a script starts with `cluster name = <name>;` and `node <number> admin conninfo = '…';`",
    );
}

#[test]
fn a_preamble_without_nodes_or_statements() {
    check_whole(
        "cluster name = c;",
        "
        s:1: ERROR: syntax error at or near end of script
          1 | cluster name = c;
            |                  ^
          help: the nodes come behind the cluster name: `node <number> admin conninfo = '…';`",
    );
    check_whole(
        "cluster name = c; echo 'a';",
        "
        s:1: ERROR: syntax error at or near echo
          1 | cluster name = c; echo 'a';
            |                   ^^^^
          help: the nodes come behind the cluster name: `node <number> admin conninfo = '…';`",
    );
    check_whole(
        "cluster name = c;\nnode 1 admin conninfo = 'x';\n",
        "
        s:3: ERROR: syntax error at or near end of script
          help: a script has at least one statement behind the preamble",
    );
    // Without a preamble nothing is known about nodes, so nothing is said about them.
    check_whole(
        "lock set (id = 1, origin = 1);\nlock set (id = 1);",
        "
        s:1: ERROR: syntax error at or near lock
          1 | lock set (id = 1, origin = 1);
            | ^^^^
          help: a script starts with `cluster name = <name>;` and `node <number> admin conninfo = '…';`
        s:2: Error: origin must be specified
          2 | lock set (id = 1);
            | ^^^^^^^^
          help: add `origin = <number> | all`: `lock set` takes `id` and `origin`",
    );
}

#[test]
fn the_name_of_the_cluster() {
    let rest = "node 1 admin conninfo = 'x';\ndate;";
    check_whole(
        format!("cluster name = 'c';\n{rest}"),
        "
        s:1: ERROR: syntax error at or near c
          1 | cluster name = 'c';
            |                ^^^
          help: write the name of the cluster without quotes",
    );
    check_whole(
        format!("cluster name = Set;\n{rest}"),
        "
        s:1: ERROR: syntax error at or near Set
          1 | cluster name = Set;
            |                ^^^
          help: `set` is a word of the language and cannot name a cluster",
    );
    assert_eq!(parse(format!("cluster name = settings$1é;\n{rest}")).script.unwrap().cluster, "settings$1é");
}

#[test]
fn a_node_named_twice_or_too_late() {
    check(
        "node 1 admin conninfo = 'dbname=z';\ndate;",
        "
        s:5: Error: duplicate admin conninfo for node 1
          5 | node 1 admin conninfo = 'dbname=z';
            | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          s:2: location of the previous definition
          2 | node 1 admin conninfo = 'dbname=a';
            | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    );
    check(
        "date;\nnode 4 admin conninfo = 'dbname=z';\n",
        "
        s:6: ERROR: syntax error at or near node
          6 | node 4 admin conninfo = 'dbname=z';
            | ^^^^
          help: the `node … admin conninfo` lines stand behind the cluster name, before the first statement",
    );
}

// ---- syntax --------------------------------------------------------------------------------------

#[test]
fn words_that_are_almost_right() {
    check(
        "lok set (id = 1);\nlock st;\nstore nod;\nlock set (id = 1, orgin = 1);\nset add table (set id = 1, fuly qualified name = 'a.b');\n",
        "
        s:5: ERROR: syntax error at or near lok
          5 | lok set (id = 1);
            | ^^^
          help: did you mean `lock`?
        s:6: ERROR: syntax error at or near st
          6 | lock st;
            |      ^^
          help: did you mean `set`?
        s:7: ERROR: syntax error at or near nod
          7 | store nod;
            |       ^^^
          help: did you mean `node`?
        s:8: ERROR: syntax error at or near orgin
          8 | lock set (id = 1, orgin = 1);
            |                   ^^^^^
          help: did you mean `origin`? `lock set` takes `id` and `origin`
        s:9: ERROR: syntax error at or near fuly
          9 | set add table (set id = 1, fuly qualified name = 'a.b');
            |                            ^^^^
          help: did you mean `fully qualified name`? `set add table` takes `set id`, `origin`, `id`, `fully qualified name`, `key`, `comment`, `tables` and `add sequences`",
    );
}

#[test]
fn what_could_have_stood_there() {
    check(
        "store banana;\nexit 'x';\nlock set (id 1);\nlock set (id = 1;\nsubscribe set (forward = maybe);\nwait for event (origin = 'x');\nstore path (retry = 3);\n",
        "
        s:5: ERROR: syntax error at or near banana
          5 | store banana;
            |       ^^^^^^
          help: expected `listen`, `node` or `path`
        s:6: ERROR: syntax error at or near x
          6 | exit 'x';
            |      ^^^
          help: expected a number or `-`
        s:7: ERROR: syntax error at or near 1
          7 | lock set (id 1);
            |              ^
          help: expected `=`
        s:8: ERROR: syntax error at or near ;
          8 | lock set (id = 1;
            |                 ^
          help: expected `,` or `)`
        s:9: ERROR: syntax error at or near maybe
          9 | subscribe set (forward = maybe);
            |                          ^^^^^
          help: expected `yes` or `no`
        s:10: ERROR: syntax error at or near x
          10 | wait for event (origin = 'x');
             |                          ^^^
          help: expected a number or `all`
        s:11: ERROR: syntax error at or near retry
          11 | store path (retry = 3);
             |             ^^^^^
          help: `store path` takes `server`, `client`, `conninfo` and `connretry`",
    );
}

#[test]
fn signs_of_other_languages() {
    check(
        "-- sql\n;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;",
        "
        s:5: ERROR: syntax error at or near -
          5 | -- sql
            | ^
          help: a comment starts with `#`
        s:6: ERROR: syntax error at or near /
          6 | ;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;
            |  ^
          help: a comment starts with `#`
        s:6: ERROR: syntax error at or near )
          6 | ;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;
            |                    ^
          help: write the statement without parentheses if it has no options
        s:6: ERROR: syntax error at or near )
          6 | ;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;
            |                                        ^
          help: no comma stands before `)`
        s:6: ERROR: syntax error at or near \"
          6 | ;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;
            |                                                ^
          help: double quotes stand inside single ones: `'public.\"Odd Name\"'`
        s:6: ERROR: syntax error at or near ;
          6 | ;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;
            |                                                     ^
          help: a `;` too many, or the statement before it is missing
        s:6: ERROR: syntax error at or near .
          6 | ;/* c */;lock set (); lock set (id = 1,); echo \"x\"; ; echo 'a' . ;
            |                                                                ^
          help: expected `;`",
    );
}

#[test]
fn a_missing_semicolon_does_not_hide_the_next_statement() {
    check(
        "echo 'a'\nlock set (id = 1, origin = 1)\nexit 300\n",
        "
        s:6: ERROR: syntax error at or near lock
          6 | lock set (id = 1, origin = 1)
            | ^^^^
          help: a `;` is missing at the end of the statement before it
        s:7: ERROR: syntax error at or near exit
          7 | exit 300
            | ^^^^
          help: a `;` is missing at the end of the statement before it
        s:8: ERROR: syntax error at or near end of script
          s:7: this statement is not finished
          7 | exit 300
            | ^^^^
          help: expected `;`",
    );
}

#[test]
fn quotes_that_do_not_match() {
    check(
        "date;\necho 'unclosed;\ndate;\n",
        "
        s:6: ERROR: syntax error at or near end of script
          6 | echo 'unclosed;
            |      ^^^^^^^^^^
          help: the string that starts here is never closed; a quote inside a string is written twice: `''`",
    );
    check(
        "echo 'unclosed;\necho 'x';\ndate;",
        "
        s:6: ERROR: syntax error at or near x
          6 | echo 'x';
            |       ^
          s:5: this string starts here and ends right before: is a quote missing or too many?
          5 | echo 'unclosed;
            |      ^^^^^^^^^^
          help: expected `;`",
    );
}

#[test]
fn numbers_have_32_bits() {
    check(
        "lock set (id = 2147483648, origin = 1);\nexit 99999999999;\nlock set (id = 2147483647, origin = 1);",
        "
        s:5: ERROR: number 2147483648 is out of range
          5 | lock set (id = 2147483648, origin = 1);
            |                ^^^^^^^^^^
          help: numbers go from 0 to 2147483647
        s:6: ERROR: number 99999999999 is out of range
          6 | exit 99999999999;
            |      ^^^^^^^^^^^
          help: numbers go from 0 to 2147483647",
    );
}

#[test]
fn blocks_that_do_not_fit() {
    check(
        "try { }\ntry { try { date; } }\ntry { date; } on error { date; } on error { date; }\n}\non error { date; }\ntry { date; };\ntri { exit 300; } on error { date; }\n",
        "
        s:5: ERROR: syntax error at or near }
          5 | try { }
            |       ^
          help: a block holds at least one statement
        s:6: ERROR: syntax error at or near try
          6 | try { try { date; } }
            |       ^^^
          help: a `try` cannot stand directly in a `try`, but in its `on error` and `on success` blocks
        s:7: ERROR: syntax error at or near error
          7 | try { date; } on error { date; } on error { date; }
            |                                     ^^^^^
          help: a `try` has one `on error` and one `on success` block
        s:8: ERROR: syntax error at or near }
          8 | }
            | ^
          help: no block is open here
        s:9: ERROR: syntax error at or near on
          9 | on error { date; }
            | ^^
          help: `on error` and `on success` follow the `}` of a `try` block
        s:10: ERROR: syntax error at or near ;
          10 | try { date; };
             |              ^
          help: a `;` too many, or the statement before it is missing
        s:11: ERROR: syntax error at or near tri
          11 | tri { exit 300; } on error { date; }
             | ^^^
          help: did you mean `try`?
        s:11: Error: exitcode was 300 - must be in range [0-255]
          11 | tri { exit 300; } on error { date; }
             |            ^^^",
    );
    check(
        "try {\n  date;\n",
        "
        s:7: ERROR: syntax error at or near end of script
          s:5: this block is not closed
          5 | try {
            | ^^^^^",
    );
    check("try { lock set (id = 1 }\ndate;", "
        s:5: ERROR: syntax error at or near }
          5 | try { lock set (id = 1 }
            |                        ^
          help: expected `,` or `)`");
}

#[test]
fn blocks_are_nested_to_a_bound() {
    let deep = "try { date; } on error { ".repeat(100);
    let parsed = parse(format!("{PREAMBLE}{deep} date; {}", "}".repeat(100)));
    let messages: Vec<&str> = parsed.diagnostics.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, ["ERROR: blocks are nested deeper than 64"]);
}

#[test]
fn no_wait_inside_a_try_block() {
    check(
        "try { wait for event (origin=1, confirmed=2, wait on=1); } on error { wait for event (origin=1, confirmed=2, wait on=1); }",
        "
        s:5: wait for event not allowed inside try block
          5 | try { wait for event (origin=1, confirmed=2, wait on=1); } on error { wait for event (origin=1, confirmed=2, wait on=1); }
            |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          help: nothing is committed before the block ends: wait behind the block, or in its `on success` block",
    );
    let parsed = parse(format!("{PREAMBLE}try {{ wait for event (origin=1, confirmed=2, wait on=1); }}"));
    assert_eq!(parsed.diagnostics[0].phase, Phase::Syntax);
}

#[test]
fn reading_stops_after_many_errors() {
    let parsed = parse(format!("{PREAMBLE}{}", "foo;\n".repeat(1000)));
    assert_eq!(parsed.diagnostics.len(), 101);
    assert_eq!(parsed.sources.location(parsed.diagnostics[100].location), "s:105");
    assert_eq!(parsed.diagnostics[100].message, "ERROR: the script has 100 errors up to here; the rest was not read");
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
    let phases: Vec<Phase> =
        parse(format!("{PREAMBLE}lock set (provider = 1);")).diagnostics.iter().map(|finding| finding.phase).collect();
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
        ("store node;", &["Error: require EVENT NODE", "Error: node ID must be specified"] as &[&str]),
        ("drop node;", &["Error: require EVENT NODE", "Error: A node id must be provided"]),
        ("drop node (id='', event node=1);", &["Error: A node id must be provided"]),
        ("uninstall node;", &[NO_NODE]),
        ("update functions;", &[NO_NODE]),
        ("clone prepare;", &["Error: new node ID must be specified", NO_NODE]),
        ("clone finish;", &[NO_NODE, "Error: provider must be specified"]),
        ("resubscribe node;", &["Error: require ORIGIN node", "Error: require PROVIDER node", "Error: require RECEIVER node"]),
        ("repair config;", &[SET]),
        ("store path;", &["Error: server must be specified", NO_NODE, "Error: conninfo must be specified"]),
        ("drop path;", &["Error: server must be specified", "Error: client must be specified"]),
        ("store listen;", &[NO_NODE, "Error: origin must be specified"]),
        ("create set;", &[SET, NO_NODE]),
        ("drop set;", &[SET, NO_NODE]),
        ("merge set;", &[SET, "Error: set id to merge (add) must be specified", NO_NODE]),
        ("lock set;", &[SET, "Error: origin must be specified"]),
        ("unlock set;", &[SET, "Error: origin must be specified"]),
        ("move set;", &[SET, "Error: old origin must be specified", "Error: new origin must be specified"]),
        ("subscribe set;", &[SET, "Error: provider must be specified", "Error: receiver must be specified"]),
        ("unsubscribe set;", &[SET, NO_NODE]),
        ("set add table;", &[SET, "Error: 'fully qualfied name' or 'tables' must be specified"]),
        ("set add sequence;", &[SET, "Error: sequence FQ-name or sequences must be specified"]),
        ("set drop table;", &["Error: origin must be specified", "Error: table id must be specified"]),
        ("set drop sequence;", &["Error: origin must be specified", "Error: sequence id must be specified"]),
        (
            "set move table;",
            &["Error: origin must be specified", "Error: table id must be specified", "Error: new set id must be specified"],
        ),
        (
            "set move sequence;",
            &["Error: origin must be specified", "Error: sequence id must be specified", "Error: new set id must be specified"],
        ),
        ("execute script;", &["Error: require EVENT NODE", "Error: script file name or sql must be specified"]),
        ("switch log;", &["Error: node ID must be specified"]),
        ("failover;", &["Error: node ID must be specified", "Error: require BACKUP NODE"]),
        ("sync;", &["Error: node ID must be specified"]),
        ("sleep;", &["Error:  sleep time (-1) must be positive"]),
        (
            "wait for event;",
            &["Error: event origin to wait for must be specified", "Error: confirming node to wait for must be specified", NO_NODE],
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
        ("store node (id=1, event node=1);", "Error: ev_origin for store_node cannot be the new node"),
        ("drop node (id='2,1', event node=1);", "Error: Node ID (1) and event node cannot be identical"),
        ("drop node (id='2,x', event node=1);", "Error: `x` is not a node number"),
        ("drop node (id='2,-3', event node=1);", "Error: `-3` is not a node number"),
        ("move set (id=1, old origin=1, new origin=1);", "Error: old and new origin cannot be identical"),
        ("failover (id=1, backup node=1);", "Error: Node ID and backup node cannot be identical"),
        (
            "set add table (set id=1, fully qualified name='x', tables='y');",
            "Error: 'fully qualified name' and 'tables' can not both be specified",
        ),
        (
            "set add sequence (set id=1, fully qualified name='x', sequences='y');",
            "Error: 'fully qualified name' and 'sequences' can not both be specified",
        ),
        ("set add table (set id=1, tables='y', key='k');", "ERROR: 'key' can not be used with the 'tables' option."),
        ("execute script (sql='x', filename='y', event node=1);", "Error: script file name and sql are mutually exclusive"),
        (
            "execute script (sql='x', event node=1, execute only on=1, execute only on='2');",
            "Error: cannot specify singular node as well as node list",
        ),
        ("execute script (sql='x', event node=1, execute only on='all');", "Error: `all` is not a node number"),
        ("set add table (set id=1, id='5', tables='y');", "WARNING: an `id` in quotes is ignored, the next free one is used"),
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
    let parsed = parse_text("s", text, &ParseOptions { directory: Some("/nonexistent".into()), check_sql_files: true });
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

// ---- the shape of a message ------------------------------------------------------------------------

#[test]
fn passwords_are_masked() {
    let parsed = parse("cluster name = c;\nnode 1 admin conninfo = 'host=h password=geheim' x;\nnode 2 admin 'password=''ge heim''';\ndate;");
    let text = rendered(&parsed);
    assert!(!text.contains("geheim") && !text.contains("ge heim"), "{text}");
    assert!(text.contains("'host=h password=******' x;"), "{text}");
}

#[test]
fn carets_stand_under_tabs_and_wide_text() {
    check(
        "\techo 'é' lok;",
        "
        s:5: ERROR: syntax error at or near lok
          5 | \techo 'é' lok;
            | \t         ^^^
          help: expected `;`",
    );
}

#[test]
fn long_lines_are_cut_around_the_words() {
    let parsed = parse(format!("{PREAMBLE}{} lok; {}", "date;".repeat(100), "date;".repeat(100)));
    let text = rendered(&parsed);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].chars().count() < 180 && lines[1].contains(" lok; "), "{text}");
    let column = |line: &str, what: char| line.chars().position(|character| character == what).unwrap();
    assert_eq!(column(lines[2], '^'), column(lines[1], 'l'), "{text}");
    let parsed = parse(format!("{PREAMBLE}{} lok;", "date;".repeat(10_000)));
    assert!(rendered(&parsed).contains("| …lok…\n"), "{}", rendered(&parsed));
}
