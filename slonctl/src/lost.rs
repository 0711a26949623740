//! `slonctl lost`: the transactions of a failed node that no survivor had.

mod former;
mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

use clap::{ArgGroup, Args};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use trunkline_sql::copy;
use trunkline_sql::equality::TEXT_SETTINGS;
use trunkline_sql::lost::{self, LostChange, LostSequence, LostTransaction, Takeover};
use trunkline_sql::rejoin::{self, Failover};
use trunkline_sql::{Cluster, Session, error_text};

use crate::console::Console;
use crate::exit::Exit;
use crate::view::ClusterView;
use former::{Follower, Judged};
pub(crate) use writing::Form;

/// Options of `slonctl lost`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("form"))]
pub(crate) struct LostArguments {
    /// The failed node. It must be reachable again: give its `--conninfo` beside that of a survivor.
    #[arg(long, value_name = "NODE")]
    node: i32,
    /// Write SQL that can be judged and applied again on the new origin.
    #[arg(long, group = "form")]
    sql: bool,
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LostError {
    /// The failed node does not answer.
    #[error(
        "node {node} cannot be reached; what it alone has can only be read there. Give its conninfo with `--conninfo` or in the configuration file{}",
        if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
    )]
    Unreachable {
        /// The node.
        node: i32,
        /// Why not.
        reasons: Vec<String>,
    },
    /// Nobody remembers a failover.
    #[error(
        "no node that can be reached remembers a failover of node {node}; nothing says what was lost{}",
        if *original { " (nodes with the schema of Slony-I keep no record of it)" } else { "" }
    )]
    NoFailover {
        /// The node.
        node: i32,
        /// Some that were asked have Slony's schema.
        original: bool,
    },
    /// The node has joined again since.
    #[error(
        "node {0} has taken part in the cluster again since its failover; what it had lost was saved by `slonctl rejoin` in a file"
    )]
    Rejoined(i32),
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
    /// Writing failed, or keeping rows in a temporary file.
    #[error("cannot write what was found")]
    Write(#[from] std::io::Error),
}

impl LostError {
    fn database(node: i32, what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self + Copy {
        move |source| Self::Database { node, what, source }
    }
}

/// Most changes about which the survivors are asked at once.
const CHANGES_AT_ONCE: usize = 256;
/// And what they, with the survivors' rows, may weigh.
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;

/// What is lost, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) node: i32,
    /// When it was failed over.
    pub(crate) failed_over: String,
    /// Newest event of it that the survivors had.
    pub(crate) last_event: i64,
    /// Node that took over.
    pub(crate) successor: i32,
    pub(crate) sets: Vec<i32>,
    /// By set: its origin now, which may be a third node.
    pub(crate) origins: BTreeMap<i32, i32>,
    pub(crate) transactions: usize,
    pub(crate) changes: i64,
    pub(crate) sequences: usize,
}

/// A form, and where to.
pub(crate) type Output<'a> = (Form, &'a mut dyn Write);

/// Where a failed node's losses are read, and what they are compared with.
pub(crate) struct Losses<'a> {
    cluster: &'a Cluster,
    node: i32,
    failed: &'a Session,
    /// By set: its origin.
    origins: BTreeMap<i32, i32>,
    /// By set: who has it as it is now. The sets of a failed node may have different origins since.
    survivors: BTreeMap<i32, Survivor<'a>>,
    pub(crate) failover: Failover,
}

/// A node that has a set.
#[derive(Debug, Clone)]
struct Survivor<'a> {
    node: i32,
    session: &'a Session,
    /// Where its own changes begin.
    takeover: Option<Takeover>,
}

/// Lists what is lost: 0 if nothing is, 8 if something is.
pub(crate) async fn run(arguments: &LostArguments, console: &Console, view: &ClusterView) -> Result<Exit, LostError> {
    let losses = Losses::find(view, arguments.node).await?;
    let form = match (arguments.sql, console.is_json()) {
        (true, _) => Form::Sql,
        (false, true) => Form::Json,
        (false, false) => Form::Table,
    };
    let mut out = std::io::stdout().lock();
    let summary = losses.write(&mut [(form, &mut out)]).await?;
    out.flush()?;
    Ok(if summary.transactions == 0 {
        Exit::Done
    } else {
        Exit::Unproved
    })
}

impl<'a> Losses<'a> {
    /// Finds the failover of `node` and the sessions to read with.
    pub(crate) async fn find(view: &'a ClusterView, node: i32) -> Result<Self, LostError> {
        let mut remembered: Vec<(i32, Failover)> = Vec::new();
        for facts in view.answers().filter(|facts| facts.local != node) {
            let Some(session) = view.node(facts.local).and_then(|view| view.session()) else {
                continue;
            };
            let found = rejoin::failover_of(session, &view.cluster, node)
                .await
                .map_err(LostError::database(facts.local, "reading `tl_failover`"))?;
            remembered.extend(found.map(|found| (facts.local, found)));
        }
        let failover = remembered
            .iter()
            .map(|(_, failover)| failover)
            .max_by(|a, b| a.at.cmp(&b.at));
        let failover = failover
            .ok_or_else(|| LostError::NoFailover {
                node,
                original: view.answers().any(|facts| facts.local != node && !facts.ours),
            })?
            .clone();
        let failed = view
            .node(node)
            .and_then(|view| view.session())
            .ok_or_else(|| LostError::Unreachable {
                node,
                reasons: view.node(node).map_or_else(Vec::new, |view| view.silence().to_vec()),
            })?;
        // A node that returned has begun a new log; its old snapshot says nothing of it.
        if view.outcast(node).is_none() {
            return Err(LostError::Rejoined(node));
        }
        let (mut survivors, mut origins) = (BTreeMap::new(), BTreeMap::new());
        for set in view.sets().into_iter().filter(|set| failover.sets.contains(&set.id)) {
            origins.insert(set.id, set.origin);
            // Only who has the set can be asked: elsewhere tables of the same names may hold anything.
            let receivers = set
                .subscriptions
                .iter()
                .filter(|own| own.active)
                .map(|own| own.receiver);
            let survivor = std::iter::once(set.origin)
                .chain(receivers)
                .filter(|survivor| *survivor != node)
                .find_map(|survivor| Some((survivor, view.node(survivor)?.session()?)));
            if let Some((survivor, session)) = survivor {
                let own = remembered
                    .iter()
                    .find(|(node, own)| *node == survivor && own.seqno == failover.seqno);
                let survivor = Survivor {
                    node: survivor,
                    session,
                    takeover: own.and_then(|(_, own)| own.takeover.clone()),
                };
                survivors.insert(set.id, survivor);
            }
        }
        Ok(Self {
            cluster: &view.cluster,
            node,
            failed,
            origins,
            survivors,
            failover,
        })
    }

    /// Writes everything that is lost, transaction by transaction, in each of the forms; in none, it is only counted.
    pub(crate) async fn write(&self, outputs: &mut [Output<'_>]) -> Result<Summary, LostError> {
        let on_failed = LostError::database(self.node, "reading its log");
        self.failed
            .batch_execute("begin isolation level repeatable read read only")
            .await
            .map_err(on_failed)?;
        let sessions: BTreeMap<i32, &Session> = self.survivors.values().map(|one| (one.node, one.session)).collect();
        for (survivor, session) in &sessions {
            let failed = LostError::database(*survivor, "reading current values");
            session
                .batch_execute("begin isolation level repeatable read read only")
                .await
                .map_err(failed)?;
            session.batch_execute(TEXT_SETTINGS).await.map_err(failed)?;
        }
        let outcome = self.write_in_transactions(outputs).await;
        // The sessions stay in use whatever came of it.
        let _ = self.failed.batch_execute("rollback").await;
        for session in sessions.values() {
            let _ = session.batch_execute("rollback").await;
        }
        outcome
    }

    async fn write_in_transactions(&self, outputs: &mut [Output<'_>]) -> Result<Summary, LostError> {
        let on_failed = LostError::database(self.node, "reading its log");
        // Before its first SYNC the survivors had nothing of it.
        let snapshot = self.failover.snapshot.as_deref().unwrap_or("1:1:");
        let sets = &self.failover.sets;
        let transactions = lost::transactions(self.failed, self.cluster, snapshot, sets)
            .await
            .map_err(on_failed)?;
        let sequences = self.sequences().await?;
        let summary = Summary {
            node: self.node,
            failed_over: self.failover.at.clone(),
            last_event: self.failover.seqno,
            successor: self.failover.successor,
            sets: sets.clone(),
            origins: self.origins.clone(),
            transactions: transactions.len(),
            changes: transactions.iter().map(|transaction| transaction.changes).sum(),
            sequences: sequences.len(),
        };
        if outputs.is_empty() {
            return Ok(summary);
        }
        for (form, out) in &mut *outputs {
            form.head(out, &summary)?;
        }
        let tables = lost::tables(self.failed, self.failed.server_version(), self.cluster, snapshot, sets)
            .await
            .map_err(on_failed)?;
        let mut rows = Follower::new(tables, &self.survivors)?;
        let changes = lost::changes(self.failed, self.cluster, snapshot, sets, &transactions)
            .await
            .map_err(on_failed)?;
        let mut changes = std::pin::pin!(changes.fuse());
        let mut ready: VecDeque<(usize, LostChange, Judged)> = VecDeque::new();
        for (place, transaction) in transactions.iter().enumerate() {
            for (form, out) in &mut *outputs {
                form.begin(out, self.node, transaction)?;
            }
            loop {
                if ready.is_empty() {
                    let (mut places, mut taken, mut weight) = (Vec::new(), Vec::new(), 0);
                    while taken.len() < CHANGES_AT_ONCE
                        && weight < BYTES_AT_ONCE
                        && let Some((of, change)) = changes.try_next().await.map_err(on_failed)?
                    {
                        weight = rows.weight(&change).saturating_add(weight);
                        places.push(of);
                        taken.push(change);
                    }
                    let judged = rows.take(&taken).await?;
                    ready.extend(places.into_iter().zip(taken).zip(judged).map(|((a, b), c)| (a, b, c)));
                }
                if ready.front().is_none_or(|(of, ..)| *of != place) {
                    break;
                }
                let Some((_, change, judged)) = ready.pop_front() else {
                    break;
                };
                let survivor = rows.survivor(&change).map(|survivor| survivor.node);
                for (form, out) in &mut *outputs {
                    form.change(out, &change, rows.table(&change), survivor, &judged)?;
                }
            }
            for (form, out) in &mut *outputs {
                form.end(out, transaction)?;
            }
        }
        for (form, out) in outputs {
            form.sequences(out, self.node, &sequences)?;
        }
        Ok(summary)
    }

    /// Sequences that are further on the failed node than on a survivor, and on which.
    async fn sequences(&self) -> Result<Vec<(i32, LostSequence)>, LostError> {
        let mut differing = Vec::new();
        for (set, Survivor { node, session, .. }) in &self.survivors {
            let survivor = *node;
            let there = copy::sequences(self.failed, self.cluster, *set)
                .await
                .map_err(LostError::database(self.node, "reading its sequences"))?;
            let here = copy::sequences(session, self.cluster, *set)
                .await
                .map_err(LostError::database(survivor, "reading sequences"))?;
            let common: Vec<_> = there
                .into_iter()
                .filter(|sequence| {
                    here.iter()
                        .any(|other| other.id == sequence.id && other.qualified() == sequence.qualified())
                })
                .collect();
            let failed = copy::sequence_values(self.failed, &common)
                .await
                .map_err(LostError::database(self.node, "reading its sequences"))?;
            let now = copy::sequence_values(session, &common)
                .await
                .map_err(LostError::database(survivor, "reading sequences"))?;
            for ((sequence, failed), value) in common.into_iter().zip(failed).zip(now) {
                // A value behind the survivor's is no loss.
                if failed > value {
                    let sequence = LostSequence {
                        name: sequence.qualified(),
                        id: sequence.id,
                        failed,
                        survivor: value,
                    };
                    differing.push((survivor, sequence));
                }
            }
        }
        Ok(differing)
    }
}

/// A transaction, as JSON.
#[derive(Debug, Serialize)]
struct TransactionLine<'a> {
    transaction: i64,
    committed: &'a Option<String>,
    not_before: &'a Option<String>,
    not_after: &'a Option<String>,
    changes: i64,
}

impl<'a> From<&'a LostTransaction> for TransactionLine<'a> {
    fn from(transaction: &'a LostTransaction) -> Self {
        Self {
            transaction: transaction.txid,
            committed: &transaction.committed,
            not_before: &transaction.not_before,
            not_after: &transaction.not_after,
            changes: transaction.changes,
        }
    }
}
