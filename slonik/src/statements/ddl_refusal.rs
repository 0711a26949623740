//! What can be told of the text of `execute script` before it runs: statements that cannot be part of a script, and text that
//! does not end.

use super::ddl_text::{Piece, line_of, split};

/// Most statements of one script.
const STATEMENTS: usize = 999;

/// The text of a script, and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlText<'a> {
    /// Name of the file; None: it stands in the slonik script.
    pub(crate) file: Option<&'a str>,
    /// The text.
    pub(crate) text: &'a str,
}

impl SqlText<'_> {
    /// A place in words: `change.sql:17`, or the line of a text of several.
    pub(super) fn place(&self, at: usize) -> Option<String> {
        let line = line_of(self.text, at);
        match self.file {
            Some(file) => Some(format!("{file}:{line}")),
            None if self.text.trim_end().contains('\n') => Some(format!("line {line} of its text")),
            None => None,
        }
    }

    /// `statement 3 of the script (change.sql:17)`.
    pub(super) fn statement(&self, number: usize, at: usize) -> String {
        let place = self.place(at).map_or_else(String::new, |place| format!(" ({place})"));
        format!("statement {number} of the script{place}")
    }

    /// Why the text could not be executed as a script, whatever the tables are; None: it may be.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal_of(&split(self.text))
    }

    /// The same, once it is split.
    pub(super) fn refusal_of(&self, statements: &[Piece<'_>]) -> Option<String> {
        if statements.len() > STATEMENTS {
            let from = self.file.map_or_else(String::new, |file| format!(" ({file})"));
            return Some(format!(
                "DDL - number of statements invalid - {} not between 0 and {}{from}",
                statements.len(),
                STATEMENTS + 1
            ));
        }
        for (number, statement) in (1..).zip(statements) {
            let name = |at| self.statement(number, at);
            if let Some(words) = ends_transaction(statement) {
                return Some(format!(
                    "Error: {}, `{words}`, is not allowed: all of the script is one transaction on every node, which slonik \
                     begins and commits; leave it out, or make several `execute script` of it",
                    name(statement.begins)
                ));
            }
            if let Some(words) = needs_no_transaction(&statement.words) {
                return Some(format!(
                    "Error: {}, `{words}`, cannot run inside a transaction, and all of the script is one on every node; run \
                     it with psql on each node that needs it",
                    name(statement.begins)
                ));
            }
            if let Some(words) = needs_a_client(&statement.words) {
                return Some(format!(
                    "Error: {}, `{words}`, needs a client that sends or takes the rows, and a script runs inside the server; \
                     write `insert` statements, or fill the table through the stream of changes",
                    name(statement.begins)
                ));
            }
            if let Some(at) = statement.backslash {
                return Some(format!(
                    "Error: {} has a `\\` outside of quotes: commands of psql are not SQL, and slonik does not know them",
                    name(at)
                ));
            }
            if let Some(open) = statement.unfinished {
                return Some(format!(
                    "Error: {} never ends: the {} that begins there is not closed",
                    name(open.at),
                    open.what
                ));
            }
        }
        None
    }
}

/// The words of a statement that would end the transaction all of the script runs in, or part of it.
fn ends_transaction(statement: &Piece<'_>) -> Option<String> {
    let word = |index: usize| statement.words.get(index).map_or("", String::as_str);
    let refused = match word(0) {
        "begin" | "commit" | "end" | "abort" | "rollback" | "savepoint" | "release" => true,
        "start" | "prepare" => word(1) == "transaction",
        _ => false,
    };
    refused.then(|| format!("{} {}", word(0), word(1)).trim_end().to_owned())
}

/// The words of a statement that PostgreSQL runs only outside of transactions, in every version we know.
fn needs_no_transaction(words: &[String]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let concurrently = words.contains(&"concurrently");
    let found = match words.as_slice() {
        ["vacuum", ..] => vec!["vacuum"],
        ["create", "index", ..] if concurrently => vec!["create index concurrently"],
        ["create", "unique", "index", ..] if concurrently => vec!["create unique index concurrently"],
        ["drop", "index", "concurrently", ..] => vec!["drop index concurrently"],
        ["reindex", rest @ ..] => {
            let kinds = ["index", "table", "schema", "database", "system"];
            let kind = rest.iter().find(|word| kinds.contains(word))?;
            match *kind {
                "schema" | "database" | "system" => vec!["reindex", kind],
                _ if concurrently => vec!["reindex", kind, "concurrently"],
                _ => return None,
            }
        }
        ["alter", "table", .., "concurrently"] if words.contains(&"detach") => {
            vec!["alter table … detach partition … concurrently"]
        }
        [verb @ ("create" | "drop"), kind @ ("database" | "tablespace"), ..] => vec![*verb, *kind],
        ["alter", "database", _, "set", "tablespace", ..] => vec!["alter database … set tablespace"],
        ["alter", "system", ..] => vec!["alter system"],
        ["create", "subscription", rest @ ..] if !rest.iter().any(|word| ["connect", "create_slot"].contains(word)) => {
            vec!["create subscription"]
        }
        ["discard", "all"] => vec!["discard all"],
        // Without a table it goes through all that were clustered before.
        ["cluster", rest @ ..] if rest.iter().all(|word| *word == "verbose") => vec!["cluster"],
        _ => return None,
    };
    Some(found.join(" "))
}

/// The words of a `copy` from or to the client.
fn needs_a_client(words: &[String]) -> Option<String> {
    if words.first()? != "copy" {
        return None;
    }
    let end = words.windows(2).find(|pair| {
        let [direction, place] = pair else { return false };
        (direction == "from" && place == "stdin") || (direction == "to" && place == "stdout")
    })?;
    Some(format!("copy … {}", end.join(" ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(text: &str) -> Option<String> {
        SqlText { file: None, text }.refusal()
    }

    #[test]
    fn statements_that_end_the_transaction_are_found_behind_comments() {
        for (text, words) in [
            ("-- now\n/* or never */ COMMIT;", "`commit`"),
            ("start transaction;", "`start transaction`"),
            ("rollback to x", "`rollback to`"),
        ] {
            let said = refusal(text).unwrap();
            assert!(said.contains(words) && said.contains("is not allowed"), "{said}");
        }
    }

    #[test]
    fn statements_that_run_outside_of_transactions_only_are_found() {
        for (text, words) in [
            ("select 1; vacuum (analyze) t", "statement 2 of the script, `vacuum`"),
            (
                "create unique index concurrently i on t (a)",
                "`create unique index concurrently`",
            ),
            ("create index concurrently on \"T\" (a)", "`create index concurrently`"),
            ("DROP INDEX CONCURRENTLY if exists i", "`drop index concurrently`"),
            ("reindex (verbose) table concurrently t", "`reindex table concurrently`"),
            ("reindex (concurrently) index i", "`reindex index concurrently`"),
            ("reindex database d", "`reindex database`"),
            (
                "alter table if exists only a.b detach partition c.d concurrently;",
                "`alter table … detach partition … concurrently`",
            ),
            ("create database x", "`create database`"),
            ("drop tablespace x", "`drop tablespace`"),
            (
                "alter database \"D\" set tablespace x",
                "`alter database … set tablespace`",
            ),
            ("alter system set work_mem = 1", "`alter system`"),
            ("discard all", "`discard all`"),
            ("cluster verbose;", "`cluster`"),
            (
                "create subscription s connection 'x' publication p",
                "`create subscription`",
            ),
        ] {
            let said = refusal(text).unwrap();
            assert!(said.contains(words) && said.contains("inside a transaction"), "{said}");
        }
    }

    #[test]
    fn rows_for_a_client_and_commands_of_psql_are_found() {
        assert!(
            refusal("copy t (a) from stdin;\n1\n\\.\n")
                .unwrap()
                .contains("`copy … from stdin`")
        );
        assert!(
            refusal("copy (select 1) to stdout")
                .unwrap()
                .contains("`copy … to stdout`")
        );
        let said = refusal("select 1;\n\\i other.sql\n").unwrap();
        assert!(
            said.contains("statement 2 of the script (line 2 of its text) has a `\\`"),
            "{said}"
        );
    }

    #[test]
    fn harmless_statements_are_let_through() {
        for harmless in [
            "prepare p as select 1;",
            "create function f() returns int begin atomic select 1; end;",
            "\"commit\";",
            "",
            "do $$ begin end $$",
            "refresh materialized view concurrently v",
            "reindex table t",
            "cluster t using i",
            "cluster \"T\"",
            "comment on table t is 'vacuum; create index concurrently'",
            "create table t (concurrently_made int)",
            "drop index i",
            "copy t from '/data/t'",
            "create subscription s connection 'x' publication p with (create_slot = false)",
            "alter table t set (autovacuum_enabled = off)",
            "select E'a\\nb', 'a\\b'",
        ] {
            assert_eq!(refusal(harmless), None, "{harmless}");
        }
    }

    #[test]
    fn the_place_is_named() {
        let text = "select 1;\n\n-- tidy\nvacuum;\n";
        let file = Some("change.sql");
        let said = SqlText { file, text }.refusal().unwrap();
        assert!(
            said.starts_with("Error: statement 2 of the script (change.sql:4), `vacuum`"),
            "{said}"
        );
        assert_eq!(
            refusal("select 1;\nselect 'it").unwrap(),
            "Error: statement 2 of the script (line 2 of its text) never ends: the string that begins there is not closed"
        );
        assert_eq!(
            refusal("select $x$ 1").unwrap(),
            "Error: statement 1 of the script never ends: the dollar-quoted string that begins there is not closed"
        );
    }
}
