//! The source line of a finding with carets under the words at fault.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::source::{SourceMap, Span};

/// Longest source line that is looked at as a whole.
const MAX_LINE: usize = 4096;
/// Characters of a line that are shown, around the words at fault.
const MAX_SHOWN: usize = 160;
/// Characters shown in front of the words at fault when the line is cut.
const LEAD: usize = 60;

/// Appends the line `span` starts in and a line of carets; nothing if the line is blank.
pub(crate) fn push(out: &mut String, sources: &SourceMap, span: Span) {
    let text = sources.text_around(span);
    let start = (span.start as usize).min(text.len());
    let end = (span.end as usize).clamp(start, text.len());
    let (before, _) = text.split_at(start);
    let (_, after) = text.split_at(start);
    // A bounded look to both sides: a script may be one line of megabytes.
    let near = before.len().saturating_sub(MAX_LINE);
    let line_start = before
        .get(near..)
        .and_then(|near_bytes| near_bytes.iter().rposition(|&byte| byte == b'\n'));
    let line_end = after.iter().take(MAX_LINE).position(|&byte| byte == b'\n');
    let whole = (line_start.is_some() || near == 0) && (line_end.is_some() || after.len() <= MAX_LINE);
    let (from, to) = if whole {
        (
            line_start.map_or(near, |offset| near + offset + 1),
            line_end.map_or(text.len(), |offset| start + offset),
        )
    } else {
        // Too long to be sure where a password starts: only the words themselves.
        (
            start,
            end.min(start + MAX_SHOWN)
                .min(line_end.map_or(text.len(), |offset| start + offset)),
        )
    };
    let (Some(lead), Some(words), Some(tail)) = (
        text.get(from..start),
        text.get(start..end.min(to).max(start)),
        text.get(end.min(to).max(start)..to.max(start)),
    ) else {
        return;
    };
    let (lead, words, tail) = (printable(lead), printable(words), printable(tail));
    let (lead_len, words_len) = (lead.chars().count(), words.chars().count());
    let line = format!("{lead}{words}{tail}");
    if line.trim().is_empty() {
        return;
    }
    // Masking keeps the number of characters, so the carets stay in place.
    let masked: Vec<char> = mask_passwords(&line).trim_end().chars().collect();
    let first = if masked.len() > MAX_SHOWN {
        lead_len.saturating_sub(LEAD)
    } else {
        0
    };
    let last = masked.len().min(first + MAX_SHOWN);
    let cut_before = first > 0 || !whole;
    let cut_after = last < masked.len() || !whole;
    let shown: String = masked.iter().skip(first).take(last - first).collect();
    let mark = |cut: bool| if cut { "…" } else { "" };
    let number = sources.line_of_text(span).to_string();
    let margin = " ".repeat(number.len());
    let (before, after) = (mark(cut_before), mark(cut_after));
    let _ = write!(out, "  {number} | {before}{shown}{after}\n  {margin} | ");
    if cut_before {
        out.push(' ');
    }
    out.extend(
        lead.chars()
            .skip(first)
            .map(|character| if character == '\t' { '\t' } else { ' ' }),
    );
    let carets = words_len.min(last.saturating_sub(lead_len)).max(1);
    out.extend(std::iter::repeat_n('^', carets));
    out.push('\n');
}

/// Text as it may go to a terminal: no control characters, one character for each unreadable byte
/// sequence.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|&character| character != '\r')
        .map(|character| {
            if character.is_control() && character != '\t' {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

/// Replaces the value of every `password` in connection strings, and the password of a URI, by stars;
/// the number of characters stays.
pub(crate) fn mask_passwords(text: &str) -> Cow<'_, str> {
    // ASCII lower-casing keeps every byte offset.
    let lower = text.to_ascii_lowercase();
    if !lower.contains("password") && !lower.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut hidden: Vec<(usize, usize)> = Vec::new();
    for (at, word) in lower.match_indices("password") {
        if let Some(range) = keyword_value(text, at + word.len()) {
            hidden.push(range);
        }
    }
    for (at, mark) in lower.match_indices("://") {
        let start = at + mark.len();
        let authority = text.get(start..).unwrap_or_default();
        // Up to the last `@` before the path, since a password may hold one.
        let stop = authority.find(['/', '?', '\'', ' ']).unwrap_or(authority.len());
        let authority = authority.get(..stop).unwrap_or_default();
        if let (Some(colon), Some(sign)) = (authority.find(':'), authority.rfind('@'))
            && colon < sign
        {
            hidden.push((start + colon + 1, start + sign));
        }
    }
    let stars = text.char_indices().map(|(at, character)| {
        if hidden.iter().any(|&(start, end)| start <= at && at < end) {
            '*'
        } else {
            character
        }
    });
    Cow::Owned(stars.collect())
}

/// The bytes of the value behind `password`, if an `=` follows: quoted (inside a slonik string each
/// quote is written twice) or up to a blank.
fn keyword_value(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let value = rest.trim_start().strip_prefix('=')?.trim_start();
    let start = text.len() - value.len();
    let quote = if value.starts_with("''") { "''" } else { "'" };
    if let Some(inner) = value.strip_prefix(quote) {
        let mut escaped = false;
        for (at, character) in inner.char_indices() {
            if !escaped && character == '\'' {
                return Some((start + quote.len(), start + quote.len() + at));
            }
            escaped = character == '\\' && !escaped;
        }
        return Some((start + quote.len(), text.len()));
    }
    let mut escaped = false;
    for (at, character) in value.char_indices() {
        if !escaped && (character.is_whitespace() || character == '\'' || character == '&') {
            return Some((start, start + at));
        }
        escaped = character == '\\' && !escaped;
    }
    Some((start, text.len()))
}

#[cfg(test)]
mod tests {
    use super::mask_passwords;

    #[test]
    fn masks_every_way_to_write_a_password() {
        for (text, masked) in [
            ("host=a password=secret user=b", "host=a password=****** user=b"),
            ("'host=a PASSWORD = secret';", "'host=a PASSWORD = ******';"),
            ("password=''a b'' x", "password=''***'' x"),
            ("password='a b' x", "password='***' x"),
            (r"password=a\ b x", r"password=**** x"),
            ("sslpassword=abc", "sslpassword=***"),
            (
                "postgres://u:p@w@h/db?password=x&y=1",
                "postgres://u:***@h/db?password=*&y=1",
            ),
            ("postgres://u@h:5/db", "postgres://u@h:5/db"),
            ("password", "password"),
            ("password=é", "password=*"),
        ] {
            assert_eq!(mask_passwords(text), masked, "{text}");
        }
    }
}
