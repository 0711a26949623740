//! `failover`: survivors take the sets of failed nodes over.
//!
//! The steps are those of the original, but each waits for a condition instead of a time, and each can be found in the
//! databases again: a failover that was interrupted anywhere goes on where it stopped when the statement is run again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use trunkline_grammar::{FailedNode, Id};
use trunkline_sql::admin::{self, Locks, Survey};
use trunkline_sql::error_text;

use crate::failover::{Leadership, Situation, Stage};
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace, duration_text};
use crate::waits::Lagging;

/// How long the survivors' daemons get to let go of the failed node before their database sessions are ended.
const LETTING_GO: Duration = Duration::from_secs(3);
/// How long the survivors are waited for before the sets are taken over; who is late follows afterwards.
const CONFIRMING: Duration = Duration::from_secs(3);
/// How long a backup node may take to learn what the other survivors have just done.
const CATCHING_UP: Duration = Duration::from_secs(5);
/// How long a survivor may be out of reach after the sets were taken over.
const ABSENCE: Duration = Duration::from_secs(60);

/// A failover under way.
struct Running {
    pair: FailedNode,
    leader: Id,
    /// Number of the leader's `FAILOVER_NODE`.
    seqno: i64,
    /// Newest event of the failed node that the survivors have; None: taken over already.
    last_seqno: Option<i64>,
}

impl Interpreter<'_> {
    pub(super) async fn failover(&mut self, pairs: &[FailedNode]) -> Result<(), Failure> {
        // Its steps commit by themselves.
        self.connections.commit_all().await?;
        let begun = Instant::now();
        let situation = self.look(pairs).await?;
        let reasons = situation.refusals();
        if !reasons.is_empty() {
            return Err(Failure::Reasons(reasons));
        }
        let survivors = situation.survivors();
        let mut running = Vec::new();
        let mut fresh = Vec::new();
        for pair in pairs {
            match situation.stage(*pair) {
                Stage::Fresh => fresh.push(*pair),
                Stage::Announced(known) => {
                    self.report.say(&format!(
                        "the failover of node {} was begun before: node {} leads, going on there",
                        pair.id, known.leader
                    ));
                    running.push(Running {
                        pair: *pair,
                        leader: known.leader,
                        seqno: known.seqno,
                        last_seqno: Some(known.last_seqno),
                    });
                }
                Stage::TakenOver { leader, seqno } => {
                    self.report.say(&format!(
                        "the failover of node {} was begun before: node {leader} hands its sets on",
                        pair.id
                    ));
                    running.push(Running {
                        pair: *pair,
                        leader,
                        seqno,
                        last_seqno: None,
                    });
                }
                Stage::Superseded(leader) => self.report.say(&format!(
                    "node {leader} was taking over from node {} when it failed: what takes over from node {leader} gets these \
                     sets too",
                    pair.id
                )),
                Stage::Done => self
                    .report
                    .say(&format!("node {} has been failed over before, nothing is left to do", pair.id)),
            }
        }
        if !fresh.is_empty() {
            self.let_go_of(&fresh, &situation, &survivors).await?;
            running.extend(self.announce(&fresh, &situation, &survivors).await?);
        }
        self.wait_for_survivors(&running, &survivors, Some(CONFIRMING)).await?;
        let mut handed_on = Vec::new();
        for one in &running {
            let sets = self.take_over(one, &situation).await?;
            if one.leader != one.pair.backup_node {
                handed_on.extend(sets.into_iter().map(|set| (one.leader, set, one.pair.backup_node)));
            }
        }
        self.hand_on(&handed_on).await?;
        let seconds = begun.elapsed().as_secs_f64();
        for one in &running {
            self.report.say(&format!(
                "node {} is the origin of what was node {}'s after {seconds:.1} s",
                one.pair.backup_node, one.pair.id
            ));
            self.memory.remember(one.pair.id, None);
            self.memory.remember(one.leader, Some(one.seqno));
        }
        self.wait_for_survivors(&running, &survivors, None).await
    }

    /// Asks every node of the preamble that is not said to have failed.
    async fn look(&mut self, pairs: &[FailedNode]) -> Result<Situation, Failure> {
        let nodes: Vec<Id> = self
            .connections
            .nodes()
            .into_iter()
            .filter(|node| pairs.iter().all(|pair| pair.id != *node))
            .collect();
        let mut unreachable = BTreeMap::new();
        for node in &nodes {
            match self.must_be_itself(*node).await {
                Ok(()) => {}
                Err(failure) => {
                    unreachable.insert(*node, failure.to_string());
                }
            }
        }
        let deadline = Instant::now() + CATCHING_UP;
        let mut pace = Pace::new();
        loop {
            let mut situation = Situation {
                pairs: pairs.to_vec(),
                surveys: BTreeMap::new(),
                unreachable: unreachable.clone(),
            };
            let asked = nodes
                .iter()
                .filter(|node| !unreachable.contains_key(node))
                .filter_map(|node| {
                    let session = self.connections.open_session(*node)?;
                    let cluster = &self.cluster;
                    Some(async move {
                        let answer = match admin::schema_exists(session, cluster).await {
                            Ok(true) => admin::survey(session, cluster).await.map(Some),
                            Ok(false) => Ok(None),
                            Err(error) => Err(error),
                        };
                        (*node, answer)
                    })
                });
            for (node, answer) in join_all(asked).await {
                match answer {
                    Ok(Some(survey)) => {
                        situation.surveys.insert(node, survey);
                    }
                    Ok(None) => {
                        let reason = "its database has no schema of this cluster".to_owned();
                        situation.unreachable.insert(node, reason);
                    }
                    Err(error) => {
                        situation.unreachable.insert(node, error_text(&error));
                    }
                }
            }
            if let Some(rehearsal) = self.connections.rehearsal() {
                // Nodes that the script will have dropped by then.
                for (node, survey) in &mut situation.surveys {
                    let known = |id: &Id| rehearsal.forecast.is_known_to(*node, *id);
                    survey.configuration.nodes.retain(|id, _| known(id));
                    survey.configuration.subscriptions.retain(|one| known(&one.receiver));
                }
                return Ok(situation);
            }
            // What the survivors have just been told (a dropped node, a new path) may be on its way to a backup node.
            let behind = pairs.iter().any(|pair| {
                let Some(backup) = situation.surveys.get(&pair.backup_node) else {
                    return false;
                };
                let mut others = situation.survivors().into_iter();
                others.any(|other| {
                    let newest = self.memory.last_event(other).filter(|_| other != pair.backup_node);
                    newest.is_some_and(|newest| backup.newest.get(&other).is_none_or(|known| *known < newest))
                })
            });
            if !behind || situation.refusals().is_empty() || Instant::now() >= deadline {
                return Ok(situation);
            }
            pace.pause(Some(deadline)).await;
        }
    }

    /// Cuts every survivor off from the failed nodes and waits until its daemon has let go: from then on nobody's
    /// knowledge of the failed nodes grows except by what another survivor has.
    async fn let_go_of(
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

    /// Chooses who leads each failover and has it announced there.
    async fn announce(
        &mut self,
        pairs: &[FailedNode],
        situation: &Situation,
        survivors: &BTreeSet<Id>,
    ) -> Result<Vec<Running>, Failure> {
        let mut leaderships: Vec<(FailedNode, Leadership)> = Vec::new();
        let mut reasons = Vec::new();
        for pair in pairs {
            let mut newest = BTreeMap::new();
            for node in survivors {
                let session = self.connections.session(*node).await?;
                let seqno = admin::newest_event_of(session, &self.cluster, pair.id)
                    .await
                    .map_err(Failure::of_query("newest event of the failed node"))?;
                newest.insert(*node, seqno);
            }
            match situation.leadership(*pair, &newest) {
                Ok(leadership) => leaderships.push((*pair, leadership)),
                Err(more) => reasons.extend(more),
            }
        }
        if !reasons.is_empty() {
            return Err(Failure::Reasons(reasons));
        }
        let mut running = Vec::new();
        for (pair, leadership) in leaderships {
            self.tell_losses(pair, &leadership, situation);
            let Leadership { leader, last_seqno, .. } = leadership;
            self.connections.begin(leader, false).await?;
            self.connections.lock(leader, Locks::EventAndConfig).await?;
            self.report.say(&format!(
                "NOTICE: executing \"_{}\".failedNode2 on node {leader}",
                self.cluster.name()
            ));
            let call = admin::failed_node_2(&self.cluster, pair.id, leader, last_seqno, &situation.failed());
            let answer = self.connections.run(leader, &call).await?;
            running.push(Running {
                pair,
                leader,
                seqno: answer.as_deref().and_then(|seqno| seqno.parse().ok()).unwrap_or(0),
                last_seqno: Some(last_seqno),
            });
        }
        self.connections.commit_all().await?;
        Ok(running)
    }

    /// What this failover gives up, as far as the survivors know.
    fn tell_losses(&self, pair: FailedNode, leadership: &Leadership, situation: &Situation) {
        let Leadership {
            leader,
            last_seqno,
            ahead,
        } = leadership;
        if *leader != pair.backup_node {
            self.report.say(&format!(
                "node {leader} has most of node {} (event {last_seqno}): node {} takes over from it",
                pair.id, pair.backup_node
            ));
        }
        for set in situation.lost_sets(pair) {
            self.report.say(&format!(
                "set {set} of node {} has no subscriber: its tables are lost to the cluster, the empty set goes along",
                pair.id
            ));
        }
        for one in ahead {
            let sets: Vec<String> = one.sets.iter().map(ToString::to_string).collect();
            self.report.say(&format!(
                "node {} has changes of node {} (up to event {}) that nobody else has and that it cannot pass on (it does not \
                 forward set {} or lacks another set): its subscription ends and its tables keep these changes; judge them \
                 there before you subscribe it again, which overwrites them",
                one.node,
                pair.id,
                one.seqno,
                sets.join(", ")
            ));
        }
    }

    /// Makes the leader origin; where it is not the backup node itself, it accepts no writes on the way. The answer is the
    /// sets that are to be handed on.
    async fn take_over(&mut self, one: &Running, situation: &Situation) -> Result<Vec<Id>, Failure> {
        let (failed, leader, backup) = (one.pair.id, one.leader, one.pair.backup_node);
        let Some(last_seqno) = one.last_seqno else {
            return Ok(situation.sets_to_hand_on(one.pair, leader));
        };
        let survey = self.survey_of(leader).await?;
        let view = &survey.configuration;
        let sets: Vec<Id> = view
            .sets
            .values()
            .filter(|set| set.origin == failed)
            .map(|set| set.id)
            .collect();
        let onwards: Vec<Id> = sets
            .into_iter()
            .filter(|set| {
                view.subscriptions
                    .iter()
                    .any(|row| row.set == *set && row.receiver == backup)
            })
            .collect();
        self.connections.begin(leader, false).await?;
        self.connections.lock(leader, Locks::EventAndConfig).await?;
        self.report.say(&format!(
            "NOTICE: executing \"_{}\".failedNode3 on node {leader}",
            self.cluster.name()
        ));
        let call = admin::failed_node_3(&self.cluster, failed, leader, last_seqno);
        self.connections.run(leader, &call).await?;
        if leader != backup {
            for set in &onwards {
                let calls = admin::lock_untouched_set(&self.cluster, *set);
                self.connections.run_all(leader, &calls).await?;
            }
        }
        self.connections.commit(leader).await?;
        Ok(onwards)
    }

    /// Moves sets on from the node that took them over to the one that is to have them: (leader, set, backup node).
    async fn hand_on(&mut self, sets: &[(Id, Id, Id)]) -> Result<(), Failure> {
        let mut moves = BTreeMap::new();
        for (leader, set, backup) in sets {
            if self.connections.rehearses() {
                let call = admin::move_set(&self.cluster, *set, *backup);
                self.connections.run(*leader, &call).await?;
                self.connections.commit(*leader).await?;
                self.note_wait(
                    *backup,
                    format!("it has confirmed the MOVE_SET of set {set} of node {leader}"),
                );
                continue;
            }
            let session = self.connections.session(*leader).await?;
            let state = admin::set_state(session, &self.cluster, *set)
                .await
                .map_err(Failure::of_query("origin of the set"))?;
            let Some((_, locked)) = state.filter(|(origin, _)| origin == leader) else {
                // Moved in an earlier run: its MOVE_SET is among the newest events.
                let newest = admin::last_event(self.connections.session(*leader).await?, &self.cluster)
                    .await
                    .map_err(Failure::of_query("newest event of the node"))?;
                moves.insert((*leader, *backup), newest);
                continue;
            };
            if !locked {
                self.lock_set(*set, *leader).await?;
            }
            self.connections.begin(*leader, false).await?;
            self.connections.lock(*leader, Locks::EventAndConfig).await?;
            let answer = self
                .connections
                .run(*leader, &admin::move_set(&self.cluster, *set, *backup))
                .await?;
            self.connections.commit(*leader).await?;
            if let Some(seqno) = answer.and_then(|seqno| seqno.parse().ok()) {
                moves.insert((*leader, *backup), seqno);
            }
        }
        for ((leader, backup), seqno) in moves {
            self.wait_until_confirmed(backup, &[(leader, seqno)]).await?;
        }
        Ok(())
    }

    /// Waits until every survivor has processed the announcements, asked on the survivor itself. With a limit, who is late
    /// is named and left behind.
    async fn wait_for_survivors(
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

    /// Those of the nodes to be dropped that are still there: one that was failed over and dropped in an earlier run of a
    /// script is no error.
    pub(super) async fn not_gone_before(&mut self, ids: &[Id], event_node: Id) -> Result<Vec<Id>, Failure> {
        if self.connections.rehearses() {
            return Ok(ids.to_vec());
        }
        let survey = self.survey_of(event_node).await?;
        let (gone, left): (Vec<Id>, Vec<Id>) = ids.iter().partition(|id| {
            !survey.configuration.nodes.contains_key(id) && survey.taken_over.iter().any(|over| over.failed == **id)
        });
        for id in gone {
            self.report.say(&format!(
                "node {id} has been failed over and dropped before, nothing is left to do"
            ));
            self.memory.drop_node(id);
        }
        Ok(left)
    }

    /// Before failed nodes are dropped, every survivor must have what is left of them: their events go with them.
    pub(super) async fn wait_for_failovers_of(&mut self, ids: &[Id], event_node: Id) -> Result<(), Failure> {
        if self.connections.rehearses() {
            return Ok(());
        }
        let survey = self.survey_of(event_node).await?;
        let nodes = &survey.configuration.nodes;
        let running: Vec<Running> = survey
            .announcements
            .iter()
            .filter(|known| ids.contains(&known.failed) && nodes.get(&known.failed).is_some_and(|node| node.failed))
            .filter(|known| nodes.get(&known.leader).is_some_and(|node| node.active && !node.failed))
            .map(|known| Running {
                pair: FailedNode {
                    id: known.failed,
                    backup_node: event_node,
                },
                leader: known.leader,
                seqno: known.seqno,
                last_seqno: None,
            })
            .collect();
        let survivors = nodes
            .values()
            .filter(|node| node.active && !node.failed && !ids.contains(&node.id))
            .map(|node| node.id)
            .filter(|node| self.connections.knows(*node))
            .collect();
        self.wait_for_survivors(&running, &survivors, None).await
    }

    /// Newest event of a node that was failed over which the survivors had, as `event_node` remembers.
    pub(super) async fn last_event_before_failover(&mut self, id: Id, event_node: Id) -> Result<Option<i64>, Failure> {
        let survey = self.survey_of(event_node).await?;
        let known = survey.taken_over.iter().filter(|over| over.failed == id);
        Ok(known.map(|over| over.last_seqno).max())
    }

    async fn survey_of(&mut self, node: Id) -> Result<Survey, Failure> {
        let session = self.connections.session(node).await?;
        admin::survey(session, &self.cluster)
            .await
            .map_err(Failure::of_query(&format!("what node {node} knows of failovers")))
    }

    async fn confirmed_on(&mut self, node: Id, origin: Id) -> Result<i64, Failure> {
        let session = self.connections.session(node).await?;
        let known = admin::confirmation_of(session, &self.cluster, &[origin], node)
            .await
            .map_err(Failure::of_query("confirmed events"))?;
        Ok(known.first().and_then(|known| known.confirmed).unwrap_or(0))
    }
}
