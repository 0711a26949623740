//! The lexical layer: one stream of tokens out of files, includes and definitions.
//!
//! slonik's `include` and `define` work on text, at any place, so they are resolved here and the
//! grammar never sees them. Each byte is looked at once, and everything that could multiply work
//! (nesting, expansion) has a bound.

mod define;
mod file;

pub(crate) use file::{plain_error, read_bounded};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::ParseOptions;
use crate::code::Code;
use crate::diagnostic::{Diagnostic, Findings};
use crate::source::{Define, Origin, SourceMap, Span, position};

/// Bytes one script may have in all, with everything it includes and expands.
const MAX_BYTES: usize = 32 << 20;
/// Files and definitions that may be open inside each other.
const MAX_DEPTH: usize = 128;
/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Keyword or identifier.
    Word,
    /// Decimal digits.
    Number,
    /// `'…'`.
    String,
    /// A quote that nothing closes, up to the end of its text.
    OpenString,
    /// Any other single character.
    Sign(u8),
    /// The end of the script.
    End,
}

/// One token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// A text that is being read.
struct Frame {
    source: u32,
    bytes: Arc<[u8]>,
    at: usize,
    end: usize,
    line: u32,
    /// The resolved path of an included file, to find loops.
    path: Option<PathBuf>,
    /// The definition whose value this is.
    define: Option<Arc<Define>>,
    /// No `;` stands between here and this offset (kept so that no line is searched twice).
    no_semicolon_before: usize,
    /// No `>` stands between here and this offset.
    no_bracket_before: usize,
}

impl Frame {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied().filter(|_| self.at < self.end)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied().filter(|_| at < self.end)
    }

    /// Steps over one byte, counting lines (inside a definition the line stays that of its use).
    fn step(&mut self) {
        if self.peek() == Some(b'\n') && self.define.is_none() {
            self.line += 1;
        }
        self.at += 1;
    }

    fn skip_while(&mut self, matches: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&matches) {
            self.step();
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    fn line_end(&self) -> usize {
        self.rest()
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(self.end, |offset| self.at + offset)
    }

    fn span(&self, start: usize, line: u32) -> Span {
        Span {
            source: self.source,
            start: position(start),
            end: position(self.at),
            line,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Reads tokens from a script and all it includes.
pub(crate) struct Lexer<'a> {
    options: &'a ParseOptions,
    pub(crate) sources: SourceMap,
    pub(crate) findings: Findings,
    frames: Vec<Frame>,
    defines: BTreeMap<Vec<u8>, Arc<Define>>,
    /// Included files already read, by resolved path.
    files: HashMap<PathBuf, (u32, Arc<[u8]>)>,
    undefined: HashSet<Vec<u8>>,
    miscoded: HashSet<u32>,
    used: usize,
    end: Span,
    /// Part of the script is missing, so what follows from its absence is not worth reporting.
    pub(crate) incomplete: bool,
}

impl<'a> Lexer<'a> {
    /// Starts with the text of the main script.
    pub(crate) fn new(name: &str, text: Vec<u8>, path: Option<PathBuf>, options: &'a ParseOptions) -> Self {
        let mut lexer = Self {
            options,
            sources: SourceMap::default(),
            findings: Findings::default(),
            frames: Vec::new(),
            defines: BTreeMap::new(),
            files: HashMap::new(),
            undefined: HashSet::new(),
            miscoded: HashSet::new(),
            used: 0,
            end: Span {
                source: 0,
                start: 0,
                end: 0,
                line: 1,
            },
            incomplete: false,
        };
        let (source, bytes) = lexer.sources.add_file(name.to_owned(), text, Origin::Main);
        lexer.push_file(source, bytes, path);
        lexer
    }

    /// The next token; after the last one `End`, for ever.
    pub(crate) fn next_token(&mut self) -> Token {
        loop {
            let outermost = self.frames.len() == 1;
            let Some(frame) = self.frames.last_mut() else {
                return Token {
                    kind: TokenKind::End,
                    span: self.end,
                };
            };
            frame.skip_while(is_space);
            let (start, line) = (frame.at, frame.line);
            let Some(byte) = frame.peek() else {
                if outermost {
                    self.end = frame.span(start, line);
                }
                self.frames.pop();
                continue;
            };
            let kind = match byte {
                b'#' => {
                    frame.at = frame.line_end();
                    continue;
                }
                b'\'' => Self::read_string(frame),
                b'@' if frame.byte(start + 1).is_some_and(starts_word) => {
                    self.expand(start, line);
                    continue;
                }
                0 => {
                    self.refuse_nul(start, line);
                    continue;
                }
                byte if byte.is_ascii_digit() => {
                    frame.skip_while(|byte| byte.is_ascii_digit());
                    TokenKind::Number
                }
                byte if starts_word(byte) => {
                    frame.skip_while(continues_word);
                    let word = frame.bytes.get(start..frame.at).unwrap_or_default();
                    if word.eq_ignore_ascii_case(b"include") {
                        self.read_include(start, line);
                        continue;
                    }
                    if word.eq_ignore_ascii_case(b"define") {
                        self.read_define(start, line);
                        continue;
                    }
                    TokenKind::Word
                }
                byte => {
                    frame.step();
                    TokenKind::Sign(byte)
                }
            };
            let span = frame.span(start, line);
            if matches!(kind, TokenKind::Word | TokenKind::String | TokenKind::OpenString) {
                self.check_encoding(span);
            }
            return Token { kind, span };
        }
    }

    /// A quote opens a string; `''` inside stands for one quote; lines and backslashes are kept.
    fn read_string(frame: &mut Frame) -> TokenKind {
        frame.step();
        loop {
            match frame.peek() {
                None => return TokenKind::OpenString,
                Some(b'\'') => {
                    frame.step();
                    if frame.peek() != Some(b'\'') {
                        return TokenKind::String;
                    }
                    frame.step();
                }
                Some(_) => frame.step(),
            }
        }
    }

    /// Whether one more text may be opened inside the present one.
    fn may_nest(&mut self, asked: Span, cost: usize) -> bool {
        if self.frames.len() >= MAX_DEPTH {
            self.refuse_source(Diagnostic::new(
                Code::NestedTooDeep,
                asked,
                format!("ERROR: includes and definitions are nested deeper than {MAX_DEPTH}"),
            ));
            return false;
        }
        self.used = self.used.saturating_add(cost);
        if self.used > MAX_BYTES {
            self.refuse_source(
                Diagnostic::new(
                    Code::TooLong,
                    asked,
                    format!(
                        "ERROR: the script is longer than {} MiB with everything it includes",
                        MAX_BYTES >> 20
                    ),
                )
                .help("split the script, or look for definitions that use each other many times"),
            );
            // Nothing behind this point can be trusted to be what was meant.
            self.frames.clear();
            self.end = self.sources.in_file(asked);
            return false;
        }
        true
    }

    fn refuse_source(&mut self, finding: Diagnostic) {
        self.incomplete = true;
        self.findings.push(finding);
    }

    /// A NUL byte cannot be part of a script: real slonik would cut the text there.
    fn refuse_nul(&mut self, start: usize, line: u32) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.at = frame.end;
        let span = Span {
            source: frame.source,
            start: position(start),
            end: position(start + 1),
            line,
        };
        let help = "remove the byte: the script is not read beyond it";
        self.refuse_source(Diagnostic::new(Code::NulByte, span, "ERROR: a NUL byte in the script").help(help));
    }

    /// Words and strings must be UTF-8; comments may be anything. Reported once per text.
    fn check_encoding(&mut self, span: Span) {
        let bytes = self.sources.bytes(span);
        if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
            self.incomplete = true;
            let at = span.start + position(offset);
            let line = span.line + position(bytes.iter().take(offset).filter(|&&byte| byte == b'\n').count());
            if self.miscoded.insert(span.source) {
                let finding = Diagnostic::new(
                    Code::NulByte,
                    Span {
                        start: at,
                        end: at + 1,
                        line,
                        ..span
                    },
                    "ERROR: a NUL byte in the script",
                )
                .help("remove the byte; PostgreSQL cannot take it either");
                self.findings.push(finding);
            }
            return;
        }
        let Err(error) = std::str::from_utf8(bytes) else { return };
        let offset = error.valid_up_to();
        let Some(&byte) = bytes.get(offset) else { return };
        let line = span.line + position(bytes.iter().take(offset).filter(|&&byte| byte == b'\n').count());
        let at = span.start + position(offset);
        if self.miscoded.insert(span.source) {
            let finding = Diagnostic::new(
                Code::NotUtf8,
                Span {
                    start: at,
                    end: at + 1,
                    line,
                    ..span
                },
                format!("ERROR: the byte 0x{byte:02X} is not valid UTF-8"),
            )
            .help(if char::from(byte).is_control() {
                "write the file as UTF-8".to_owned()
            } else {
                format!(
                    "in Latin-1 it would be `{}`: convert the file, for example with `iconv -f latin1 -t utf-8`",
                    char::from(byte)
                )
            });
            self.findings.push(finding);
        }
    }
}

/// What a token is called in `syntax error at or near …`: its text, a string without its quotes.
pub(crate) fn token_text(sources: &SourceMap, token: Token) -> String {
    let text = sources.words(token.span);
    match token.kind {
        TokenKind::End | TokenKind::OpenString => String::new(),
        TokenKind::String => unquote(&text),
        TokenKind::Word | TokenKind::Number | TokenKind::Sign(_) => text.into_owned(),
    }
}

/// The value of a string literal.
pub(crate) fn unquote(literal: &str) -> String {
    let inner = literal.strip_prefix('\'').unwrap_or(literal);
    inner.strip_suffix('\'').unwrap_or(inner).replace("''", "'")
}
