//! The first copy of a set: `ENABLE_SUBSCRIPTION` on its receiver.
//!
//! The copy is one local transaction. Its provider is read in one repeatable-read snapshot, taken while no event of the
//! provider is being made, so that the newest SYNC in it and the log rows after it say exactly where the stream goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use trunkline_sql::copy::{self, SetSequence, SetTable, StartPoint};
use trunkline_sql::events::{self, Event};
use trunkline_sql::remote_event::{self, Locks};
use trunkline_sql::{Session, error_text, quote_ident, subscription};

use super::sync_group::snapshot_of;
use super::{Worker, WorkerError, gone};
use crate::logging as log;
use crate::node::Node;
use crate::provider::{Provider, ProviderError};
use crate::queue::Queued;

/// Pause between progress lines.
const PROGRESS: Duration = Duration::from_secs(2);

/// How long a table lock is waited for before the holders are named.
const LOCK_TIMEOUT: &str = "5s";

/// What the copy is about.
struct Request {
    set: i32,
    provider: i32,
    omit_copy: bool,
}

/// What the provider has, in the snapshot of the copy.
struct Source {
    provider: Provider,
    tables: Vec<SetTable>,
    sequences: Vec<SetSequence>,
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
        local.batch_execute("begin").await?;
        self.lock_tables(local, &source.tables).await?;
        let keeps = copy::keeps_rows(local, &node.cluster, set).await?;
        if !request.omit_copy {
            let mut progress = Progress::new(set, source.tables.len());
            for (table, computed) in source.tables.iter().zip(&computed) {
                if keeps == Some(true) && self.copy_differences(local, &source.provider, table).await? {
                    continue;
                }
                self.copy_table(local, &source.provider, table, computed, &mut progress)
                    .await?;
            }
        }
        if keeps.is_some() {
            copy::forget_kept_rows(local, &node.cluster, set).await?;
        }
        self.finish(local, &request, event, &source).await?;
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

    async fn lock_tables(&self, local: &Session, tables: &[SetTable]) -> Result<(), WorkerError> {
        local
            .batch_execute(&format!("set local lock_timeout to '{LOCK_TIMEOUT}'"))
            .await?;
        for table in tables {
            let name = table.qualified();
            let locked = local
                .batch_execute(&format!("lock table {name} in access exclusive mode"))
                .await;
            let Err(error) = locked else { continue };
            if error.code() != Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) {
                return Err(error.into());
            }
            local.batch_execute("rollback").await?;
            let holders = copy::lock_holders(local, &name).await?;
            return Err(WorkerError::Waiting(format!(
                "table {name} is locked on node {} by {}; the copy of the set begins when that ends",
                self.node.id,
                holders.join(", ")
            )));
        }
        Ok(local.batch_execute("set local lock_timeout to 0").await?)
    }

    async fn copy_table(
        &self,
        local: &Session,
        provider: &Provider,
        table: &SetTable,
        computed: &[String],
        progress: &mut Progress,
    ) -> Result<(), WorkerError> {
        let name = table.qualified();
        log::config!("{}: prepare to copy table {name}", self.actor);
        empty(local, &name).await?;
        let columns: Vec<String> = table
            .columns
            .iter()
            .filter(|column| !computed.contains(column))
            .map(|column| quote_ident(column))
            .collect();
        let columns = columns.join(", ");
        log::config!("{}: Begin COPY of table {name}", self.actor);
        let started = Instant::now();
        let database = |source| {
            WorkerError::Provider(ProviderError::Database {
                node: provider.id,
                source,
            })
        };
        let refused = |source: tokio_postgres::Error| {
            WorkerError::Apply(crate::apply::ApplyError::Refused {
                command: "the copy",
                table: name.clone(),
                node: self.node.id,
                source,
            })
        };
        // Without columns there is nothing to send, and COPY does not know an empty list: rows cannot exist then.
        if columns.is_empty() {
            return Ok(());
        }
        let out = provider
            .session
            .copy_out(&format!("copy {name} ({columns}) to stdout"))
            .await
            .map_err(database)?;
        let sink = local
            .copy_in::<_, Bytes>(&format!("copy {name} ({columns}) from stdin"))
            .await
            .map_err(refused)?;
        let mut out = std::pin::pin!(out);
        let mut sink = std::pin::pin!(sink);
        progress.begin(&name, table.rows);
        while let Some(message) = out.try_next().await.map_err(database)? {
            progress.add(message.len());
            sink.send(message).await.map_err(refused)?;
        }
        sink.finish().await.map_err(refused)?;
        progress.end();
        local.batch_execute(&format!("analyze {name}")).await?;
        let seconds = started.elapsed().as_secs_f64();
        log::config!("{}: {} bytes copied for table {name}", self.actor, progress.table_bytes);
        log::config!("{}: {seconds:.3} seconds to copy table {name}", self.actor);
        Ok(())
    }

    async fn finish(
        &self,
        local: &Session,
        request: &Request,
        event: &Event,
        source: &Source,
    ) -> Result<(), WorkerError> {
        let cluster = &self.node.cluster;
        // Taken this late because everything else of the node that changes its configuration waits behind it.
        remote_event::lock(local, cluster, Locks::Config).await?;
        copy::register(local, cluster, request.set, &source.tables, &source.sequences).await?;
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

/// Empties a table; by DELETE where a foreign key forbids TRUNCATE.
async fn empty(local: &Session, name: &str) -> Result<(), WorkerError> {
    local.batch_execute("savepoint empty_table").await?;
    if local.batch_execute(&format!("truncate only {name}")).await.is_err() {
        local
            .batch_execute(&format!("rollback to savepoint empty_table; delete from only {name}"))
            .await?;
    }
    Ok(local.batch_execute("release savepoint empty_table").await?)
}

/// Progress of a copy, in the log every few seconds.
struct Progress {
    set: i32,
    tables: usize,
    done: usize,
    name: String,
    expected_rows: f32,
    table_bytes: u64,
    bytes: u64,
    rows: u64,
    started: Instant,
    shown: Instant,
}

impl Progress {
    fn new(set: i32, tables: usize) -> Self {
        let now = Instant::now();
        Self {
            set,
            tables,
            done: 0,
            name: String::new(),
            expected_rows: -1.0,
            table_bytes: 0,
            bytes: 0,
            rows: 0,
            started: now,
            shown: now,
        }
    }

    fn begin(&mut self, name: &str, expected_rows: f32) {
        name.clone_into(&mut self.name);
        self.expected_rows = expected_rows;
        self.table_bytes = 0;
    }

    /// Counts a message of COPY; the server sends one for each row.
    fn add(&mut self, bytes: usize) {
        self.table_bytes += bytes as u64;
        self.bytes += bytes as u64;
        self.rows += 1;
        if self.shown.elapsed() >= PROGRESS {
            self.show();
        }
    }

    fn end(&mut self) {
        self.done += 1;
        if self.shown.elapsed() >= PROGRESS {
            self.show();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn show(&mut self) {
        self.shown = Instant::now();
        let megabytes = self.bytes as f64 / 1_048_576.0;
        let rate = megabytes / self.started.elapsed().as_secs_f64().max(0.001);
        let expected = if self.expected_rows > 0.0 {
            format!(" (about {:.0} rows in all)", self.expected_rows)
        } else {
            String::new()
        };
        log::info!(
            "copy_set {}: table {} of {}, {}{expected}: {:.1} MB of it; {} rows and {megabytes:.1} MB so far, {rate:.1} MB/s",
            self.set,
            (self.done + 1).min(self.tables),
            self.tables,
            self.name,
            self.table_bytes as f64 / 1_048_576.0,
            self.rows,
        );
    }
}
