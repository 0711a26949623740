//! What a statement was given, and the questions its builder asks about it.
//!
//! A builder asks for every option it needs. A missing one is reported with slonik's words and stands
//! as 0 in a command that is then thrown away, so one statement reports all its faults at once.

use std::fs::File;
use std::path::Path;

use crate::ParseOptions;
use crate::ast::{Id, NodeChoice};
use crate::code::Code;
use crate::diagnostic::{Diagnostic, Findings};
use crate::form::Form;
use crate::help;
use crate::option::{Given, OptionName, Value, ValueKind};
use crate::preamble::Preamble;
use crate::source::{SourceMap, Span};
use crate::syntax::Rule;

/// What stands in a statement beside its options.
#[derive(Debug, Default)]
pub(crate) struct Operands {
    /// The text behind `echo`.
    pub(crate) text: Option<String>,
    /// The number behind `exit` or `restart node`, and where it stands.
    pub(crate) number: Option<(i32, Span)>,
    /// Whether an odd number of minus signs stands before it.
    pub(crate) negative: bool,
    /// The first of them.
    pub(crate) minus: Option<Span>,
    /// The `node = (…)` groups of `failover`.
    pub(crate) groups: Vec<Vec<Given>>,
}

/// Checks one statement.
pub(crate) struct Checker<'a> {
    pub(crate) form: &'static Form,
    /// The words the statement starts with.
    pub(crate) head: Span,
    pub(crate) given: Vec<Given>,
    pub(crate) operands: Operands,
    pub(crate) preamble: &'a Preamble,
    pub(crate) sources: &'a SourceMap,
    pub(crate) findings: &'a mut Findings,
    pub(crate) options: &'a ParseOptions,
    pub(crate) failed: bool,
}

impl Checker<'_> {
    /// The option as given.
    pub(crate) fn given(&self, name: OptionName) -> Option<&Given> {
        self.given.iter().find(|given| given.name == name)
    }

    /// A number, if the option was given as one.
    pub(crate) fn number(&self, name: OptionName) -> Option<Id> {
        self.given.iter().find_map(|given| match given.value {
            Value::Number(number) if given.name == name => Some(number),
            _ => None,
        })
    }

    /// A number that cannot be negative, because the language has no sign.
    pub(crate) fn count(&self, name: OptionName) -> Option<u32> {
        self.number(name).and_then(|number| u32::try_from(number).ok())
    }

    /// A string, if the option was given as one.
    pub(crate) fn string(&self, name: OptionName) -> Option<String> {
        self.given.iter().find_map(|given| match &given.value {
            Value::String(text) if given.name == name => Some(text.clone()),
            _ => None,
        })
    }

    /// A yes-or-no option; no if it was not given.
    pub(crate) fn flag(&self, name: OptionName) -> bool {
        self.given(name)
            .is_some_and(|given| given.value == Value::Boolean(true))
    }

    /// A number that must be there; `message` is what slonik says if it is not.
    pub(crate) fn required(&mut self, name: OptionName, message: &str) -> Id {
        self.number(name).unwrap_or_else(|| {
            self.report_missing(name, message);
            0
        })
    }

    /// A string that must be there.
    pub(crate) fn required_string(&mut self, name: OptionName, message: &str) -> String {
        self.string(name).unwrap_or_else(|| {
            self.report_missing(name, message);
            String::new()
        })
    }

    /// One node or `all`.
    pub(crate) fn required_choice(&mut self, name: OptionName, message: &str) -> NodeChoice {
        match self.given(name).map(|given| &given.value) {
            Some(Value::All) => NodeChoice::All,
            Some(Value::Number(number)) => NodeChoice::Node(*number),
            _ => {
                self.report_missing(name, message);
                NodeChoice::All
            }
        }
    }

    /// A node that the preamble must name, because slonik has to talk to it.
    pub(crate) fn admin(&mut self, name: OptionName) -> Id {
        self.required_admin(name, "No admin conninfo provided for node -1")
    }

    /// The same where slonik has a message of its own for a missing option.
    pub(crate) fn required_admin(&mut self, name: OptionName, message: &str) -> Id {
        let Some(node) = self.number(name) else {
            self.report_missing(name, message);
            return 0;
        };
        let place = self.place(name);
        self.has_conninfo(node, place);
        node
    }

    /// Reports a node that slonik has to talk to and cannot.
    pub(crate) fn has_conninfo(&mut self, node: Id, place: Span) {
        if self.preamble.knows(node) {
            return;
        }
        let known = self.preamble.listing();
        self.push(
            Diagnostic::new(
                Code::NodeWithoutConninfo,
                place,
                format!("Error: No admin conninfo provided for node {node}"),
            )
            .help(format!(
                "{known}; add `node {node} admin conninfo = '…';` to the preamble"
            )),
        );
    }

    /// A comma-separated list of node numbers in a string.
    pub(crate) fn node_list(&mut self, name: OptionName, text: &str, empty: &str) -> Vec<Id> {
        let place = self.place(name);
        if text.trim().is_empty() {
            self.push(
                Diagnostic::new(Code::BadNodeList, place, format!("Error: {empty}"))
                    .help("write node numbers with commas between them: `'2,3'`"),
            );
            return Vec::new();
        }
        let mut nodes = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            match part.parse::<Id>() {
                Ok(node) if part.bytes().all(|byte| byte.is_ascii_digit()) => nodes.push(node),
                _ => {
                    self.push(
                        Diagnostic::new(
                            Code::BadNodeList,
                            place,
                            format!("Error: `{}` is not a node number", shorten(part)),
                        )
                        .help("write node numbers with commas between them: `'2,3'`"),
                    );
                    return nodes;
                }
            }
        }
        nodes
    }

    /// Reports a file that `execute script` could not read.
    pub(crate) fn readable(&mut self, name: OptionName, file: &str) {
        if !self.options.check_sql_files {
            return;
        }
        let path = self.options.resolve(Path::new(file));
        if let Err(error) = File::open(&path) {
            let reason = crate::lexer::plain_error(&error);
            let place = self.place(name);
            let finding = Diagnostic::new(Code::UnreadableFile, place, format!("Error: {file} - {reason}"));
            let relative = Path::new(file).is_relative();
            self.push(if relative {
                finding.help("a relative name starts at the directory slonik was started in")
            } else {
                finding
            });
        }
    }

    /// The value of an option if it was given, else the words of the statement.
    pub(crate) fn place(&self, name: OptionName) -> Span {
        self.given(name).map_or(self.head, |given| given.value_span)
    }

    /// An option with its value if it was given, else the words of the statement.
    pub(crate) fn whole(&self, name: OptionName) -> Span {
        self.given(name).map_or(self.head, |given| {
            given.whole(|first, last| self.sources.join(first, last))
        })
    }

    /// Reports a semantic error.
    pub(crate) fn error(&mut self, code: Code, place: Span, message: &str) {
        self.push(Diagnostic::new(code, place, format!("Error: {message}")));
    }

    /// Adds an error, under the line the statement starts on.
    pub(crate) fn push(&mut self, finding: Diagnostic) {
        self.failed = true;
        self.findings.push(Diagnostic {
            location: self.head,
            ..finding
        });
    }

    /// Adds a warning of which a script gets only one of a kind.
    pub(crate) fn warn_once(&mut self, finding: Diagnostic) {
        self.findings.push_once(Diagnostic {
            location: self.head,
            ..finding
        });
    }

    /// Reports an option that is missing or has a value of the wrong kind.
    fn report_missing(&mut self, name: OptionName, message: &str) {
        let words = self.form.words;
        let label = name.words();
        let help = match self.given(name).map(|given| &given.value) {
            Some(Value::String(_)) => format!("`{label}` of `{words}` is a number: write it without quotes"),
            Some(Value::All) => format!("`all` means something only in `wait for event`: write `{label} = <number>`"),
            _ => {
                let value = match name.kind() {
                    ValueKind::NumberOrAll if self.form.rule != Rule::wait_for_event => ValueKind::Number,
                    kind => kind,
                };
                let options = help::options_of(self.form);
                let before = match name {
                    OptionName::EventNode => " (older versions took node 1)",
                    _ => "",
                };
                format!("add `{label} = {}`{before}: {options}", value.placeholder())
            }
        };
        let place = self.place(name);
        self.push(Diagnostic::new(Code::MissingOption, place, format!("Error: {message}")).help(help));
    }
}

/// The first characters of a text, for messages.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
