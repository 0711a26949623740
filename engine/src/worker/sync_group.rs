//! A group of SYNCs: what happened on the origin since the last one, in one local transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_sql::Session;
use trunkline_sql::daemon::{ApplyStats, add_apply_stats};
use trunkline_sql::events::{self, Event};
use trunkline_sql::forward::{self, LogTable};
use trunkline_sql::log_selection::{LogSelection, LogTables, Stretch, WindowTables};
use trunkline_sql::snapshot::{Snapshot, Window};
use trunkline_sql::subscription::{self, SetPosition};

use super::forwarding::Leftovers;
use super::log_pipeline::{Chunk, Copied, LogPipeline};
use super::{Worker, WorkerError, gone};
use crate::apply::Applied;
use crate::logging as log;
use crate::queue::Queued;

/// What to read from one provider.
pub(super) struct FromProvider {
    provider: i32,
    groups: Vec<WindowTables>,
    sets: Vec<i32>,
    /// Oldest position of its sets.
    first_seqno: i64,
    /// Rows up to this one (`log_actionseq`) are applied.
    after: Option<i64>,
    next: Next,
}

/// Where a provider's next row is.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Nobody has asked.
    Unknown,
    /// At this place of the log (`log_actionseq`).
    At(i64),
    /// There is none in the group.
    Nowhere,
}

/// What one group of SYNCs needs to know about each log row.
struct Plan {
    /// Tables whose rows are kept for others.
    forwarded: Arc<HashSet<i32>>,
    /// Log rows that the initial copy of a set already held, by table: a provider's list may name rows of other sets.
    copied: Copied,
    /// Table rows are forwarded to.
    log_table: Option<LogTable>,
}

/// The rest of a group of SYNCs: what is still to be read from whom. A script may change it.
pub(super) struct Stage {
    sets: Vec<i32>,
    sources: Vec<FromProvider>,
    plan: Plan,
}

impl Worker {
    pub(super) async fn sync_group(&mut self, group: &[Queued]) -> Result<(), WorkerError> {
        let Some(last) = group.last() else { return Ok(()) };
        let started = Instant::now();
        let to = snapshot_of(&last.event)?;
        let scripts = self.find_scripts(last, &to).await?;
        let node = Arc::clone(&self.node);
        let local = self.local.as_ref().ok_or_else(gone)?;
        local.batch_execute("begin; set constraints all deferred").await?;
        let mut stage = self.stage(last.event.seqno, &to, None).await?;
        for source in &stage.sources {
            self.await_data(source.provider, last.provider, last.event.seqno)
                .await?;
        }
        let mut applied = self.run_scripts(&scripts, last.event.seqno, &to, &mut stage).await?;
        let mut sequences: Vec<(i32, i64)> = Vec::new();
        let origin = self.origin;
        for source in &stage.sources {
            let provider = self.provider(source.provider).await?;
            sequences.extend(
                provider
                    .sequence_values(&node, origin, &source.sets, source.first_seqno, last.event.seqno)
                    .await?,
            );
            applied.add(self.pull(source, None, &stage.plan).await?);
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        subscription::set_sequences(local, &node.cluster, self.origin, last.event.seqno, &sequences).await?;
        if node.parameters.monitor_threads && applied.rows() > 0 {
            self.store_stats(&applied, started.elapsed()).await?;
        }
        self.commit_beside().await?;
        let local = self.local.as_ref().ok_or_else(gone)?;
        let stored: Vec<Event> = group.iter().map(|queued| queued.event.clone()).collect();
        let snapshot = to.to_string();
        events::finish_group(local, &node.cluster, node.id, &stored, &stage.sets, &snapshot).await?;
        if self.leftovers != Leftovers::Possible {
            self.leftovers = Leftovers::None;
        }
        self.last_snapshot = Some(to);
        for (table, rows) in &applied.missing {
            log::warn!(
                "{}: {rows} rows of table {table} to be changed or deleted up to SYNC {} are not on node {}: it differs from \
                 the origin",
                self.actor,
                last.event.seqno,
                node.id
            );
        }
        if applied.fallbacks > 0 {
            log::debug1!(
                "{}: {} stretches applied in the order of the log",
                self.actor,
                applied.fallbacks
            );
        }
        if applied.scripts > 0 {
            self.apply.forget();
            let local = self.local.take().ok_or_else(gone)?;
            // What a script left in its session (temporary tables, prepared statements) dies with it.
            node.reload(&local).await?;
        }
        Ok(())
    }

    /// Looks what is to be read from whom, behind `after`, in the running transaction: a script in it may have added
    /// tables.
    pub(super) async fn stage(&mut self, seqno: i64, to: &Snapshot, after: Option<i64>) -> Result<Stage, WorkerError> {
        let node = Arc::clone(&self.node);
        let local = self.local.as_ref().ok_or_else(gone)?;
        let mut positions: Vec<SetPosition> = subscription::positions(local, &node.cluster, self.origin).await?;
        let may_clear = after.is_none() && positions.iter().any(|position| position.forward);
        if may_clear && self.leftovers == Leftovers::Possible {
            self.remove_leftovers(&positions).await?;
            self.leftovers = Leftovers::Removed;
        }
        positions.retain(|position| position.seqno < seqno && !position.awaits_accept_set());
        let local = self.local.as_ref().ok_or_else(gone)?;
        let mut plan = Plan {
            forwarded: Arc::new(
                self.tables_of(positions.iter().filter(|position| position.forward).map(|p| p.set))
                    .collect(),
            ),
            copied: Arc::new(self.copied(&positions)),
            log_table: None,
        };
        if !plan.forwarded.is_empty() {
            plan.log_table = Some(forward::log_table(local, &node.cluster, self.log_table).await?);
        }
        self.log_table = plan.log_table.or(self.log_table);
        let sources = self.sources(&positions, seqno, to, after)?;
        Ok(Stage {
            sets: positions.iter().map(|position| position.set).collect(),
            sources,
            plan,
        })
    }

    /// Applies the rows of all providers that stand before a place in the log.
    pub(super) async fn apply_before(&mut self, stage: &mut Stage, action: i64) -> Result<Applied, WorkerError> {
        let node = Arc::clone(&self.node);
        let mut applied = Applied::default();
        for source in &mut stage.sources {
            if matches!(source.next, Next::Unknown) {
                let selection = LogSelection {
                    origin: self.origin,
                    log_tables: LogTables::Both,
                    groups: &source.groups,
                    stretch: Stretch {
                        after: source.after,
                        before: None,
                    },
                };
                let provider = self.provider(source.provider).await?;
                let first = provider.first_action(&node, selection).await?;
                source.next = first.map_or(Next::Nowhere, Next::At);
            }
            if matches!(source.next, Next::At(next) if next < action) {
                applied.add(self.pull(source, Some(action), &stage.plan).await?);
                source.after = Some(action);
                source.next = Next::Unknown;
            }
        }
        Ok(applied)
    }

    /// What to read from which provider: sets at the same position are read together.
    fn sources(
        &self,
        positions: &[SetPosition],
        seqno: i64,
        to: &Snapshot,
        after: Option<i64>,
    ) -> Result<Vec<FromProvider>, WorkerError> {
        let mut by_provider: BTreeMap<i32, BTreeMap<String, Vec<&SetPosition>>> = BTreeMap::new();
        for position in positions {
            by_provider
                .entry(position.provider)
                .or_default()
                .entry(position.snapshot.clone())
                .or_default()
                .push(position);
        }
        let mut sources = Vec::new();
        for (provider, by_snapshot) in by_provider {
            let mut source = FromProvider {
                provider,
                groups: Vec::new(),
                sets: Vec::new(),
                first_seqno: i64::MAX,
                after,
                next: Next::Unknown,
            };
            for (snapshot, positions) in by_snapshot {
                let from: Snapshot = snapshot.parse().map_err(|error| WorkerError::Snapshot {
                    origin: self.origin,
                    seqno,
                    source: error,
                })?;
                let tables: Vec<i32> = self.tables_of(positions.iter().map(|position| position.set)).collect();
                source.groups.push(WindowTables {
                    window: Window { from, to: to.clone() },
                    tables,
                });
                for position in positions {
                    source.sets.push(position.set);
                    source.first_seqno = source.first_seqno.min(position.seqno);
                }
            }
            sources.push(source);
        }
        Ok(sources)
    }

    pub(super) fn tables_of(&self, sets: impl Iterator<Item = i32>) -> impl Iterator<Item = i32> {
        let sets: HashSet<i32> = sets.collect();
        let table_sets = Arc::clone(&self.table_sets);
        let tables: Vec<i32> = table_sets
            .iter()
            .filter(|(_, set)| sets.contains(set))
            .map(|(table, _)| *table)
            .collect();
        tables.into_iter()
    }

    /// What the initial copies of sets held beyond their positions.
    fn copied(&self, positions: &[SetPosition]) -> HashMap<i32, Arc<HashSet<i64>>> {
        let mut copied = HashMap::new();
        for position in positions {
            let actions: Arc<HashSet<i64>> = Arc::new(position.already_copied().collect());
            if !actions.is_empty() {
                copied.extend(
                    self.tables_of(std::iter::once(position.set))
                        .map(|table| (table, Arc::clone(&actions))),
                );
            }
        }
        copied
    }

    /// A provider that is neither the origin nor the node the event came from may not be as far yet.
    pub(super) async fn await_data(
        &mut self,
        provider: i32,
        event_provider: i32,
        seqno: i64,
    ) -> Result<(), WorkerError> {
        if provider == self.origin || provider == event_provider {
            return Ok(());
        }
        let origin = self.origin;
        let node = Arc::clone(&self.node);
        let connection = self.provider(provider).await?;
        let there = events::has_event(&connection.session, &node.cluster, origin, seqno).await;
        if there.map_err(|source| crate::provider::ProviderError::Database { node: provider, source })? {
            return Ok(());
        }
        Err(WorkerError::Waiting(format!(
            "provider {provider} does not have event {origin},{seqno} yet"
        )))
    }

    /// Reads a provider's next log rows, all or those before a place in the log, and applies them chunk by chunk.
    async fn pull(&mut self, source: &FromProvider, before: Option<i64>, plan: &Plan) -> Result<Applied, WorkerError> {
        let node = Arc::clone(&self.node);
        let selection = LogSelection {
            origin: self.origin,
            log_tables: LogTables::Both,
            groups: &source.groups,
            stretch: Stretch {
                after: source.after,
                before,
            },
        };
        let provider = self.provider(source.provider).await?;
        let Some(stream) = provider.log_stream(&node, selection).await? else {
            return Ok(Applied::default());
        };
        let mut pipeline = LogPipeline::start(stream, Arc::clone(&plan.copied), self.apply.tables()).await?;
        let beside = match plan.log_table {
            Some(log_table) if pipeline.is_long() => self.beside(log_table, &plan.forwarded).await?,
            _ => None,
        };
        let early_wal = pipeline.is_long().then(|| self.early_wal());
        let _busy = early_wal.as_ref().map(|early| early.begin());
        let mut applied = Applied::default();
        while let Some(chunk) = pipeline.next().await? {
            match &beside {
                // If it failed, it says so at the end.
                Some(beside) if !beside.put(&chunk.rows).await => break,
                Some(_) => {}
                None => self.forward(&chunk, plan).await?,
            }
            applied.add(self.apply_chunk(chunk).await?);
            pipeline.learned(self.apply.tables());
        }
        if let Some(beside) = beside {
            self.beside = Some(beside.finish().await?);
        }
        Ok(applied)
    }

    async fn forward(&self, chunk: &Chunk, plan: &Plan) -> Result<(), WorkerError> {
        let Some(log_table) = plan.log_table else {
            return Ok(());
        };
        let local = self.local.as_ref().ok_or_else(gone)?;
        let kept: Vec<Bytes> = chunk
            .rows
            .iter()
            .filter(|row| row.table.is_some_and(|table| plan.forwarded.contains(&table)))
            .map(|row| row.raw.clone())
            .collect();
        Ok(forward::store(local, &self.node.cluster, log_table, kept).await?)
    }

    async fn apply_chunk(&mut self, chunk: Chunk) -> Result<Applied, WorkerError> {
        let node = Arc::clone(&self.node);
        let local: &Session = self.local.as_ref().ok_or_else(gone)?;
        let mut changes = self.apply.applier(local, &node.cluster, node.id);
        Ok(changes.apply(&chunk.rows, chunk.prepared).await?)
    }

    async fn store_stats(&self, applied: &Applied, duration: Duration) -> Result<(), WorkerError> {
        let local = self.local.as_ref().ok_or_else(gone)?;
        let figure = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let stats = ApplyStats {
            inserts: figure(applied.inserts),
            updates: figure(applied.updates),
            deletes: figure(applied.deletes),
            truncates: figure(applied.truncates),
            scripts: figure(applied.scripts),
            duration,
            ..ApplyStats::default()
        };
        Ok(add_apply_stats(&**local, &self.node.cluster, self.origin, &stats).await?)
    }
}

pub(super) fn snapshot_of(event: &Event) -> Result<Snapshot, WorkerError> {
    event
        .snapshot
        .as_deref()
        .unwrap_or("")
        .parse()
        .map_err(|source| WorkerError::Snapshot {
            origin: event.origin,
            seqno: event.seqno,
            source,
        })
}
