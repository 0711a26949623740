//! What only the interpreter can tell of a script before it begins: whether its names, connection strings and SQL will be
//! taken. None of it needs a connection.

use std::fs;

use trunkline_grammar::{Code, Command, Parsed, ScriptSource, Span, Statement, StatementKind};
use trunkline_sql::{Cluster, conninfo};

use crate::statements::SqlText;

/// Findings that are kept; a script with more repeats one mistake.
const MOST: usize = 100;

struct Finding {
    code: Code,
    place: Span,
    message: String,
    help: &'static str,
}

/// Adds what is found to the findings of the script. A script that has errors already is not looked at.
pub(crate) fn examine(parsed: &mut Parsed) {
    let Some(script) = &parsed.script else { return };
    let mut found = Vec::new();
    if let Err(error) = Cluster::new(&script.cluster) {
        found.push(Finding {
            code: Code::BadClusterName,
            place: script.cluster_span,
            message: format!("Error: {error}"),
            help: "",
        });
    }
    for node in &script.nodes {
        look_at_conninfo(&node.conninfo, node.span, &mut found);
    }
    look_at_statements(&script.statements, &mut found);
    for finding in found.into_iter().take(MOST) {
        parsed.report(finding.code, finding.place, finding.message, finding.help);
    }
}

fn look_at_statements(statements: &[Statement], found: &mut Vec<Finding>) {
    for statement in statements {
        match &statement.kind {
            StatementKind::Try(block) => {
                let handlers = block.on_error.iter().chain(&block.on_success);
                for part in std::iter::once(&block.body).chain(handlers) {
                    look_at_statements(part, found);
                }
            }
            StatementKind::Command(Command::StorePath { conninfo, .. }) => {
                look_at_conninfo(conninfo, statement.span, found);
            }
            StatementKind::Command(Command::ExecuteScript { source, .. }) => {
                if let Some(message) = what_is_wrong_with(source) {
                    found.push(Finding {
                        code: Code::BadSqlScript,
                        place: statement.span,
                        message,
                        help: "",
                    });
                }
            }
            StatementKind::Command(_) => {}
        }
    }
}

fn look_at_conninfo(text: &str, place: Span, found: &mut Vec<Finding>) {
    if let Err(error) = conninfo::parse(text) {
        found.push(Finding {
            code: Code::BadConninfo,
            place,
            message: format!("WARNING: nobody can connect with this string: {error}"),
            help: "write `keyword=value` pairs with blanks between them, or a `postgresql://` address, as libpq takes them",
        });
    }
}

/// Why the text could not be executed as a script, whatever the tables are.
fn what_is_wrong_with(source: &ScriptSource) -> Option<String> {
    match source {
        ScriptSource::Sql(text) => SqlText { file: None, text }.refusal(),
        ScriptSource::File(name) => {
            // A file that cannot be read was found while reading the script.
            let bytes = fs::read(name).ok()?;
            match String::from_utf8(bytes) {
                Ok(text) => {
                    let file = Some(name.as_str());
                    SqlText { file, text: &text }.refusal()
                }
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let before = error.as_bytes().get(..at).unwrap_or_default();
                    let line = before.split(|&byte| byte == b'\n').count();
                    Some(format!("Error: {name}:{line}: the file is not valid UTF-8"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trunkline_grammar::{ParseOptions, parse_text};

    use super::*;

    fn messages(script: &str) -> Vec<String> {
        let mut parsed = parse_text("s", script, &ParseOptions::default());
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        examine(&mut parsed);
        parsed
            .diagnostics
            .iter()
            .map(|finding| finding.render(&parsed.sources))
            .collect()
    }

    #[test]
    fn a_sql_text_that_would_end_the_transaction_is_found_before_anything_runs() {
        let said = messages(
            "cluster name = c;\nnode 1 admin conninfo = 'dbname=a';\ntry {\n  execute script (sql = 'select 1; commit; select 2',\n    event node = 1);\n}\n",
        );
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("s:4: Error: statement 2 of the script, `commit`, is not allowed"),
            "{said:?}"
        );
    }

    #[test]
    fn a_sql_file_in_another_encoding_is_found_with_its_line() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("change.sql");
        fs::write(&file, b"select 1;\nselect 'caf\xe9';\n").unwrap();
        let said = messages(&format!(
            "cluster name = c;\nnode 1 admin conninfo = 'dbname=a';\nexecute script (filename = '{}', event node = 1);\n",
            file.display()
        ));
        assert!(
            said.len() == 1 && said[0].contains("change.sql:2: the file is not valid UTF-8"),
            "{said:?}"
        );
    }

    #[test]
    fn connection_strings_nobody_can_use_are_warned_about_without_their_secrets() {
        let said = messages(
            "cluster name = c;\nnode 1 admin conninfo = 'hots=db1 password=geheim';\nstore path (server = 1, client = 1, conninfo = 'host=a dbname=''x');\n",
        );
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("s:2: WARNING: nobody can connect with this string: "),
            "{said:?}"
        );
        assert!(
            said[1].starts_with("s:3: WARNING: nobody can connect with this string: "),
            "{said:?}"
        );
        assert!(!said[0].contains("geheim"), "{said:?}");
    }

    #[test]
    fn a_cluster_name_that_makes_no_schema_is_an_error() {
        let name = "x".repeat(64);
        let said = messages(&format!(
            "cluster name = {name};\nnode 1 admin conninfo = 'dbname=a';\ndate;\n"
        ));
        assert!(said.len() == 1 && said[0].starts_with("s:1: Error: "), "{said:?}");
    }
}
