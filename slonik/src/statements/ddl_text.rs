//! The text of `execute script`: placeholders, and where one statement ends and the next begins.

use trunkline_sql::Cluster;

/// Replaces the placeholders that scripts may hold.
pub(super) fn fill_in(text: &str, cluster: &Cluster) -> String {
    text.replace("@CLUSTERNAME@", cluster.name())
        .replace("@MODULEVERSION@", "2.2.11")
        .replace("@NAMESPACE@", cluster.namespace())
}

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Its text, with the comments before it and the semicolon.
    pub(super) text: &'a str,
    /// Its first two words in lower case.
    words: [String; 2],
}

impl Piece<'_> {
    /// The words of a statement that would end the transaction all of the script runs in, or part of it.
    pub(super) fn ends_transaction(&self) -> Option<String> {
        let [first, second] = &self.words;
        let refused = match first.as_str() {
            "begin" | "commit" | "end" | "abort" | "rollback" | "savepoint" | "release" => true,
            "start" | "prepare" => second == "transaction",
            _ => false,
        };
        refused.then(|| format!("{first} {second}").trim_end().to_owned())
    }
}

/// Splits behind each `;` that ends a statement for PostgreSQL: outside of quotes, comments, brackets and the body of a
/// `begin atomic` routine. What follows the last one is a statement too, even if it is empty: that is how scripts are
/// stored in the log.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut scanner = Scanner::new(text);
    scanner.run();
    scanner.pieces
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    start: usize,
    /// Open round, square and curly brackets.
    depth: [usize; 3],
    /// Open `begin atomic` and `case` in the body of a routine.
    body: usize,
    /// Whether the statement may have such a body: `create [or replace] function` or `procedure`.
    is_routine: bool,
    /// Words of the statement so far.
    count: usize,
    first: [String; 2],
    previous: String,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            start: 0,
            depth: [0; 3],
            body: 0,
            is_routine: false,
            count: 0,
            first: Default::default(),
            previous: String::new(),
            pieces: Vec::new(),
        }
    }

    fn run(&mut self) {
        let bytes = self.bytes;
        while let Some(&byte) = bytes.get(self.at) {
            let rest = &bytes[self.at..];
            match byte {
                b'\'' => self.at = quoted(bytes, self.at, b'\'', is_escape_string(bytes, self.at)),
                b'"' => {
                    self.at = quoted(bytes, self.at, b'"', false);
                    // A quoted name is no keyword.
                    self.word(String::new());
                }
                b'-' if rest.starts_with(b"--") => {
                    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.at += end.unwrap_or(rest.len());
                }
                b'/' if rest.starts_with(b"/*") => self.at = block_comment(bytes, self.at),
                b'$' => self.at = dollar_quoted(bytes, self.at),
                b'(' | b'[' | b'{' => {
                    self.depth[bracket(byte)] += 1;
                    self.at += 1;
                }
                b')' | b']' | b'}' => {
                    let depth = &mut self.depth[bracket(byte)];
                    *depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b';' => {
                    self.at += 1;
                    if self.depth == [0; 3] && self.body == 0 {
                        self.cut();
                    }
                }
                byte if begins_word(byte) => {
                    let length = rest
                        .iter()
                        .position(|byte| !continues_word(*byte))
                        .unwrap_or(rest.len());
                    self.at += length;
                    self.word(String::from_utf8_lossy(&rest[..length]).to_ascii_lowercase());
                }
                b'0'..=b'9' => {
                    self.at += rest
                        .iter()
                        .position(|byte| !continues_word(*byte))
                        .unwrap_or(rest.len());
                }
                _ => self.at += 1,
            }
        }
        self.cut();
    }

    /// Ends a statement.
    fn cut(&mut self) {
        self.pieces.push(Piece {
            text: &self.text[self.start..self.at],
            words: std::mem::take(&mut self.first),
        });
        self.start = self.at;
        self.depth = [0; 3];
        self.body = 0;
        self.is_routine = false;
        self.count = 0;
        self.previous.clear();
    }

    fn word(&mut self, word: String) {
        if let Some(place) = self.first.get_mut(self.count) {
            place.clone_from(&word);
        }
        self.count += 1;
        if matches!(word.as_str(), "function" | "procedure") {
            self.is_routine |= self.first[0] == "create" && matches!(self.previous.as_str(), "create" | "replace");
        }
        if self.is_routine && self.depth == [0; 3] {
            match word.as_str() {
                "atomic" if self.body == 0 && self.previous == "begin" => self.body = 1,
                "case" if self.body > 0 => self.body += 1,
                "end" => self.body = self.body.saturating_sub(1),
                _ => {}
            }
        }
        self.previous = word;
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | 0x80..)
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
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
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether the quote at `at` opens an `E'…'` literal: the scanner has just passed the word `e`.
fn is_escape_string(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at]);
    matches!(before(1), Some(b'e' | b'E')) && !before(2).is_some_and(continues_word)
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

/// The byte behind `$tag$ … $tag$`, or behind a `$` that opens nothing. A `$` inside a word never comes here.
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

    fn texts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn statements_end_behind_their_semicolon() {
        assert_eq!(texts("select 1; select 2;\n"), ["select 1;", " select 2;", "\n"]);
        assert_eq!(texts("select 1"), ["select 1"]);
        assert_eq!(texts(""), [""]);
    }

    #[test]
    fn semicolons_inside_something_do_not_count() {
        for whole in [
            "select ';';",
            "select 'it''s;';",
            "select E'\\';';",
            "select E'it''s\\';';",
            "select ';\\';",
            "select type'\\' || ';';",
            "select \"a;b\";",
            "select \"a\"\";b\";",
            "select $$;$$;",
            "select $x$ ; $$ ; $x$;",
            "-- a;b\nselect 1;",
            "/* a; /* b; */ c; */ select 1;",
            "create rule r as on insert to t do (select 1; select 2);",
            "select a[1;2];",
            "select ü$a;",
            "create function f() returns int begin atomic select 1; select 2; end;",
            "CREATE OR REPLACE PROCEDURE p(a int) LANGUAGE sql BEGIN /* ; */ ATOMIC insert into t values (case when a = 1 then 2 end); \
             select case a when 1 then 2 else 3 end; END;",
            "create function f() returns int begin atomic end;",
        ] {
            assert_eq!(texts(whole), [whole, ""], "{whole}");
        }
    }

    #[test]
    fn begin_and_end_are_names_elsewhere() {
        assert_eq!(
            texts("create table begin_atomic (a int); alter table x rename atomic to y; select 1;").len(),
            4
        );
        assert_eq!(
            texts("create function f() returns int language sql as 'select 1'; select 2;").len(),
            3
        );
        assert_eq!(
            texts("create function \"begin\" () returns int return 1; select 2;").len(),
            3
        );
    }

    #[test]
    fn a_dollar_inside_a_name_or_parameter_opens_nothing() {
        assert_eq!(texts("select a$b$; select $1;"), ["select a$b$;", " select $1;", ""]);
    }

    #[test]
    fn unfinished_text_is_one_statement() {
        assert_eq!(texts("select 'a; b"), ["select 'a; b"]);
        assert_eq!(texts("select 'é\\"), ["select 'é\\"]);
        assert_eq!(texts("select E'é\\"), ["select E'é\\"]);
        assert_eq!(texts("/* é; "), ["/* é; "]);
        assert_eq!(texts("select ); select 1;").len(), 3);
    }

    #[test]
    fn statements_that_end_the_transaction_are_found_behind_comments() {
        let found = |text: &str| split(text)[0].ends_transaction();
        assert_eq!(found("-- now\n/* or never */ COMMIT;"), Some("commit".to_owned()));
        assert_eq!(found("start transaction;"), Some("start transaction".to_owned()));
        assert_eq!(found("rollback to x"), Some("rollback to".to_owned()));
        for harmless in [
            "prepare p as select 1;",
            "create function f() returns int begin atomic select 1; end;",
            "\"commit\";",
            "",
            "do $$ begin end $$",
        ] {
            assert_eq!(found(harmless), None, "{harmless}");
        }
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
