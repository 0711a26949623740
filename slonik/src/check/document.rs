//! The JSON form of what `slonik --check` found.
//!
//! The schema is documented in the manual (`reference/check.md`) and stable: fields are only ever added, and `version`
//! grows if one has to change its meaning.

use serde::Serialize;
use trunkline_grammar::{Diagnostic, Parsed, Severity, SourceMap, Span, Stretch};

/// Grows when a field changes its meaning.
const VERSION: u32 = 1;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    version: u32,
    /// Over all scripts.
    errors: usize,
    warnings: usize,
    scripts: Vec<ScriptReport>,
}

/// What was found in one script.
#[derive(Debug, Serialize)]
pub(crate) struct ScriptReport {
    /// As given on the command line; `<stdin>` for standard input.
    file: String,
    /// Whether the script would be executed.
    ok: bool,
    findings: Vec<FindingReport>,
}

#[derive(Debug, Serialize)]
struct FindingReport {
    /// The words at fault.
    #[serde(flatten)]
    words: Place,
    severity: &'static str,
    /// The kind of finding: a stable name, listed in the manual.
    code: &'static str,
    message: String,
    /// What to write instead.
    help: Option<String>,
    /// Where the statement starts: what stands in front of the message as `file:line`.
    statement: Line,
    /// How the words came into the script, the nearest first: includes and uses of definitions.
    via: Vec<LabelledPlace>,
    /// Other places that matter.
    related: Vec<LabelledPlace>,
}

/// A stretch of a file; lines and columns count from 1, columns in characters, the end lies behind the last one.
#[derive(Debug, Serialize)]
struct Place {
    file: String,
    line: u32,
    column: u32,
    end_line: u32,
    end_column: u32,
}

#[derive(Debug, Serialize)]
struct Line {
    file: String,
    line: u32,
}

#[derive(Debug, Serialize)]
struct LabelledPlace {
    #[serde(flatten)]
    place: Place,
    label: String,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            version: VERSION,
            errors: 0,
            warnings: 0,
            scripts: Vec::new(),
        }
    }
}

impl Document {
    pub(super) fn push(&mut self, script: ScriptReport) {
        let errors = script
            .findings
            .iter()
            .filter(|finding| finding.severity == "error")
            .count();
        self.errors += errors;
        self.warnings += script.findings.len() - errors;
        self.scripts.push(script);
    }

    /// The document as text, with a line feed at its end.
    pub(super) fn text(&self) -> String {
        // Strings and numbers only: nothing here can fail to be written.
        serde_json::to_string_pretty(self).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
    }
}

impl ScriptReport {
    pub(crate) fn of(parsed: &Parsed) -> Self {
        let whole = Span {
            source: 0,
            start: 0,
            end: 0,
            line: 1,
        };
        Self {
            file: parsed.sources.file(whole).to_owned(),
            ok: parsed.exit_code().is_none(),
            findings: parsed
                .diagnostics
                .iter()
                .map(|finding| FindingReport::of(finding, &parsed.sources))
                .collect(),
        }
    }
}

impl FindingReport {
    fn of(finding: &Diagnostic, sources: &SourceMap) -> Self {
        let via = sources.via(finding.span).into_iter().map(|via| LabelledPlace {
            place: sources.stretch(via.span).into(),
            label: via.label,
        });
        let related = finding.related.iter().map(|related| LabelledPlace {
            place: sources.stretch(related.span).into(),
            label: related.label.clone(),
        });
        Self {
            words: sources.stretch(finding.span).into(),
            severity: match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            code: finding.code.as_str(),
            message: finding.text(),
            help: finding.help.clone(),
            statement: Line {
                file: sources.file(finding.location).to_owned(),
                line: finding.location.line,
            },
            via: via.collect(),
            related: related.collect(),
        }
    }
}

impl From<Stretch> for Place {
    fn from(stretch: Stretch) -> Self {
        let Stretch {
            file,
            line,
            column,
            end_line,
            end_column,
        } = stretch;
        Self {
            file,
            line,
            column,
            end_line,
            end_column,
        }
    }
}
