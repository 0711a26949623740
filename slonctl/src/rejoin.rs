//! `slonctl rejoin`: a node that was failed over, or dropped, comes back as a subscriber with the rows it has.
//!
//! Every step looks at what is there before it acts, so the command can be interrupted anywhere and run again. Writers are
//! kept out of the node from the first step to the last: by the fence, then by the triggers of a subscriber. The data come
//! with the ordinary events of a subscription; the node's own slon copies what differs, see `tl_keep_rows`.
//!
//! While the logs of both nodes still have all changes since the failover, slon looks only at the rows they name, and every row is
//! compared when the node has joined: nobody waits for that, and what was written past the logs is found as well.

mod course;
mod gone;
mod proof;
mod saved;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use trunkline_sql::admin::CallError;
use trunkline_sql::{ConnectError, error_text};

use crate::console::{Console, milliseconds};
use crate::duration;
use crate::exit::Exit;
use crate::lost::LostError;
use crate::saved_file::SaveError;
use crate::verify::{self, Extent};
use crate::view::{ClusterView, DiscoveryError};
use course::Course;

/// Options of `slonctl rejoin`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct RejoinArguments {
    /// The node that comes back. Give its `--conninfo` beside that of a node of the cluster.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: i32,
    /// Copy all rows instead of comparing and transferring what differs.
    #[arg(long)]
    pub(crate) full: bool,
    /// Compare every row before joining the stream, also where the logs of both nodes name those that may differ.
    #[arg(long, conflicts_with = "full")]
    pub(crate) every_row: bool,
    /// How much of the node's tables is compared with the origins' when it has joined: `all`, `none`, or what can be compared
    /// in this time, small tables first. Rows that differ are made equal.
    #[arg(long, value_name = "TIME|all|none", default_value = "10s", value_parser = verify::parse_extent)]
    pub(crate) verify: Extent,
    /// Directory in which the node's lost transactions are saved; files there are never overwritten.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) save: PathBuf,
    /// End sessions that still write to the node's tables, instead of refusing to begin.
    #[arg(long)]
    pub(crate) end_writers: bool,
    /// Let tables of sets that the cluster has no more become ordinary tables, instead of refusing to begin.
    #[arg(long)]
    pub(crate) release: bool,
    /// How long slons may take to do their part before it is given up (to be run again later).
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub(crate) wait: Duration,
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RejoinError {
    /// The cluster could not be looked at again.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The node, or one that is needed, does not answer.
    #[error(
        "node {node} cannot be reached{}{}",
        if *comes_back { "; give its conninfo with `--conninfo` or in the configuration file" } else { "" },
        if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
    )]
    Unreachable {
        /// The node.
        node: i32,
        /// Whether it is the one that comes back.
        comes_back: bool,
        /// Why not.
        reasons: Vec<String>,
    },
    /// Nobody else is there.
    #[error("no other node of the cluster can be reached; give the conninfo of the new origin with `--conninfo`")]
    Alone,
    /// The schema is older than this program, or Slony's.
    #[error("node {0} has no functions to come back with; run `update functions (id = {0});` with slonik on it")]
    OldFunctions(i32),
    /// Somebody writes there.
    #[error(
        "sessions on node {node} hold tables of set {set} and may still write to them; end them, or let `--end-writers` do it"
    )]
    Writers {
        /// The node.
        node: i32,
        /// The set.
        set: i32,
    },
    /// A set is gone.
    #[error(
        "the cluster has no more what node {node} has of {names}. Back in the cluster, nothing would keep writers out of that, and \
         nobody would get what they write. Nothing was changed but that node {node} takes no writes; `--release` if they are to be \
         ordinary tables"
    )]
    SetGone {
        /// The node.
        node: i32,
        /// Its sets and their members.
        names: String,
    },
    /// It is the origin of something.
    #[error("node {node} is the origin of set {set} by everybody's account; there is nothing to come back from")]
    IsOrigin {
        /// The node.
        node: i32,
        /// The set.
        set: i32,
    },
    /// Losses.
    #[error(transparent)]
    Lost(#[from] LostError),
    /// They could not be saved.
    #[error("lost transactions must be saved first, so nothing was changed but that the node takes no writes")]
    Save(#[from] SaveError),
    /// No way to a node.
    #[error(
        "nobody has a path by which node {client} reaches node {server}; store one, or name its conninfo in the configuration file"
    )]
    NoPath {
        /// The node to reach.
        server: i32,
        /// The node that connects.
        client: i32,
    },
    /// A connection.
    #[error("node {node}: {source}")]
    Connect {
        /// The node.
        node: i32,
        /// Why.
        source: ConnectError,
    },
    /// A statement.
    #[error("node {node}, {what}: {}", error_text(source))]
    Database {
        /// The node.
        node: i32,
        /// What was being done.
        what: &'static str,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// A call of a stored function.
    #[error("node {node}: {source}")]
    Call {
        /// The node.
        node: i32,
        /// What it said.
        source: CallError,
    },
    /// A slon does not do its part.
    #[error("waited {} s for {what}{}; run the same command again when that is mended, it goes on where it stopped", waited.as_secs(), if seen.is_empty() { String::new() } else { format!(" ({seen})") })]
    Waited {
        /// For what.
        what: String,
        /// What was seen instead.
        seen: String,
        /// How long.
        waited: Duration,
    },
}

impl RejoinError {
    fn database(node: i32, what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self + Copy {
        move |source| Self::Database { node, what, source }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::OldFunctions(_)
            | Self::Writers { .. }
            | Self::IsOrigin { .. }
            | Self::SetGone { .. }
            | Self::Save(_) => Exit::Refused,
            Self::Waited { .. } => Exit::Incomplete,
            _ => Exit::Failed,
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Rejoined {
    /// The node.
    node: i32,
    /// Sets the node receives now.
    sets: Vec<i32>,
    /// Transactions only the node had.
    lost_transactions: usize,
    /// Files they were saved to by this run.
    saved: Vec<PathBuf>,
    /// How long it took to join.
    seconds: f64,
    /// Whether nothing differs of what was compared then.
    equal: bool,
}

/// Takes the node back: 0 when it has joined the stream, 3 if refused before anything was done, 6 if it must be run again, 8 if it has
/// joined and rows differ all the same, or could not be compared.
pub(crate) async fn run(
    arguments: &RejoinArguments,
    console: &Console,
    view: ClusterView,
) -> Result<Exit, RejoinError> {
    let mut course = Course::begin(arguments, console, view)?;
    if course.is_outside() {
        course.fence().await?;
        course.look_for_gone_sets().await?;
        course.save_losses().await?;
        course.note_own_changes().await?;
        course.drop_remains().await?;
        course.return_to_cluster().await?;
    } else {
        console.step(
            Some(arguments.node),
            "is a node of the cluster already; going on with its subscriptions",
        );
    }
    course.look_again().await?;
    course.connect_others().await?;
    course.await_daemon().await?;
    let sets = course.subscribe().await?;
    course.await_copies(&sets).await?;
    let mut rejoined = Rejoined {
        node: arguments.node,
        sets,
        lost_transactions: course.lost,
        saved: std::mem::take(&mut course.saved),
        seconds: milliseconds(console.elapsed()),
        equal: false,
    };
    console.step(
        Some(arguments.node),
        &format!(
            "has rejoined: it receives {} after {:.1} s",
            if rejoined.sets.is_empty() {
                "no set".to_owned()
            } else {
                format!("set {}", list(&rejoined.sets))
            },
            rejoined.seconds
        ),
    );
    rejoined.equal = course.prove(&rejoined.sets).await;
    console.document(&rejoined);
    Ok(if rejoined.equal { Exit::Done } else { Exit::Unproved })
}

/// `1, 2, 3`.
fn list(numbers: &[i32]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
