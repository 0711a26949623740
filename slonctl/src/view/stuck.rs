//! What is stuck although everybody answers: administrative calls that wait, changes that no SYNC announces.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use futures_util::future::join_all;
use trunkline_sql::operator::{self, AdministrativeCall};
use trunkline_sql::{admin, error_text};

use super::{ClusterView, NodeView};
use crate::console::age;

/// What a node said, or why it could not be asked.
pub(crate) type Said<T> = (i32, Result<T, String>);

impl ClusterView {
    /// Calls that change the cluster and take longer than `seconds`, by node.
    pub(crate) async fn administrative_calls(&self, seconds: f64) -> Vec<Said<Vec<AdministrativeCall>>> {
        let asked = self.nodes.values().map(async |node| {
            let found = operator::administrative_calls(node.session()?, &self.cluster, seconds).await;
            Some((node.id, found.map_err(|error| error_text(&error))))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Age of the last SYNC of nodes whose slon is alive and announces changes for longer than `seconds` no more.
    pub(crate) async fn overdue_syncs(&self, seconds: f64) -> Vec<Said<f64>> {
        let asked = self.nodes.values().map(async |node| {
            let alive = node.facts()?.daemon.alive && self.outcast(node.id).is_none();
            let session = node.session().filter(|_| alive)?;
            let overdue = operator::overdue_sync(session, &self.cluster, seconds).await;
            overdue
                .map_err(|error| error_text(&error))
                .transpose()
                .map(|said| (node.id, said))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Who may be holding sets locked, and which transactions older than `seconds` he may be waiting for, in words.
    pub(crate) async fn waits_of_locked_sets(&self, seconds: f64) -> Vec<String> {
        let sets = self.sets();
        let origins: BTreeSet<i32> = sets.iter().filter(|set| set.locked).map(|set| set.origin).collect();
        let mut waits = Vec::new();
        for origin in origins {
            let Some(session) = self.node(origin).and_then(NodeView::session) else {
                continue;
            };
            let asked = async {
                let interpreters = operator::interpreters(session).await?;
                // `lock set` waits for all that began before it, whatever they write; where they began is not noted anywhere.
                let writers = admin::older_writers(session, i64::MAX).await?;
                Ok::<_, tokio_postgres::Error>((interpreters, writers))
            };
            match asked.await {
                Ok((interpreters, writers)) => {
                    waits.extend(interpreters.iter().map(|(session, age_seconds)| {
                        format!(
                            "on node {origin}, where a set is locked, slonik is connected for {}: {session}",
                            age(*age_seconds)
                        )
                    }));
                    let old = writers
                        .iter()
                        .filter(|writer| writer.seconds.is_none_or(|age| age >= seconds));
                    waits.extend(old.map(|writer| {
                        format!(
                            "on node {origin}, where a set is locked, a transaction is open that `lock set` or `move set` may be \
                             waiting for: {writer}"
                        )
                    }));
                }
                Err(error) => waits.push(format!(
                    "what is waited for on node {origin}, where a set is locked, cannot be read: {}",
                    error_text(&error)
                )),
            }
        }
        waits
    }
}

/// Who does what, and whom he waits for.
pub(crate) fn call_in_words(call: &AdministrativeCall) -> String {
    let state = match (call.holds, call.waits_for.is_empty()) {
        (true, true) => "it has the config lock",
        (true, false) => "it has the config lock and waits for",
        (false, true) => "it waits for the config lock",
        (false, false) => "it waits for the config lock, which is held by",
    };
    let mut text = format!("{}; {state}", call.session);
    for (index, blocker) in call.waits_for.iter().enumerate() {
        let separator = if index == 0 { " " } else { ", and for " };
        let _ = write!(text, "{separator}{blocker}");
    }
    text
}

/// What is said of a node whose last SYNC is so old in seconds although there are changes.
pub(crate) fn overdue_in_words(seconds: f64) -> String {
    format!(
        "has changes that no SYNC announces: its last one is {} old although its slon is alive. Nobody gets these changes; \
         does a session hold sl_event_lock?",
        age(seconds)
    )
}
