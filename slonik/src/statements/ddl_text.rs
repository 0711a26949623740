//! The text of `execute script`: placeholders, and where one statement ends and the next begins.

use trunkline_sql::Cluster;

/// Replaces the placeholders that scripts may hold.
pub(super) fn fill_in(text: &str, cluster: &Cluster) -> String {
    text.replace("@CLUSTERNAME@", cluster.name())
        .replace("@MODULEVERSION@", "2.2.11")
        .replace("@NAMESPACE@", cluster.namespace())
}

/// Splits behind each `;` that stands outside of quotes, comments and brackets. What follows the last one is a statement
/// too, even if it is empty: that is how scripts are stored in the log.
pub(super) fn split(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut depth = [0_i64; 3];
    while at < bytes.len() {
        let rest = &bytes[at..];
        match bytes[at] {
            b'\'' => at = quoted(bytes, at, b'\'', is_escape_string(bytes, at)),
            b'"' => at = quoted(bytes, at, b'"', false),
            b'-' if rest.starts_with(b"--") => {
                at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            }
            b'/' if rest.starts_with(b"/*") => at = block_comment(bytes, at),
            b'$' if !follows_word(bytes, at) => at = dollar_quoted(bytes, at),
            byte @ (b'(' | b'[' | b'{') => {
                depth[bracket(byte)] += 1;
                at += 1;
            }
            byte @ (b')' | b']' | b'}') => {
                depth[bracket(byte)] -= 1;
                at += 1;
            }
            b';' if depth == [0; 3] => {
                at += 1;
                pieces.push(&text[start..at]);
                start = at;
            }
            _ => at += 1,
        }
    }
    pieces.push(&text[start..]);
    pieces
}

fn bracket(byte: u8) -> usize {
    match byte {
        b'(' | b')' => 0,
        b'[' | b']' => 1,
        _ => 2,
    }
}

/// The byte behind the closing quote; a doubled quote goes on.
fn quoted(bytes: &[u8], open: usize, quote: u8, backslash: bool) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslash => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether the quote at `at` opens an `E'…'` literal.
fn is_escape_string(bytes: &[u8], at: usize) -> bool {
    at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !follows_word(bytes, at - 1)
}

/// Whether the byte before `at` belongs to a name or number.
fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || matches!(bytes[at - 1], b'_' | b'$' | 0x80..))
}

/// Block comments nest in PostgreSQL.
fn block_comment(bytes: &[u8], open: usize) -> usize {
    let (mut at, mut depth) = (open + 2, 1);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// The byte behind `$tag$ … $tag$`, or behind a `$` that opens nothing.
fn dollar_quoted(bytes: &[u8], open: usize) -> usize {
    let name = &bytes[open + 1..];
    let length = name
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..)));
    let Some(length) = length.filter(|length| name[*length] == b'$') else {
        return open + 1;
    };
    if name.first().is_some_and(u8::is_ascii_digit) {
        return open + 1;
    }
    let tag = &bytes[open..open + length + 2];
    let body = open + tag.len();
    let end = bytes[body..].windows(tag.len()).position(|window| window == tag);
    end.map_or(bytes.len(), |end| body + end + tag.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statements_end_behind_their_semicolon() {
        assert_eq!(split("select 1; select 2;\n"), ["select 1;", " select 2;", "\n"]);
        assert_eq!(split("select 1"), ["select 1"]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn semicolons_inside_something_do_not_count() {
        for whole in [
            "select ';';",
            "select 'it''s;';",
            "select E'\\';';",
            "select ';\\';",
            "select \"a;b\";",
            "select $$;$$;",
            "select $x$ ; $$ ; $x$;",
            "-- a;b\nselect 1;",
            "/* a; /* b; */ c; */ select 1;",
            "create rule r as on insert to t do (select 1; select 2);",
            "select a[1;2];",
            "select ü$a;",
        ] {
            assert_eq!(split(whole), [whole, ""], "{whole}");
        }
    }

    #[test]
    fn a_dollar_inside_a_name_or_parameter_opens_nothing() {
        assert_eq!(split("select a$b$; select $1;"), ["select a$b$;", " select $1;", ""]);
    }

    #[test]
    fn unfinished_text_is_one_statement() {
        assert_eq!(split("select 'a; b"), ["select 'a; b"]);
        assert_eq!(split("select 'é\\"), ["select 'é\\"]);
        assert_eq!(split("select E'é\\"), ["select E'é\\"]);
        assert_eq!(split("/* é; "), ["/* é; "]);
    }

    #[test]
    fn placeholders_are_filled_in() {
        let cluster = Cluster::new("c").unwrap();
        assert_eq!(
            fill_in("@NAMESPACE@ @CLUSTERNAME@ @MODULEVERSION@", &cluster),
            "\"_c\" c 2.2.11"
        );
    }
}
