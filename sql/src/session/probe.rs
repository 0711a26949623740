//! What a session finds out about its server right after logging in.

use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::error::AttemptError;
use crate::conninfo::ServerRole;

/// One round trip: who serves us, which version, and whether it takes writes.
pub(super) const PROBE: &str = "select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num'), \
     pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) backend_pid: i32,
    pub(super) version: i32,
    in_recovery: bool,
    read_only: bool,
}

impl Server {
    /// Reads the answer; anything unexpected means that this is no PostgreSQL server.
    pub(super) fn read(messages: &[SimpleQueryMessage]) -> Result<Self, AttemptError> {
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.and_then(Self::from_row).ok_or(AttemptError::Negotiation(
            "the server gave no sensible account of itself",
        ))
    }

    fn from_row(row: &SimpleQueryRow) -> Option<Self> {
        Some(Self {
            backend_pid: row.get(0)?.parse().ok()?,
            version: row.get(1)?.parse().ok()?,
            in_recovery: row.get(2)? == "t",
            read_only: row.get(3)? == "on",
        })
    }

    /// Whether this server does for `target_session_attrs`.
    pub(super) fn check(&self, role: ServerRole) -> Result<(), AttemptError> {
        let refusal = match role {
            ServerRole::ReadWrite if self.read_only => "session is read-only",
            ServerRole::ReadOnly if !self.read_only => "session is not read-only",
            ServerRole::Primary if self.in_recovery => "server is in hot standby mode",
            ServerRole::Standby if !self.in_recovery => "server is not in hot standby mode",
            _ => return Ok(()),
        };
        Err(AttemptError::Role(refusal))
    }
}
