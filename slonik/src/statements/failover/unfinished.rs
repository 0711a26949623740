//! Subscriptions that were still being copied when the origin was lost: what is missing is lost with it, so they end.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;
use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Call, Locks};
use trunkline_sql::error_text;

use crate::failover::{Situation, Stage, Unfinished};
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace};

/// How long a lock of the copy is waited for before the sessions of the receiver's slon are ended: it may be reading from a node
/// that does not answer any more. After that somebody else may have the lock, and the wait is long enough to name him.
const LOCK_TIMEOUTS: [&str; 2] = ["set local lock_timeout = '1s'", "set local lock_timeout = '10s'"];

impl Interpreter<'_> {
    /// Ends them on their receivers, then in the books of the others, whom the receivers' events reach too late. False: a copy
    /// has been finished meanwhile, so that all has to be looked at again.
    pub(super) async fn end_unfinished_copies(
        &mut self,
        situation: &Situation,
        survivors: &BTreeSet<Id>,
    ) -> Result<bool, Failure> {
        let lost: BTreeSet<Id> = situation
            .pairs
            .iter()
            .flat_map(|pair| situation.lost_sets(*pair))
            .collect();
        for one in &situation.unfinished {
            let Some(pair) = situation.pairs.iter().find(|pair| pair.id == one.origin) else {
                continue;
            };
            if situation.stage(*pair) != Stage::Fresh || !survivors.contains(&one.receiver) {
                continue;
            }
            if !self.end_on_receiver(one).await? {
                return Ok(false);
            }
            let Unfinished { set, receiver, .. } = *one;
            let afterwards = if lost.contains(&set) {
                "nobody has the rest of it any more".to_owned()
            } else {
                format!(
                    "subscribe it again when the failover is done: `subscribe set (id = {set}, provider = {}, receiver = \
                     {receiver}, forward = {});`",
                    pair.backup_node,
                    if one.forward { "yes" } else { "no" }
                )
            };
            self.report.say(&format!(
                "node {receiver} has not finished its first copy of set {set}: its subscription ends, its tables keep what was \
                 committed there; {afterwards}"
            ));
            for node in survivors.iter().filter(|node| **node != receiver) {
                self.connections.begin(*node, false).await?;
                let call = self.ending(*node, one).await?;
                self.connections.run(*node, &call).await?;
                self.connections.commit(*node).await?;
            }
        }
        Ok(true)
    }

    async fn ending(&mut self, node: Id, one: &Unfinished) -> Result<Call, Failure> {
        let session = self.connections.session(node).await?;
        let ours = admin::is_ours(session, &self.cluster)
            .await
            .map_err(Failure::of_query("whose schema it is"))?;
        Ok(admin::end_unfinished_copy(
            &self.cluster,
            ours,
            node,
            one.set,
            one.receiver,
        ))
    }

    /// False: the copy is done after all.
    async fn end_on_receiver(&mut self, one: &Unfinished) -> Result<bool, Failure> {
        let receiver = one.receiver;
        let call = self.ending(receiver, one).await?;
        let (mut pace, mut announcements, mut told) = (Pace::new(), Announcements::new(), false);
        loop {
            self.connections.begin(receiver, false).await?;
            if !self.connections.rehearses() {
                let limit = LOCK_TIMEOUTS[usize::from(told)];
                self.connections.run(receiver, &Call::statement(limit)).await?;
            }
            let ended = match self.connections.lock(receiver, Locks::EventAndConfig).await {
                Ok(()) => self.connections.run_in_wait(receiver, &call, &mut announcements).await,
                Err(failure) => Err(failure),
            };
            match ended {
                Ok(answer) => {
                    self.connections.commit(receiver).await?;
                    return Ok(answer.as_deref() != Some("f"));
                }
                Err(Failure::Sql(error))
                    if error.code().is_some_and(|code| {
                        *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
                    }) =>
                {
                    self.connections.rollback(receiver).await;
                }
                Err(failure) => {
                    self.connections.rollback(receiver).await;
                    return Err(failure);
                }
            }
            let session = self.connections.session(receiver).await?;
            let served = admin::daemon_sessions(session, &self.cluster)
                .await
                .map_err(Failure::of_query("sessions of the node's slon"))?;
            if !told {
                told = true;
                self.report.say(&format!(
                    "the copy of set {} on node {receiver} holds its tables: the sessions of its slon are ended",
                    one.set
                ));
            }
            if let Err(error) = admin::end_sessions(session, &served).await {
                self.report.say(&format!(
                    "they cannot be ended ({}); stop the slon of node {receiver}",
                    error_text(&error)
                ));
            }
            pace.pause(None).await;
        }
    }
}
