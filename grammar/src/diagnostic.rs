//! What is wrong with a script, in slonik's words and with the place.

use crate::source::{SourceMap, Span};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The script does not run.
    Error,
    /// The script runs, but it hardly says what its author meant.
    Warning,
}

/// What found it. slonik prints syntax and option errors to standard error, semantic ones to
/// standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Following `include`: a file that is missing or includes itself (real slonik exits with 1).
    Include,
    /// The shape of the text.
    Syntax,
    /// Options a statement does not have, or has twice.
    Option,
    /// What the options say.
    Semantic,
}

/// A second place that belongs to a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What stands there.
    pub label: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What found it.
    pub phase: Phase,
    /// The text behind `file:line: `, as real slonik words it.
    pub message: String,
    /// The words at fault.
    pub span: Span,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that matter.
    pub related: Vec<Related>,
}

impl Diagnostic {
    /// The whole message: `file:line: message`, the source line with carets, related places, help.
    /// Several lines, each ended by a line feed.
    #[must_use]
    pub fn render(&self, sources: &SourceMap) -> String {
        format!("{}: {}\n", sources.location(self.span), self.message)
    }
}
