//! The form of `key=value` words.

use super::error::ConninfoError;
use super::keyword;
use super::parameters::Parameters;

/// Blank as C's `isspace` sees it.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Reads words until the end or the first error.
pub(super) fn parse(text: &str) -> Result<Parameters, ConninfoError> {
    let (parameters, error) = parse_leniently(text);
    match error {
        None => Ok(parameters),
        Some(error) => Err(error),
    }
}

/// As [`parse`], keeping what was read before the error, for messages.
pub(super) fn parse_leniently(text: &str) -> (Parameters, Option<ConninfoError>) {
    let mut parameters = Parameters::default();
    let mut scanner = Scanner { text, at: 0 };
    // The keyword before the current one: if it is a secret with a blank in it, the next word belongs to it.
    let mut after_secret = None;
    loop {
        scanner.skip_blanks();
        if scanner.peek().is_none() {
            return (parameters, None);
        }
        let name = scanner.keyword();
        scanner.skip_blanks();
        if scanner.peek() != Some(b'=') {
            let error = match after_secret {
                Some(secret) => ConninfoError::MissingEqualsAfterSecret(secret),
                None => ConninfoError::MissingEquals(name.to_owned()),
            };
            return (parameters, Some(error));
        }
        scanner.at += 1;
        scanner.skip_blanks();
        let known = keyword::find(name);
        let Some(value) = scanner.value() else {
            let name = known.map_or("(unknown)", |keyword| keyword.name);
            return (parameters, Some(ConninfoError::UnterminatedQuote(name)));
        };
        if parameters.set_named(name, value).is_err() {
            let error = match after_secret {
                Some(secret) => ConninfoError::UnknownOptionAfterSecret(secret),
                None => ConninfoError::UnknownOption(name.to_owned()),
            };
            return (parameters, Some(error));
        }
        after_secret = known.filter(|keyword| keyword.secret).map(|keyword| keyword.name);
    }
}

/// Walks over the bytes; every position it stops at is next to an ASCII byte, hence a character boundary.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    fn keyword(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte != b'=' && !is_blank(byte)) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// A value, quoted or not; `None` if the closing quote is missing.
    fn value(&mut self) -> Option<String> {
        let quoted = self.peek() == Some(b'\'');
        if quoted {
            self.at += 1;
        }
        let mut value = String::new();
        loop {
            let Some(character) = self.text[self.at..].chars().next() else {
                return if quoted { None } else { Some(value) };
            };
            if quoted && character == '\'' {
                self.at += 1;
                return Some(value);
            }
            if !quoted && u8::try_from(character).is_ok_and(is_blank) {
                return Some(value);
            }
            self.at += character.len_utf8();
            if character != '\\' {
                value.push(character);
            } else if let Some(escaped) = self.text[self.at..].chars().next() {
                self.at += escaped.len_utf8();
                value.push(escaped);
            }
        }
    }
}

/// Quotes a value where it needs it.
pub(super) fn quote(value: &str) -> String {
    let plain = !value.is_empty()
        && !value
            .bytes()
            .any(|byte| is_blank(byte) || byte == b'\'' || byte == b'\\');
    if plain {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse(text) {
            Ok(parameters) => parameters.to_words(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "for {text:?}");
    }

    #[test]
    fn words_are_read_as_libpq_reads_them() {
        check("", "");
        check(" \n\t ", "");
        check("host=a port = 5432\tdbname= 'x y'", "dbname='x y' host=a port=5432");
        check("dbname='it\\'s' user=a\\ b", r"dbname='it\'s' user='a b'");
        check(r"password=a\\b", r"password='a\\b'");
        check("dbname=''", "dbname=''");
        check("dbname='a'user=b", "dbname=a user=b");
        check("dbname= user=b", "dbname=user=b");
        check("dbname=a dbname=b", "dbname=b");
        check("dbname=a\\", "dbname=a");
        check("dbname=a'b", r"dbname='a\'b'");
        check("user=jürgen\u{a0}x", "user=jürgen\u{a0}x");
        check("requiressl=1", "sslmode=require");
    }

    #[test]
    fn errors_are_worded_as_libpq_words_them() {
        check("mydb", "error: missing \"=\" after \"mydb\" in connection info string");
        check(
            "host=a mydb ",
            "error: missing \"=\" after \"mydb\" in connection info string",
        );
        check("nonsense=1", "error: invalid connection option \"nonsense\"");
        check("Host=1", "error: invalid connection option \"Host\"");
        check("=1", "error: invalid connection option \"\"");
        check(
            "dbname='a",
            "error: unterminated quoted string in connection info string, in the value of \"dbname\"",
        );
        check(
            "dbname='a\\'",
            "error: unterminated quoted string in connection info string, in the value of \"dbname\"",
        );
    }

    #[test]
    fn the_rest_of_a_password_with_a_blank_stays_hidden() {
        for text in ["password=two words host=a", "password=two words=more"] {
            let message = parse(text).unwrap_err().to_string();
            assert!(
                !message.contains("words\"") && message.contains("single quotes"),
                "{message}"
            );
        }
    }
}
