//! A group of SYNCs: what happened on the origin since the last one, in one local transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_sql::daemon::{ApplyStats, add_apply_stats};
use trunkline_sql::events::{self, Event};
use trunkline_sql::log_selection::{LogSelection, LogTables, WindowTables};
use trunkline_sql::snapshot::{Snapshot, Window};
use trunkline_sql::subscription::{self, SetPosition};
use trunkline_sql::{Session, forward};

use super::{Worker, WorkerError, gone};
use crate::apply::Applied;
use crate::log_row::LogRow;
use crate::logging as log;
use crate::provider::LogStream;
use crate::queue::Queued;

/// Bytes of log rows held at once; a single row may exceed it.
const CHUNK_BYTES: usize = 12 * 1024 * 1024;
/// Log rows held at once.
const CHUNK_ROWS: usize = 50_000;

/// What to read from one provider.
struct FromProvider {
    provider: i32,
    groups: Vec<WindowTables>,
    sets: Vec<i32>,
    /// Oldest position of its sets.
    first_seqno: i64,
}

/// What one group of SYNCs needs to know about each log row.
struct Plan {
    /// Tables whose rows are kept for others.
    forwarded: HashSet<i32>,
    /// Log rows that the initial copy of a set already held, by table: a provider's list may name rows of other sets.
    copied: HashMap<i32, Arc<HashSet<i64>>>,
    /// Table rows are forwarded to.
    log_table: Option<&'static str>,
}

impl Worker {
    pub(super) async fn sync_group(&mut self, group: &[Queued]) -> Result<(), WorkerError> {
        let Some(last) = group.last() else { return Ok(()) };
        let started = Instant::now();
        let to = snapshot_of(&last.event)?;
        let event_provider = last.provider;
        let scripts_from = self.script_position(event_provider, &to).await?;
        let node = Arc::clone(&self.node);
        let local = self.local.as_ref().ok_or_else(gone)?;
        local.batch_execute("begin; set constraints all deferred").await?;
        let positions: Vec<SetPosition> = subscription::positions(local, &node.cluster, self.origin)
            .await?
            .into_iter()
            .filter(|position| position.seqno < last.event.seqno && !position.awaits_accept_set())
            .collect();
        let sources = self.sources(&positions, last.event.seqno, &to)?;
        let mut plan = Plan {
            forwarded: self
                .tables_of(positions.iter().filter(|position| position.forward).map(|p| p.set))
                .collect(),
            copied: self.copied(&positions),
            log_table: None,
        };
        if !plan.forwarded.is_empty() {
            plan.log_table = Some(forward::log_table(local, &node.cluster).await?);
        }
        let scripts = Window {
            from: scripts_from,
            to: to.clone(),
        };
        let mut applied = Applied::default();
        let mut scripts_read = false;
        let mut sequences: Vec<(i32, i64)> = Vec::new();
        for source in &sources {
            self.await_data(source.provider, event_provider, last.event.seqno)
                .await?;
            let with_scripts = source.provider == event_provider;
            scripts_read |= with_scripts;
            let origin = self.origin;
            let provider = self.provider(source.provider).await?;
            sequences.extend(
                provider
                    .sequence_values(&node, origin, &source.sets, source.first_seqno, last.event.seqno)
                    .await?,
            );
            applied.add(
                self.pull(source.provider, &source.groups, with_scripts.then_some(&scripts), &plan)
                    .await?,
            );
        }
        if !scripts_read && node.current().paths.contains_key(&event_provider) {
            applied.add(self.pull(event_provider, &[], Some(&scripts), &plan).await?);
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        subscription::set_sequences(local, &node.cluster, self.origin, last.event.seqno, &sequences).await?;
        let sets: Vec<i32> = positions.iter().map(|position| position.set).collect();
        if !sets.is_empty() {
            let snapshot = to.to_string();
            subscription::advance(local, &node.cluster, self.origin, &sets, last.event.seqno, &snapshot).await?;
        }
        if node.parameters.monitor_threads && applied.rows() > 0 {
            self.store_stats(&applied, started.elapsed()).await?;
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        let stored: Vec<Event> = group.iter().map(|queued| queued.event.clone()).collect();
        events::store(local, &node.cluster, node.id, &stored).await?;
        local.batch_execute("commit").await?;
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
            // What a script set in its session dies with it.
            node.reload(&local).await?;
        }
        Ok(())
    }

    /// What to read from which provider: sets at the same position are read together.
    fn sources(&self, positions: &[SetPosition], seqno: i64, to: &Snapshot) -> Result<Vec<FromProvider>, WorkerError> {
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

    fn tables_of(&self, sets: impl Iterator<Item = i32>) -> impl Iterator<Item = i32> {
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
    async fn await_data(&mut self, provider: i32, event_provider: i32, seqno: i64) -> Result<(), WorkerError> {
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

    /// Reads a provider's log rows and applies them chunk by chunk.
    async fn pull(
        &mut self,
        provider: i32,
        groups: &[WindowTables],
        scripts: Option<&Window>,
        plan: &Plan,
    ) -> Result<Applied, WorkerError> {
        let node = Arc::clone(&self.node);
        let selection = LogSelection {
            origin: self.origin,
            log_tables: LogTables::Both,
            groups,
            scripts,
        };
        let stream: Option<LogStream> = self.provider(provider).await?.log_stream(&node, selection).await?;
        let Some(mut stream) = stream else {
            return Ok(Applied::default());
        };
        let mut applied = Applied::default();
        loop {
            let mut rows = stream.chunk(CHUNK_BYTES, CHUNK_ROWS).await?;
            if rows.is_empty() {
                return Ok(applied);
            }
            if !plan.copied.is_empty() {
                rows.retain(|row| {
                    let copied = row.table.and_then(|table| plan.copied.get(&table));
                    copied.is_none_or(|actions| !actions.contains(&row.action))
                });
            }
            applied.add(self.apply_chunk(&rows, plan).await?);
        }
    }

    async fn apply_chunk(&mut self, rows: &[LogRow], plan: &Plan) -> Result<Applied, WorkerError> {
        let node = Arc::clone(&self.node);
        let mut applied = Applied::default();
        let mut rest = rows;
        while !rest.is_empty() {
            let data = rest.iter().position(|row| row.table.is_none()).unwrap_or(rest.len());
            let (stretch, tail) = rest.split_at(data);
            if !stretch.is_empty() {
                let local: &Session = self.local.as_ref().ok_or_else(gone)?;
                if let Some(log_table) = plan.log_table {
                    let kept: Vec<Bytes> = stretch
                        .iter()
                        .filter(|row| row.table.is_some_and(|table| plan.forwarded.contains(&table)))
                        .map(|row| row.raw.clone())
                        .collect();
                    if !kept.is_empty() {
                        forward::store(local, &node.cluster, log_table, kept).await?;
                    }
                }
                applied.add(self.apply.applier(local, &node.cluster, node.id).apply(stretch).await?);
            }
            let Some((script, tail)) = tail.split_first() else {
                break;
            };
            self.script_row(script).await?;
            applied.scripts += 1;
            rest = tail;
        }
        Ok(applied)
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
