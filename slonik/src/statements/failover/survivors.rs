//! Waiting for those who stay: until they have let go of the failed nodes, until they have followed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use trunkline_grammar::{FailedNode, Id};
use trunkline_sql::admin::{self, Locks};
use trunkline_sql::error_text;

use super::Running;
use crate::failover::Situation;
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace, duration_text};
use crate::waits::Lagging;

/// How long the survivors' daemons get to let go of the failed node before their database sessions are ended.
const LETTING_GO: Duration = Duration::from_secs(3);
/// How long a survivor may be out of reach after the sets were taken over.
const ABSENCE: Duration = Duration::from_secs(60);

impl Interpreter<'_> {
    /// Cuts every survivor off from the failed nodes and waits until its daemon has let go: from then on nobody's
    /// knowledge of the failed nodes grows except by what another survivor has.
    pub(super) async fn let_go_of(
        &mut self,
        pairs: &[FailedNode],
        situation: &Situation,
        survivors: &BTreeSet<Id>,
    ) -> Result<(), Failure> {
        let mut sessions = BTreeMap::new();
        for node in survivors {
            let session = self.connections.session(*node).await?;
            let served = admin::daemon_sessions(session, &self.cluster)
                .await
                .map_err(Failure::of_query("sessions of the node's slon"))?;
            let ours = admin::is_ours(session, &self.cluster)
                .await
                .map_err(Failure::of_query("whose schema it is"))?;
            self.connections.begin(*node, false).await?;
            self.connections.lock(*node, Locks::Config).await?;
            if ours {
                let call = admin::leave_providers(&self.cluster, &situation.failed());
                self.connections.run(*node, &call).await?;
            }
            for pair in pairs {
                let candidate = situation.is_candidate(*pair, *node);
                self.report.say(&format!(
                    "executing preFailover({},{}) on {node}",
                    pair.id,
                    i32::from(candidate)
                ));
                let call = admin::pre_failover(&self.cluster, pair.id, candidate);
                self.connections.run(*node, &call).await?;
            }
            self.connections.commit(*node).await?;
            sessions.insert(*node, served);
        }
        if self.connections.rehearses() {
            for node in survivors {
                self.note_wait(*node, "its slon has let go of the failed nodes".to_owned());
            }
            return Ok(());
        }
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        let deadline = Instant::now() + LETTING_GO;
        let mut ended = false;
        loop {
            let mut remaining = BTreeMap::new();
            for (node, before) in &sessions {
                if before.is_empty() {
                    continue;
                }
                let session = self.connections.session(*node).await?;
                let left = admin::remaining_sessions(session, &self.cluster, before)
                    .await
                    .map_err(Failure::of_query("sessions of the node's slon"))?;
                if !left.is_empty() {
                    remaining.insert(*node, left);
                }
            }
            if remaining.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline && !ended {
                ended = true;
                for (node, left) in &remaining {
                    self.report.say(&format!(
                        "slon of node {node} has not let go of the failed nodes within {}: its {} database sessions are ended",
                        duration_text(LETTING_GO),
                        left.len()
                    ));
                    let session = self.connections.session(*node).await?;
                    if let Err(error) = admin::end_sessions(session, left).await {
                        self.report.say(&format!(
                            "they cannot be ended ({}); stop the slon of node {node}",
                            error_text(&error)
                        ));
                    }
                }
            } else if announcements.due().is_some() {
                for node in remaining.keys() {
                    self.report.say(&format!(
                        "waiting for the slon of node {node} to let go of the failed nodes"
                    ));
                }
            }
            sessions = remaining;
            pace.pause(None).await;
        }
    }

    /// Waits until every survivor has processed the announcements, asked on the survivor itself. With a limit, who is late
    /// is named and left behind.
    pub(super) async fn wait_for_survivors(
        &mut self,
        running: &[Running],
        survivors: &BTreeSet<Id>,
        limit: Option<Duration>,
    ) -> Result<(), Failure> {
        let mut open: Vec<(Id, Id, i64)> = running
            .iter()
            .flat_map(|one| survivors.iter().map(move |node| (*node, one.leader, one.seqno)))
            .filter(|(node, leader, _)| node != leader)
            .collect();
        if self.connections.rehearses() {
            for (node, leader, _) in open.drain(..).filter(|_| limit.is_none()) {
                self.note_wait(node, format!("it has confirmed the FAILOVER_NODE of node {leader}"));
            }
            return Ok(());
        }
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut absent: BTreeMap<Id, Instant> = BTreeMap::new();
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let mut still = Vec::new();
            let speak = announcements.due().is_some();
            for (node, leader, seqno) in open {
                let confirmed = match self.confirmed_on(node, leader).await {
                    Ok(confirmed) => {
                        absent.remove(&node);
                        confirmed
                    }
                    Err(failure) => {
                        let since = *absent.entry(node).or_insert_with(Instant::now);
                        if limit.is_none() && since.elapsed() >= ABSENCE {
                            failure.print(&self.report);
                            return Err(Failure::Refused(format!(
                                "the sets have been taken over, but node {node} is out of reach and has not heard of it; run \
                                 this again when it is back, or drop it"
                            )));
                        }
                        self.connections.retry(node);
                        still.push((node, leader, seqno));
                        continue;
                    }
                };
                if confirmed >= seqno {
                    continue;
                }
                if speak {
                    self.report.say(&format!(
                        "waiting for event ({leader},{seqno}) to be confirmed on node {node}"
                    ));
                    let lag = Lagging {
                        origin: leader,
                        seqno,
                        node,
                        confirmed,
                    };
                    self.tell_obstacles(lag, node).await;
                }
                still.push((node, leader, seqno));
            }
            if still.is_empty() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let late: BTreeSet<String> = still.iter().map(|(node, _, _)| node.to_string()).collect();
                let late: Vec<String> = late.into_iter().collect();
                self.report.say(&format!(
                    "taking over without waiting for node {}, which follows when it can",
                    late.join(", ")
                ));
                return Ok(());
            }
            open = still;
            pace.pause(deadline).await;
        }
    }

    async fn confirmed_on(&mut self, node: Id, origin: Id) -> Result<i64, Failure> {
        let session = self.connections.session(node).await?;
        let known = admin::confirmation_of(session, &self.cluster, &[origin], node)
            .await
            .map_err(Failure::of_query("confirmed events"))?;
        Ok(known.first().and_then(|known| known.confirmed).unwrap_or(0))
    }
}
