//! Holds reading by steps against the grammar's rule for a whole script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pest::Parser as _;
use proptest::prelude::*;

use crate::diagnostic::Phase;
use crate::lexer::{Lexer, TokenKind};
use crate::syntax::{Rule, SlonikParser};
use crate::{ParseOptions, parse_text};

/// Whether the rule for a whole script takes the text, all at once and without recovery.
fn grammar_takes(text: &str) -> bool {
    let options = ParseOptions::default();
    let mut lexer = Lexer::new("s", text.into(), None, &options);
    let mut joined = String::new();
    loop {
        let token = lexer.next_token();
        if token.kind == TokenKind::End {
            break;
        }
        joined.push_str(&lexer.sources.words(token.span));
        joined.push('\n');
    }
    SlonikParser::parse(Rule::script, &joined).is_ok()
}

fn steps_take(text: &str) -> bool {
    let options = ParseOptions {
        check_sql_files: false,
        ..ParseOptions::default()
    };
    let parsed = parse_text("s", text, &options);
    parsed.diagnostics.iter().all(|finding| {
        finding.phase != Phase::Syntax
            || finding.message.starts_with("wait for")
            || finding.message.starts_with("WARNING")
    })
}

/// Pieces that often make a script, and often nearly one.
fn almost_script() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "date;",
        "date ;",
        "echo 'a';",
        "exit - 1;",
        "lock set (id = 1, origin = 1);",
        "wait for event (origin = all);",
        "failover (node = (id = 1), node = (id = 2));",
        "failover;",
        "set add table (full qualified name = 'x');",
        "try {",
        "}",
        "try { date; }",
        "} on error {",
        "} on success {",
        "on error { date; }",
        "on success { sync; }",
        "node 2 admin conninfo = 'x';",
        "cluster name = c;",
        ";",
        "foo",
        "(id = 1)",
        "'x'",
        "subscribe set (forward = on)",
    ]);
    (prop::collection::vec(piece, 0..9), 0..8).prop_map(|(pieces, damage)| {
        let head = match damage {
            0 => "",
            1 => "cluster name = c;",
            2 => "cluster name = set; node 1 admin conninfo = 'x';",
            _ => "cluster name = c; node 1 admin conninfo = 'x';",
        };
        format!("{head}\n{}", pieces.join(" "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_by_steps_takes_what_the_grammar_takes(text in almost_script()) {
        prop_assert_eq!(steps_take(&text), grammar_takes(&text), "{}", text);
    }
}
