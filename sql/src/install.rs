//! Installing, updating and removing the cluster schema of one node.
//!
//! The schema is a list of SQL texts, sent as one batch: an installation is two round trips, whatever the distance.
//!
//! Conventions of `schema/*.sql`:
//! * `@NAMESPACE@` is the quoted schema, `@CLUSTER@` the string literal `'_C'`, `@HSTORE@` the quoted schema of the
//!   `hstore` extension, `@REGCLASS:name@` the constant `'"_C".name'::pg_catalog.regclass`, `@VERSION@` our version
//!   as a string literal, `@USUAL_SETTINGS@` the settings under which the log trigger takes its short way. Cluster names may hold any character, so `_C` is never pasted into anything else.
//! * Everything is qualified. The batch runs with `search_path` = `pg_catalog`; a function is called with any path, so
//!   each one either carries `set search_path to pg_catalog, pg_temp` or (hot ones, which cannot afford it)
//!   writes its operators as `operator(pg_catalog.=)`.
//! * Bodies are quoted `$trunkline$` and hold no backslash in a plain literal: daemons of the original run with
//!   `standard_conforming_strings` off.
//! * Functions are `create or replace` with the original's parameter names, so they can also replace the original's.

use tokio_postgres::GenericClient;

use crate::preflight::{self, Facts, Refusal};
use crate::session::Session;
use crate::{Cluster, error_text, quote_ident, quote_literal};

/// Tables and sequences: only when a node is made.
const TABLES: &[&str] = &[include_str!("schema/tables.sql")];

/// Everything that can be replaced in a living node, in order of dependency.
const FUNCTIONS: &[&str] = &[
    include_str!("schema/additions.sql"),
    include_str!("schema/version.sql"),
    include_str!("schema/event.sql"),
    include_str!("schema/capture.sql"),
    include_str!("schema/capture_order.sql"),
    include_str!("schema/capture_function.sql"),
    include_str!("schema/capture_statement.sql"),
    include_str!("schema/apply.sql"),
    include_str!("schema/triggers.sql"),
    include_str!("schema/fence.sql"),
    include_str!("schema/table.sql"),
    include_str!("schema/log_switch.sql"),
    include_str!("schema/cleanup.sql"),
    include_str!("schema/ddl.sql"),
    include_str!("schema/monitor.sql"),
    include_str!("schema/upgrade.sql"),
    include_str!("schema/node.sql"),
    include_str!("schema/path.sql"),
    include_str!("schema/listen.sql"),
    include_str!("schema/set.sql"),
    include_str!("schema/set_member.sql"),
    include_str!("schema/add_tables.sql"),
    include_str!("schema/partition.sql"),
    include_str!("schema/subscribe.sql"),
    include_str!("schema/move.sql"),
    include_str!("schema/failover.sql"),
    include_str!("schema/rejoin.sql"),
    include_str!("schema/clone.sql"),
    include_str!("schema/views.sql"),
];

/// Why a schema was not installed, updated or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The server is not fit; nothing was created. One line per reason.
    #[error("{}", list(.0))]
    Unsuitable(Vec<Refusal>),
    /// There is a schema of that name already; nothing was changed.
    #[error(
        "schema {schema} already exists in this database; `uninstall node` removes a node, `update functions` renews its functions"
    )]
    SchemaExists {
        /// The quoted schema.
        schema: String,
    },
    /// There is no such schema.
    #[error("schema {schema} does not exist in this database; `init cluster` or `store node` create it")]
    SchemaMissing {
        /// The quoted schema.
        schema: String,
    },
    /// The server refused a statement.
    #[error("cannot {action} the cluster schema {schema}: {}", error_text(.source))]
    Database {
        /// What was being done: `install`, `update`, `remove`, `examine`.
        action: &'static str,
        /// The quoted schema.
        schema: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
}

/// What an installation found worth telling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallReport {
    /// Warnings for the person at the keyboard, one sentence each.
    pub warnings: Vec<String>,
}

/// Creates the cluster schema in the database of `session`, in one transaction.
pub async fn install(session: &mut Session, cluster: &Cluster) -> Result<InstallReport, InstallError> {
    let failed = |source| database("install", cluster, source);
    let transaction = session.client_mut().transaction().await.map_err(failed)?;
    let report = install_in(&transaction, cluster).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(report)
}

/// Creates the cluster schema inside the caller's transaction, so that `init cluster` and `store node` are one with it.
///
/// After an error the caller's transaction may be aborted: roll it back.
pub async fn install_in<C: GenericClient>(client: &C, cluster: &Cluster) -> Result<InstallReport, InstallError> {
    let facts = preflight::examine(client, cluster)
        .await
        .map_err(|e| database("examine", cluster, e))?;
    if facts.schema_exists {
        return Err(InstallError::SchemaExists {
            schema: cluster.namespace().to_owned(),
        });
    }
    let refusals = preflight::refusals(&facts, preflight::Purpose::NewNode);
    if !refusals.is_empty() {
        return Err(InstallError::Unsuitable(refusals));
    }
    let mut batch = String::with_capacity(256 * 1024);
    batch.push_str(PROLOGUE);
    if let Some(statement) = facts.hstore.creation() {
        batch.push_str(&statement);
    }
    for text in TABLES.iter().chain(FUNCTIONS) {
        batch.push_str(&fill_in(cluster, &facts, text));
        batch.push('\n');
    }
    batch.push_str(EPILOGUE);
    client
        .batch_execute(&batch)
        .await
        .map_err(|e| database("install", cluster, e))?;
    Ok(InstallReport {
        warnings: facts.warnings(),
    })
}

/// Why a schema cannot be installed in this database, or its functions not renewed (`renew`); nothing is changed.
///
/// The session may itself be read only: what counts is how sessions begin here.
pub async fn refusals<C: GenericClient>(
    client: &C,
    cluster: &Cluster,
    renew: bool,
) -> Result<Vec<Refusal>, InstallError> {
    let mut facts = preflight::examine(client, cluster)
        .await
        .map_err(|e| database("examine", cluster, e))?;
    let begins_read_only =
        "select reset_val = 'on' from pg_catalog.pg_settings where name = 'default_transaction_read_only'";
    let row = client.query_one(begins_read_only, &[]).await;
    facts.read_only = row
        .and_then(|row| row.try_get(0))
        .map_err(|e| database("examine", cluster, e))?;
    let purpose = if renew {
        preflight::Purpose::NewFunctions
    } else {
        preflight::Purpose::NewNode
    };
    Ok(preflight::refusals(&facts, purpose))
}

/// Renews all functions and views of a node (`update functions`), in the caller's transaction or one of its own.
///
/// Works on a schema made by the original as well: tables, triggers and data stay.
pub async fn install_functions<C: GenericClient>(client: &C, cluster: &Cluster) -> Result<InstallReport, InstallError> {
    let facts = preflight::examine(client, cluster)
        .await
        .map_err(|e| database("examine", cluster, e))?;
    if !facts.schema_exists {
        return Err(InstallError::SchemaMissing {
            schema: cluster.namespace().to_owned(),
        });
    }
    let refusals = preflight::refusals(&facts, preflight::Purpose::NewFunctions);
    if !refusals.is_empty() {
        return Err(InstallError::Unsuitable(refusals));
    }
    let mut batch = String::with_capacity(256 * 1024);
    batch.push_str(PROLOGUE);
    if let Some(statement) = facts.hstore.creation() {
        batch.push_str(&statement);
    }
    for text in FUNCTIONS {
        batch.push_str(&fill_in(cluster, &facts, text));
        batch.push('\n');
    }
    batch.push_str(&fill_in(cluster, &facts, RENEWAL));
    batch.push_str(EPILOGUE);
    client
        .batch_execute(&batch)
        .await
        .map_err(|e| database("update", cluster, e))?;
    Ok(InstallReport {
        warnings: facts.warnings(),
    })
}

/// Removes the cluster schema and with it the triggers on the user's tables, which all run functions of the schema.
///
/// Waits for the transactions that use a replicated table. Other objects that somebody made depend on the schema go too,
/// as with the original.
pub async fn uninstall<C: GenericClient>(client: &C, cluster: &Cluster) -> Result<(), InstallError> {
    let exists = client
        .query_one(
            "select pg_catalog.to_regnamespace($1::pg_catalog.text) is not null",
            &[&cluster.namespace()],
        )
        .await
        .map_err(|e| database("examine", cluster, e))?;
    if !exists.get::<_, bool>(0) {
        return Err(InstallError::SchemaMissing {
            schema: cluster.namespace().to_owned(),
        });
    }
    let batch = format!("{PROLOGUE}drop schema {} cascade;\n{EPILOGUE}", cluster.namespace());
    client
        .batch_execute(&batch)
        .await
        .map_err(|e| database("remove", cluster, e))
}

/// Settings of the caller are remembered, names resolve in `pg_catalog` only, and the long list of notices that
/// `cascade` or `if not exists` would print is dropped.
const PROLOGUE: &str = "\
select pg_catalog.set_config('trunkline.search_path', pg_catalog.current_setting('search_path'), true),
       pg_catalog.set_config('trunkline.messages', pg_catalog.current_setting('client_min_messages'), true),
       pg_catalog.set_config('trunkline.strings', pg_catalog.current_setting('standard_conforming_strings'), true);
set local search_path to pg_catalog, pg_temp;
set local client_min_messages to warning;
set local standard_conforming_strings to on;
";

/// The log functions of tables captured by statement are written by functions of the schema, so they follow these.
const RENEWAL: &str = "select @NAMESPACE@.tl_renew_log_functions();\n";

/// Puts the caller's settings back.
const EPILOGUE: &str = "
select pg_catalog.set_config('search_path', pg_catalog.current_setting('trunkline.search_path'), true),
       pg_catalog.set_config('client_min_messages', pg_catalog.current_setting('trunkline.messages'), true),
       pg_catalog.set_config('standard_conforming_strings', pg_catalog.current_setting('trunkline.strings'), true);
";

/// Replaces the placeholders of a schema text in one pass, so that a name which looks like a placeholder stays itself.
fn fill_in(cluster: &Cluster, facts: &Facts, template: &str) -> String {
    let mut text = String::with_capacity(template.len() + template.len() / 8);
    let mut rest = template;
    while let Some(start) = rest.find('@') {
        text.push_str(&rest[..start]);
        let tail = &rest[start..];
        let end = tail[1..].find('@').map_or(0, |end| end + 2);
        match &tail[..end] {
            "@NAMESPACE@" => text.push_str(cluster.namespace()),
            "@CLUSTER@" => text.push_str(&quote_literal(&cluster.schema())),
            "@HSTORE@" => text.push_str(&quote_ident(facts.hstore.schema())),
            "@USUAL_SETTINGS@" => {
                text.push_str(&quote_literal(&text_array(&facts.usual_settings())));
                text.push_str("::pg_catalog.text[]");
            }
            "@VERSION@" => text.push_str(&quote_literal(env!("CARGO_PKG_VERSION"))),
            placeholder if placeholder.starts_with("@REGCLASS:") => {
                let relation = &placeholder["@REGCLASS:".len()..placeholder.len() - 1];
                text.push_str(&quote_literal(&format!("{}.{relation}", cluster.namespace())));
                text.push_str("::pg_catalog.regclass");
            }
            _ => {
                text.push('@');
                rest = &tail[1..];
                continue;
            }
        }
        rest = &tail[end..];
    }
    text.push_str(rest);
    text
}

/// An array literal of texts.
fn text_array(elements: &[String]) -> String {
    let quoted: Vec<String> = elements
        .iter()
        .map(|e| format!("\"{}\"", e.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

fn database(action: &'static str, cluster: &Cluster, source: tokio_postgres::Error) -> InstallError {
    InstallError::Database {
        action,
        schema: cluster.namespace().to_owned(),
        source,
    }
}

/// One reason per line.
fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn placeholders_are_replaced_in_one_pass() {
        let cluster = Cluster::new("a'@HSTORE@").unwrap();
        let facts = Facts::for_test("ext");
        assert_eq!(
            fill_in(
                &cluster,
                &facts,
                "@NAMESPACE@.f(@CLUSTER@) @HSTORE@.x a@b @REGCLASS:sl_log_status@ @"
            ),
            "\"_a'@HSTORE@\".f('_a''@HSTORE@') \"ext\".x a@b '\"_a''@HSTORE@\".sl_log_status'::pg_catalog.regclass @"
        );
    }

    #[test]
    fn schema_texts_keep_the_house_rules() {
        for text in TABLES.iter().chain(FUNCTIONS) {
            assert!(
                !text.contains('\\'),
                "a backslash reads differently with standard_conforming_strings off: {text}"
            );
            // A database of any encoding must be able to read it, and its comments are part of function bodies.
            assert!(text.is_ascii(), "letters that not every encoding has: {text}");
            assert!(!text.contains("$$"), "bodies are quoted $trunkline$: {text}");
            for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
                let inside_literal = |at: usize| line[..at].matches('\'').count() % 2 == 1;
                for (at, _) in line.match_indices("@NAMESPACE@") {
                    assert!(
                        !inside_literal(at),
                        "a cluster name with a quote breaks this literal: {line}"
                    );
                }
            }
        }
    }
}
