//! Where SYNCs come from.

use std::str::FromStr;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::Cluster;
use crate::snapshot::Snapshot;

/// Statement that reads the newest number of a log row; null before the first. It takes no lock and no snapshot worth
/// mentioning, so that it can be asked hundreds of times a second.
#[must_use]
pub fn last_action_statement(cluster: &Cluster) -> String {
    // The sequence is named as a literal of regclass, resolved once when the statement is prepared.
    let sequence = crate::quote_literal(&cluster.sql("@NAMESPACE@.sl_action_seq"));
    format!("select pg_catalog.pg_sequence_last_value({sequence}::pg_catalog.regclass)")
}

/// Statement that reads the current snapshot.
pub const CURRENT_SNAPSHOT: &str = "select pg_catalog.txid_current_snapshot()::pg_catalog.text";

/// A SYNC that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeSync {
    /// Its number.
    pub seqno: i64,
    /// Newest number of a log row before it was made, as [`last_action_statement`] reads it.
    pub last_action: Option<i64>,
    /// A snapshot not newer than the SYNC's.
    pub snapshot: Snapshot,
    /// Its own transaction. Whoever drew a number up to `last_action` has an older one: the SYNC sees its rows if
    /// `snapshot` does.
    pub txid: i64,
}

/// Why there is no SYNC.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The database says no.
    #[error("{}", crate::error_text(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database answers in another form than we know.
    #[error("unexpected answer of createEvent(): {0}")]
    Answer(String),
}

/// Makes a SYNC in one round trip. `ours`: `createEvent()` notifies; if not (Slony's schema), it is done here.
///
/// The event lock is held before the snapshot is taken, so that events of a node are ordered by number, commit and
/// snapshot alike. The newest number is read before anything gives this transaction its id.
pub async fn make_sync(client: &Client, cluster: &Cluster, ours: bool) -> Result<MadeSync, SyncError> {
    let notify = if ours {
        String::new()
    } else {
        format!("notify {};", cluster.event_channel())
    };
    let sql = cluster.sql(&format!(
        "begin; {}; lock table @NAMESPACE@.sl_event_lock in access exclusive mode; \
         select pg_catalog.txid_current_snapshot(), @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC'), \
                pg_catalog.txid_current(); \
         {notify} commit",
        last_action_statement(cluster)
    ));
    let answers = match client.simple_query(&sql).await {
        Ok(answers) => answers,
        Err(error) => {
            // The batch stopped inside its transaction; leave the session usable.
            let _ = client.batch_execute("rollback").await;
            return Err(error.into());
        }
    };
    let mut rows = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let (Some(action), Some(event)) = (rows.next(), rows.next()) else {
        return Err(SyncError::Answer("too few rows".to_owned()));
    };
    let number = |text: Option<&str>| -> Result<Option<i64>, SyncError> {
        text.map(|text| {
            text.parse()
                .map_err(|_| SyncError::Answer(format!("`{text}` is not a number")))
        })
        .transpose()
    };
    Ok(MadeSync {
        last_action: number(action.get(0))?,
        snapshot: Snapshot::from_str(event.get(0).unwrap_or_default())
            .map_err(|error| SyncError::Answer(error.to_string()))?,
        seqno: number(event.get(1))?.ok_or_else(|| SyncError::Answer("no event number".to_owned()))?,
        txid: number(event.get(2))?.ok_or_else(|| SyncError::Answer("no transaction id".to_owned()))?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sequence_is_named_whatever_the_cluster_is_called() {
        let cluster = Cluster::new("o'h\\ \"x").unwrap();
        assert_eq!(
            last_action_statement(&cluster),
            "select pg_catalog.pg_sequence_last_value(E'\"_o''h\\\\ \"\"x\".sl_action_seq'::pg_catalog.regclass)"
        );
    }
}
