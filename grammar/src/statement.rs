//! One statement: its options and operands, and the command they make.

use pest::iterators::{Pair, Pairs};

use crate::ParseOptions;
use crate::ast::{Command, Id};
use crate::check::{Checker, Operands};
use crate::code::Code;
use crate::diagnostic::{Diagnostic, Findings};
use crate::flow::{Flow, Noted};
use crate::form::{self, Form};
use crate::help;
use crate::lexer::{Lexer, unquote};
use crate::option::{Given, OptionName, Value, ValueKind, name_and_value};
use crate::preamble::Preamble;
use crate::source::{SourceMap, Span};
use crate::syntax::{Chunk, Rule};

/// A number of the language has 32 bits.
pub(crate) fn number(sources: &SourceMap, findings: &mut Findings, span: Span) -> Option<Id> {
    let digits = sources.words(span);
    if let Ok(number) = digits.parse() {
        return Some(number);
    }
    let shown: String = digits.chars().take(40).collect();
    findings.push(
        Diagnostic::new(
            Code::NumberOutOfRange,
            span,
            format!("ERROR: number {shown} is out of range"),
        )
        .help(format!("numbers go from 0 to {}", Id::MAX)),
    );
    None
}

/// Reads the options and operands of one statement and builds the command; None if anything is wrong.
pub(crate) fn read_command(
    lexer: &mut Lexer<'_>,
    chunk: &Chunk,
    preamble: &Preamble,
    options: &ParseOptions,
    statement: Pair<'_, Rule>,
    flow: &mut Flow,
    in_handler: bool,
) -> Option<Command> {
    let form = form::of_rule(statement.as_rule())?;
    let words = form.words.split(' ').count();
    let head = lexer.sources.join(chunk.token(0)?.span, chunk.token(words - 1)?.span);
    let mut reader = OptionReader {
        lexer,
        chunk,
        form,
        given: Vec::new(),
        failed: false,
    };
    let mut operands = Operands::default();
    for part in statement.into_inner() {
        match part.as_rule() {
            Rule::option => reader.read(part),
            Rule::string => operands.text = Some(unquote(part.as_str())),
            Rule::minus => {
                operands.negative = !operands.negative;
                let sign = chunk.ends_of(&part).map(|(span, _)| span);
                operands.minus = operands.minus.or(sign);
            }
            Rule::number => {
                let (span, _) = chunk.ends_of(&part)?;
                match number(&reader.lexer.sources, &mut reader.lexer.findings, span) {
                    Some(value) => operands.number = Some((value, span)),
                    None => reader.failed = true,
                }
            }
            Rule::failed_node => {
                for option in part.into_inner().filter(|part| part.as_rule() == Rule::option) {
                    reader.read(option);
                }
                operands.groups.push(std::mem::take(&mut reader.given));
            }
            _ => {}
        }
    }
    let OptionReader { given, failed, .. } = reader;
    if failed {
        return None;
    }
    let mut checker = Checker {
        form,
        head,
        given,
        operands,
        preamble,
        sources: &lexer.sources,
        findings: &mut lexer.findings,
        options,
        failed: false,
    };
    let command = (form.build)(&mut checker);
    if checker.failed {
        return None;
    }
    let given = std::mem::take(&mut checker.given);
    let noted = Noted {
        command: &command,
        given: &given,
        head,
        preamble,
        in_handler,
    };
    flow.note(&noted, &mut lexer.findings);
    Some(command)
}

/// Reads options, refusing those the statement does not have and those given twice.
struct OptionReader<'r, 'a> {
    lexer: &'r mut Lexer<'a>,
    chunk: &'r Chunk,
    form: &'static Form,
    given: Vec<Given>,
    failed: bool,
}

impl OptionReader<'_, '_> {
    fn read(&mut self, option: Pair<'_, Rule>) {
        let Some((name, name_pair, value_pair)) = name_and_value(option) else {
            return;
        };
        let (Some((first, last)), Some((value_span, _))) =
            (self.chunk.ends_of(&name_pair), self.chunk.ends_of(&value_pair))
        else {
            return;
        };
        let name_span = self.lexer.sources.join(first, last);
        let value = match value_pair.as_rule() {
            Rule::number => {
                let Some(number) = number(&self.lexer.sources, &mut self.lexer.findings, value_span) else {
                    self.failed = true;
                    return;
                };
                Value::Number(number)
            }
            Rule::string => Value::String(unquote(value_pair.as_str())),
            Rule::kw_serial => Value::Serial,
            Rule::boolean => Value::Boolean(
                value_pair
                    .into_inner()
                    .next()
                    .is_some_and(|word| word.as_rule() == Rule::boolean_true),
            ),
            _ => Value::All,
        };
        // `execute only on` as a list is known to one statement only.
        let list_not_taken = name == OptionName::ExecuteOnlyOn
            && matches!(value, Value::String(_))
            && self.form.rule != Rule::execute_script;
        let known = self.form.options.contains(&name) || self.form.old_options.contains(&name);
        if !known || list_not_taken {
            self.refuse_unknown(name, name_span, list_not_taken);
            return;
        }
        // A number and a list of the same name are two options to slonik.
        let same = |given: &&Given| {
            given.name == name
                && (name.kind() != ValueKind::NumberOrString
                    || name == OptionName::Id
                    || matches!(given.value, Value::String(_)) == matches!(value, Value::String(_)))
        };
        if let Some(before) = self.given.iter().find(same) {
            let message = format!(
                "option {} already defined on line {}",
                name.label(),
                before.name_span.line
            );
            let before = before.name_span;
            self.refuse(
                Diagnostic::new(Code::OptionGivenTwice, name_span, message).related(before, "given here before"),
            );
            return;
        }
        if name == OptionName::QualifiedName && self.lexer.sources.words(first).eq_ignore_ascii_case("full") {
            self.lexer.findings.push_once(
                Diagnostic::new(
                    Code::OldFullName,
                    name_span,
                    "WARNING: `full qualified name` is the spelling of older versions",
                )
                .help("write `fully qualified name`"),
            );
        }
        self.given.push(Given {
            name,
            value,
            name_span,
            value_span,
        });
    }

    fn refuse_unknown(&mut self, name: OptionName, span: Span, list: bool) {
        let written = self.lexer.sources.words(span).into_owned();
        let labels = self.form.options.iter().map(|option| option.words());
        let options = help::options_of(self.form);
        let help = match help::nearest(&written, labels) {
            _ if list => format!("`{}` takes one number behind `execute only on`", self.form.words),
            Some(near) if near != name.words() => format!("did you mean `{near}`? {options}"),
            _ => options,
        };
        self.refuse(
            Diagnostic::new(
                Code::OptionNotAllowed,
                span,
                format!("option {} not allowed here", name.label()),
            )
            .help(help),
        );
    }

    fn refuse(&mut self, finding: Diagnostic) {
        self.failed = true;
        self.lexer.findings.push(finding);
    }
}

/// The first pair of a rule among pairs and what they hold.
pub(crate) trait FlattenRule<'i> {
    fn flatten_rule(self, rule: Rule) -> Option<Pair<'i, Rule>>;
}

impl<'i> FlattenRule<'i> for Pairs<'i, Rule> {
    fn flatten_rule(self, rule: Rule) -> Option<Pair<'i, Rule>> {
        self.flatten().find(|pair| pair.as_rule() == rule)
    }
}
