//! `slonctl verify`: are origin and subscribers equal, and if not, in which rows; and making them equal.

mod extent;
mod point;
mod rate;
mod report;
mod stuck;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use trunkline_sql::equality::EqualityError;
use trunkline_sql::{ConnectError, error_text};

use crate::console::Console;
use crate::duration;
use crate::exit::Exit;
use crate::saved_file::SaveError;
use crate::view::ClusterView;
pub(crate) use extent::{Extent, glance, parse as parse_extent};
use point::Pair;
pub(crate) use report::Report;

/// Options of `slonctl verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArguments {
    /// Only this set. May be given more than once; all sets if it is not given.
    #[arg(long, value_name = "SET")]
    pub(crate) set: Vec<i32>,
    /// Only this subscriber. May be given more than once; all subscribers if it is not given.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Vec<i32>,
    /// Only this table, as `schema.table`. May be given more than once.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Vec<String>,
    /// Make the subscribers equal: rows that differ are replaced by the origin's, at one moment of the stream.
    #[arg(long)]
    pub(crate) repair: bool,
    /// With `--repair`: write the subscriber's rows that are replaced to a new file in this directory first.
    #[arg(long, value_name = "DIRECTORY", requires = "repair")]
    pub(crate) save: Option<PathBuf>,
    /// Most bytes a second that are read on each side, as in `500k`, `20M`, `1G`.
    #[arg(long, value_name = "BYTES", value_parser = rate::parse)]
    pub(crate) max_rate: Option<u64>,
    /// How long a subscriber may take to come to the SYNC at which it is compared.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = duration::parse)]
    pub(crate) wait: Duration,
    /// Most differing keys that are named per table.
    #[arg(long, value_name = "KEYS", default_value_t = 20)]
    pub(crate) show: usize,
}

/// How tables are read.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    /// Most bytes a second on each side; None: as fast as the servers can.
    max_rate: Option<u64>,
    /// Most differing keys that are named per table.
    show: usize,
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// Nothing fits the options.
    #[error("{0}")]
    NothingToCompare(String),
    /// A node that is needed does not answer.
    #[error("node {node} cannot be reached, so nothing is known of it: {}", reasons.join("; "))]
    Unreachable {
        /// The node.
        node: i32,
        /// Why not.
        reasons: Vec<String>,
    },
    /// A connection failed.
    #[error("node {node}: {source}")]
    Connect {
        /// The node.
        node: i32,
        /// Why.
        source: ConnectError,
    },
    /// A statement failed.
    #[error("node {node}, {what}: {}", error_text(source))]
    Database {
        /// The node.
        node: i32,
        /// What was being done.
        what: &'static str,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// Comparing failed.
    #[error(transparent)]
    Equality(#[from] EqualityError),
    /// Rows could not be saved.
    #[error("rows that differ must be saved before they are replaced, so they were left as they are")]
    Save(#[from] SaveError),
    /// The subscriber does not come to the SYNC.
    #[error(
        "node {receiver} has not applied SYNC {sync} of node {origin} after {} s (it stands at {stands}){}",
        waited.as_secs(),
        if obstacles.is_empty() {
            "; it gets on and needs longer (`--wait`), or waits for a lock: `slonctl status` shows it".to_owned()
        } else {
            format!(": {}", obstacles.join("; "))
        }
    )]
    Behind {
        /// The origin.
        origin: i32,
        /// The subscriber.
        receiver: i32,
        /// The SYNC.
        sync: i64,
        /// Where it stands.
        stands: i64,
        /// How long it was waited for.
        waited: Duration,
        /// What the slons say.
        obstacles: Vec<String>,
    },
    /// The subscriber cannot come to the SYNC by itself.
    #[error(
        "node {receiver} does not get to SYNC {sync}, it stands still at {stands} for {} s: {}. Mend that and run this again",
        stuck.as_secs(),
        obstacles.join("; ")
    )]
    Stuck {
        /// The subscriber.
        receiver: i32,
        /// The SYNC.
        sync: i64,
        /// Where it stands.
        stands: i64,
        /// How long it has been watched standing still.
        stuck: Duration,
        /// What the slons say.
        obstacles: Vec<String>,
    },
    /// Others make events faster than the gate closes.
    #[error("node {origin} makes events too fast to stop at one: {attempts} attempts failed; try again")]
    Restless {
        /// The origin.
        origin: i32,
        /// How often it was tried.
        attempts: u32,
    },
    /// The set has another origin meanwhile, or the subscription is gone.
    #[error("set {set} is not received from node {origin} by node {receiver} any more; run it again")]
    Moved {
        /// The set.
        set: i32,
        /// The origin at the start.
        origin: i32,
        /// The subscriber.
        receiver: i32,
    },
}

impl VerifyError {
    /// Wraps a database error of `node`.
    fn database(node: i32, what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self + Copy {
        move |source| Self::Database { node, what, source }
    }
}

/// Compares, and repairs if asked to; 0 if all is equal in the end, 8 if not.
pub(crate) async fn run(
    arguments: &VerifyArguments,
    console: &Console,
    view: &ClusterView,
) -> Result<Exit, VerifyError> {
    let report = verify(arguments, console, view).await?;
    console.document(&report);
    console.text(&report.to_string());
    Ok(if report.equal { Exit::Done } else { Exit::Unproved })
}

/// Compares all subscriptions that the options mean.
pub(crate) async fn verify(
    arguments: &VerifyArguments,
    console: &Console,
    view: &ClusterView,
) -> Result<Report, VerifyError> {
    let pairs = pairs(arguments, view)?;
    let mut report = Report::default();
    for ((origin, receiver), sets) in pairs {
        let pair = Pair::connect(view, origin, receiver, sets, arguments.wait).await?;
        report.add(table::compare_all(&pair, arguments, console).await?);
    }
    if report.tables() == 0 && !arguments.table.is_empty() {
        return Err(VerifyError::NothingToCompare(format!(
            "no replicated table is called {}; names are written `schema.table`, without quotes",
            arguments.table.join(" or ")
        )));
    }
    Ok(report)
}

/// Origin and receiver with the sets to compare between them.
fn pairs(arguments: &VerifyArguments, view: &ClusterView) -> Result<BTreeMap<(i32, i32), Vec<i32>>, VerifyError> {
    let mut pairs: BTreeMap<(i32, i32), Vec<i32>> = BTreeMap::new();
    let sets = view.sets();
    for wanted in &arguments.set {
        if !sets.iter().any(|set| set.id == *wanted) {
            return Err(VerifyError::NothingToCompare(format!("there is no set {wanted}")));
        }
    }
    for set in &sets {
        if !arguments.set.is_empty() && !arguments.set.contains(&set.id) {
            continue;
        }
        for subscription in set.subscriptions.iter().filter(|subscription| subscription.active) {
            if arguments.node.is_empty() || arguments.node.contains(&subscription.receiver) {
                pairs
                    .entry((set.origin, subscription.receiver))
                    .or_default()
                    .push(set.id);
            }
        }
    }
    if pairs.is_empty() {
        return Err(VerifyError::NothingToCompare(
            "there is nothing to compare: no active subscription fits".to_owned(),
        ));
    }
    Ok(pairs)
}
