//! Scripts (`execute script`) in the stream of changes.
//!
//! A script runs when all rows logged ahead of it are applied and before any logged behind it, whichever providers the
//! rows come from. What it says may change what is to be read: a table it adds is read from there on.

use std::collections::HashMap;
use std::sync::Arc;

use trunkline_sql::configuration::PathRow;
use trunkline_sql::script::{self, ScriptPlace, ScriptSettings};
use trunkline_sql::snapshot::{Snapshot, Window};
use trunkline_sql::{events, subscription};

use super::sync_group::Stage;
use super::{Worker, WorkerError, gone};
use crate::apply::{Applied, ApplyError};
use crate::provider::ProviderError;
use crate::queue::Queued;

/// The scripts of a group of SYNCs, and the node they are read from.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    node: i32,
    places: Vec<ScriptPlace>,
}

impl Worker {
    /// Looks which scripts belong to a group of SYNCs.
    ///
    /// Every node keeps the scripts it has processed, with or without subscriptions, so the node that the last event came
    /// from has all of them.
    pub(super) async fn find_scripts(&mut self, last: &Queued, to: &Snapshot) -> Result<Scripts, WorkerError> {
        let current = self.node.current();
        let reachable = |id: &i32| current.paths.get(id).is_some_and(PathRow::is_usable);
        let listened = current.listens.iter().filter(|listen| listen.origin == self.origin);
        let node = [last.provider, self.origin]
            .into_iter()
            .chain(listened.map(|listen| listen.provider))
            .find(reachable)
            .unwrap_or(last.provider);
        self.await_data(node, last.provider, last.event.seqno).await?;
        let window = Window {
            from: self.script_position(node, to).await?,
            to: to.clone(),
        };
        let (local, origin) = (Arc::clone(&self.node), self.origin);
        let places = self
            .provider(node)
            .await?
            .script_places(&local, origin, &window)
            .await?;
        Ok(Scripts { node, places })
    }

    /// The snapshot from which scripts are wanted: that of the last SYNC of the origin processed here.
    ///
    /// A node that joined later starts where it joined: scripts that are still stored but older are not for it.
    async fn script_position(&mut self, provider: i32, to: &Snapshot) -> Result<Snapshot, WorkerError> {
        if let Some(snapshot) = &self.last_snapshot {
            return Ok(snapshot.clone());
        }
        let (origin, last) = (self.origin, self.last_done);
        let node = Arc::clone(&self.node);
        let local = self.local.as_ref().ok_or_else(gone)?;
        let mut text = events::sync_snapshot_at(local, &node.cluster, origin, last).await?;
        if text.is_none() && last > 0 {
            let remote = self.provider(provider).await?;
            text = events::joining_snapshot_at(&remote.session, &node.cluster, origin, last)
                .await
                .map_err(|source| ProviderError::Database { node: provider, source })?;
        }
        let parse = |text: String| {
            text.parse().map_err(|source| WorkerError::Snapshot {
                origin,
                seqno: last,
                source,
            })
        };
        match text {
            Some(text) => parse(text),
            // Nothing known of the origin before this event: since its beginning, or since now if it had one.
            None if last == 0 => Ok(Snapshot::nothing()),
            None => Ok(to.clone()),
        }
    }

    /// Runs the scripts of a group, each behind the rows logged ahead of it, and keeps them for others. What is left of
    /// `stage` afterwards is what was logged behind the last one.
    pub(super) async fn run_scripts(
        &mut self,
        scripts: &Scripts,
        seqno: i64,
        to: &Snapshot,
        stage: &mut Stage,
    ) -> Result<Applied, WorkerError> {
        let node = Arc::clone(&self.node);
        let origin = self.origin;
        let mut applied = Applied::default();
        // By transaction, for scripts whose rows alternate with each other.
        let mut settings: HashMap<i64, ScriptSettings> = HashMap::new();
        for place in &scripts.places {
            let provider = self.provider(scripts.node).await?;
            let row = provider.script_row(&node, origin, *place).await?;
            if row.is_for(node.id) {
                applied.add(self.apply_before(stage, place.action).await?);
                let local = self.local.as_ref().ok_or_else(gone)?;
                if row.is_statement() {
                    script::set_sequences(local, &node.cluster, &row).await?;
                    let own = node.parameters.sql_on_connection.as_deref().unwrap_or("");
                    let before = settings.remove(&place.txid).unwrap_or_default();
                    let left = script::run_statement(local, row.statement(), &before, own)
                        .await
                        .map_err(|source| ApplyError::Refused {
                            command: "a statement of a script",
                            table: format!("(sl_log_script of node {origin}, row {})", place.action),
                            node: node.id,
                            source,
                        })?;
                    settings.insert(place.txid, left);
                } else {
                    script::finish(local, &node.cluster).await?;
                    settings.remove(&place.txid);
                }
                self.apply.forget();
                let local = self.local.as_ref().ok_or_else(gone)?;
                let table_sets = subscription::table_sets(local, &node.cluster).await?;
                if table_sets != *self.table_sets {
                    self.table_sets = Arc::new(table_sets);
                    *stage = self.stage(seqno, to, Some(place.action)).await?;
                }
            }
            let local = self.local.as_ref().ok_or_else(gone)?;
            script::store(local, &node.cluster, origin, *place, &row).await?;
            applied.scripts += 1;
        }
        Ok(applied)
    }
}
