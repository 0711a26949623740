//! Events other than SYNC: the cluster's configuration changes.

use trunkline_sql::events::{self, Event};
use trunkline_sql::remote_event::{self, Effect, Locks};

use tokio_postgres::error::SqlState;
use trunkline_sql::error_text;
use trunkline_sql::fence::{DROPPED, FAILED_OVER, Fence};

use super::{Outcome, Worker, WorkerError, gone};
use crate::logging as log;
use crate::queue::Queued;
use crate::standing::GivenUp;

/// How long a lock is waited for before it is given up, said, and tried again: others queue behind a waiting lock.
const LOCK_TIMEOUT: &str = "5s";

impl Worker {
    /// Processes one event in a transaction of its own.
    pub(super) async fn configuration_event(&mut self, queued: &Queued) -> Result<Outcome, WorkerError> {
        let event = &queued.event;
        let node = std::sync::Arc::clone(&self.node);
        match remote_event::effect(&event.kind) {
            Effect::EnableSubscription if event.number::<i32>(3)? == node.id => {
                self.copy_set(queued).await?;
            }
            Effect::FailoverNode => {
                if let Some(verdict) = self.failover_node(event).await? {
                    return Ok(Outcome::GivenUp(verdict));
                }
            }
            effect => {
                let local = self.local.as_ref().ok_or_else(gone)?;
                local
                    .batch_execute(&format!("begin; set local lock_timeout to '{LOCK_TIMEOUT}'"))
                    .await?;
                match self.apply_effect(event, effect).await {
                    Ok(Outcome::Dropped) => return Ok(Outcome::Dropped),
                    Ok(Outcome::GivenUp(verdict)) => {
                        let local = self.local.as_ref().ok_or_else(gone)?;
                        local.batch_execute("rollback").await?;
                        return Ok(Outcome::GivenUp(verdict));
                    }
                    Ok(Outcome::Done) => {}
                    Err(WorkerError::Local(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                        return Err(WorkerError::Waiting(format!(
                            "event {},{} {} waits for a lock on node {} that somebody holds for more than {LOCK_TIMEOUT}: {}",
                            event.origin,
                            event.seqno,
                            event.kind,
                            node.id,
                            error_text(&error)
                        )));
                    }
                    Err(error) => return Err(error),
                }
                let local = self.local.as_ref().ok_or_else(gone)?;
                events::store(local, &node.cluster, node.id, std::slice::from_ref(event)).await?;
                local.batch_execute("commit").await?;
            }
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        node.reload(local).await?;
        Ok(Outcome::Done)
    }

    async fn apply_effect(&mut self, event: &Event, effect: Effect) -> Result<Outcome, WorkerError> {
        let node = std::sync::Arc::clone(&self.node);
        let cluster = &node.cluster;
        let local = self.local.as_ref().ok_or_else(gone)?;
        match effect {
            Effect::Call { sql, arguments, locks } => {
                remote_event::lock(local, cluster, locks).await?;
                remote_event::run(local, cluster, sql, arguments, event).await?;
                match event.kind.as_str() {
                    "CLONE_NODE" => log::config!(
                        "{}: node {} is a clone of node {}",
                        self.actor,
                        event.text(1),
                        event.text(2)
                    ),
                    // The two are events of different nodes and come in any order.
                    "UNSUBSCRIBE_SET" if node.ours => {
                        let (set, receiver) = (event.number(1)?, event.number(2)?);
                        remote_event::note_unsubscription(local, cluster, set, receiver, event.text(7)).await?;
                    }
                    "SUBSCRIBE_SET" if node.ours => {
                        let (set, receiver) = (event.number(1)?, event.number(3)?);
                        if remote_event::honour_unsubscription(local, cluster, set, receiver, event).await? {
                            log::info!(
                                "{}: node {receiver} has ended its subscription to set {set} already",
                                self.actor
                            );
                        }
                    }
                    _ => {}
                }
            }
            Effect::DropNode => {
                remote_event::lock(local, cluster, Locks::Config).await?;
                let mut dropped = Vec::new();
                for item in event.text(1).split(',') {
                    let id: i32 = item.trim().parse().map_err(|_| {
                        WorkerError::Waiting(format!(
                            "event {},{} DROP_NODE: `{item}` in ev_data1 is not a node number",
                            event.origin, event.seqno
                        ))
                    })?;
                    dropped.push(id);
                }
                if dropped.contains(&node.id) {
                    // Only who is no origin is dropped in an orderly way. What this node has written since the others gave it
                    // up must not go with the schema, and writers must not come in.
                    if let Some(verdict) = self.given_up(DROPPED) {
                        return Ok(Outcome::GivenUp(verdict));
                    }
                    log::warn!(
                        "{}: this node was dropped from the cluster; removing the schema",
                        self.actor
                    );
                    remote_event::drop_node(local, cluster, node.id).await?;
                    local.batch_execute("commit; begin").await?;
                    remote_event::uninstall(local, cluster).await?;
                    local.batch_execute("commit").await?;
                    return Ok(Outcome::Dropped);
                }
                for id in dropped {
                    remote_event::drop_node(local, cluster, id).await?;
                }
            }
            Effect::EnableSubscription => {
                remote_event::lock(local, cluster, Locks::Config).await?;
                let (set, provider, receiver) = (event.number(1)?, event.number(2)?, event.number(3)?);
                remote_event::enable_subscription(local, cluster, set, provider, receiver).await?;
            }
            Effect::AcceptSet => self.accept_set(event).await?,
            Effect::Sync | Effect::FailoverNode | Effect::None => {}
        }
        Ok(Outcome::Done)
    }

    /// A set has a new origin: it goes on from here once the old origin's MOVE_SET has been processed.
    async fn accept_set(&mut self, event: &Event) -> Result<(), WorkerError> {
        let (set, old, new): (i32, i32, i32) = (event.number(1)?, event.number(2)?, event.number(3)?);
        let move_seqno: i64 = event.number(4)?;
        let node = std::sync::Arc::clone(&self.node);
        let local = self.local.as_ref().ok_or_else(gone)?;
        remote_event::lock(local, &node.cluster, Locks::Config).await?;
        // The old origin has processed its own MOVE_SET; it may have known no SYNC of the new origin to start from, though.
        if old != node.id && !remote_event::move_set_is_here(local, &node.cluster, set, old, new, move_seqno).await? {
            return Err(WorkerError::Waiting(format!(
                "set {set} moves from node {old} to node {new}: waiting for MOVE_SET {old},{move_seqno}"
            )));
        }
        Ok(remote_event::accept_set(local, &node.cluster, set, event).await?)
    }

    /// What the cluster has decided about this node, if it is the origin of anything by its own account.
    fn given_up(&self, reason: &str) -> Option<GivenUp> {
        let configuration = self.node.current();
        let own = configuration.sets.values().filter(|set| set.origin == self.node.id);
        let fences: Vec<Fence> = own
            .map(|set| Fence {
                set: set.id,
                new_origin: None,
                reason: reason.to_owned(),
            })
            .collect();
        (!fences.is_empty()).then_some(GivenUp {
            by: Some(self.origin),
            fences,
            settled: false,
        })
    }

    /// A node has failed: subscriptions turn to the temporary origin at once, the sets move when everything that any
    /// survivor had of the failed node has arrived here. If the failed node is this one, nothing is done but to say so.
    async fn failover_node(&mut self, event: &Event) -> Result<Option<GivenUp>, WorkerError> {
        let node = std::sync::Arc::clone(&self.node);
        let cluster = &node.cluster;
        let failed: i32 = event.number(1)?;
        let last_seqno: i64 = event.number(2)?;
        let all_failed: Vec<i32> = event
            .text(3)
            .split(',')
            .filter_map(|item| item.trim().parse().ok())
            .collect();
        if failed == node.id || all_failed.contains(&node.id) {
            let mut verdict = self.given_up(FAILED_OVER).unwrap_or(GivenUp {
                by: Some(self.origin),
                fences: Vec::new(),
                settled: true,
            });
            if failed == node.id {
                for fence in &mut verdict.fences {
                    fence.new_origin = Some(self.origin);
                }
            }
            return Ok(Some(verdict));
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        local.batch_execute("begin").await?;
        remote_event::lock(local, cluster, Locks::Config).await?;
        remote_event::failed_node(local, cluster, node.ours, failed, self.origin, &all_failed).await?;
        local.batch_execute("commit").await?;
        node.reload(local).await?;
        if !events::has_event(local, cluster, failed, last_seqno).await? {
            return Err(WorkerError::Waiting(format!(
                "node {failed} failed: waiting for its last event {failed},{last_seqno} to arrive from node {}",
                self.origin
            )));
        }
        local.batch_execute("begin").await?;
        remote_event::lock(local, cluster, Locks::EventAndConfig).await?;
        events::store(local, cluster, node.id, std::slice::from_ref(event)).await?;
        remote_event::failover_set(local, cluster, failed, self.origin, last_seqno).await?;
        local.batch_execute("commit").await?;
        Ok(None)
    }
}
