//! What must hold for every text, however wrong: the fuzz target and the seeded test both ask this.

use std::path::PathBuf;

use trunkline_grammar::{ParseOptions, parse_text};

/// Reads the text as a script and says everything there is to say about it. Panics if something does not hold.
pub(crate) fn endure(text: &[u8]) {
    // Included files are looked for where there are none: a text must not reach the machine it is read on.
    let nowhere = PathBuf::from("/nonexistent");
    let options = ParseOptions {
        directory: Some(nowhere.clone()),
        root: Some(nowhere),
        ..ParseOptions::default()
    };
    let parsed = parse_text("fuzz", text, &options);
    for finding in &parsed.diagnostics {
        let shown = finding.render(&parsed.sources);
        assert!(shown.ends_with('\n') && !shown.contains('\0'), "{shown}");
        let words = parsed.sources.stretch(finding.span);
        assert!(words.line >= 1 && words.column >= 1, "{words:?}");
        assert!(
            (words.line, words.column) <= (words.end_line, words.end_column),
            "{words:?}"
        );
    }
    assert_eq!(parsed.script.is_some(), parsed.exit_code().is_none());
    if let Some(script) = parsed.script {
        let written = script.to_string();
        let again = parse_text("fuzz", written.as_bytes(), &options);
        let same = again.script.map(|script| script.to_string());
        assert_eq!(same.as_deref(), Some(written.as_str()));
    }
}
