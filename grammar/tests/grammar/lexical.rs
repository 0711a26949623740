//! Comments, strings, `include`, `define` and `@NAME`.

use std::fs;

use tempfile::TempDir;
use trunkline_grammar::{ParseOptions, Parsed, parse_file, parse_text};

use crate::fixture::{PREAMBLE, check, check_reads, check_whole, parse, rendered};

/// Writes files into a directory and reads the first one.
fn read_files(files: &[(&str, &str)]) -> (TempDir, Parsed) {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let options = ParseOptions {
        directory: Some(directory.path().to_owned()),
        ..ParseOptions::default()
    };
    let text = fs::read(directory.path().join(files[0].0)).unwrap();
    let parsed = parse_text(files[0].0, text, &options);
    (directory, parsed)
}

#[track_caller]
fn statements_of(parsed: &Parsed) -> Vec<String> {
    assert_eq!(rendered(parsed), "");
    parsed
        .script
        .as_ref()
        .unwrap()
        .statements
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn comments_and_blanks_stand_anywhere() {
    check_reads(
        "# a ' comment ; \n\x0c\tlock\rset(id#x\n=1,origin=1)\n;#end",
        "lock set (id = 1, origin = 1);",
    );
}

#[test]
fn strings_keep_lines_and_backslashes() {
    check_reads("echo 'a\n  b''c\\'; echo '#@x';", "echo 'a\n  b''c\\';\necho '#@x';");
}

#[test]
fn a_definition_runs_to_the_last_semicolon_of_its_line() {
    check_reads("define n 5;\nexit @n;", "exit 5;");
    check_reads("define n\t5; # a comment\nexit @n;", "exit 5;");
    check_reads("DEFINE lock 7;\nEXIT @lock;", "exit 7;");
    check_reads("define two echo 'a'; echo 'b';;\n@two", "echo 'a';\necho 'b';");
    check_reads("define\nempty ;\nexit 3 @empty;", "exit 3;");
    // The same text again is no news.
    check_reads("define n 5;\ndefine n 5 ;\nexit @n;", "exit 5;");
    // A name is looked up when the text is used, not when it is written.
    check_reads("define a @b;\ndefine b 7;\nexit @a;", "exit 7;");
    // Tokens do not grow together.
    check_reads(
        "define lo lock;\n@lo set (id = 1, origin = 1);",
        "lock set (id = 1, origin = 1);",
    );
    check(
        "define one 1;\nexit @one@one;",
        "
        s:6: ERROR: syntax error at or near 1
          5 | define one 1;
            |            ^
          s:6: in the text of `one`
          6 | exit @one@one;
            |          ^^^^
          help: expected `;`",
    );
}

#[test]
fn the_later_of_two_definitions_wins_from_there_on() {
    let text = "define n 1;\nsync (id = @n);\ndefine n 2;\nsync (id = @n);";
    check(
        text,
        "
        s:7: WARNING: `n` is defined again: from here on `@n` is the new text
          7 | define n 2;
            |        ^
          s:5: defined here before
          5 | define n 1;
            |        ^
          help: give one of them another name",
    );
    let script = parse(format!("{PREAMBLE}{text}")).script.unwrap();
    let statements: Vec<String> = script.statements.iter().map(ToString::to_string).collect();
    assert_eq!(statements, ["sync (id = 1);", "sync (id = 2);"]);
}

#[test]
fn an_undefined_name_vanishes_with_a_warning() {
    check(
        "define server 1;\nexit @Server 4;\n",
        "
        s:6: WARNING: `@Server` is not defined and stands for nothing
          6 | exit @Server 4;
            |      ^^^^^^^
          help: did you mean `@server`? Names are case-sensitive",
    );
    check(
        "define n 5; define m 6;\necho '@n'; exit 3 @m;",
        "
        s:6: WARNING: `@m` is not defined and stands for nothing
          6 | echo '@n'; exit 3 @m;
            |                   ^^
          s:5: this text runs to the last `;` of its line
          5 | define n 5; define m 6;
            |        ^
          help: write one `define` per line: the text of `n` takes in `define m`",
    );
}

#[test]
fn a_definition_that_cannot_be_read() {
    check(
        "define n 5\nexit @n;",
        "
        s:5: ERROR: syntax error at or near define
          5 | define n 5
            | ^^^^^^
          help: write `define NAME text;`: a blank behind the name, and the text with its closing `;` on the same line",
    );
    check(
        "define 5 5;\nexit 5;",
        "
        s:5: ERROR: syntax error at or near define
          5 | define 5 5;
            | ^^^^^^
          help: write `define NAME text;`: a blank behind the name, and the text with its closing `;` on the same line",
    );
}

#[test]
fn a_definition_that_uses_itself() {
    check(
        "define a @b;\ndefine b 1 @a;\nexit @a;",
        "
        s:7: ERROR: `@a` is replaced by itself for ever
          6 | define b 1 @a;
            |            ^^
          s:7: in the text of `b`
          5 | define a @b;
            |          ^^
          s:7: in the text of `a`
          7 | exit @a;
            |      ^^
          s:5: defined here
          5 | define a @b;
            |        ^",
    );
}

#[test]
fn errors_inside_definitions_show_both_places() {
    check(
        "define bad 'x';\n\nlock set (id = 1,\n  origin = @bad);",
        "
        s:8: ERROR: syntax error at or near x
          5 | define bad 'x';
            |            ^^^
          s:8: in the text of `bad`
          8 |   origin = @bad);
            |            ^^^^
          help: expected a number or `all`",
    );
}

#[test]
fn includes_are_read_in_place() {
    let (_keep, parsed) = read_files(&[
        (
            "main",
            "include <head>;\nrestart node INCLUDE<number> ;;\ninclude <tail>\n;echo 'end';",
        ),
        ("head", PREAMBLE),
        ("number", "3"),
        ("tail", "echo 'in';\ninclude <deep>"),
        ("deep", "date;"),
    ]);
    assert_eq!(
        statements_of(&parsed),
        [
            "restart node 3;",
            "echo 'in';",
            "date (format = '%F %T');",
            "echo 'end';"
        ]
    );
    let script = parsed.script.unwrap();
    let places: Vec<String> = script
        .statements
        .iter()
        .map(|statement| parsed.sources.location(statement.span))
        .collect();
    assert_eq!(places, ["main:2", "tail:1", "deep:1", "main:4"]);
    assert_eq!(parsed.sources.location(script.nodes[0].span), "head:2");
}

#[test]
fn errors_in_included_files_say_how_they_came_in() {
    let (_keep, parsed) = read_files(&[
        ("main", "include <head>;\ninclude <a>;\ndate;"),
        ("head", PREAMBLE),
        ("a", "\ninclude <b>;"),
        ("b", "lock set (id = 1, orgin = 1);"),
    ]);
    assert_eq!(
        rendered(&parsed),
        "b:1: ERROR: syntax error at or near orgin
  1 | lock set (id = 1, orgin = 1);
    |                   ^^^^^
  a:2: included here
  2 | include <b>;
    |         ^^^
  main:2: included here
  2 | include <a>;
    |         ^^^
  help: did you mean `origin`? `lock set` takes `id` and `origin`
"
    );
}

#[test]
fn a_missing_include_is_named_and_nothing_that_follows_from_it() {
    let (_keep, parsed) = read_files(&[(
        "main",
        "include <nodes.preamble>;\nlock set (id = 1, origin = 1);\nlok set;",
    )]);
    assert_eq!(parsed.exit_code(), Some(1));
    assert_eq!(
        rendered(&parsed),
        "main:1: Include file (nodes.preamble) not found
  1 | include <nodes.preamble>;
    |         ^^^^^^^^^^^^^^^^
  help: No such file or directory; a relative name starts at the working directory
main:3: ERROR: syntax error at or near lok
  3 | lok set;
    | ^^^
  help: did you mean `lock`?
"
    );
    let (_keep, parsed) = read_files(&[("main", "include < head >;"), ("head", "")]);
    assert!(
        rendered(&parsed).contains("help: blanks belong to the name: write `include <head>;`"),
        "{}",
        rendered(&parsed)
    );
}

#[test]
fn an_include_that_makes_no_sense() {
    check(
        "include head;\ndate;",
        "
        s:5: ERROR: syntax error at or near include
          5 | include head;
            | ^^^^^^^
          help: write `include <path>;`",
    );
}

#[test]
fn a_file_that_includes_itself() {
    let (_keep, parsed) = read_files(&[
        ("main", "include <head>;\ninclude <a>;\ndate;"),
        ("head", PREAMBLE),
        ("a", "include <b>;"),
        ("b", "include <a>;"),
    ]);
    assert_eq!(parsed.exit_code(), Some(1));
    let text = rendered(&parsed);
    assert!(
        text.starts_with("b:1: Include file (a) includes itself, directly or through others\n"),
        "{text}"
    );
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let (_keep, parsed) = read_files(&[("main", "include <no\u{1b}[2Jthing>;\ndate;"), ("head", "")]);
    let text = rendered(&parsed);
    assert!(
        text.starts_with("main:1: Include file (no\u{fffd}[2Jthing) not found") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn includes_are_nested_to_a_bound() {
    let directory = TempDir::new().unwrap();
    for level in 0..200 {
        fs::write(
            directory.path().join(format!("f{level}")),
            format!("include <f{}>;", level + 1),
        )
        .unwrap();
    }
    let options = ParseOptions {
        directory: Some(directory.path().to_owned()),
        ..ParseOptions::default()
    };
    let parsed = parse_text("main", "include <f0>;", &options);
    assert!(
        rendered(&parsed).contains("nested deeper than 128"),
        "{}",
        rendered(&parsed)
    );
}

#[test]
fn the_same_file_may_be_included_many_times() {
    let (_keep, parsed) = read_files(&[
        ("main", "include <head>;\ninclude <a>; include <a>;"),
        ("head", PREAMBLE),
        ("a", "date;"),
    ]);
    assert_eq!(statements_of(&parsed).len(), 2);
}

#[test]
fn a_script_that_cannot_be_opened() {
    let parsed = parse_file("/nonexistent/script".as_ref(), &ParseOptions::default());
    assert_eq!(
        rendered(&parsed),
        "/nonexistent/script:1: could not open file '/nonexistent/script'\n  help: No such file or directory\n"
    );
    assert_eq!(parsed.exit_code(), Some(255));
}

#[test]
fn text_that_is_not_utf8() {
    let mut script = format!("{PREAMBLE}# caf").into_bytes();
    script.extend(b"\xe9 is fine in a comment\necho 'caf\xe9';\necho '\xe8';\n");
    check_whole(
        script,
        "
        s:6: ERROR: the byte 0xE9 is not valid UTF-8
          6 | echo 'caf\u{fffd}';
            |          ^
          help: in Latin-1 it would be `é`: convert the file, for example with `iconv -f latin1 -t utf-8`",
    );
}

#[test]
fn text_with_nul_bytes() {
    check(
        "echo 'a\0b'; lok;",
        "
        s:5: ERROR: a NUL byte in the script
          5 | echo 'a\u{fffd}b'; lok;
            |        ^
          help: remove the byte; PostgreSQL cannot take it either
        s:5: ERROR: syntax error at or near lok
          5 | echo 'a\u{fffd}b'; lok;
            |             ^^^
          help: did you mean `lock`?",
    );
    let wide: Vec<u8> = PREAMBLE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let parsed = parse([b"\xff\xfe".to_vec(), wide].concat());
    assert!(rendered(&parsed).contains("looks like UTF-16"), "{}", rendered(&parsed));
}

#[test]
fn a_byte_order_mark_is_skipped_with_a_warning() {
    let parsed = parse(format!("\u{feff}{PREAMBLE}date;"));
    assert!(parsed.script.is_some());
    assert!(rendered(&parsed).starts_with("s:1: WARNING: the file starts with a byte order mark"));
}
