//! `define NAME text;` and `@NAME`.

use std::sync::Arc;

use super::{Frame, Lexer, continues_word, is_space, starts_word};
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::help;
use crate::source::{Define, Span, position};

/// What one use of a definition costs at least of [`MAX_BYTES`], so that empty ones are bounded too.
const EXPANSION_COST: usize = 256;

/// Definitions looked at for a better spelling.
const HELP_CANDIDATES: usize = 1000;

impl Lexer<'_> {
    /// `define NAME text;`: the text runs to the last `;` of the line.
    pub(super) fn read_define(&mut self, start: usize, line: u32) {
        let Some(frame) = self.frames.last_mut() else { return };
        let keyword = frame.span(start, line);
        frame.skip_while(is_space);
        let (name_start, name_line) = (frame.at, frame.line);
        if frame.peek().is_some_and(starts_word) {
            frame.skip_while(continues_word);
        }
        let name_span = frame.span(name_start, name_line);
        let named = frame.at > name_start;
        let blank = matches!(frame.peek(), Some(b' ' | b'\t'));
        frame.skip_while(|byte| matches!(byte, b' ' | b'\t'));
        let value_start = frame.at;
        let last_semicolon = if value_start < frame.no_semicolon_before {
            None
        } else {
            let line_end = frame.line_end();
            let value = frame.bytes.get(value_start..line_end).unwrap_or_default();
            let found = value
                .iter()
                .rposition(|&byte| byte == b';')
                .map(|offset| value_start + offset);
            if found.is_none() {
                frame.no_semicolon_before = line_end;
            }
            found
        };
        let end = last_semicolon.unwrap_or(frame.no_semicolon_before.max(value_start));
        let complete = named && blank && last_semicolon.is_some();
        frame.at = if last_semicolon.is_some() { end + 1 } else { end };
        if named && blank {
            // A definition that lacks its `;` is reported, and taken as meant.
            let name = String::from_utf8_lossy(self.sources.bytes(name_span)).into_owned();
            let key = self.sources.bytes(name_span).to_vec();
            let define = Define {
                name,
                name_span,
                start: position(value_start),
                end: position(end),
            };
            if let Some(before) = self.defines.insert(key, Arc::new(define)) {
                self.warn_shadowed(&before, name_span, (value_start, end));
            }
        }
        if !complete {
            self.findings.push(
                Diagnostic::new(Code::MalformedDefine, keyword, "ERROR: syntax error at or near define").help(
                    "write `define NAME text;`: a blank behind the name, and the text with its closing `;` on the same line",
                ),
            );
        }
    }

    /// Replaces `@NAME` by the text of the definition.
    pub(super) fn expand(&mut self, start: usize, line: u32) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.at += 1;
        frame.skip_while(continues_word);
        let used = frame.span(start, line);
        let key = frame.bytes.get(start + 1..frame.at).unwrap_or_default();
        let Some(define) = self.defines.get(key).cloned() else {
            let key = key.to_vec();
            self.warn_undefined(&key, used);
            return;
        };
        if self
            .frames
            .iter()
            .any(|frame| frame.define.as_ref().is_some_and(|open| Arc::ptr_eq(open, &define)))
        {
            self.refuse_source(
                Diagnostic::new(
                    Code::EndlessDefine,
                    used,
                    format!("ERROR: `@{}` is replaced by itself for ever", define.name),
                )
                .related(define.name_span, "defined here"),
            );
            return;
        }
        if !self.may_nest(used, (define.end - define.start) as usize + EXPANSION_COST) {
            return;
        }
        let (source, bytes) = self.sources.add_define(&define, used);
        self.frames.push(Frame {
            source,
            bytes,
            at: define.start as usize,
            end: define.end as usize,
            line,
            path: None,
            define: Some(define),
            no_semicolon_before: 0,
            no_bracket_before: 0,
        });
    }

    /// The later text wins, from here on: fine if it was meant, a trap if two includes use one name.
    fn warn_shadowed(&mut self, before: &Define, name_span: Span, (start, end): (usize, usize)) {
        let text = Span {
            start: position(start),
            end: position(end),
            ..name_span
        };
        if self.findings.warnings_are_full()
            || self.sources.bytes(text).trim_ascii() == self.sources.bytes(before.value_span()).trim_ascii()
        {
            return;
        }
        let name = &before.name;
        self.findings.push(
            Diagnostic::new(
                Code::ShadowedDefine,
                name_span,
                format!("WARNING: `{name}` is defined again: from here on `@{name}` is the new text"),
            )
            .related(before.name_span, "defined here before")
            .help("give one of them another name"),
        );
    }

    /// slonik lets an undefined `@NAME` vanish. So do we, but not in silence.
    fn warn_undefined(&mut self, key: &[u8], used: Span) {
        let name = String::from_utf8_lossy(key).into_owned();
        if !self.undefined.insert(key.to_vec()) || self.findings.warnings_are_full() {
            return;
        }
        let warning = Diagnostic::new(
            Code::UndefinedName,
            used,
            format!("WARNING: `@{name}` is not defined and stands for nothing"),
        );
        let swallowed = format!("define {name}");
        let culprit = self.defines.values().take(HELP_CANDIDATES).find(|define| {
            let value = self.sources.bytes(define.value_span());
            value.len() < 4096
                && value
                    .windows(swallowed.len())
                    .any(|words| words == swallowed.as_bytes())
        });
        let warning = if let Some(define) = culprit {
            warning
                .related(define.name_span, "this text runs to the last `;` of its line")
                .help(format!(
                    "write one `define` per line: the text of `{}` takes in `{swallowed}`",
                    define.name
                ))
        } else {
            let names = self
                .defines
                .values()
                .take(HELP_CANDIDATES)
                .map(|define| define.name.as_str());
            match help::nearest(&name, names) {
                Some(near) => warning.help(format!("did you mean `@{near}`? Names are case-sensitive")),
                None => warning.help(format!("write `define {name} text;` before its first use")),
            }
        };
        self.findings.push(warning);
    }
}
