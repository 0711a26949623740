//! The slonik language: text to a typed script with spans and diagnostics.
//!
//! [`parse_file`] and [`parse_text`] never fail: they return what they could read, every finding at
//! once, and the texts the findings point into. [`Parsed::script`] is there only when nothing is
//! wrong, and is then complete and checked as far as that needs no database.

#[cfg(test)]
mod agreement;
pub mod ast;
mod build;
mod check;
mod code;
mod diagnostic;
mod dialect;
mod flow;
mod form;
mod help;
mod lexer;
mod mismatch;
mod option;
mod parser;
mod preamble;
mod print;
mod snippet;
mod source;
mod statement;
mod syntax;

use std::path::{Path, PathBuf};

pub use ast::*;
pub use code::Code;
pub use diagnostic::{Diagnostic, Phase, Related, Severity};
pub use form::statements;
pub use source::{SourceMap, Span, Stretch, Via};

use lexer::Lexer;
use parser::ScriptParser;
use source::Origin;

/// How to read a script.
#[derive(Debug, Clone)]
pub struct ParseOptions {
    /// Where relative names of included files and of SQL files start; None: the working directory,
    /// as slonik does.
    pub directory: Option<PathBuf>,
    /// Where absolute names start; None: the root of the file system. For tools that read scripts of another machine.
    pub root: Option<PathBuf>,
    /// Whether the files named by `execute script` must be readable now.
    pub check_sql_files: bool,
}

impl ParseOptions {
    /// Where a name in a script points to on disk.
    pub(crate) fn resolve(&self, name: &Path) -> PathBuf {
        match (&self.root, name.strip_prefix("/"), &self.directory) {
            (Some(root), Ok(inside), _) => root.join(inside),
            (_, _, Some(directory)) => directory.join(name),
            (_, _, None) => name.to_owned(),
        }
    }
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self {
            directory: None,
            root: None,
            check_sql_files: true,
        }
    }
}

/// The outcome of reading a script.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The script, if there is no error.
    pub script: Option<Script>,
    /// Everything found, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that spans point into.
    pub sources: SourceMap,
}

impl Parsed {
    /// Makes every warning an error.
    pub fn deny_warnings(&mut self) {
        for finding in &mut self.diagnostics {
            if finding.severity == Severity::Warning {
                finding.severity = Severity::Error;
                if let Some(text) = finding.message.strip_prefix("WARNING: ") {
                    finding.message = format!("ERROR: {text}");
                }
            }
        }
        if self.exit_code().is_some() {
            self.script = None;
        }
    }

    /// Adds a finding of whoever executes the script, in its place among the others; an empty `help` is none.
    pub fn report(&mut self, code: Code, place: Span, message: impl Into<String>, help: &str) {
        let mut finding = Diagnostic::new(code, place, message);
        if !help.is_empty() {
            finding = finding.help(help);
        }
        let path = self.sources.path(place);
        let at = self
            .diagnostics
            .partition_point(|before| self.sources.path(before.span) <= path);
        self.diagnostics.insert(at, finding);
        if code.severity() == Severity::Error {
            self.script = None;
        }
    }

    /// The exit code real slonik ends with when the script has errors: 1 if a file could not be
    /// included, else 255. None if there is no error.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        let mut errors = self
            .diagnostics
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .peekable();
        errors.peek()?;
        Some(if errors.any(|finding| finding.phase == Phase::Include) {
            1
        } else {
            255
        })
    }
}

/// Reads a script file. A file that cannot be opened is one of the findings.
#[must_use]
pub fn parse_file(path: &Path, options: &ParseOptions) -> Parsed {
    let name = path.display().to_string();
    match lexer::read_bounded(path) {
        Ok(text) => parse(Lexer::new(&name, text, path.canonicalize().ok(), options), options),
        Err(error) => {
            let mut sources = SourceMap::default();
            let (source, _) = sources.add_file(name.clone(), Vec::new(), Origin::Main);
            let place = Span {
                source,
                start: 0,
                end: 0,
                line: 1,
            };
            let finding = Diagnostic::new(Code::UnreadableScript, place, format!("could not open file '{name}'"))
                .help(lexer::plain_error(&error));
            Parsed {
                script: None,
                diagnostics: vec![finding],
                sources,
            }
        }
    }
}

/// Reads a script from memory; `name` stands in front of the messages (`<stdin>` for standard input).
#[must_use]
pub fn parse_text(name: &str, text: impl Into<Vec<u8>>, options: &ParseOptions) -> Parsed {
    parse(Lexer::new(name, text.into(), None, options), options)
}

fn parse(lexer: Lexer<'_>, options: &ParseOptions) -> Parsed {
    let (script, findings, sources) = ScriptParser::new(lexer, options).run();
    Parsed {
        script,
        diagnostics: findings.finish(&sources),
        sources,
    }
}
