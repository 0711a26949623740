//! Syntax errors and the shape of messages, as they are printed.

use trunkline_grammar::Phase;

use crate::fixture::{PREAMBLE, check, check_whole, parse, rendered};

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
          help: add `origin = <number>`: `lock set` takes `id` and `origin`",
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
    assert_eq!(
        parse(format!("cluster name = settings$1é;\n{rest}"))
            .script
            .unwrap()
            .cluster,
        "settings$1é"
    );
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
    check(
        "try { lock set (id = 1 }\ndate;",
        "
        s:5: ERROR: syntax error at or near }
          5 | try { lock set (id = 1 }
            |                        ^
          help: expected `,` or `)`",
    );
}

#[test]
fn blocks_are_nested_to_a_bound() {
    let deep = "try { date; } on error { ".repeat(100);
    let parsed = parse(format!("{PREAMBLE}{deep} date; {}", "}".repeat(100)));
    let messages: Vec<&str> = parsed
        .diagnostics
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
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
    let parsed = parse(format!(
        "{PREAMBLE}try {{ wait for event (origin=1, confirmed=2, wait on=1); }}"
    ));
    assert_eq!(parsed.diagnostics[0].phase, Phase::Syntax);
}

#[test]
fn reading_stops_after_many_errors() {
    let parsed = parse(format!("{PREAMBLE}{}", "foo;\n".repeat(1000)));
    assert_eq!(parsed.diagnostics.len(), 101);
    assert_eq!(parsed.sources.location(parsed.diagnostics[100].location), "s:105");
    assert_eq!(
        parsed.diagnostics[100].message,
        "ERROR: the script has 100 errors up to here; the rest was not read"
    );
}

// ---- the shape of a message ------------------------------------------------------------------------

#[test]
fn passwords_are_masked() {
    let parsed = parse(
        "cluster name = c;\nnode 1 admin conninfo = 'host=h password=geheim' x;\nnode 2 admin 'password=''ge heim''';\ndate;",
    );
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
    let parsed = parse(format!(
        "{PREAMBLE}{} lok; {}",
        "date;".repeat(100),
        "date;".repeat(100)
    ));
    let text = rendered(&parsed);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].chars().count() < 180 && lines[1].contains(" lok; "), "{text}");
    let column = |line: &str, what: char| line.chars().position(|character| character == what).unwrap();
    assert_eq!(column(lines[2], '^'), column(lines[1], 'l'), "{text}");
    let parsed = parse(format!("{PREAMBLE}{} lok;", "date;".repeat(10_000)));
    assert!(rendered(&parsed).contains("| …lok…\n"), "{}", rendered(&parsed));
}
