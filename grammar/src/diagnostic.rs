//! What is wrong with a script, in slonik's words and with the place.

use std::fmt::Write as _;

use crate::code::Code;
use crate::snippet;
use crate::source::{SourceMap, Span};

/// Errors after which reading stops; a script with more is broken in one place, not in a thousand.
const MAX_ERRORS: usize = 100;
/// Includes and definitions that are shown between a place and the script; of more, the nearest and the last ones.
const MAX_WAY: usize = 8;
/// Further places a warning points at.
const MAX_PLACES: usize = 5;
/// Warnings that are kept one by one.
const MAX_WARNINGS: usize = 100;

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
    /// What kind of finding it is.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// What found it.
    pub phase: Phase,
    /// The text behind `file:line: `, as real slonik words it.
    pub message: String,
    /// The words at fault.
    pub span: Span,
    /// What `file:line` in front of the message names: the statement for semantic findings, else the
    /// words at fault, as slonik does.
    pub location: Span,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that matter.
    pub related: Vec<Related>,
}

impl Diagnostic {
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            phase: code.phase(),
            message: one_line(message.into()),
            span,
            location: span,
            help: None,
            related: Vec::new(),
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(one_line(help.into()));
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Related {
            span,
            label: label.into(),
        });
        self
    }

    /// The message with passwords in connection strings masked; [`Diagnostic::render`] shows it with its place.
    #[must_use]
    pub fn text(&self) -> String {
        snippet::mask_passwords(&self.message).into_owned()
    }

    /// The whole message: `file:line: message`, the source line with carets, how the line came into
    /// the script, related places, help. Several lines, each ended by a line feed; passwords in
    /// connection strings are masked.
    #[must_use]
    pub fn render(&self, sources: &SourceMap) -> String {
        let mut out = format!("{}: {}\n", sources.location(self.location), self.text());
        snippet::push(&mut out, sources, self.span);
        let way = sources.via(self.span);
        let (first, last) = if way.len() > MAX_WAY {
            (MAX_WAY / 2, way.len() - MAX_WAY / 2)
        } else {
            (way.len(), way.len())
        };
        for (index, via) in way.iter().enumerate() {
            if index < first || index >= last {
                let _ = writeln!(out, "  {}: {}", sources.location(via.span), via.label);
                snippet::push(&mut out, sources, via.span);
            } else if index == first {
                let _ = writeln!(out, "  … and {} more on the way", last - first);
            }
        }
        for related in &self.related {
            let _ = writeln!(out, "  {}: {}", sources.location(related.span), related.label);
            snippet::push(&mut out, sources, related.span);
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "  help: {help}");
        }
        out
    }
}

/// Names in a script may hold anything; a terminal must not be made to obey them.
fn one_line(text: String) -> String {
    if text.chars().any(char::is_control) {
        text.replace(char::is_control, "\u{fffd}")
    } else {
        text
    }
}

/// Collects findings, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Diagnostic) {
        let (count, bound) = match finding.severity {
            Severity::Error => (&mut self.errors, MAX_ERRORS),
            Severity::Warning => (&mut self.warnings, MAX_WARNINGS),
        };
        *count += 1;
        if *count <= bound {
            self.kept.push(finding);
        }
    }

    /// Adds a warning that a script gets once in the same words; further places are only pointed at, up to a bound.
    pub(crate) fn push_once(&mut self, finding: Diagnostic) {
        match self
            .kept
            .iter_mut()
            .find(|kept| kept.code == finding.code && kept.message == finding.message)
        {
            Some(kept) if kept.related.len() < MAX_PLACES => kept.related.push(Related {
                span: finding.span,
                label: "and here".to_owned(),
            }),
            Some(_) => {}
            None => self.push(finding),
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether words could not be read, so that what seems to be missing may only be unreadable.
    pub(crate) fn has_unreadable_words(&self) -> bool {
        self.kept
            .iter()
            .any(|finding| finding.severity == Severity::Error && finding.phase != Phase::Semantic)
    }

    /// Whether reading on is pointless.
    pub(crate) fn errors_are_full(&self) -> bool {
        self.errors >= MAX_ERRORS
    }

    /// Whether one more warning would not be kept.
    pub(crate) fn warnings_are_full(&self) -> bool {
        self.warnings >= MAX_WARNINGS
    }

    /// Says that the rest of the script, from `span` on, was not read.
    pub(crate) fn stop(&mut self, span: Span) {
        let message = format!("ERROR: the script has {MAX_ERRORS} errors up to here; the rest was not read");
        self.kept.push(Diagnostic::new(Code::TooManyErrors, span, message));
    }

    /// All findings, in the order of the text.
    pub(crate) fn finish(mut self, sources: &SourceMap) -> Vec<Diagnostic> {
        self.kept.sort_by_cached_key(|finding| sources.path(finding.span));
        self.kept
    }
}
