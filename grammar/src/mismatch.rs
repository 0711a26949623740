//! Syntax errors: slonik's words, and what could have been meant.

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::dialect;
use crate::form::{self, FORMS};
use crate::help;
use crate::lexer::{Token, TokenKind, token_text};
use crate::option::OptionName;
use crate::snippet::mask_passwords;
use crate::source::SourceMap;
use crate::syntax::{Chunk, Mismatch, Rule};

/// Characters of a token that are repeated in a message.
const MAX_TOKEN: usize = 80;
/// Words that are listed as what could stand at a place.
const MAX_EXPECTED: usize = 12;

/// The finding for a step that makes no sense at a token.
pub(crate) fn describe(sources: &SourceMap, chunk: &Chunk, rule: Rule, found: &Mismatch) -> Diagnostic {
    let Some(token) = chunk.token(found.index) else {
        let nowhere = crate::source::Span {
            source: 0,
            start: 0,
            end: 0,
            line: 1,
        };
        return Diagnostic::new(
            Code::UnexpectedEnd,
            nowhere,
            "ERROR: syntax error at or near end of script",
        );
    };
    let message = match token.kind {
        TokenKind::End | TokenKind::OpenString => "ERROR: syntax error at or near end of script".to_owned(),
        _ => format!("ERROR: syntax error at or near {}", shown(&token_text(sources, token))),
    };
    let (code, help) = advice(chunk, rule, found, token);
    let mut finding = Diagnostic::new(code, token.span, message);
    finding.help = Some(help).filter(|help| !help.is_empty());
    let previous = found
        .index
        .checked_sub(1)
        .and_then(|index| chunk.tokens().get(index))
        .copied();
    if let Some(previous) = previous.filter(|previous| ends_suspiciously(sources, *previous, token)) {
        finding = finding.related(
            previous.span,
            "this string starts here and ends right before: is a quote missing or too many?",
        );
    }
    if token.kind == TokenKind::End
        && let Some(first) = chunk.tokens().first()
    {
        finding = finding.related(first.span, "this statement is not finished");
    }
    finding
}

/// Whether a step only lacks its `;` and the next statement starts at the token in error.
pub(crate) fn misses_semicolon(chunk: &Chunk, found: &Mismatch) -> bool {
    let Some((previous, token)) = found
        .index
        .checked_sub(1)
        .and_then(|index| Some((chunk.tokens().get(index)?, chunk.tokens().get(found.index)?)))
    else {
        return false;
    };
    found.expected.contains(&Rule::semicolon)
        && token.kind == TokenKind::Word
        && (previous.span.source, previous.span.line) != (token.span.source, token.span.line)
        && first_words().any(|word| chunk.is_word(found.index, word))
}

/// A string that spans lines, or touches what follows, was probably closed by a quote too early or
/// too late.
fn ends_suspiciously(sources: &SourceMap, string: Token, next: Token) -> bool {
    let touches = string.span.source == next.span.source && string.span.end == next.span.start;
    string.kind == TokenKind::String
        && next.kind != TokenKind::Sign(b';')
        && (touches || sources.bytes(string.span).contains(&b'\n'))
}

/// What kind of mistake it is, and what to write instead.
fn advice(chunk: &Chunk, rule: Rule, found: &Mismatch, token: Token) -> (Code, String) {
    if let Some(advice) = dialect::removed(chunk) {
        return (Code::RemovedStatement, advice.to_owned());
    }
    if let Some((code, advice)) = advice_for_sign(chunk, rule, found, token) {
        return (code, advice.to_owned());
    }
    if token.kind == TokenKind::Word && found.expected.contains(&Rule::cluster_name) {
        let word = chunk.word(found.index);
        return (
            Code::SyntaxError,
            format!("`{word}` is a word of the language and cannot name a cluster"),
        );
    }
    if misses_semicolon(chunk, found) {
        return (
            Code::MissingSemicolon,
            "a `;` is missing at the end of the statement before it".to_owned(),
        );
    }
    let word = if token.kind == TokenKind::Word {
        chunk.word(found.index)
    } else {
        String::new()
    };
    if found.index == 0 {
        let following = chunk.tokens().get(1).map(|token| token.kind);
        return advice_at_start(rule, chunk, &word, following);
    }
    let code = match token.kind {
        TokenKind::End => Code::UnexpectedEnd,
        TokenKind::Word if expects_option(found) => Code::UnknownOption,
        _ => Code::SyntaxError,
    };
    if expects_option(found) {
        return (code, advice_for_option(chunk, found.index));
    }
    let expected: Vec<Rule> = found.expected.iter().copied().take(MAX_EXPECTED).collect();
    let keywords: Vec<String> = expected.iter().filter_map(|&rule| keyword(rule)).collect();
    if let Some(near) = help::nearest(&word, keywords.iter().map(String::as_str)) {
        return (code, format!("did you mean `{near}`?"));
    }
    let mut wanted: Vec<String> = expected.iter().filter_map(|&rule| wanted(rule)).collect();
    wanted.dedup();
    let help = if wanted.is_empty() {
        String::new()
    } else {
        format!("expected {}", help::enumerate(&wanted, "or"))
    };
    (code, help)
}

/// What to say about strings and signs that betray what was meant.
fn advice_for_sign(chunk: &Chunk, rule: Rule, found: &Mismatch, token: Token) -> Option<(Code, &'static str)> {
    let previous = found.index.checked_sub(1).and_then(|index| chunk.tokens().get(index));
    let following = chunk.tokens().get(found.index + 1).map(|token| token.kind);
    let behind = |sign: u8| previous.is_some_and(|token| token.kind == TokenKind::Sign(sign));
    let advice = match token.kind {
        TokenKind::OpenString => {
            return Some((
                Code::UnterminatedString,
                "the string that starts here is never closed; a quote inside a string is written twice: `''`",
            ));
        }
        TokenKind::Sign(b'"') => "double quotes stand inside single ones: `'public.\"Odd Name\"'`",
        TokenKind::Sign(b'-') if following == Some(TokenKind::Sign(b'-')) => "a comment starts with `#`",
        TokenKind::Sign(b'/') if matches!(following, Some(TokenKind::Sign(b'*' | b'/'))) => "a comment starts with `#`",
        TokenKind::Sign(b')') if behind(b'(') => "write the statement without parentheses if it has no options",
        TokenKind::Sign(b')') if behind(b',') => "no comma stands before `)`",
        TokenKind::String if rule == Rule::step_cluster && found.expected.contains(&Rule::cluster_name) => {
            "write the name of the cluster without quotes"
        }
        _ => return None,
    };
    Some((Code::SyntaxError, advice))
}

/// What to say when a step starts with the wrong token.
fn advice_at_start(rule: Rule, chunk: &Chunk, word: &str, following: Option<TokenKind>) -> (Code, String) {
    let (code, advice) = match word {
        "node" => (
            Code::MisplacedStatement,
            "the `node … admin conninfo` lines stand behind the cluster name, before the first statement",
        ),
        "cluster" => (
            Code::MisplacedStatement,
            "the cluster name stands at the top of the script, once",
        ),
        "on" => (
            Code::MisplacedStatement,
            "`on error` and `on success` follow the `}` of a `try` block",
        ),
        "try" if rule == Rule::step_try_statement => (
            Code::MisplacedStatement,
            "a `try` cannot stand directly in a `try`, but in its `on error` and `on success` blocks",
        ),
        "" => match chunk.token(0).map(|token| token.kind) {
            Some(TokenKind::Sign(b';')) => (
                Code::SyntaxError,
                "a `;` too many, or the statement before it is missing",
            ),
            Some(TokenKind::Sign(b'}')) => (Code::MisplacedStatement, ""),
            Some(TokenKind::End) => (Code::UnexpectedEnd, ""),
            _ => (Code::SyntaxError, "a statement starts with a word"),
        },
        _ => {
            let help = match help::nearest(word, first_words()) {
                Some("try") if following != Some(TokenKind::Sign(b'{')) => None,
                near => near,
            };
            let help = help.map_or_else(
                || "no statement starts with this word".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            // Without a preamble nothing else is in its place.
            let code = match rule {
                Rule::step_cluster | Rule::step_node => Code::MisplacedStatement,
                _ => Code::UnknownStatement,
            };
            return (code, help);
        }
    };
    (code, advice.to_owned())
}

/// What to say where an option should stand: the nearest name, and the options of the statement.
fn advice_for_option(chunk: &Chunk, index: usize) -> String {
    let Some(form) = form::of_chunk(chunk).next() else {
        return "expected an option".to_owned();
    };
    let options = help::options_of(form);
    let mut words = Vec::new();
    for (offset, token) in chunk.tokens().iter().skip(index).take(3).enumerate() {
        if token.kind != TokenKind::Word {
            break;
        }
        words.push(chunk.word(index + offset));
    }
    let written = words.join(" ");
    if let Some(advice) = dialect::removed_option(&written) {
        return advice.to_owned();
    }
    let labels = form.options.iter().map(|option| option.words());
    match help::nearest(&written, labels) {
        Some(near) => format!("did you mean `{near}`? {options}"),
        None => options,
    }
}

fn first_words() -> impl Iterator<Item = &'static str> {
    FORMS
        .iter()
        .filter_map(|form| form.words.split(' ').next())
        .chain(["try"])
}

fn expects_option(found: &Mismatch) -> bool {
    found
        .expected
        .iter()
        .any(|&rule| rule == Rule::option || OptionName::from_rule(rule).is_some())
}

/// The word a keyword rule stands for.
fn keyword(rule: Rule) -> Option<String> {
    format!("{rule:?}")
        .strip_prefix("kw_")
        .filter(|word| !dialect::OLD_WORDS.contains(word))
        .map(str::to_owned)
}

/// What a rule stands for, for a list of what could have been written.
fn wanted(rule: Rule) -> Option<String> {
    let words = match rule {
        Rule::semicolon => "`;`",
        Rule::comma => "`,`",
        Rule::equals => "`=`",
        Rule::minus => "`-`",
        Rule::left_paren => "`(`",
        Rule::right_paren => "`)`",
        Rule::left_brace => "`{`",
        Rule::right_brace => "`}`",
        Rule::number => "a number",
        Rule::string => "a string in single quotes",
        Rule::boolean | Rule::boolean_true | Rule::boolean_false => "`yes` or `no`",
        Rule::cluster_name => "a name",
        Rule::failed_node => "`node = (…)`",
        _ => return keyword(rule).map(|word| format!("`{word}`")),
    };
    Some(words.to_owned())
}

/// A token as it may stand in a message: one line, not too long, without passwords.
fn shown(text: &str) -> String {
    let bounded: String = text.chars().take(4096).collect();
    let masked = mask_passwords(&bounded);
    let mut shown: String = masked
        .chars()
        .take_while(|character| *character != '\n')
        .take(MAX_TOKEN)
        .collect();
    if shown.len() < masked.len() {
        shown.push('…');
    }
    shown
        .chars()
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect()
}
