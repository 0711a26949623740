//! The grammar as pest reads it, and the tokens of one step of the script.

mod rules {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        reason = "generated from slonik.pest"
    )]

    #[derive(pest_derive::Parser)]
    #[grammar = "slonik.pest"]
    pub struct SlonikParser;
}

use pest::Parser as _;
use pest::error::{Error, ErrorVariant, InputLocation};
use pest::iterators::Pair;

pub(crate) use rules::{Rule, SlonikParser};

use crate::lexer::{Lexer, Token, TokenKind};
use crate::source::Span;

/// Tokens of a step that may be read again to find further mistakes.
const MAX_REREAD: usize = 1000;

/// The tokens of one step, up to its `;` or brace, and the text pest reads.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    tokens: Vec<Token>,
    /// Where each token stands in `text`.
    starts: Vec<usize>,
    text: String,
    /// The first token that is not yet used (a step may end before the chunk does).
    first: usize,
    /// The token behind the chunk, when that had to be read to see where the chunk ends.
    next: Option<Token>,
}

/// Where a step stopped making sense.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// Index of the token in the chunk; equal to its length for the token behind it.
    pub(crate) index: usize,
    /// What could have stood there.
    pub(crate) expected: Vec<Rule>,
}

impl Chunk {
    /// Reads the tokens of the next step, unless some of the last chunk are left.
    pub(crate) fn fill(&mut self, lexer: &mut Lexer<'_>) {
        if self.first < self.tokens.len() {
            return;
        }
        self.tokens.clear();
        self.starts.clear();
        self.text.clear();
        self.first = 0;
        loop {
            let token = self.next.take().unwrap_or_else(|| lexer.next_token());
            let ends_before = match token.kind {
                TokenKind::End => true,
                TokenKind::Sign(b'}') => !self.tokens.is_empty(),
                _ => false,
            };
            if ends_before {
                self.next = Some(token);
                return;
            }
            self.starts.push(self.text.len());
            match token.kind {
                // A lone quote: no rule of the grammar takes it.
                TokenKind::OpenString => self.text.push('\''),
                TokenKind::Sign(byte) => self.text.push(char::from(byte)),
                _ => self.text.push_str(&lexer.sources.words(token.span)),
            }
            // Not a blank: pest quotes the line of an error, and a step can be megabytes long.
            self.text.push('\n');
            self.tokens.push(token);
            if matches!(token.kind, TokenKind::Sign(b';' | b'{' | b'}')) {
                return;
            }
        }
    }

    /// The unused tokens.
    pub(crate) fn tokens(&self) -> &[Token] {
        self.tokens.get(self.first..).unwrap_or_default()
    }

    /// The token at an index of [`Mismatch`]; the one behind the chunk if the index is past its end.
    pub(crate) fn token(&self, index: usize) -> Option<Token> {
        self.tokens().get(index).copied().or(self.next)
    }

    /// The lower-cased text of an unused token.
    pub(crate) fn word(&self, index: usize) -> String {
        self.slice(index).to_ascii_lowercase()
    }

    /// Whether an unused token is this word.
    pub(crate) fn is_word(&self, index: usize, word: &str) -> bool {
        self.slice(index).eq_ignore_ascii_case(word)
    }

    fn slice(&self, index: usize) -> &str {
        let index = self.first + index;
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim_end_matches('\n')
    }

    /// Reads the unused tokens as one step.
    pub(crate) fn parse(&self, rule: Rule) -> Result<Pair<'_, Rule>, Mismatch> {
        let base = self.base();
        let text = self.text.get(base..).unwrap_or_default();
        match SlonikParser::parse(rule, text) {
            Ok(mut pairs) => pairs.next().ok_or(Mismatch {
                index: 0,
                expected: Vec::new(),
            }),
            Err(error) => Err(self.mismatch(base, &error)),
        }
    }

    /// Reads the unused tokens as one statement of a kind that is known; None if they are not that.
    ///
    /// This is what nearly every step takes: it spares pest trying all other statements first.
    pub(crate) fn parse_as(&self, rule: Rule) -> Option<Pair<'_, Rule>> {
        let text = self.text.get(self.base()..).unwrap_or_default();
        let pair = SlonikParser::parse(rule, text).ok()?.next()?;
        let rest = text.get(pair.as_span().end()..)?;
        rest.bytes().all(|byte| byte == b'\n').then_some(pair)
    }

    /// The chunk without the option that starts at an unused token, from there to the next comma at the same depth; None if
    /// no option can be seen there, or if the chunk is too long to be read many times.
    pub(crate) fn without_option(&self, index: usize) -> Option<Self> {
        let tokens = self.tokens();
        let behind = |sign: u8| {
            index
                .checked_sub(1)
                .and_then(|before| tokens.get(before))
                .is_some_and(|token| token.kind == TokenKind::Sign(sign))
        };
        if tokens.len() > MAX_REREAD || !(behind(b'(') || behind(b',')) {
            return None;
        }
        let mut depth = 0_usize;
        let mut end = index;
        loop {
            match tokens.get(end)?.kind {
                TokenKind::Sign(b'(') => depth += 1,
                TokenKind::Sign(b')') => depth = depth.checked_sub(1)?,
                TokenKind::Sign(b',') if depth == 0 => break,
                TokenKind::Sign(b';' | b'{' | b'}') => return None,
                _ => {}
            }
            end += 1;
        }
        let mut shorter = Self {
            next: self.next,
            ..Self::default()
        };
        for (at, token) in tokens.iter().enumerate() {
            if (index..=end).contains(&at) {
                continue;
            }
            shorter.starts.push(shorter.text.len());
            shorter.text.push_str(self.slice(at));
            shorter.text.push('\n');
            shorter.tokens.push(*token);
        }
        Some(shorter)
    }

    fn base(&self) -> usize {
        self.starts.get(self.first).copied().unwrap_or(self.text.len())
    }

    fn mismatch(&self, base: usize, error: &Error<Rule>) -> Mismatch {
        let offset = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => base + at,
        };
        let expected = match &error.variant {
            ErrorVariant::ParsingError { positives, .. } => positives.clone(),
            ErrorVariant::CustomError { .. } => Vec::new(),
        };
        // The first token that ends behind the offset; pest may stop at the line feed in front of it.
        let ends = |index: usize| self.starts.get(index + 1).copied().unwrap_or(self.text.len()) - 1;
        let index = match self.starts.partition_point(|&start| start <= offset).checked_sub(1) {
            Some(index) if offset < ends(index) => index,
            Some(index) => index + 1,
            None => 0,
        };
        Mismatch {
            index: index.saturating_sub(self.first),
            expected,
        }
    }

    /// The index of the unused token a pair starts with (`from_end`: ends with).
    fn index_of(&self, pair: &Pair<'_, Rule>, last: bool) -> usize {
        let base = self.base();
        let span = pair.as_span();
        let offset = base
            + if last {
                span.end().saturating_sub(1).max(span.start())
            } else {
                span.start()
            };
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// The first and the last token of a pair.
    pub(crate) fn ends_of(&self, pair: &Pair<'_, Rule>) -> Option<(Span, Span)> {
        let first = self.tokens.get(self.index_of(pair, false))?;
        let last = self.tokens.get(self.index_of(pair, true))?;
        Some((first.span, last.span))
    }

    /// The step is done with.
    pub(crate) fn finish(&mut self) {
        self.first = self.tokens.len();
    }

    /// The step ended before the unused token at `index`, which starts the next one.
    pub(crate) fn resume_at(&mut self, index: usize) {
        self.first += index;
    }
}
