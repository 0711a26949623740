//! Whom the servers run as.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use super::ThrowawayError;

/// Users tried, in this order, when we are root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The user the servers run as; `None` inside means: the one we are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account(Option<(Uid, Gid)>);

impl Account {
    /// Ourselves, or when we are root somebody PostgreSQL accepts.
    pub(super) fn choose() -> Result<Self, ThrowawayError> {
        if !Uid::effective().is_root() {
            return Ok(Self(None));
        }
        for name in CANDIDATES {
            if let Some(user) = User::from_name(name).map_err(ThrowawayError::Account)? {
                return Ok(Self(Some((user.uid, user.gid))));
            }
        }
        Err(ThrowawayError::NoAccount)
    }

    /// Lets `command` run as this user.
    pub(super) fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.0 {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Gives `path` to this user.
    pub(super) fn own(self, path: &std::path::Path) -> Result<(), ThrowawayError> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        nix::unistd::chown(path, Some(uid), Some(gid)).map_err(|error| ThrowawayError::File {
            action: "give away",
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
