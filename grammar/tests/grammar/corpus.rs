//! Scripts as people and tools write them, right and wrong, each with a snapshot of what comes out.
//!
//! `tests/corpus/` holds them by verdict: `plain` (nothing to say), `odd` (accepted with warnings), `old` (what only older
//! versions took), `broken` (refused by everyone), `strict` (refused here, while the original would fail later). After a
//! change of a message look at the difference and accept it: `INSTA_UPDATE=always cargo test -p trunkline-grammar corpus`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use trunkline_grammar::{Code, ParseOptions, Parsed, parse_text};

use crate::fixture::rendered;

/// The directories, each a verdict.
const VERDICTS: [&str; 5] = ["plain", "odd", "old", "broken", "strict"];

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Names (`verdict/name.slonik`) and texts of all scripts of a verdict.
pub(crate) fn scripts(verdict: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(directory().join(verdict))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slonik"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            (format!("{verdict}/{name}"), fs::read(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

pub(crate) fn read(name: &str, text: &[u8]) -> Parsed {
    let options = ParseOptions {
        directory: Some(directory()),
        root: Some(directory()),
        ..ParseOptions::default()
    };
    parse_text(name, text, &options)
}

/// Everything that comes out of a script.
fn outcome(parsed: &Parsed) -> String {
    let mut text = match parsed.exit_code() {
        Some(code) => format!("refused, exit code {code}\n"),
        None => "accepted\n".to_owned(),
    };
    for finding in &parsed.diagnostics {
        let words = parsed.sources.stretch(finding.span);
        writeln!(
            text,
            "\n[{}] {}:{}:{} to {}:{}\n{}",
            finding.code.as_str(),
            words.file,
            words.line,
            words.column,
            words.end_line,
            words.end_column,
            finding.render(&parsed.sources).trim_end()
        )
        .unwrap();
    }
    if let Some(script) = &parsed.script {
        write!(text, "\n{script}").unwrap();
    }
    text
}

#[test]
fn every_script_comes_out_as_it_did() {
    let mut count = 0;
    for verdict in VERDICTS {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(directory().join(verdict).join("snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| {
            for (name, text) in scripts(verdict) {
                let stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
                insta::assert_snapshot!(stem, outcome(&read(&name, &text)));
                count += 1;
            }
        });
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn every_script_is_judged_as_its_directory_says() {
    for verdict in VERDICTS {
        for (name, text) in scripts(verdict) {
            let parsed = read(&name, &text);
            let said = rendered(&parsed);
            match verdict {
                "plain" => assert_eq!(said, "", "{name}"),
                "odd" => assert!(parsed.script.is_some() && !said.is_empty(), "{name}: {said}"),
                "old" => assert!(!said.is_empty(), "{name}"),
                _ => assert!(parsed.script.is_none() && !said.is_empty(), "{name}"),
            }
        }
    }
}

#[test]
fn a_script_is_what_its_canonical_text_says() {
    for verdict in ["plain", "odd", "old"] {
        for (name, text) in scripts(verdict) {
            let Some(script) = read(&name, &text).script else {
                continue;
            };
            let written = script.to_string();
            let again = read(&name, written.as_bytes());
            assert_eq!(
                again.script.map(|script| script.to_string()),
                Some(written.clone()),
                "{name}: {written}"
            );
        }
    }
}

#[test]
fn every_kind_of_finding_has_an_example() {
    let mut found: BTreeSet<&str> = VERDICTS
        .iter()
        .flat_map(|verdict| scripts(verdict))
        .flat_map(|(name, text)| read(&name, &text).diagnostics)
        .map(|finding| finding.code.as_str())
        .collect();
    // These need a file that is not there, or one of 32 MiB: see `lexical.rs` and `properties.rs`.
    found.extend([Code::UnreadableScript, Code::TooLong].map(Code::as_str));
    // These are found by the interpreter, which tests them itself.
    found.extend([Code::BadClusterName, Code::BadSqlScript, Code::BadConninfo].map(Code::as_str));
    let missing: Vec<&str> = Code::ALL
        .iter()
        .map(|code| code.as_str())
        .filter(|code| !found.contains(code))
        .collect();
    assert_eq!(missing, [""; 0]);
}
