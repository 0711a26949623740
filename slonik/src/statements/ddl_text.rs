//! The text of `execute script`: placeholders, and where one statement ends and the next begins.

use trunkline_sql::Cluster;

/// Replaces the placeholders that scripts may hold.
pub(super) fn fill_in(text: &str, cluster: &Cluster) -> String {
    text.replace("@CLUSTERNAME@", cluster.name())
        .replace("@MODULEVERSION@", "2.2.11")
        .replace("@NAMESPACE@", cluster.namespace())
}

/// Words of a statement that are kept: enough to tell which one it is.
const WORDS: usize = 16;

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Its text, with the comments before it and the semicolon.
    pub(super) text: &'a str,
    /// Where the text stands in the script, in bytes.
    pub(super) offset: usize,
    /// Where the statement itself begins, behind blanks and comments.
    pub(super) begins: usize,
    /// Its first words in lower case; an empty one stands for a quoted name.
    pub(super) words: Vec<String>,
    /// What is open at the end of the script, if this is its last statement.
    pub(super) unfinished: Option<Unfinished>,
    /// A backslash outside of quotes: a command of psql.
    pub(super) backslash: Option<usize>,
}

/// What has a beginning and no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// Its name.
    pub(super) what: &'static str,
    /// Where it begins in the script, in bytes.
    pub(super) at: usize,
}

/// The line, counted from 1, of a place in a text.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    1 + before.matches('\n').count()
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
    /// Where the statement itself begins.
    begins: Option<usize>,
    /// Open round, square and curly brackets.
    depth: [usize; 3],
    /// Where the outermost bracket that is open stands.
    bracket: usize,
    /// Open `begin atomic` and `case` in the body of a routine.
    body: usize,
    /// Whether the statement may have such a body: `create [or replace] function` or `procedure`.
    is_routine: bool,
    /// Where that body begins.
    atomic: usize,
    words: Vec<String>,
    previous: String,
    unfinished: Option<Unfinished>,
    backslash: Option<usize>,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            start: 0,
            begins: None,
            depth: [0; 3],
            bracket: 0,
            body: 0,
            is_routine: false,
            atomic: 0,
            words: Vec::new(),
            previous: String::new(),
            unfinished: None,
            backslash: None,
            pieces: Vec::new(),
        }
    }

    fn run(&mut self) {
        let bytes = self.bytes;
        while let Some(&byte) = bytes.get(self.at) {
            let rest = &bytes[self.at..];
            let is_comment = rest.starts_with(b"--") || rest.starts_with(b"/*");
            if self.begins.is_none() && !byte.is_ascii_whitespace() && !is_comment {
                self.begins = Some(self.at);
            }
            match byte {
                b'\'' => {
                    let end = quoted(bytes, self.at, b'\'', is_escape_string(bytes, self.at));
                    self.pass(end, "string");
                }
                b'"' => {
                    self.pass(quoted(bytes, self.at, b'"', false), "quoted name");
                    // A quoted name is no keyword.
                    self.word(String::new());
                }
                b'-' if is_comment => {
                    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.at += end.unwrap_or(rest.len());
                }
                b'/' if is_comment => self.pass(block_comment(bytes, self.at), "comment"),
                b'$' => self.pass(dollar_quoted(bytes, self.at), "dollar-quoted string"),
                b'\\' => {
                    self.backslash.get_or_insert(self.at);
                    self.at += 1;
                }
                b'(' | b'[' | b'{' => {
                    if self.depth == [0; 3] {
                        self.bracket = self.at;
                    }
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
        if self.depth != [0; 3] {
            self.unfinished.get_or_insert(Unfinished {
                what: "bracket",
                at: self.bracket,
            });
        } else if self.body > 0 {
            self.unfinished.get_or_insert(Unfinished {
                what: "`begin atomic`",
                at: self.atomic,
            });
        }
        self.cut();
    }

    /// Goes on behind something that ends at `end`, or nowhere.
    fn pass(&mut self, end: Option<usize>, what: &'static str) {
        if end.is_none() {
            self.unfinished = Some(Unfinished { what, at: self.at });
        }
        self.at = end.unwrap_or(self.bytes.len());
    }

    /// Ends a statement.
    fn cut(&mut self) {
        self.pieces.push(Piece {
            text: &self.text[self.start..self.at],
            offset: self.start,
            begins: self.begins.take().unwrap_or(self.start),
            words: std::mem::take(&mut self.words),
            unfinished: self.unfinished.take(),
            backslash: self.backslash.take(),
        });
        self.start = self.at;
        self.depth = [0; 3];
        self.body = 0;
        self.is_routine = false;
        self.previous.clear();
    }

    fn word(&mut self, word: String) {
        if self.words.len() < WORDS {
            self.words.push(word.clone());
        }
        if matches!(word.as_str(), "function" | "procedure") {
            self.is_routine |= self.words[0] == "create" && matches!(self.previous.as_str(), "create" | "replace");
        }
        if self.is_routine && self.depth == [0; 3] {
            match word.as_str() {
                "atomic" if self.body == 0 && self.previous == "begin" => {
                    self.body = 1;
                    self.atomic = self.at - word.len();
                }
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

/// The byte behind the closing quote, if there is one; a doubled quote goes on.
fn quoted(bytes: &[u8], open: usize, quote: u8, backslash: bool) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslash => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Whether the quote at `at` opens an `E'…'` literal: the scanner has just passed the word `e`.
fn is_escape_string(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at]);
    matches!(before(1), Some(b'e' | b'E')) && !before(2).is_some_and(continues_word)
}

/// The byte behind a block comment, if it ends. They nest in PostgreSQL.
fn block_comment(bytes: &[u8], open: usize) -> Option<usize> {
    let (mut at, mut depth) = (open + 2, 1);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

/// The byte behind `$tag$ … $tag$`, if that ends, or behind a `$` that opens nothing. A `$` inside a word never comes here.
fn dollar_quoted(bytes: &[u8], open: usize) -> Option<usize> {
    let name = &bytes[open + 1..];
    let length = name
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..)));
    let Some(length) = length.filter(|length| name[*length] == b'$') else {
        return Some(open + 1);
    };
    if name.first().is_some_and(u8::is_ascii_digit) {
        return Some(open + 1);
    }
    let tag = &bytes[open..open + length + 2];
    let body = open + tag.len();
    let end = bytes[body..].windows(tag.len()).position(|window| window == tag);
    end.map(|end| body + end + tag.len())
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
    fn what_is_open_at_the_end_is_known_with_its_beginning() {
        let open = |text: &str| {
            let unfinished = split(text).pop().unwrap().unfinished;
            unfinished.map(|unfinished| (unfinished.what, line_of(text, unfinished.at)))
        };
        assert_eq!(open("select 1;\nselect 'a; b\n"), Some(("string", 2)));
        assert_eq!(open("select 1;\n\nselect E'it\\';"), Some(("string", 3)));
        assert_eq!(open("select \"a;"), Some(("quoted name", 1)));
        assert_eq!(open("-- x\n/* a /* b */ c"), Some(("comment", 2)));
        assert_eq!(open("do $x$ begin\n$$ end $y$;"), Some(("dollar-quoted string", 1)));
        assert_eq!(open("select 1;\nselect (1;\nselect 2;"), Some(("bracket", 2)));
        let body = "create function f() returns int\nbegin atomic\nselect 1;";
        assert_eq!(open(body), Some(("`begin atomic`", 2)));
        assert_eq!(open("select 'a'; -- don't\n"), None);
    }

    #[test]
    fn a_statement_begins_behind_blanks_and_comments() {
        let text = "-- one\n/* two */\n  select 1;\n\nselect 2";
        let lines: Vec<usize> = split(text).iter().map(|piece| line_of(text, piece.begins)).collect();
        assert_eq!(lines, [3, 5]);
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
