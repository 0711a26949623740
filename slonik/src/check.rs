//! `slonik --check`: what is wrong with scripts, without connecting anywhere.

mod document;

use trunkline_grammar::{Parsed, Phase};

use crate::EXIT_FAILED;
use crate::cli::Format;
use crate::examine::examine;
use crate::report::Output;
use document::Document;
pub(crate) use document::ScriptReport;

/// Says what was found in each script. The answer is the exit code: 0 if nothing is an error, else 255.
///
/// Unlike a run, which stops at the first script that is not right, all scripts are read.
pub fn check(
    scripts: impl IntoIterator<Item = Parsed>,
    format: Format,
    deny_warnings: bool,
    output: &dyn Output,
) -> u8 {
    let mut document = Document::default();
    let mut failed = false;
    for mut parsed in scripts {
        examine(&mut parsed);
        if deny_warnings {
            parsed.deny_warnings();
        }
        failed |= parsed.exit_code().is_some();
        match format {
            Format::Text => say(&parsed, output),
            Format::Json => document.push(ScriptReport::of(&parsed)),
        }
    }
    if format == Format::Json {
        output.out(&document.text());
    }
    if failed { EXIT_FAILED } else { 0 }
}

/// Prints the findings of a script: semantic ones on standard output, as slonik does, the others on standard error.
pub(crate) fn say(parsed: &Parsed, output: &dyn Output) {
    for finding in &parsed.diagnostics {
        let text = finding.render(&parsed.sources);
        match finding.phase {
            Phase::Semantic => output.out(&text),
            _ => output.err(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trunkline_grammar::{ParseOptions, parse_text};

    use super::*;
    use crate::report::tests::Kept;

    const GOOD: &str = "cluster name = c;\nnode 1 admin conninfo = 'dbname=a';\nsync (id = 1);\n";
    const BAD: &str = "cluster name = c;\nnode 1 admin conninfo = 'dbname=a';\nlock set (id = 1,\n  orgin = 1);\n";
    const ODD: &str = "cluster name = c;\nnode 1 admin conninfo = 'dbname=a';\nsync (id = 1) @x;\n";

    fn read(texts: &[&str]) -> Vec<Parsed> {
        let read = |(index, text): (usize, &&str)| parse_text(&format!("s{index}"), *text, &ParseOptions::default());
        texts.iter().enumerate().map(read).collect()
    }

    #[test]
    fn every_script_is_read_and_one_error_decides() {
        let kept = Kept::default();
        assert_eq!(check(read(&[BAD, GOOD, BAD]), Format::Text, false, &kept), EXIT_FAILED);
        let said = kept.err.lock().unwrap().clone();
        assert!(said.contains("s0:4: ERROR: syntax error") && said.contains("s2:4: ERROR: syntax error"));
        assert_eq!(check(read(&[GOOD]), Format::Text, false, &Kept::default()), 0);
    }

    #[test]
    fn warnings_are_errors_when_denied() {
        let kept = Kept::default();
        assert_eq!(check(read(&[ODD]), Format::Text, false, &kept), 0);
        assert!(kept.err.lock().unwrap().contains("s0:3: WARNING: `@x` is not defined"));
        let kept = Kept::default();
        assert_eq!(check(read(&[ODD]), Format::Text, true, &kept), EXIT_FAILED);
        assert!(kept.err.lock().unwrap().contains("s0:3: ERROR: `@x` is not defined"));
    }

    #[test]
    fn the_document_names_the_words_at_fault() {
        let kept = Kept::default();
        assert_eq!(check(read(&[GOOD, BAD]), Format::Json, false, &kept), EXIT_FAILED);
        assert!(kept.err.lock().unwrap().is_empty());
        let text = kept.out.lock().unwrap().clone();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["errors"], 1);
        assert_eq!(document["scripts"][0]["ok"], true);
        let finding = &document["scripts"][1]["findings"][0];
        assert_eq!(finding["file"], "s1");
        let place = ["line", "column", "end_line", "end_column"].map(|key| finding[key].as_u64().unwrap());
        assert_eq!(place, [4, 3, 4, 8]);
        assert_eq!(
            finding["help"],
            "did you mean `origin`? `lock set` takes `id` and `origin`"
        );
    }
}
