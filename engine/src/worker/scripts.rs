//! Scripts (`execute script`) that travel in the stream of changes.

use trunkline_sql::snapshot::Snapshot;
use trunkline_sql::{events, forward};

use super::{Worker, WorkerError, gone};
use crate::apply::ApplyError;
use crate::log_row::LogRow;
use crate::provider::ProviderError;

/// Settings that a script may have changed, put back to what applying needs.
const SETTINGS: &str = "reset search_path; set local datestyle to iso; set local intervalstyle to postgres; \
    set local standard_conforming_strings to on; set local lc_monetary to 'C'; set local statement_timeout to 0; \
    set local lock_timeout to 0; reset role; set constraints all deferred";

impl Worker {
    /// The snapshot from which scripts are wanted: that of the last SYNC of the origin processed here.
    ///
    /// A node that joined later starts where it joined: scripts that are still stored but older are not for it.
    pub(super) async fn script_position(&mut self, provider: i32, to: &Snapshot) -> Result<Snapshot, WorkerError> {
        if let Some(snapshot) = &self.last_snapshot {
            return Ok(snapshot.clone());
        }
        let (origin, last) = (self.origin, self.last_done);
        let node = std::sync::Arc::clone(&self.node);
        let local = self.local.as_ref().ok_or_else(gone)?;
        let mut text = events::snapshot_at(local, &node.cluster, origin, last).await?;
        if text.is_none() && last > 0 {
            let remote = self.provider(provider).await?;
            text = events::snapshot_at(&remote.session, &node.cluster, origin, last)
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

    /// Runs and keeps one row of a script.
    pub(super) async fn script_row(&mut self, row: &LogRow) -> Result<(), WorkerError> {
        let node = std::sync::Arc::clone(&self.node);
        let origin = self.origin;
        let malformed = |what| ApplyError::Malformed {
            table: "sl_log_script".to_owned(),
            action: row.action,
            what,
        };
        let mut arguments: Vec<Option<String>> = Vec::with_capacity(row.arguments.len());
        for value in &row.arguments {
            let text = value
                .as_ref()
                .map(|bytes| String::from_utf8(bytes.to_vec()))
                .transpose();
            arguments.push(text.map_err(|_| malformed("it is not UTF-8"))?);
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        let argument = |index: usize| arguments.get(index).and_then(Option::as_deref).unwrap_or("");
        let command = if row.command == b'S' { "S" } else { "s" };
        let wanted = if row.command == b'S' {
            is_listed(argument(1).split(','), node.id)
        } else {
            is_listed(arguments.iter().filter_map(Option::as_deref), node.id)
        };
        if wanted && row.command == b'S' {
            let own = node.parameters.sql_on_connection.as_deref().unwrap_or("");
            let settings = format!("{SETTINGS}; {own}");
            forward::run_script_statement(local, &node.cluster, argument(0), argument(2), &settings)
                .await
                .map_err(|source| ApplyError::Refused {
                    command: "a statement of a script",
                    table: format!("(sl_log_script, row {})", row.action),
                    node: node.id,
                    source,
                })?;
            self.apply.forget();
        } else if wanted {
            forward::finish_script(local, &node.cluster).await?;
        }
        let local = self.local.as_ref().ok_or_else(gone)?;
        let txid = row.txid().ok_or_else(|| malformed("it has no log_txid"))?;
        forward::store_script(local, &node.cluster, origin, txid, row.action, command, &arguments).await?;
        Ok(())
    }
}

/// Whether a node is in a list; an empty list means all.
fn is_listed<'a>(nodes: impl Iterator<Item = &'a str>, node: i32) -> bool {
    let mut listed = nodes.map(str::trim).filter(|item| !item.is_empty()).peekable();
    listed.peek().is_none() || listed.any(|item| item.parse() == Ok(node))
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn an_empty_list_means_every_node() {
        assert!(is_listed("".split(','), 3));
        assert!(is_listed("1,3".split(','), 3));
        assert!(!is_listed("1,2".split(','), 3));
        assert!(!is_listed(["13"].into_iter(), 3));
    }
}
