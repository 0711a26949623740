//! `failover`: survivors take the sets of failed nodes over.
//!
//! The steps are those of the original, but each waits for a condition instead of a time, and each can be found in the
//! databases again: a failover that was interrupted anywhere goes on where it stopped when the statement is run again.

mod dropped;
mod survivors;
mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use trunkline_grammar::{FailedNode, Id};
use trunkline_sql::admin::{self, Locks};
use trunkline_sql::error_text;

use crate::failover::{Leadership, Situation, Stage};
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::Pace;

/// How long the survivors are waited for before the sets are taken over; who is late follows afterwards.
const CONFIRMING: Duration = Duration::from_secs(3);
/// How long a backup node may take to learn what the other survivors have just done.
const CATCHING_UP: Duration = Duration::from_secs(5);

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
        let (situation, survivors) = loop {
            let situation = self.look(pairs).await?;
            let reasons = situation.refusals();
            if !reasons.is_empty() {
                return Err(Failure::Reasons(reasons));
            }
            let survivors = situation.survivors();
            if self.end_unfinished_copies(&situation, &survivors).await? {
                break (situation, survivors);
            }
        };
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
            let (failed, backup) = (one.pair.id, one.pair.backup_node);
            // What was taken over in an earlier run were sets.
            let sets = one.last_seqno.is_none() || situation.originated(failed);
            self.report.say(&if sets {
                format!("node {backup} is the origin of what was node {failed}'s after {seconds:.1} s")
            } else {
                format!(
                    "node {failed} was the origin of no set; those who got data from it get them from node {backup}, or from the \
                     set's origin, after {seconds:.1} s"
                )
            });
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
                unfinished: BTreeSet::new(),
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
                situation.ask_receivers();
                return Ok(situation);
            }
            situation.ask_receivers();
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
            // The same, from an earlier run.
            let behind = behind || situation.awaits_a_drop();
            if !behind || situation.refusals().is_empty() || Instant::now() >= deadline {
                return Ok(situation);
            }
            pace.pause(Some(deadline)).await;
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
            let nobody = if situation.copying(set).is_empty() {
                "has no subscriber"
            } else {
                "is complete on no node that stays"
            };
            self.report.say(&format!(
                "set {set} of node {} {nobody}: its tables are lost to the cluster, the empty set goes along",
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
}
