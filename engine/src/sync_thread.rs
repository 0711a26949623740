//! SYNC generation: turns "something happened" on this node into SYNC events.
//!
//! The thread looks at the newest number of a log row, every few milliseconds while there is work, rarely when idle. A
//! change means a SYNC. A number is drawn before its transaction commits, though, so a SYNC may come too early to see the
//! rows. Therefore the transactions that were running at a SYNC are remembered, and when one of them ends, that is a
//! reason for another SYNC. Without that a commit could stay unseen until the next SYNC by time.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_sql::daemon::{self, CURRENT_SNAPSHOT, MadeSync, SyncError};
use trunkline_sql::snapshot::Snapshot;
use trunkline_sql::{ConnectError, Session};

use crate::logging as log;
use crate::monitor::MAIN_LOOP;
use crate::node::Node;

/// Between two looks while there is work.
const BUSY_LOOK: Duration = Duration::from_millis(5);
/// Between two looks when idle.
const IDLE_LOOK: Duration = Duration::from_millis(50);
/// How long after a change there is said to be work.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Pause between looks once nothing has changed for [`IDLE_FOR`]: the first change then waits a little longer.
const SLEEPY_LOOK: Duration = Duration::from_millis(250);
/// How long an origin without changes is looked at every [`IDLE_LOOK`].
const IDLE_FOR: Duration = Duration::from_secs(10);
/// Least time between two SYNCs of a node that makes them quickly ...
const LEAST_SPACING: Duration = Duration::from_millis(5);
/// ... and of one that is busy: each SYNC carries the commits of that time.
const MOST_SPACING: Duration = Duration::from_millis(20);
/// Share of the time that making SYNCs may take: a fourth.
const SPACING_PER_COST: u32 = 4;

/// Why the thread cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SyncThreadError {
    /// No connection.
    #[error("syncThread: {0}")]
    Connect(#[from] ConnectError),
    /// Looking failed.
    #[error("syncThread: {}", trunkline_sql::error_text(.0))]
    Look(#[from] tokio_postgres::Error),
    /// The SYNC failed.
    #[error("syncThread: {0}")]
    Sync(#[from] SyncError),
    /// The database gave a snapshot we cannot read.
    #[error("syncThread: {0}")]
    Snapshot(#[from] trunkline_sql::snapshot::SnapshotError),
}

/// Why a SYNC is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The thread has just started.
    First,
    /// Log rows were written.
    Change,
    /// A transaction that was running at the last SYNC has ended.
    Ended,
    /// The last SYNC is too long ago.
    Time,
}

/// What is known since the last SYNC; pure, the looks come from outside.
#[derive(Debug, Default)]
struct Watch {
    /// There was a SYNC.
    begun: bool,
    /// Newest number of a log row at the last SYNC; `None` before the first row ever.
    action: Option<i64>,
    /// Transactions running at the last SYNC that may have written log rows it does not see ...
    running: Vec<i64>,
    /// ... and ids handed out by then that its snapshot does not speak of: newer than the newest transaction that had
    /// ended. Ids of subtransactions are among them; they look ended at once and cost one SYNC too many.
    unknown: Range<i64>,
}

impl Watch {
    /// Judges a look at the newest number.
    fn changed(&self, action: Option<i64>) -> Option<Reason> {
        if !self.begun {
            Some(Reason::First)
        } else if self.action == action {
            None
        } else {
            Some(Reason::Change)
        }
    }

    /// Is there anything to wait for?
    fn waits(&self) -> bool {
        !(self.running.is_empty() && self.unknown.is_empty())
    }

    /// Judges a look at the running transactions.
    fn ended(&self, now: &Snapshot) -> Option<Reason> {
        let judged = self.unknown.start..self.unknown.end.min(now.xmax());
        let still = now.in_progress().iter().filter(|txid| judged.contains(txid)).count();
        let ended = judged.end - judged.start > i64::try_from(still).unwrap_or(i64::MAX);
        (ended || self.running.iter().any(|txid| now.sees(*txid))).then_some(Reason::Ended)
    }

    /// Takes note of a SYNC. Only transactions that were running when the number last changed can have written rows up to
    /// it; those that came later without changing it have written none. So the lists only shrink without a change,
    /// and other people's transactions cannot cause SYNCs without end.
    fn made(&mut self, sync: &MadeSync) {
        let snapshot = &sync.snapshot;
        if self.begun && self.action == sync.last_action {
            self.running.retain(|txid| !snapshot.sees(*txid));
            let known = self.unknown.start..self.unknown.end.min(snapshot.xmax());
            self.running
                .extend(snapshot.in_progress().iter().filter(|txid| known.contains(txid)));
            self.unknown.start = self.unknown.start.max(known.end);
        } else {
            self.running = snapshot.in_progress().to_vec();
            self.unknown = snapshot.xmax()..sync.txid;
        }
        self.begun = true;
        self.action = sync.last_action;
    }
}

/// Makes SYNCs until cancelled. `ours`: the node has our schema, whose `createEvent()` notifies.
pub async fn run(node: Arc<Node>, ours: bool) -> Result<(), SyncThreadError> {
    log::info!("syncThread: thread starts");
    let session = Session::connect(&node.conninfo, &node.session_options("local_sync")).await?;
    node.board.set("local_sync", 0, session.backend_pid(), MAIN_LOOP, None);
    let look = session.prepare(&daemon::last_action_statement(&node.cluster)).await?;
    let look_running = session.prepare(CURRENT_SNAPSHOT).await?;
    let interval = Duration::from_millis(u64::from(node.parameters.sync_interval));
    let timeout = Duration::from_millis(u64::from(node.parameters.sync_interval_timeout));
    let mut watch = Watch::default();
    let mut last_sync: Option<Instant> = None;
    let mut last_change = Instant::now();
    let mut least_spacing = LEAST_SPACING;
    loop {
        let action: Option<i64> = session.query_one(&look, &[]).await?.try_get(0)?;
        let mut reason = watch.changed(action);
        if reason.is_some() {
            last_change = Instant::now();
        } else if watch.waits() {
            let text: String = session.query_one(&look_running, &[]).await?.try_get(0)?;
            reason = watch.ended(&text.parse()?);
        }
        let since_sync = last_sync.map(|at| at.elapsed());
        if reason.is_none() && !timeout.is_zero() && since_sync.is_none_or(|since| since >= timeout) {
            reason = Some(Reason::Time);
        }
        let spacing = since_sync.and_then(|since| least_spacing.checked_sub(since));
        let pause = match (reason, spacing) {
            (Some(_), Some(rest)) => rest,
            (Some(reason), None) => {
                let begun = Instant::now();
                let made = daemon::make_sync(&session, &node.cluster, ours).await?;
                watch.made(&made);
                last_sync = Some(Instant::now());
                least_spacing = spacing_after(begun.elapsed());
                log::debug2!(
                    "syncThread: new sl_action_seq {} - SYNC {} ({reason:?}, {})",
                    made.last_action.unwrap_or(0),
                    made.seqno,
                    if watch.waits() {
                        "transactions are running"
                    } else {
                        "nothing is running"
                    }
                );
                node.board.set(
                    "local_sync",
                    0,
                    session.backend_pid(),
                    MAIN_LOOP,
                    Some((made.seqno, "SYNC")),
                );
                BUSY_LOOK
            }
            (None, _) => pause(last_change.elapsed(), interval, since_sync, timeout),
        };
        tokio::select! {
            () = node.cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How far apart SYNCs are to be, if making one takes so long.
fn spacing_after(cost: Duration) -> Duration {
    (cost * SPACING_PER_COST).clamp(LEAST_SPACING, MOST_SPACING)
}

/// How long to wait before the next look.
fn pause(since_change: Duration, interval: Duration, since_sync: Option<Duration>, timeout: Duration) -> Duration {
    let look = match since_change {
        since if since < BUSY_FOR => BUSY_LOOK,
        since if since < IDLE_FOR => IDLE_LOOK,
        _ => SLEEPY_LOOK,
    };
    let until_timeout = match since_sync {
        Some(since) if !timeout.is_zero() => timeout.saturating_sub(since),
        _ => Duration::MAX,
    };
    look.min(interval).min(until_timeout.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    fn sync(last_action: Option<i64>, text: &str, txid: i64) -> MadeSync {
        MadeSync {
            seqno: 1,
            last_action,
            snapshot: snapshot(text),
            txid,
        }
    }

    #[test]
    fn the_first_look_makes_a_sync_changes_make_more() {
        let mut watch = Watch::default();
        assert_eq!(watch.changed(None), Some(Reason::First));
        watch.made(&sync(None, "10:10:", 10));
        assert_eq!(watch.changed(None), None);
        assert_eq!(watch.changed(Some(1)), Some(Reason::Change));
        watch.made(&sync(Some(1), "12:12:", 12));
        assert_eq!(watch.changed(Some(1)), None);
        assert!(!watch.waits());
    }

    #[test]
    fn a_commit_behind_the_sync_is_noticed() {
        let mut watch = Watch::default();
        watch.made(&sync(None, "10:10:", 10));
        // Transaction 11 drew number 1 and has not committed.
        watch.made(&sync(Some(1), "11:13:11", 13));
        assert!(watch.waits());
        assert_eq!(watch.changed(Some(1)), None);
        assert_eq!(watch.ended(&snapshot("11:20:11,15")), None);
        assert_eq!(watch.ended(&snapshot("15:20:15")), Some(Reason::Ended));
        watch.made(&sync(Some(1), "15:21:15", 21));
        // 15 began later and changed nothing: it is nobody's business.
        assert_eq!(watch.ended(&snapshot("30:30:")), None);
        assert!(!watch.waits());
    }

    #[test]
    fn the_newest_transaction_is_in_no_snapshot_and_yet_noticed() {
        let mut watch = Watch::default();
        // Nothing newer than 10 has ended: 11, which drew number 1, is not listed. The SYNC itself is 12.
        watch.made(&sync(Some(1), "11:11:", 12));
        assert!(watch.waits());
        assert_eq!(watch.ended(&snapshot("11:11:")), None);
        assert_eq!(watch.ended(&snapshot("11:13:11")), None);
        // A SYNC by time while it still runs.
        watch.made(&sync(Some(1), "11:13:11", 13));
        assert_eq!(watch.ended(&snapshot("11:14:11")), None);
        assert_eq!(watch.ended(&snapshot("14:14:")), Some(Reason::Ended));
        watch.made(&sync(Some(1), "15:15:", 15));
        assert!(!watch.waits());
    }

    #[test]
    fn ids_of_subtransactions_cost_one_sync_only() {
        let mut watch = Watch::default();
        // 11 runs with the subtransactions 12 and 13.
        watch.made(&sync(Some(1), "11:11:", 14));
        assert_eq!(watch.ended(&snapshot("11:15:11")), Some(Reason::Ended));
        watch.made(&sync(Some(1), "11:15:11", 15));
        assert_eq!(watch.ended(&snapshot("11:20:11")), None);
        assert_eq!(watch.ended(&snapshot("20:20:")), Some(Reason::Ended));
    }

    #[test]
    fn a_busy_node_makes_fewer_syncs() {
        assert_eq!(spacing_after(Duration::from_micros(300)), LEAST_SPACING);
        assert_eq!(spacing_after(Duration::from_millis(3)), Duration::from_millis(12));
        assert_eq!(spacing_after(Duration::from_secs(3)), MOST_SPACING);
    }

    #[test]
    fn looks_are_frequent_only_while_there_is_work() {
        let (second, timeout) = (Duration::from_secs(1), Duration::from_secs(10));
        let interval = Duration::from_secs(2);
        assert_eq!(pause(Duration::ZERO, interval, Some(second), timeout), BUSY_LOOK);
        assert_eq!(pause(second * 2, interval, Some(second), timeout), IDLE_LOOK);
        assert_eq!(pause(second * 20, interval, Some(second), timeout), SLEEPY_LOOK);
        assert_eq!(
            pause(second * 2, Duration::from_millis(10), Some(second), timeout),
            Duration::from_millis(10)
        );
        assert_eq!(
            pause(second * 9, interval, Some(Duration::from_millis(9990)), timeout),
            Duration::from_millis(10)
        );
        assert_eq!(
            pause(second * 9, interval, Some(second * 60), Duration::ZERO),
            IDLE_LOOK
        );
    }
}
