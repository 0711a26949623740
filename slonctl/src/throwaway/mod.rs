//! Throwaway PostgreSQL servers for the demo and the tests.
//!
//! A [`Throwaway`] is a temporary directory with everything in it: data directories, unix sockets, logs. A small shell
//! process, the guard, holds the reading end of a pipe from this process; when this process ends, in whatever way, the
//! guard stops what still runs in the directory and removes it. Nothing is left behind by a panic, Ctrl-C or `kill -9`.
//!
//! The servers trust every connection. They listen on unix sockets inside the directory, which only its owner can enter;
//! TCP on 127.0.0.1 is opened only when asked for ([`ServerOptions::tcp`]).
//!
//! PostgreSQL refuses to run as root, so root starts it as `postgres` if there is such a user, else as `nobody`.

mod account;
mod binaries;
mod directory;
mod install;
mod processes;
mod server;

pub use binaries::{BinariesError, PGBIN_VARIABLE, ServerBinaries};
pub use directory::Throwaway;
pub use install::{INSTALL_VARIABLE, InstallError};
pub use processes::{exists, signal, signal_tree};
pub use server::{Server, ServerOptions};

use std::path::PathBuf;

/// Why a throwaway server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ThrowawayError {
    /// Server programs are missing.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// A file or directory could not be made or read.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{}`", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("`{program}` failed ({status}): {output}")]
    Failed {
        /// The program and what it was for.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// PostgreSQL will not run as root and there is nobody else to run it as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor `nobody`; create one of them"
    )]
    NoAccount,
    /// The user database could not be read.
    #[error("cannot look up the user to run PostgreSQL as")]
    Account(#[source] nix::Error),
    /// The server did not come up.
    #[error("the throwaway server `{name}` did not start: {reason}\n{log}")]
    NotReady {
        /// Which one.
        name: String,
        /// What was seen.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// No free port.
    #[error("found no free TCP port between {from} and {to} on 127.0.0.1")]
    NoPort {
        /// First port tried.
        from: u16,
        /// End of the range.
        to: u16,
    },
    /// The socket path would not fit into a socket address.
    #[error("the temporary directory `{}` has too long a name for unix sockets; set TMPDIR to a short one", .0.display())]
    LongPath(PathBuf),
}
