//! What can stop a change from being applied.

use trunkline_sql::error_text;

/// Why a stretch of the log could not be applied. Nothing of its group of SYNCs is kept then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The table does not exist here.
    #[error(
        "table {table} does not exist on node {node}; create it there like on the origin, replication goes on by itself"
    )]
    MissingTable {
        /// `"schema"."name"`.
        table: String,
        /// The subscriber.
        node: i32,
    },
    /// A column does not exist here.
    #[error(
        "column \"{column}\" of table {table} does not exist on node {node}; add it there with the type it has on the origin \
         (`alter table {table} add column \"{column}\" …`), replication goes on by itself"
    )]
    MissingColumn {
        /// `"schema"."name"`.
        table: String,
        /// Unquoted name.
        column: String,
        /// The subscriber.
        node: i32,
    },
    /// A log row that cannot be read.
    #[error("log row {action} of table {table} cannot be applied: {what}")]
    Malformed {
        /// `"schema"."name"`.
        table: String,
        /// `log_actionseq`.
        action: i64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The server refused a change.
    #[error("cannot apply {command} to {table} on node {node}: {}", error_text(source))]
    Refused {
        /// `INSERT`, `UPDATE` …
        command: &'static str,
        /// `"schema"."name"`.
        table: String,
        /// The subscriber.
        node: i32,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// A key that several rows have.
    #[error(
        "a change of one row of table {table} meets several rows on node {node}: its key is not unique there; is it a deferrable \
         constraint? Use another unique index as key, and unsubscribe and subscribe the set again"
    )]
    Ambiguous {
        /// `"schema"."name"`.
        table: String,
        /// The subscriber.
        node: i32,
    },
    /// Any other failure of the local database.
    #[error("local database: {}", error_text(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A value that cannot be encoded.
    #[error("{table}: {source}")]
    Value {
        /// `"schema"."name"`.
        table: String,
        /// What is wrong with it.
        source: trunkline_sql::wire::NotAnInteger,
    },
}

impl ApplyError {
    /// Whether doing the same in the original order may help: everything but a broken connection or log row.
    pub(super) fn may_depend_on_order(&self) -> bool {
        match self {
            Self::Refused { source, .. } | Self::Database(source) => source.as_db_error().is_some(),
            Self::Value { .. } | Self::Ambiguous { .. } => true,
            Self::MissingTable { .. } | Self::MissingColumn { .. } | Self::Malformed { .. } => false,
        }
    }
}
