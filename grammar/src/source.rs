//! Source texts and positions in them.
//!
//! A script is one or more files; the value of a `define` is a stretch of one of them. Each time a
//! file is included or an `@NAME` is replaced, a new *source* starts that remembers where it was asked
//! for, so that every position leads back to the file the user named.

use std::borrow::Cow;
use std::sync::Arc;

/// A place in a script: which text, which bytes, which line.
///
/// A script is made of several texts (the file itself, what it includes, the text of a `define`);
/// `source` is the index of the text in the [`SourceMap`](crate::SourceMap). Inside the text of a
/// `define` the line is the one where `@NAME` stands, since that is where the statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Index of the text in the source map.
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// Byte after the last one.
    pub end: u32,
    /// Line of the first byte, counted from 1.
    pub line: u32,
}

/// How a source came into the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file given to slonik, or standard input.
    Main,
    /// Named by an `include <…>` at this place.
    Include(Span),
    /// The value of a `define`, asked for at this place.
    Define(Arc<Define>, Span),
}

/// One `define NAME text;`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Define {
    /// The name, as written.
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) name_span: Span,
    /// First byte of the value in its text.
    pub(crate) start: u32,
    /// Byte after the value.
    pub(crate) end: u32,
}

impl Define {
    /// Where the value stands, in the source that defines it.
    pub(crate) fn value_span(&self) -> Span {
        Span {
            start: self.start,
            end: self.end,
            ..self.name_span
        }
    }
}

/// A stretch of a file as people and editors count: lines and columns from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Name of the file, as it was given or included.
    pub file: String,
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Line of the character behind the last one.
    pub end_line: u32,
    /// Column of the character behind the last one.
    pub end_column: u32,
}

/// A file's name and content.
#[derive(Debug)]
struct Text {
    name: String,
    bytes: Arc<[u8]>,
}

/// A text in its place in the script.
#[derive(Debug, Clone)]
struct Source {
    text: u32,
    origin: Origin,
}

/// A step on the way from a position to the file the user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// Where the `include` or `@NAME` stands.
    pub span: Span,
    /// What stands there, for messages: ``included here`` or ``in the text of `NAME` ``.
    pub label: String,
}

/// All texts of one script, in the order they were met.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    texts: Vec<Arc<Text>>,
    sources: Vec<Source>,
}

/// Positions are 32 bits wide; the lexer refuses scripts long before that overflows.
pub(crate) fn position(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

impl SourceMap {
    /// `file:line` of a place, as it stands in front of every message.
    #[must_use]
    pub fn location(&self, span: Span) -> String {
        format!("{}:{}", self.file(span), span.line)
    }

    /// Name of the file a place stands in (for the text of a `define`: the file that uses it).
    #[must_use]
    pub fn file(&self, span: Span) -> &str {
        let place = self.in_file(span);
        self.text_of(place).map_or("<unknown>", |text| &text.name)
    }

    /// Where the words at a place are written: for the text of a `define` there, not where it is used.
    #[must_use]
    pub fn stretch(&self, span: Span) -> Stretch {
        let text = self.text_around(span);
        let start = (span.start as usize).min(text.len());
        let end = (span.end as usize).clamp(start, text.len());
        let column = |at: usize| {
            let before = text.get(..at).unwrap_or_default();
            let line_start = before
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |found| found + 1);
            let line = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default());
            position(line.chars().count() + 1)
        };
        let line = self.line_of_text(span);
        let lines = text.get(start..end).unwrap_or_default().split(|&byte| byte == b'\n');
        Stretch {
            file: self
                .text_of(span)
                .map_or_else(|| "<unknown>".to_owned(), |text| text.name.clone()),
            line,
            column: column(start),
            end_line: line + position(lines.count().saturating_sub(1)),
            end_column: column(end),
        }
    }

    /// The words at a place, as they are written.
    #[must_use]
    pub fn words(&self, span: Span) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes(span))
    }

    /// The way from a place to the file given to slonik: each `@NAME` and `include` on it, the
    /// nearest first.
    #[must_use]
    pub fn via(&self, span: Span) -> Vec<Via> {
        let mut steps = Vec::new();
        let mut place = span;
        while let Some(source) = self.sources.get(place.source as usize) {
            match &source.origin {
                Origin::Main => break,
                Origin::Include(asked) => {
                    steps.push(Via {
                        span: *asked,
                        label: "included here".to_owned(),
                    });
                    place = *asked;
                }
                Origin::Define(define, asked) => {
                    steps.push(Via {
                        span: *asked,
                        label: format!("in the text of `{}`", define.name),
                    });
                    place = *asked;
                }
            }
        }
        steps
    }

    /// The place in a file that stands for `span`: itself, or the `@NAME` that brought it in.
    #[must_use]
    pub fn in_file(&self, span: Span) -> Span {
        let mut place = span;
        while let Some(Source {
            origin: Origin::Define(_, asked),
            ..
        }) = self.sources.get(place.source as usize)
        {
            place = *asked;
        }
        place
    }

    /// The line a place has in the text it stands in: for the text of a `define`, where that is written.
    pub(crate) fn line_of_text(&self, span: Span) -> u32 {
        match self.sources.get(span.source as usize).map(|source| &source.origin) {
            Some(Origin::Define(define, _)) => define.name_span.line,
            _ => span.line,
        }
    }

    /// From the first byte of `first` to the last byte of `last`, in the text both stand in.
    pub(crate) fn join(&self, first: Span, last: Span) -> Span {
        let (mut first, mut last) = (first, last);
        // A source is always numbered higher than the one that asked for it.
        while first.source != last.source {
            let deeper = if first.source > last.source {
                &mut first
            } else {
                &mut last
            };
            match self.asked_from(*deeper) {
                Some(asked) => *deeper = asked,
                None => return first,
            }
        }
        Span {
            end: last.end.max(first.end),
            ..first
        }
    }

    /// The way from the text given to slonik down to a place, as offsets: paths compare as places follow each other.
    pub(crate) fn path(&self, span: Span) -> Vec<u32> {
        let mut path = vec![span.start];
        let mut place = span;
        while let Some(asked) = self.asked_from(place) {
            path.push(asked.start);
            place = asked;
        }
        path.reverse();
        path
    }

    fn asked_from(&self, span: Span) -> Option<Span> {
        match &self.sources.get(span.source as usize)?.origin {
            Origin::Main => None,
            Origin::Include(asked) | Origin::Define(_, asked) => Some(*asked),
        }
    }

    /// The bytes at a place.
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        self.text_of(span)
            .and_then(|text| text.bytes.get(span.start as usize..span.end as usize))
            .unwrap_or_default()
    }

    /// The whole text a place stands in.
    pub(crate) fn text_around(&self, span: Span) -> &[u8] {
        self.text_of(span).map_or(&[], |text| &text.bytes)
    }

    fn text_of(&self, span: Span) -> Option<&Text> {
        let source = self.sources.get(span.source as usize)?;
        self.texts.get(source.text as usize).map(AsRef::as_ref)
    }

    /// Adds a file and the source it starts; returns the number of the source and its bytes.
    pub(crate) fn add_file(&mut self, name: String, bytes: Vec<u8>, origin: Origin) -> (u32, Arc<[u8]>) {
        let bytes: Arc<[u8]> = bytes.into();
        let text = position(self.texts.len());
        self.texts.push(Arc::new(Text {
            name,
            bytes: Arc::clone(&bytes),
        }));
        (self.push(Source { text, origin }), bytes)
    }

    /// Adds one more source over the text of source `first`; returns its number.
    pub(crate) fn add_again(&mut self, first: u32, origin: Origin) -> u32 {
        let text = self.sources.get(first as usize).map_or(0, |source| source.text);
        self.push(Source { text, origin })
    }

    /// Adds one use of a `define`; returns the number of the source and the text that holds the value.
    pub(crate) fn add_define(&mut self, define: &Arc<Define>, used: Span) -> (u32, Arc<[u8]>) {
        let (text, bytes) = self
            .sources
            .get(define.name_span.source as usize)
            .map_or((0, None), |source| {
                (
                    source.text,
                    self.texts.get(source.text as usize).map(|text| Arc::clone(&text.bytes)),
                )
            });
        let source = Source {
            text,
            origin: Origin::Define(Arc::clone(define), used),
        };
        (self.push(source), bytes.unwrap_or_else(|| Arc::from([].as_slice())))
    }

    fn push(&mut self, source: Source) -> u32 {
        let number = position(self.sources.len());
        self.sources.push(source);
        number
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn span(source: u32, start: u32, end: u32, line: u32) -> Span {
        Span {
            source,
            start,
            end,
            line,
        }
    }

    #[test]
    fn joins_across_sources_in_the_text_that_asked() {
        let mut map = SourceMap::default();
        let (main, _) = map.add_file("main".into(), b"@s (id = 1);".to_vec(), Origin::Main);
        let used = span(main, 0, 2, 1);
        let define = Arc::new(Define {
            name: "s".into(),
            name_span: span(main, 0, 0, 1),
            start: 3,
            end: 5,
        });
        let (inner, _) = map.add_define(&define, used);
        assert_eq!(
            map.join(span(inner, 3, 5, 1), span(main, 11, 12, 1)),
            span(main, 0, 12, 1)
        );
        assert_eq!(map.file(span(inner, 3, 5, 1)), "main");
        assert_eq!(map.via(span(inner, 3, 5, 1)).len(), 1);
        let written = map.stretch(span(main, 3, 12, 1));
        assert_eq!(
            (written.line, written.column, written.end_line, written.end_column),
            (1, 4, 1, 13)
        );
    }
}
