//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::check::{self, CheckArguments};
use crate::configuration::{Configuration, ConfigurationError};
use crate::console::Console;
use crate::demo;
use crate::exit::Exit;
use crate::failover::{self, FailoverArguments};
use crate::lost::{self, LostArguments, LostError};
use crate::rejoin::{self, RejoinArguments, RejoinError};
use crate::status::{self, StatusArguments};
use crate::switch::{self, SwitchArguments};
use crate::verify::{self, VerifyArguments, VerifyError};
use crate::view::{ClusterView, DiscoveryError};

/// The operator's tool of a Trunkline cluster.
#[derive(Debug, Parser)]
#[command(
    name = "slonctl",
    version,
    after_help = "Clusters are built, changed and taken down with slonik: `init cluster`, `store node`, `subscribe set`, `uninstall node`."
)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster is meant, and how to answer.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which cluster, and how to answer")]
struct Target {
    /// TOML file with the cluster's name, the nodes' conninfos and hooks.
    #[arg(long, global = true, env = "SLONCTL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the cluster; only needed where the database holds several.
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
    /// How to reach any one node; the others are found from there. May be given more than once. Keep passwords in
    /// `~/.pgpass`: others can read a command line.
    #[arg(long, global = true, value_name = "CONNINFO")]
    conninfo: Vec<String>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows nodes, sets, who is origin and who is behind, what slons are stuck on and what holds back cleanup.
    Status(StatusArguments),
    /// Judges the cluster for a monitor. Exit code: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    Check(CheckArguments),
    /// Makes another node the origin, without losing anything; puts everything back if it cannot be done in time.
    Switch(SwitchArguments),
    /// Gives lost nodes up and makes a surviving node the origin of their sets.
    Failover(FailoverArguments),
    /// Lists the transactions of a failed node that no survivor had: old and new values, and what the new origin has now.
    ///
    /// Exit code 0 if nothing is lost, 8 if something is.
    Lost(LostArguments),
    /// Takes a failed node back as a subscriber: what is equal stays, what differs is copied, what is lost is saved.
    ///
    /// May be interrupted anywhere and run again. Exit code 0 when the node receives its sets, 3 if it was refused before
    /// anything was changed, 6 if it must be run again.
    Rejoin(RejoinArguments),
    /// Compares subscribers with their origins, row by row and at one and the same SYNC, while all go on working.
    ///
    /// Each side computes checksums of its rows; only where they differ keys are looked at. Exit code 0 if all is equal,
    /// 8 if something differs.
    Verify(VerifyArguments),
    /// Builds a cluster of three throwaway nodes, works on it under load and proves that all nodes are equal.
    ///
    /// Needs the PostgreSQL server programs (with contrib): `TRUNKLINE_PGBIN`, `pg_config` and the usual places are
    /// searched. Exit code 0 only if all nodes are equal and no acknowledged write is lost.
    Demo {
        /// Leave the cluster running at the end, and say how to connect and how to stop it.
        #[arg(long)]
        keep: bool,
    },
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The configuration.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// No node of the cluster could be found.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Listing losses.
    #[error(transparent)]
    Lost(#[from] LostError),
    /// Taking a node back.
    #[error(transparent)]
    Rejoin(#[from] RejoinError),
    /// Comparing nodes.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The demo.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
}

impl CommandError {
    fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Usage,
            Self::Rejoin(error) => error.exit(),
            Self::Discovery(_) | Self::Lost(_) | Self::Verify(_) | Self::Demo(_) => Exit::Failed,
        }
    }
}

/// Runs slonctl with the arguments of a command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // A monitor that calls us wrongly knows nothing: it must not read "critical".
    let monitors = arguments.iter().any(|argument| argument == "check");
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return match (error.use_stderr(), monitors) {
                (false, _) => Exit::Done,
                (true, true) => Exit::Monitoring(3),
                (true, false) => Exit::Usage,
            };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            Console::complain(&format!("cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let console = arguments.target.console();
    runtime.block_on(run(arguments)).unwrap_or_else(|error| {
        let text = with_causes(&error);
        // Programs read standard output only.
        if console.is_json() {
            console.event(None, "error", &text);
        }
        Console::complain(&text);
        error.exit()
    })
}

async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let Arguments { target, command } = arguments;
    match command {
        Command::Status(arguments) => Ok(status::run(&arguments, &target.console(), target.view().await?).await?),
        Command::Check(arguments) => Ok(check::run(&arguments, &target.console(), target.view().await).await),
        Command::Switch(arguments) => switch::run(&arguments, &target.console(), target.view().await?).await,
        Command::Failover(arguments) => {
            let view = target.view_without(arguments.failed()).await?;
            failover::run(&arguments, &target.console(), view).await
        }
        Command::Lost(arguments) => Ok(lost::run(&arguments, &target.console(), &target.view().await?).await?),
        Command::Rejoin(arguments) => Ok(rejoin::run(&arguments, &target.console(), target.view().await?).await?),
        Command::Verify(arguments) => Ok(verify::run(&arguments, &target.console(), &target.view().await?).await?),
        Command::Demo { keep } => Ok(if demo::run(keep, &target.console()).await? {
            Exit::Done
        } else {
            Exit::Unproved
        }),
    }
}

impl Target {
    fn configuration(&self) -> Result<Configuration, ConfigurationError> {
        Configuration::load(self.config.as_deref(), self.cluster.as_deref(), &self.conninfo)
    }

    /// Finds the cluster.
    async fn view(&self) -> Result<ClusterView, CommandError> {
        self.view_without(&[]).await
    }

    /// Finds the cluster, without much patience for nodes that are said to be lost.
    async fn view_without(&self, lost: &[i32]) -> Result<ClusterView, CommandError> {
        Ok(ClusterView::discover(self.configuration()?, lost).await?)
    }

    fn console(&self) -> Console {
        Console::new(self.json)
    }
}

/// An error with its causes, on one line. Errors that show their cause themselves are not repeated.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // The driver's prefix, which our own texts leave out.
        let cause_text = cause_text.strip_prefix("db error: ").unwrap_or(&cause_text);
        if !text.ends_with(cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
