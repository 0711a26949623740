//! `include <path>;`: finding, reading and entering files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Frame, Lexer, MAX_BYTES, is_space};
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::source::{Origin, Span, position};

/// A byte order mark in front of UTF-8 text, as some editors write it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Lexer<'_> {
    /// Reads what stands behind the word `include` and goes on in the file it names.
    pub(super) fn read_include(&mut self, start: usize, line: u32) {
        let Some(frame) = self.frames.last_mut() else { return };
        let keyword = frame.span(start, line);
        frame.skip_while(is_space);
        let path_start = frame.at + 1;
        let path_end = if frame.peek() == Some(b'<') && path_start >= frame.no_bracket_before {
            let line_end = frame.line_end();
            let path = frame.bytes.get(path_start..line_end).unwrap_or_default();
            let found = path
                .iter()
                .position(|&byte| byte == b'>')
                .map(|offset| path_start + offset);
            if found.is_none() {
                frame.no_bracket_before = line_end;
            }
            found
        } else {
            None
        };
        let Some(path_end) = path_end else {
            let rest = frame.rest();
            let stop = rest
                .iter()
                .position(|&byte| matches!(byte, b';' | b'\n'))
                .unwrap_or(rest.len());
            let semicolon = usize::from(rest.get(stop) == Some(&b';'));
            frame.at += stop + semicolon;
            self.refuse_source(
                Diagnostic::new(
                    Code::MalformedInclude,
                    keyword,
                    "ERROR: syntax error at or near include",
                )
                .help("write `include <path>;`"),
            );
            return;
        };
        let bytes = Arc::clone(&frame.bytes);
        let name = bytes.get(path_start..path_end).unwrap_or_default();
        frame.at = path_end + 1;
        let asked = Span {
            start: position(path_start.saturating_sub(1)),
            end: position(path_end + 1),
            ..frame.span(path_start, frame.line)
        };
        // The `;` belongs to the include and is optional.
        let (at, line) = (frame.at, frame.line);
        frame.skip_while(is_space);
        if frame.peek() == Some(b';') {
            frame.step();
        } else {
            (frame.at, frame.line) = (at, line);
        }
        self.enter_file(name, asked);
    }

    fn enter_file(&mut self, name: &[u8], asked: Span) {
        let shown = String::from_utf8_lossy(name).into_owned();
        let path = self.options.resolve(Path::new(OsStr::from_bytes(name)));
        let not_found = |reason: &str| {
            Diagnostic::new(
                Code::IncludeNotFound,
                asked,
                format!("Include file ({shown}) not found"),
            )
            .help(reason.to_owned())
        };
        let resolved = match path.canonicalize() {
            Ok(resolved) => resolved,
            Err(error) => {
                let trimmed = shown.trim();
                let reason = if trimmed != shown && self.options.resolve(Path::new(trimmed)).exists() {
                    format!("blanks belong to the name: write `include <{trimmed}>;`")
                } else if path.is_absolute() && self.options.directory.is_none() {
                    format!("`{}`: {}", path.display(), plain_error(&error))
                } else {
                    format!(
                        "{}; a relative name starts at the working directory",
                        plain_error(&error)
                    )
                };
                self.refuse_source(not_found(&reason));
                return;
            }
        };
        if self.frames.iter().any(|frame| frame.path.as_ref() == Some(&resolved)) {
            self.refuse_source(Diagnostic::new(
                Code::IncludeLoop,
                asked,
                format!("Include file ({shown}) includes itself, directly or through others"),
            ));
            return;
        }
        let known = self.files.get(&resolved).cloned();
        let size = known.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if !self.may_nest(asked, size) {
            return;
        }
        let (source, bytes) = if let Some((first, bytes)) = known {
            (self.sources.add_again(first, Origin::Include(asked)), bytes)
        } else {
            match read_bounded(&resolved) {
                Ok(text) => {
                    if !self.may_nest(asked, text.len()) {
                        return;
                    }
                    let (source, bytes) = self.sources.add_file(shown, text, Origin::Include(asked));
                    self.files.insert(resolved.clone(), (source, Arc::clone(&bytes)));
                    (source, bytes)
                }
                Err(error) => {
                    self.refuse_source(not_found(&plain_error(&error)));
                    return;
                }
            }
        };
        self.push_file(source, bytes, Some(resolved));
    }

    pub(super) fn push_file(&mut self, source: u32, bytes: Arc<[u8]>, path: Option<PathBuf>) {
        let at = if bytes.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let end = bytes.len();
        let end = match not_text(&bytes) {
            Some((at, help)) => {
                let place = Span {
                    source,
                    start: position(at),
                    end: position(at + 1),
                    line: 1,
                };
                self.refuse_source(Diagnostic::new(Code::NotText, place, "ERROR: the file is not text").help(help));
                // Nothing in it is worth a message of its own.
                0
            }
            None => end,
        };
        let whole = Span {
            source,
            start: 0,
            end: 0,
            line: 1,
        };
        if self.frames.is_empty() && end > MAX_BYTES {
            let finding = format!("ERROR: the script is longer than {} MiB", MAX_BYTES >> 20);
            self.refuse_source(Diagnostic::new(Code::TooLong, whole, finding).help("split the script"));
            return;
        }
        if self.frames.is_empty() {
            self.used = end;
        }
        if at > 0 && at <= end {
            let finding = "WARNING: the file starts with a byte order mark, which slonik of Slony-I cannot read";
            self.findings.push(Diagnostic::new(Code::ByteOrderMark, whole, finding));
        }
        self.frames.push(Frame {
            source,
            bytes,
            at,
            end,
            line: 1,
            path,
            define: None,
            no_semicolon_before: 0,
            no_bracket_before: 0,
        });
    }
}

/// Bytes looked at to see whether a file is text at all.
const PROBE: usize = 1024;
/// One byte in so many may be a control character.
const CONTROL_RATIO: usize = 20;

/// Where a file that is no text stops looking like one, and what to do about it. A stray byte makes no file unreadable.
fn not_text(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let probe = bytes.get(..PROBE).unwrap_or(bytes);
    let is_odd = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace() && *byte != 0x0b;
    let nuls = probe.split(|&byte| byte == 0).count().saturating_sub(1);
    let first_odd = probe.iter().position(is_odd)?;
    if matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff])) {
        return Some((
            0,
            "it looks like UTF-16: write it as UTF-8, for example with `iconv -f utf-16 -t utf-8`",
        ));
    }
    // Every other byte of western text in UTF-16 is zero.
    if nuls > probe.len() / 3 {
        return Some((
            first_odd,
            "it looks like UTF-16: write it as UTF-8, for example with `iconv -f utf-16 -t utf-8`",
        ));
    }
    let odd = probe.iter().filter(|byte| is_odd(byte)).count();
    let bad_text = std::str::from_utf8(probe).is_err_and(|error| error.error_len().is_some());
    (odd > probe.len() / CONTROL_RATIO && bad_text)
        .then_some((first_odd, "is this the right file? a script is text in UTF-8"))
}

/// Reads a file, but never more than a script may have.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The words of the operating system, without Rust's error number.
pub(crate) fn plain_error(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
