//! Why a statement failed.

use trunkline_grammar::Id;
use trunkline_sql::InstallError;
use trunkline_sql::admin::CallError;

use crate::report::Report;

/// Why a statement failed; each kind has its stream and its form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A server refused a statement.
    #[error("{0}")]
    Sql(#[from] CallError),
    /// A server refused a statement of `execute script`.
    #[error("PGRES_FATAL_ERROR [{statement}] - {answer}")]
    Script {
        /// Which statement it was, and where it stands; None: what slonik itself does for the script.
        place: Option<String>,
        /// The statement's text.
        statement: String,
        /// What the server said.
        answer: String,
        /// Whether a lock was not to be had: another attempt may get it.
        locked_out: bool,
    },
    /// The script does not say how to reach a node.
    #[error("ERROR: no admin conninfo for node {0}")]
    NoConninfo(Id),
    /// A node cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The cluster schema could not be installed, renewed or removed.
    #[error("Error: node {node}: {source}")]
    Install {
        /// Where.
        node: Id,
        /// Why.
        source: InstallError,
    },
    /// slonik itself refuses before it has changed anything that counts: a line for each reason.
    #[error("{}", .0.join("\n"))]
    Reasons(Vec<String>),
    /// slonik itself refuses, with the reason.
    #[error("Error: {0}")]
    Refused(String),
    /// slonik itself refuses, in the original's words without `Error:`.
    #[error("{0}")]
    Plain(String),
}

impl Failure {
    /// The failure of a query that slonik made to decide what to do; `question` says what it wanted to know.
    pub(crate) fn of_query(question: &str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Sql(CallError::of_query(&format!("({question})"), source))
    }

    /// The failure of installing on `node`, in the original's words where it has some.
    pub(crate) fn of_install(node: Id, cluster: &str) -> impl FnOnce(InstallError) -> Self {
        move |source| match source {
            InstallError::SchemaExists { .. } => Self::Refused(format!(
                "namespace \"_{cluster}\" already exists in database of node {node}"
            )),
            source => Self::Install { node, source },
        }
    }

    /// Prints the failure: SQL errors on standard error, everything else on standard output.
    pub(crate) fn print(&self, report: &Report) {
        match self {
            Self::Sql(_) => report.complain(&self.to_string()),
            Self::Script { place, .. } => {
                report.complain_bare(&self.to_string());
                if let Some(place) = place {
                    report.complain(&format!("the error is in {place}"));
                }
            }
            Self::Install {
                node,
                source: InstallError::Unsuitable(reasons),
            } => {
                for reason in reasons {
                    report.say(&format!("Error: node {node}: {reason}"));
                }
            }
            Self::Reasons(reasons) => {
                for reason in reasons {
                    report.say(reason);
                }
            }
            _ => report.say(&self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::report::tests::Kept;

    #[test]
    fn each_kind_has_its_stream() {
        let kept = Arc::new(Kept::default());
        let report = Report::new(kept.clone());
        report.set_place("s:3".into());
        Failure::NoConninfo(4).print(&report);
        Failure::Refused("no".into()).print(&report);
        Failure::Script {
            place: Some("statement 2 of the script (x.sql:5)".into()),
            statement: " selekt 2;".into(),
            answer: "ERROR:  syntax".into(),
            locked_out: false,
        }
        .print(&report);
        assert_eq!(
            *kept.out.lock().unwrap(),
            "s:3: ERROR: no admin conninfo for node 4\ns:3: Error: no\n"
        );
        assert_eq!(
            *kept.err.lock().unwrap(),
            "PGRES_FATAL_ERROR [ selekt 2;] - ERROR:  syntax\ns:3: the error is in statement 2 of the script (x.sql:5)\n"
        );
    }
}
