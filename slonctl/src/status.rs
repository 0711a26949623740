//! `slonctl status`: who is what, who is behind, and what is wrong.

mod report;
mod text;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use crate::console::Console;
use crate::duration;
use crate::exit::Exit;
use crate::view::{ClusterView, DiscoveryError};

use report::Report;

/// Options of `slonctl status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArguments {
    /// Look again and again, so far apart, until interrupted.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s", value_parser = duration::parse)]
    watch: Option<Duration>,
}

/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the cluster. The exit code is 0 whatever is shown: judging is the business of `check`.
pub(crate) async fn run(
    arguments: &StatusArguments,
    console: &Console,
    mut view: ClusterView,
) -> Result<Exit, DiscoveryError> {
    loop {
        let report = Report::of(&view).await;
        console.document(&report);
        let head = if arguments.watch.is_some() && std::io::stdout().is_terminal() {
            CLEAR
        } else {
            ""
        };
        console.text(&format!("{head}{report}"));
        let Some(pause) = arguments.watch else {
            return Ok(Exit::Done);
        };
        if !std::io::stdout().is_terminal() {
            console.line("");
        }
        tokio::time::sleep(pause).await;
        view = view.refresh().await?;
    }
}
