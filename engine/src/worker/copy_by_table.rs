//! The copy of a large set: table by table, several at once, each committed by itself.
//!
//! All tables are read in one exported snapshot of the provider, so whatever the order in which they are committed here,
//! they are of one moment when the last one is. Until then the subscription is not active. The tables are made known first,
//! with the triggers that refuse writes, so nobody changes one that is copied while the others are not.
//!
//! If the copy breaks off, what it has committed stays and is noted in `tl_copied`. The next attempt reads in a snapshot of its
//! own: tables that are noted are compared with the provider's, and only what differs is transferred; the others are copied.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use trunkline_sql::remote_event::{self, Locks};
use trunkline_sql::{Session, copy, copy_state};

use super::copy_progress::CopyProgress;
use super::copy_set::{Request, Source};
use super::copy_stream::{CopyStream, Job};
use super::{Worker, WorkerError, gone};
use crate::logging as log;
use crate::provider::{Provider, ProviderError};

/// Sets that take less than this on the provider's disk are copied in one transaction: there is little to lose.
const LARGE: i64 = 64 << 20;

/// Small tables are committed together, up to this many bytes …
const BATCH_BYTES: i64 = 8 << 20;

/// … and this many tables.
const BATCH_TABLES: usize = 100;

/// Whether the set is copied table by table.
pub(super) fn is_large(source: &Source) -> bool {
    source.tables.len() > 1 && source.tables.iter().map(|table| table.bytes).sum::<i64>() >= LARGE
}

impl Worker {
    /// Copies all tables and commits them; the subscription is still to be made active.
    pub(super) async fn copy_by_table(
        &self,
        request: &Request,
        source: &Source,
        computed: &[Vec<String>],
        event: i64,
    ) -> Result<(), WorkerError> {
        let local = self.local.as_ref().ok_or_else(gone)?;
        let cluster = &self.node.cluster;
        let set = request.set;
        self.fence_off(local, request, source).await?;
        let copied = copy_state::copied(local, cluster, set).await?;
        if !copied.is_empty() {
            log::info!(
                "copy_set {set}: an earlier attempt broke off; of {} tables it has copied {}, of which only differences are transferred",
                source.tables.len(),
                copied.len()
            );
        }
        let provider = request.provider;
        let snapshot = copy_state::export_snapshot(&source.provider.session)
            .await
            .map_err(|source| ProviderError::Database { node: provider, source })?;
        let progress = CopyProgress::new(
            &self.node,
            (&self.actor, self.origin, local.backend_pid()),
            event,
            set,
            &source.tables,
        );
        // The largest first: nobody waits at the end for one that was begun last.
        let mut jobs: Vec<Job<'_>> = source
            .tables
            .iter()
            .zip(computed)
            .map(|(table, computed)| Job { table, computed })
            .collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.table.bytes));
        let sessions = usize::try_from(self.node.parameters.copy_sessions)
            .unwrap_or(1)
            .clamp(1, jobs.len().max(1));
        let jobs = Mutex::new(VecDeque::from(jobs));
        let lanes = (0..sessions).map(|lane| self.lane(lane, request, &snapshot, &jobs, &copied, &progress));
        try_join_all(lanes).await?;
        Ok(())
    }

    /// Makes the tables known here, with the triggers that refuse writes, unless an earlier attempt has.
    async fn fence_off(&self, local: &Session, request: &Request, source: &Source) -> Result<(), WorkerError> {
        let cluster = &self.node.cluster;
        let set = request.set;
        if copy_state::is_registered(local, cluster, set, &source.tables, &source.sequences).await? {
            return Ok(());
        }
        local.batch_execute("begin").await?;
        self.lock_tables(local, source.tables.iter()).await?;
        remote_event::lock(local, cluster, Locks::Config).await?;
        if !copy::is_still_wanted(local, cluster, set, self.origin, self.node.id).await? {
            return Err(WorkerError::Waiting(format!(
                "set {set} is no longer to be copied; looking again"
            )));
        }
        copy_state::unregister(local, cluster, set).await?;
        copy::register(local, cluster, true, set, &source.tables, &source.sequences).await?;
        Ok(local.batch_execute("commit").await?)
    }

    /// Copies tables until none is left, over a pair of sessions of its own.
    async fn lane(
        &self,
        lane: usize,
        request: &Request,
        snapshot: &str,
        jobs: &Mutex<VecDeque<Job<'_>>>,
        copied: &HashSet<i32>,
        progress: &CopyProgress<'_>,
    ) -> Result<(), WorkerError> {
        let role = format!("copy_set_{}_{lane}", request.set);
        let provider = Provider::connect(&self.node, request.provider, &role).await?;
        copy_state::begin_in_snapshot(&provider.session, snapshot)
            .await
            .map_err(|source| ProviderError::Database {
                node: request.provider,
                source,
            })?;
        let local = self.connect().await?;
        let stream = CopyStream {
            actor: &self.actor,
            node: self.node.id,
            local: &local,
            provider: &provider,
            progress,
        };
        loop {
            let batch = next_batch(jobs);
            if batch.is_empty() {
                break;
            }
            local.batch_execute("begin").await?;
            self.lock_tables(&local, batch.iter().map(|job| job.table)).await?;
            let mut anew = Vec::new();
            for job in &batch {
                if copied.contains(&job.table.id) {
                    progress.begin(job.table);
                    if self.copy_differences(&local, &provider, job.table, None).await? {
                        progress.end(job.table);
                        continue;
                    }
                }
                anew.push(*job);
            }
            stream.copy(&anew).await?;
            let ids: Vec<i32> = batch.iter().map(|job| job.table.id).collect();
            copy_state::note_copied(&local, &self.node.cluster, request.set, &ids).await?;
            local.batch_execute("commit").await?;
        }
        Ok(())
    }
}

/// The next table, or several small ones.
fn next_batch<'a>(jobs: &Mutex<VecDeque<Job<'a>>>) -> Vec<Job<'a>> {
    let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(job) = jobs.front() {
        bytes += job.table.bytes;
        if !batch.is_empty() && (bytes > BATCH_BYTES || batch.len() >= BATCH_TABLES) {
            break;
        }
        batch.extend(jobs.pop_front());
    }
    batch
}

#[cfg(test)]
mod tests {
    use trunkline_sql::copy::SetTable;

    use super::*;

    fn table(id: i32, bytes: i64) -> SetTable {
        SetTable {
            id,
            schema: "public".to_owned(),
            name: format!("t{id}"),
            index: format!("t{id}_pkey"),
            comment: String::new(),
            columns: vec!["id".to_owned()],
            rows: -1.0,
            bytes,
        }
    }

    #[test]
    fn small_tables_are_committed_together_and_large_ones_alone() {
        let sizes = [1 << 30, 9 << 20, 5 << 20, 3 << 20, 1 << 20];
        let tables: Vec<SetTable> = (0..).zip(sizes).map(|(id, bytes)| table(id, bytes)).collect();
        let jobs = tables.iter().map(|table| Job { table, computed: &[] }).collect();
        let jobs = Mutex::new(jobs);
        let batches: Vec<Vec<i32>> = std::iter::repeat_with(|| next_batch(&jobs))
            .take_while(|batch| !batch.is_empty())
            .map(|batch| batch.iter().map(|job| job.table.id).collect())
            .collect();
        assert_eq!(batches, [vec![0], vec![1], vec![2, 3], vec![4]]);
    }
}
