//! `slonctl switch`: another node becomes the origin, nothing is lost, and if it cannot be done in time nothing has changed.

mod checks;
mod course;
mod later;
mod plan;

use std::time::Duration;

use clap::Args;

use crate::cli::CommandError;
use crate::confirmation::{self, Consent};
use crate::console::Console;
use crate::duration;
use crate::exit::Exit;
use crate::failover::{self, FailoverArguments};
use crate::verify::{self, Extent};
use crate::view::ClusterView;

use plan::Plan;

/// Options of `slonctl switch`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct SwitchArguments {
    /// The node that becomes origin; without it the best subscriber is suggested.
    #[arg(long, value_name = "NODE")]
    to: Option<i32>,
    /// Sets to move, all of one origin; without it all sets of the origin, where there is only one origin.
    #[arg(long = "set", value_name = "SET", value_delimiter = ',')]
    sets: Vec<i32>,
    /// Do not ask.
    #[arg(short = 'f', long = "yes", visible_alias = "force")]
    yes: bool,
    /// How long writes may be refused before the point of no return; then everything is put back.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    max_outage: Duration,
    /// Refuse if the new origin is behind for longer than this.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    max_lag: Duration,
    /// How long to wait, after the point of no return, for the new origin to take over, and then for the subscribers.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    settle: Duration,
    /// How much of the subscribers' tables is compared with the new origin's in the end: `all`, `none`, or what can be
    /// compared in this time, small tables first. The new origin serves meanwhile.
    #[arg(long, value_name = "TIME|all|none", default_value = "10s", value_parser = verify::parse_extent)]
    verify: Extent,
    /// If the origin cannot be reached, fail over instead: what it alone had is lost.
    #[arg(long)]
    failover_if_down: bool,
    /// Go on with a switch that was cut short: sets that are locked are taken as they are.
    #[arg(long)]
    resume: bool,
    /// Check and show the plan, but do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Plans, checks, asks, switches, proves.
pub(crate) async fn run(
    arguments: &SwitchArguments,
    console: &Console,
    view: ClusterView,
) -> Result<Exit, CommandError> {
    let plan = match Plan::make(&view, arguments.to, &arguments.sets, arguments).await {
        Ok(plan) => plan,
        Err(reasons) => {
            if let Some(origin) = lost_origin(&view, arguments) {
                return origin_is_down(arguments, console, view, origin).await;
            }
            for reason in reasons {
                console.event(None, "problem", &reason);
            }
            return Ok(Exit::Refused);
        }
    };
    if view.facts(plan.old).is_none() {
        return origin_is_down(arguments, console, view, plan.old).await;
    }
    console.passage("plan", &plan.to_string());
    let findings = checks::look(&view, &plan, arguments).await;
    findings.tell(console);
    if findings.forbid() {
        console.event(
            None,
            "refused",
            "refused: nothing was done. Mend what is called a problem and run this again",
        );
        return Ok(Exit::Refused);
    }
    console.passage("script", &plan.script.to_string());
    if arguments.dry_run {
        return Ok(Exit::Done);
    }
    if !arguments.yes && confirmation::press_enter().await == Consent::Refused {
        return Ok(Exit::Declined);
    }
    Ok(course::run(&view, &plan, arguments, console).await)
}

/// The origin of all sets in question, if it is out of reach: nothing that a switch lacks matters then.
fn lost_origin(view: &ClusterView, arguments: &SwitchArguments) -> Option<i32> {
    let sets = view.sets().into_iter();
    let mut origins = sets
        .filter(|set| arguments.sets.is_empty() || arguments.sets.contains(&set.id))
        .map(|set| set.origin);
    let origin = origins.next()?;
    (origins.all(|other| other == origin) && view.facts(origin).is_none()).then_some(origin)
}

/// A switch needs its origin. What is possible without it loses data, so it is a decision of its own.
async fn origin_is_down(
    arguments: &SwitchArguments,
    console: &Console,
    view: ClusterView,
    origin: i32,
) -> Result<Exit, CommandError> {
    let reasons = view.node(origin).map(|node| node.silence().join("; "));
    console.event(
        Some(origin),
        "origin_down",
        &format!(
            "the origin cannot be reached, so nothing can be switched: {}",
            reasons.unwrap_or_default()
        ),
    );
    let instead = FailoverArguments::instead_of_switch(
        origin,
        arguments.to,
        arguments.yes && arguments.failover_if_down,
        arguments.settle,
        arguments.verify,
    );
    if arguments.failover_if_down {
        console.step(None, "--failover-if-down: failing over instead");
        return failover::run(&instead, console, view).await;
    }
    failover::offer(&instead, console, view, arguments.yes || arguments.dry_run).await
}
