//! `slonctl check`: everything `test_slony_state` looks at, and the lag, with the exit codes of monitoring plug-ins.

mod conditions;
mod threshold;

use std::fmt::{self, Write as _};

use clap::Args;
use serde::Serialize;

use crate::cli::CommandError;
use crate::console::Console;
use crate::duration;
use crate::exit::Exit;
use crate::view::ClusterView;

use threshold::Thresholds;

/// Options of `slonctl check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArguments {
    /// Only these conditions; without it all of them.
    #[arg(long = "only", value_name = "CONDITION", value_delimiter = ',', value_enum)]
    only: Vec<Condition>,
    /// WARNING if a subscriber is behind for longer than this.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    warn: std::time::Duration,
    /// CRITICAL if a subscriber is behind for longer than this.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    crit: std::time::Duration,
    /// WARNING if a log table has more rows than this.
    #[arg(long, value_name = "ROWS", default_value_t = 200_000)]
    log_rows: u32,
    /// WARNING if the newest event, or confirmation, of a node is older than this.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration::parse)]
    silence: std::time::Duration,
    /// WARNING if a transaction is open for longer than this.
    #[arg(long, value_name = "TIME", default_value = "90m", value_parser = duration::parse)]
    transaction: std::time::Duration,
    /// CRITICAL if a node has changes, and a slon, but has made no SYNC for longer than this. Not less than slon's
    /// `sync_interval`.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    sync_age: std::time::Duration,
    /// WARNING if a part of a slon, or a call that changes the cluster, works on one thing for longer than this.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    stuck: std::time::Duration,
}

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    /// All nodes answer, and belong to the cluster.
    Nodes,
    /// A slon serves each node, is stuck on nothing, and announces changes: `--sync-age`.
    Slon,
    /// Subscribers keep up: `--warn`, `--crit`.
    Lag,
    /// `sl_log_1`, `sl_log_2`, `sl_seqlog` do not grow beyond `--log-rows`.
    Log,
    /// Every node listens for the events of every other, and for its providers directly.
    Listen,
    /// Events arrive everywhere: `--silence`.
    Events,
    /// Confirmations come back: `--silence`; none are of nodes that do not exist.
    Confirmations,
    /// No transaction is open for long: `--transaction`.
    Transactions,
    /// No part of a slon, and no administrative call, hangs: `--stuck`.
    Components,
    /// Sets have one origin, are not locked, not fenced, and copied.
    Sets,
}

impl Condition {
    const ALL: [Self; 10] = [
        Self::Nodes,
        Self::Slon,
        Self::Lag,
        Self::Log,
        Self::Listen,
        Self::Events,
        Self::Confirmations,
        Self::Transactions,
        Self::Components,
        Self::Sets,
    ];
}

/// Nagios's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    Ok,
    /// Worse than OK, because nobody looked.
    Unknown,
    Warning,
    Critical,
}

impl Level {
    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Complaint {
    pub(crate) condition: Condition,
    pub(crate) level: Level,
    pub(crate) node: Option<i32>,
    pub(crate) text: String,
}

/// A figure for the monitoring's graphs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// `s`, `B` or nothing.
    pub(crate) unit: &'static str,
}

#[derive(Debug, Serialize)]
struct Verdict<'a> {
    cluster: &'a str,
    level: Level,
    conditions: &'a [Condition],
    complaints: &'a [Complaint],
    figures: &'a [Figure],
}

/// Judges the cluster.
pub(crate) async fn run(
    arguments: &CheckArguments,
    console: &Console,
    view: Result<ClusterView, CommandError>,
) -> Exit {
    let view = match view {
        Ok(view) => view,
        Err(error) => {
            let level = match error {
                // Nobody answers: that is known, and bad.
                CommandError::Discovery(_) => Level::Critical,
                _ => Level::Unknown,
            };
            let text = crate::cli::with_causes(&error);
            console.document(&serde_json::json!({ "level": level, "error": text }));
            console.line(&format!("SLONY {level} - {}", text.replace('\n', " ")));
            return Exit::Monitoring(level.code());
        }
    };
    let wanted = if arguments.only.is_empty() {
        Condition::ALL.to_vec()
    } else {
        arguments.only.clone()
    };
    let thresholds = Thresholds::of(arguments);
    let (complaints, figures) = conditions::look(&view, &wanted, &thresholds).await;
    let level = complaints
        .iter()
        .map(|complaint| complaint.level)
        .max()
        .unwrap_or(Level::Ok);
    console.document(&Verdict {
        cluster: view.cluster.name(),
        level,
        conditions: &wanted,
        complaints: &complaints,
        figures: &figures,
    });
    console.text(&text(view.cluster.name(), level, &wanted, &complaints, &figures));
    Exit::Monitoring(level.code())
}

/// One line that monitors show, with performance data; then one line per complaint, the worst first.
fn text(cluster: &str, level: Level, wanted: &[Condition], complaints: &[Complaint], figures: &[Figure]) -> String {
    let mut sorted: Vec<&Complaint> = complaints.iter().collect();
    sorted.sort_by_key(|complaint| std::cmp::Reverse(complaint.level));
    let say = |complaint: &Complaint| {
        let node = complaint.node.map_or_else(String::new, |node| format!("node {node}: "));
        // A bar would begin the performance data.
        format!("{node}{}", complaint.text.replace('\n', " ").replace('|', "/"))
    };
    let summary = match sorted.as_slice() {
        [] => format!("{} conditions looked at", wanted.len()),
        [one] => say(one),
        [worst, rest @ ..] => format!("{} (and {} more)", say(worst), rest.len()),
    };
    let figures: Vec<String> = figures
        .iter()
        .map(|figure| format!("'{}'={}{}", figure.name, figure.value, figure.unit))
        .collect();
    let mut text = format!("SLONY {level} - cluster {cluster}: {summary} | {}\n", figures.join(" "));
    for complaint in sorted {
        let _ = writeln!(text, "{} {}", complaint.level, say(complaint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_what_monitors_read() {
        let complaint = |level, text: &str| Complaint {
            condition: Condition::Lag,
            level,
            node: Some(2),
            text: text.into(),
        };
        let figures = [Figure {
            name: "lag node 2 set 1".into(),
            value: 1.5,
            unit: "s",
        }];
        assert_eq!(
            text("shop", Level::Ok, &[Condition::Lag], &[], &figures),
            "SLONY OK - cluster shop: 1 conditions looked at | 'lag node 2 set 1'=1.5s\n"
        );
        let complaints = [complaint(Level::Warning, "a|b"), complaint(Level::Critical, "c")];
        assert_eq!(
            text("shop", Level::Critical, &[], &complaints, &[]),
            "SLONY CRITICAL - cluster shop: node 2: c (and 1 more) | \nCRITICAL node 2: c\nWARNING node 2: a/b\n"
        );
    }
}
