//! The first copy of a set: `ENABLE_SUBSCRIPTION` on its receiver.
//!
//! The provider is read in one repeatable-read snapshot, taken while no event of the provider is being made, so that the
//! newest SYNC in it and the log rows after it say exactly where the stream goes on. Here the copy is one transaction, or,
//! where the set is large, one for each table and a last one that makes the subscription active (`copy_by_table.rs`).

use std::sync::Arc;
use std::time::Instant;

use trunkline_sql::copy::{self, SetSequence, SetTable, StartPoint};
use trunkline_sql::copy_state;
use trunkline_sql::events::{self, Event};
use trunkline_sql::remote_event::{self, Locks};
use trunkline_sql::{Session, error_text, subscription};

use super::copy_by_table::is_large;
use super::copy_progress::CopyProgress;
use super::copy_stream::{CopyStream, Job};
use super::sync_group::snapshot_of;
use super::{Worker, WorkerError, gone};
use crate::logging as log;
use crate::node::Node;
use crate::provider::{Provider, ProviderError};
use crate::queue::Queued;

/// How long a table lock is waited for before the holders are named.
const LOCK_TIMEOUT: &str = "5s";

/// Tables locked by one statement.
const LOCKED_TOGETHER: usize = 200;

/// What the copy is about.
pub(super) struct Request {
    pub(super) set: i32,
    pub(super) provider: i32,
    omit_copy: bool,
}

/// What the provider has, in the snapshot of the copy.
pub(super) struct Source {
    pub(super) provider: Provider,
    pub(super) tables: Vec<SetTable>,
    pub(super) sequences: Vec<SetSequence>,
    values: Vec<i64>,
    start: StartPoint,
}

impl Worker {
    pub(super) async fn copy_set(&mut self, queued: &Queued) -> Result<(), WorkerError> {
        let event = &queued.event;
        let request = Request {
            set: event.number(1)?,
            provider: event.number(2)?,
            omit_copy: event.flag(5),
        };
        let node = Arc::clone(&self.node);
        let set = request.set;
        let local = self.local.as_ref().ok_or_else(gone)?;
        if !copy::is_still_wanted(local, &node.cluster, set, self.origin, node.id).await? {
            log::warn!(
                "{}: node {} is no longer to be subscribed to set {set}; not copied",
                self.actor,
                node.id
            );
            return self.store_only(event).await;
        }
        if node
            .current()
            .nodes
            .get(&self.origin)
            .is_some_and(|origin| origin.failed)
        {
            return self.end_unfinished(event, set).await;
        }
        // The path or the provider may have been changed since the event was made.
        let provider = node
            .current()
            .local_subscription(set)
            .map_or(request.provider, |current| current.provider);
        let request = Request { provider, ..request };
        let started = Instant::now();
        let Some(source) = self.open_source(&request, event).await? else {
            return self.store_only(event).await;
        };
        log::info!(
            "copy_set {set}: {} tables and {} sequences from node {}",
            source.tables.len(),
            source.sequences.len(),
            source.provider.id
        );
        let local = self.local.as_ref().ok_or_else(gone)?;
        let (obstacles, computed) = copy::obstacles(
            local,
            local.server_version(),
            node.id,
            &source.tables,
            &source.sequences,
        )
        .await?;
        if !obstacles.is_empty() {
            return Err(WorkerError::Obstacles { set, obstacles });
        }
        log::config!("{}: all tables for set {set} found on subscriber", self.actor);
        let early_wal = self.early_wal();
        let local = self.local.as_ref().ok_or_else(gone)?;
        let _busy = early_wal.begin();
        let keeps = copy::keeps_rows(local, &node.cluster, set).await?;
        let by_table = node.ours && !request.omit_copy && keeps != Some(true) && is_large(&source);
        if by_table {
            self.copy_by_table(&request, &source, &computed, event.seqno).await?;
            local.batch_execute("begin").await?;
        } else {
            local.batch_execute("begin").await?;
            self.copy_at_once(local, &request, &source, &computed, keeps, event.seqno)
                .await?;
        }
        self.finish(local, &request, event, &source, by_table).await?;
        log::info!("copy_set {set} done in {:.3} seconds", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// The event concerns this node no longer.
    async fn store_only(&self, event: &Event) -> Result<(), WorkerError> {
        let local = self.local.as_ref().ok_or_else(gone)?;
        local.batch_execute("begin").await?;
        events::store(local, &self.node.cluster, self.node.id, std::slice::from_ref(event)).await?;
        Ok(local.batch_execute("commit").await?)
    }

    /// The origin was failed over before the copy was done: what is missing is with the new origin, under numbers of its own. The
    /// failover waits for this event, so the subscription must not hold it up.
    async fn end_unfinished(&self, event: &Event, set: i32) -> Result<(), WorkerError> {
        let local = self.local.as_ref().ok_or_else(gone)?;
        local
            .batch_execute(&format!("begin; set local lock_timeout to '{LOCK_TIMEOUT}'"))
            .await?;
        remote_event::lock(local, &self.node.cluster, Locks::EventAndConfig).await?;
        subscription::end(local, &self.node.cluster, set, self.node.id).await?;
        events::store(local, &self.node.cluster, self.node.id, std::slice::from_ref(event)).await?;
        local.batch_execute("commit").await?;
        log::warn!(
            "{}: node {} was failed over before set {set} was copied; the subscription of node {} ends, subscribe it again",
            self.actor,
            self.origin,
            self.node.id
        );
        Ok(())
    }

    /// Connects to the provider and opens the copy's snapshot there; None if the set is gone meanwhile.
    async fn open_source(&self, request: &Request, event: &Event) -> Result<Option<Source>, WorkerError> {
        let node: &Node = &self.node;
        let id = request.provider;
        let database = |source| WorkerError::Provider(ProviderError::Database { node: id, source });
        let provider = Provider::connect(node, id, &format!("copy_set_{}", request.set)).await?;
        let session = &provider.session;
        if id != self.origin {
            let there = events::has_event(session, &node.cluster, self.origin, event.seqno)
                .await
                .map_err(database)?;
            if !there {
                return Err(WorkerError::Waiting(format!(
                    "set {}: provider {id} has not processed event {},{} yet",
                    request.set, self.origin, event.seqno
                )));
            }
        }
        // While this lock is held no event of the node is half made: every SYNC whose snapshot is older than the
        // copy's is visible to the copy. Slony leaves that to chance.
        let gate = Provider::connect(node, id, &format!("copy_set_{}", request.set)).await?;
        let lock = node
            .cluster
            .sql("begin; set local lock_timeout to '10s'; lock table @NAMESPACE@.sl_event_lock in access share mode");
        gate.session.batch_execute(&lock).await.map_err(database)?;
        session
            .batch_execute(
                "begin transaction isolation level repeatable read read only; set local search_path to pg_catalog",
            )
            .await
            .map_err(database)?;
        let tables = copy::tables(session, &node.cluster, session.server_version(), request.set)
            .await
            .map_err(database)?;
        gate.session.batch_execute("commit").await.map_err(database)?;
        drop(gate);
        if !copy::is_still_wanted(session, &node.cluster, request.set, self.origin, node.id)
            .await
            .map_err(database)?
        {
            // The provider has processed the event, so the set or the subscription went away after it.
            log::warn!(
                "{}: set {} or its subscription is gone from node {id}; not copied",
                self.actor,
                request.set
            );
            return Ok(None);
        }
        let sequences = copy::sequences(session, &node.cluster, request.set)
            .await
            .map_err(database)?;
        let snapshot = snapshot_of(event)?;
        let start = copy::start_point(
            session,
            &node.cluster,
            self.origin,
            request.set,
            (event.seqno, &snapshot),
        )
        .await
        .map_err(database)?;
        let values = copy::sequence_values(session, &sequences).await.map_err(database)?;
        Ok(Some(Source {
            provider,
            tables,
            sequences,
            values,
            start,
        }))
    }

    /// Copies all tables in the open transaction.
    async fn copy_at_once(
        &self,
        local: &Session,
        request: &Request,
        source: &Source,
        computed: &[Vec<String>],
        keeps: Option<bool>,
        event: i64,
    ) -> Result<(), WorkerError> {
        self.lock_tables(local, source.tables.iter()).await?;
        if !request.omit_copy {
            let progress = CopyProgress::new(
                &self.node,
                (&self.actor, self.origin, local.backend_pid()),
                event,
                request.set,
                &source.tables,
            );
            let named = if keeps == Some(true) {
                self.named_rows(local, request.set, source).await?
            } else {
                None
            };
            let mut jobs = Vec::with_capacity(source.tables.len());
            for (table, computed) in source.tables.iter().zip(computed) {
                if keeps == Some(true) {
                    progress.begin(table);
                    let done = self.copy_differences(local, &source.provider, table, named.as_ref());
                    if done.await? {
                        progress.end(table);
                        continue;
                    }
                }
                jobs.push(Job { table, computed });
            }
            let stream = CopyStream {
                actor: &self.actor,
                node: self.node.id,
                local,
                provider: &source.provider,
                progress: &progress,
            };
            stream.copy(&jobs).await?;
        }
        if keeps.is_some() {
            copy::forget_kept_rows(local, &self.node.cluster, request.set).await?;
        }
        Ok(())
    }

    /// Takes the tables for the open transaction alone; who holds one for long is named.
    pub(super) async fn lock_tables(
        &self,
        local: &Session,
        tables: impl Iterator<Item = &SetTable>,
    ) -> Result<(), WorkerError> {
        local
            .batch_execute(&format!("set local lock_timeout to '{LOCK_TIMEOUT}'"))
            .await?;
        let names: Vec<String> = tables.map(SetTable::qualified).collect();
        for part in names.chunks(LOCKED_TOGETHER) {
            let locked = local
                .batch_execute(&format!("lock table {} in access exclusive mode", part.join(", ")))
                .await;
            let Err(error) = locked else { continue };
            if error.code() != Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) {
                return Err(error.into());
            }
            local.batch_execute("rollback").await?;
            let holders = copy::lock_holders(local, part).await?;
            return Err(WorkerError::Waiting(format!(
                "a table of the set is locked on node {}: {}; the copy goes on when that ends",
                self.node.id,
                holders.join("; ")
            )));
        }
        Ok(local.batch_execute("set local lock_timeout to 0").await?)
    }

    async fn finish(
        &self,
        local: &Session,
        request: &Request,
        event: &Event,
        source: &Source,
        by_table: bool,
    ) -> Result<(), WorkerError> {
        let cluster = &self.node.cluster;
        // Taken this late because everything else of the node that changes its configuration waits behind it.
        remote_event::lock(local, cluster, Locks::Config).await?;
        let set = request.set;
        if !copy::is_still_wanted(local, cluster, set, self.origin, self.node.id).await? {
            return Err(WorkerError::Waiting(format!(
                "the subscription of node {} to set {set} was ended while the set was copied; looking again",
                self.node.id
            )));
        }
        // A copy table by table has made them known before. Somebody may have ended the subscription meanwhile.
        if !copy_state::is_registered(local, cluster, set, &source.tables, &source.sequences).await? {
            if by_table {
                return Err(WorkerError::Waiting(format!(
                    "set {set} or its subscription was changed on node {} while it was copied; looking again",
                    self.node.id
                )));
            }
            copy::register(local, cluster, self.node.ours, set, &source.tables, &source.sequences).await?;
        }
        if self.node.ours {
            copy_state::forget_copied(local, cluster, set).await?;
        }
        let values: Vec<(i32, i64)> = source
            .sequences
            .iter()
            .map(|sequence| sequence.id)
            .zip(source.values.iter().copied())
            .collect();
        subscription::set_sequences(local, cluster, self.origin, event.seqno, &values).await?;
        copy::store_start_point(local, cluster, self.origin, request.set, &source.start).await?;
        remote_event::enable_subscription(local, cluster, request.set, request.provider, self.node.id).await?;
        events::store(local, cluster, self.node.id, std::slice::from_ref(event)).await?;
        local.batch_execute("commit").await?;
        if let Err(error) = source.provider.session.batch_execute("rollback").await {
            log::debug1!("{}: node {}: {}", self.actor, request.provider, error_text(&error));
        }
        Ok(())
    }
}
