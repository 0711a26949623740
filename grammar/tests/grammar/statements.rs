//! Every statement and option, read and written out with its defaults.

use crate::fixture::{PREAMBLE, check_reads, parse};

#[test]
fn control_statements() {
    check_reads("echo 'it''s \\n here';", r"echo 'it''s \n here';");
    check_reads("date;", "date (format = '%F %T');");
    check_reads("date (format='%s');", "date (format = '%s');");
    check_reads("exit 255;", "exit 255;");
    check_reads("exit - - 3;", "exit 3;");
    check_reads("exit -0;", "exit 0;");
    check_reads("sleep (seconds=0);", "sleep (seconds = 0);");
    check_reads("SYNC (ID=1);", "sync (id = 1);");
    check_reads("restart node 2;", "restart node 2;");
    check_reads("switch log (id=2);", "switch log (id = 2);");
}

#[test]
fn wait_for_event() {
    check_reads(
        "wait for event (origin=all, confirmed=2, wait on=1);",
        "wait for event (origin = all, confirmed = 2, wait on = 1, timeout = 600);",
    );
    check_reads(
        "wait for event (timeout=0, origin=3, confirmed=ALL, wait on=1);",
        "wait for event (origin = 3, confirmed = all, wait on = 1, timeout = 0);",
    );
}

#[test]
fn node_statements() {
    check_reads(
        "init cluster (id=1);",
        "init cluster (id = 1, comment = 'Initial Node');",
    );
    check_reads(
        "store node (id=2, event node=1);",
        "store node (id = 2, comment = '', event node = 1);",
    );
    check_reads("drop node (id=9, event node=1);", "drop node (id = 9, event node = 1);");
    check_reads(
        "drop node (id=' 8 ,9', event node=1);",
        "drop node (id = '8,9', event node = 1);",
    );
    check_reads("uninstall node (id=1);", "uninstall node (id = 1);");
    check_reads("update functions (id=1);", "update functions (id = 1);");
    check_reads(
        "clone prepare (id=9, provider=1);",
        "clone prepare (id = 9, provider = 1, comment = 'Node 9');",
    );
    check_reads(
        "clone finish (id=2, provider=1);",
        "clone finish (id = 2, provider = 1);",
    );
    check_reads(
        "resubscribe node (origin=1, provider=2, receiver=3);",
        "resubscribe node (origin = 1, provider = 2, receiver = 3);",
    );
    check_reads(
        "repair config (set id=1);",
        "repair config (set id = 1, event node = 1);",
    );
    check_reads(
        "repair config (set id=1, event node=2, execute only on=3);",
        "repair config (set id = 1, event node = 2, execute only on = 3);",
    );
    check_reads("failover (id=9, backup node=1);", "failover (id = 9, backup node = 1);");
    check_reads(
        "failover (node=(id=8, backup node=1), node=(backup node=2, id=9));",
        "failover (node = (id = 8, backup node = 1), node = (id = 9, backup node = 2));",
    );
    check_reads(
        "failover (node=(id=8, backup node=1));",
        "failover (id = 8, backup node = 1);",
    );
}

#[test]
fn path_and_listen_statements() {
    check_reads(
        "store path (server=2, client=1, conninfo='host=x');",
        "store path (server = 2, client = 1, conninfo = 'host=x', connretry = 10);",
    );
    check_reads(
        "drop path (server=9, client=1);",
        "drop path (server = 9, client = 1, event node = 1);",
    );
    check_reads(
        "drop path (server=9, client=8, event node=2);",
        "drop path (server = 9, client = 8, event node = 2);",
    );
    check_reads(
        "store listen (origin=3, receiver=1);",
        "store listen (origin = 3, receiver = 1, provider = 3);",
    );
    check_reads(
        "drop listen (origin=9, receiver=1, provider=8);",
        "drop listen (origin = 9, receiver = 1, provider = 8);",
    );
}

#[test]
fn set_statements() {
    check_reads(
        "create set (id=0, origin=1);",
        "create set (id = 0, origin = 1, comment = 'A replication set so boring no one thought to give it a name');",
    );
    check_reads("drop set (id=1, origin=1);", "drop set (id = 1, origin = 1);");
    check_reads(
        "merge set (id=1, add id=2, origin=1);",
        "merge set (id = 1, add id = 2, origin = 1);",
    );
    check_reads("lock set (id=1, origin=1);", "lock set (id = 1, origin = 1);");
    check_reads("unlock set (id=1, origin=1);", "unlock set (id = 1, origin = 1);");
    check_reads(
        "move set (id=1, old origin=1, new origin=2);",
        "move set (id = 1, old origin = 1, new origin = 2);",
    );
    check_reads(
        "subscribe set (id=1, provider=1, receiver=2);",
        "subscribe set (id = 1, provider = 1, receiver = 2, forward = no, omit copy = no);",
    );
    for (word, value) in [
        ("yes", "yes"),
        ("on", "yes"),
        ("true", "yes"),
        ("no", "no"),
        ("off", "no"),
        ("false", "no"),
    ] {
        check_reads(
            &format!("subscribe set (id=1, provider=1, receiver=2, forward={word}, omit copy={word});"),
            &format!("subscribe set (id = 1, provider = 1, receiver = 2, forward = {value}, omit copy = {value});"),
        );
    }
    check_reads(
        "unsubscribe set (id=1, receiver=2);",
        "unsubscribe set (id = 1, receiver = 2);",
    );
}

#[test]
fn tables_and_sequences() {
    check_reads(
        "set add table (set id=1, fully qualified name='public.\"Odd; Name\"');",
        "set add table (set id = 1, fully qualified name = 'public.\"Odd; Name\"', add sequences = no);",
    );
    check_reads(
        "set add table (set id=1, origin=1, id=7, fully qualified name='a.b', key='k', comment='c', add sequences=yes);",
        "set add table (set id = 1, origin = 1, id = 7, fully qualified name = 'a.b', key = 'k', comment = 'c', add sequences = yes);",
    );
    check_reads(
        "set add table (set id=1, tables='public\\.t[23]');",
        "set add table (set id = 1, tables = 'public\\.t[23]', add sequences = no);",
    );
    check_reads(
        "set add sequence (set id=1, id=2, fully qualified name='a.s');",
        "set add sequence (set id = 1, id = 2, fully qualified name = 'a.s');",
    );
    check_reads(
        "set add sequence (set id=1, origin=1, sequences='.*', comment='c');",
        "set add sequence (set id = 1, origin = 1, sequences = '.*', comment = 'c');",
    );
    check_reads(
        "set drop table (id=1, origin=1);",
        "set drop table (id = 1, origin = 1);",
    );
    check_reads(
        "set drop sequence (id=1, origin=1);",
        "set drop sequence (id = 1, origin = 1);",
    );
    check_reads(
        "set move table (id=1, origin=1, new set=2);",
        "set move table (id = 1, origin = 1, new set = 2);",
    );
    check_reads(
        "set move sequence (id=1, origin=1, new set=2);",
        "set move sequence (id = 1, origin = 1, new set = 2);",
    );
}

#[test]
fn execute_script() {
    check_reads(
        "execute script (filename='/a b.sql', event node=1);",
        "execute script (filename = '/a b.sql', event node = 1);",
    );
    check_reads(
        "execute script (sql='alter table t add c int;', event node=1, execute only on=1);",
        "execute script (sql = 'alter table t add c int;', event node = 1, execute only on = 1);",
    );
    check_reads(
        "execute script (sql='', event node=1, execute only on='1, 2');",
        "execute script (sql = '', event node = 1, execute only on = '1,2');",
    );
}

#[test]
fn blocks() {
    check_reads(
        "try { lock set (id=1, origin=1); echo 'a'; }",
        "
        try {
            lock set (id = 1, origin = 1);
            echo 'a';
        }",
    );
    // The handlers come in either order, and hold what a script holds.
    check_reads(
        "try { echo 'a'; } on success { echo 'b'; } on error { try { date; } on error { wait for event (origin=1,confirmed=2,wait on=1); } exit 1; }\necho 'x';",
        "
        try {
            echo 'a';
        } on error {
            try {
                date (format = '%F %T');
            } on error {
                wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 600);
            }
            exit 1;
        } on success {
            echo 'b';
        }
        echo 'x';",
    );
}

#[test]
fn spans_name_statement_and_line() {
    let parsed = parse(format!(
        "{PREAMBLE}\n  lock set (id = 1,\n    origin = 1);\ntry {{\n echo 'a';\n}} on error {{ date; }}"
    ));
    let script = parsed.script.unwrap();
    let words = |index: usize| {
        let span = script.statements[index].span;
        (parsed.sources.location(span), parsed.sources.words(span).into_owned())
    };
    assert_eq!(
        words(0),
        ("s:6".to_owned(), "lock set (id = 1,\n    origin = 1);".to_owned())
    );
    assert_eq!(
        words(1),
        ("s:8".to_owned(), "try {\n echo 'a';\n} on error { date; }".to_owned())
    );
    assert_eq!(parsed.sources.words(script.cluster_span), "c");
    assert_eq!(script.nodes[1].span.line, 3);
}
