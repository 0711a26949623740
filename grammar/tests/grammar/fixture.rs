//! The one way the tests look at a script: its text, or what is wrong with it.

use trunkline_grammar::{ParseOptions, Parsed, Severity, parse_text};

/// A preamble of three nodes; statements behind it start on line 5.
pub(crate) const PREAMBLE: &str = "cluster name = c;\nnode 1 admin conninfo = 'dbname=a';\nnode 2 admin conninfo = 'dbname=b';\nnode 3 admin conninfo = 'dbname=c';\n";

pub(crate) fn options() -> ParseOptions {
    ParseOptions {
        check_sql_files: false,
        ..ParseOptions::default()
    }
}

pub(crate) fn parse(text: impl Into<Vec<u8>>) -> Parsed {
    parse_text("s", text, &options())
}

/// All findings, as slonik prints them.
pub(crate) fn rendered(parsed: &Parsed) -> String {
    parsed
        .diagnostics
        .iter()
        .map(|finding| finding.render(&parsed.sources))
        .collect()
}

/// Findings of a whole script, rendered; a script without errors must come out whole.
#[track_caller]
pub(crate) fn check_whole(text: impl Into<Vec<u8>>, expected: &str) {
    let parsed = parse(text);
    let errors = parsed
        .diagnostics
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    assert_eq!(
        parsed.script.is_some(),
        !errors,
        "a script comes out exactly when there is no error"
    );
    assert_eq!(rendered(&parsed).trim_end(), dedent(expected).trim_end());
}

/// The same for statements behind [`PREAMBLE`].
#[track_caller]
pub(crate) fn check(statements: &str, expected: &str) {
    check_whole(format!("{PREAMBLE}{statements}"), expected);
}

/// Statements without findings, and how they are written out in full.
#[track_caller]
pub(crate) fn check_reads(statements: &str, expected: &str) {
    let parsed = parse(format!("{PREAMBLE}{statements}"));
    assert_eq!(rendered(&parsed), "");
    let script = parsed.script.expect("a script without findings");
    let text = script.to_string();
    let body = text.strip_prefix(PREAMBLE).expect("the preamble as written");
    assert_eq!(body.trim(), dedent(expected).trim());
}

/// Takes the common indentation off a raw string.
fn dedent(text: &str) -> String {
    let lines: Vec<&str> = text.lines().skip_while(|line| line.trim().is_empty()).collect();
    let indent = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    let cut: Vec<&str> = lines.iter().map(|line| line.get(indent..).unwrap_or("")).collect();
    cut.join("\n")
}
