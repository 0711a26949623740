//! What can go wrong with a connection, in words.

use std::error::Error as _;
use std::fmt::{self, Write as _};

use tokio_postgres::error::{DbError, SqlState};

use crate::conninfo::ConninfoError;
use crate::tls::TlsError;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string, or a file or variable that completes it, is wrong.
    #[error("invalid connection string `{conninfo}`: {reason}")]
    Conninfo {
        /// The string, without its password.
        conninfo: String,
        /// What is wrong with it.
        reason: ConninfoError,
    },
    /// The files a connection string names did not answer in time.
    #[error(
        "reading the service, password and certificate files for `{conninfo}` took longer than {seconds} s; is their file system stuck?"
    )]
    FilesTimeout {
        /// The string, without its password.
        conninfo: String,
        /// The limit.
        seconds: u64,
    },
    /// No server let us in.
    #[error("cannot connect to {target}: {}", list(failures))]
    Failed {
        /// Where we tried to go.
        target: String,
        /// What came of each attempt, in order.
        failures: Vec<AttemptFailure>,
    },
}

impl ConnectError {
    /// The SQLSTATE with which the last server refused us, if one did.
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Failed { failures, .. } => failures.last()?.cause.code(),
            Self::Conninfo { .. } | Self::FilesTimeout { .. } => None,
        }
    }
}

fn list(failures: &[AttemptFailure]) -> String {
    failures
        .iter()
        .map(AttemptFailure::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One attempt that failed.
#[derive(Debug)]
pub struct AttemptFailure {
    /// `connection to server at "host" (address), port 5432`.
    pub(super) place: String,
    pub(super) cause: AttemptError,
    /// What to do about it, beside what the cause says.
    pub(super) hint: Option<String>,
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} failed: {}", self.place, self.cause)?;
        match &self.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Why one server did not let us in.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The name is unknown.
    #[error("could not translate host name to address: {0}")]
    Lookup(String),
    /// The socket.
    #[error("{0}")]
    Socket(std::io::Error),
    /// The server broke off in the middle of the negotiation.
    #[error("{0}")]
    Negotiation(&'static str),
    /// No TLS, or TLS we do not trust.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The server or the driver.
    #[error("{}", error_text(.0))]
    Database(#[from] tokio_postgres::Error),
    /// It took too long.
    #[error("timeout expired after {0} s")]
    Timeout(u64),
    /// The process behind the socket is not the one we expect.
    #[error("requirepeer specifies \"{wanted}\", but actual peer user name is \"{actual}\"")]
    Peer {
        /// `requirepeer`.
        wanted: String,
        /// Who it is.
        actual: String,
    },
    /// A server that does not do for `target_session_attrs`.
    #[error("{0}")]
    Role(&'static str),
    /// First with, then without TLS, or the other way round.
    #[error("{first_how}: {first}\n{second_how}: {second}")]
    Both {
        /// How the first attempt was made.
        first_how: &'static str,
        /// What came of it.
        first: Box<AttemptError>,
        /// How the second attempt was made.
        second_how: &'static str,
        /// What came of it.
        second: Box<AttemptError>,
    },
}

impl AttemptError {
    /// The server's error, if it sent one.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            Self::Both { second, .. } => second.code(),
            _ => None,
        }
    }

    /// Whether the next server of the list is worth a try. As in libpq, a server that answers and refuses us has the
    /// last word, unless it only says that it cannot serve anybody now.
    pub(super) fn tries_next_host(&self) -> bool {
        self.code().is_none_or(|code| *code == SqlState::CANNOT_CONNECT_NOW)
    }

    /// Whether the server refused this kind of encryption rather than us.
    pub(super) fn refuses_encryption(&self) -> bool {
        self.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    }

    /// Whether a password was asked for that we do not have.
    pub(super) fn wants_password(&self) -> bool {
        match self {
            Self::Database(error) => error
                .source()
                .is_some_and(|cause| cause.to_string() == "password missing"),
            Self::Both { second, .. } => second.wants_password(),
            _ => false,
        }
    }
}

/// The connection of a session is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection to {target} is closed: {reason}")]
pub struct SessionClosed {
    /// Where it went.
    pub target: String,
    /// What ended it.
    pub reason: String,
}

/// An error of a statement in full: `ERROR: message` with DETAIL, HINT and CONTEXT, or the chain of causes.
#[must_use]
pub fn error_text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return db_error_text(db);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {}", cause_text(cause));
        source = cause.source();
    }
    text
}

/// A cause, in a DBA's words where they are better than the library's.
fn cause_text(cause: &(dyn std::error::Error + 'static)) -> String {
    match cause.downcast_ref::<std::io::Error>() {
        Some(io) => crate::tls::handshake_text(io),
        None => cause.to_string(),
    }
}

/// A message of the server in full.
#[must_use]
pub fn db_error_text(error: &DbError) -> String {
    let mut text = format!("{}: {}", error.severity(), error.message());
    for (label, part) in [
        ("DETAIL", error.detail()),
        ("HINT", error.hint()),
        ("CONTEXT", error.where_()),
    ] {
        if let Some(part) = part {
            let _ = write!(text, "\n{label}: {part}");
        }
    }
    text
}
