//! The cleanup thread: drops what every node has confirmed, moves the log switch on, vacuums what autovacuum does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_sql::daemon;
use trunkline_sql::{ConnectError, Session, error_text};

use crate::logging as log;
use crate::monitor::MAIN_LOOP;
use crate::node::Node;

/// While a log switch is in progress, a round this often: the old log is emptied as soon as it may be.
const SWITCH_ROUND: Duration = Duration::from_secs(5);
/// Confirmations kept in those rounds; the regular rounds keep them for a whole `cleanup_interval`.
const SWITCH_KEEP: Duration = Duration::from_secs(30);
/// Shortest time between two rounds, whatever `cleanup_interval` says.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// With `vac_frequency = 0` nothing is vacuumed, but every third round analyzes.
const ANALYZE_FREQUENCY: u32 = 3;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// No connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("{}", error_text(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// Rounds done and what they left.
#[derive(Debug, Default)]
struct Rounds {
    /// Regular rounds so far.
    count: u32,
    /// Oldest running transaction at the last vacuum; while it is the same, a vacuum frees nothing.
    vacuumed_at: Option<i64>,
}

/// Maintenance due in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maintenance {
    Vacuum,
    Analyze,
}

/// Cleans up every `cleanup_interval` until cancelled; a failed round is logged and the next one comes in time.
pub async fn run(node: Arc<Node>, interval: Duration) {
    let interval = interval.max(LEAST_INTERVAL);
    log::config!("cleanupThread: thread starts");
    log::debug1!("cleanupThread: cleanup interval is {} s", interval.as_secs_f64());
    node.board.set("local_cleanup", 0, 0, MAIN_LOOP, None);
    let mut rounds = Rounds::default();
    let mut next_regular = Instant::now() + interval;
    let mut switching = false;
    // Kept open only while rounds follow closely.
    let mut session: Option<Session> = None;
    loop {
        let wait = next_regular.saturating_duration_since(Instant::now());
        let wait = if switching { wait.min(SWITCH_ROUND) } else { wait };
        tokio::select! {
            () = node.cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let regular = Instant::now() >= next_regular;
        if regular {
            next_regular = Instant::now() + interval;
        }
        let keep = if regular { interval } else { SWITCH_KEEP.min(interval) };
        let outcome = tokio::select! {
            () = node.cancel.cancelled() => return,
            outcome = round(&node, &mut session, keep, regular.then_some(&mut rounds)) => outcome,
        };
        match outcome {
            Ok(still_switching) => switching = still_switching,
            Err(error) => {
                log::error!(
                    "cleanupThread: {error} - next attempt in {} s",
                    wait_text(switching, interval)
                );
                session = None;
            }
        }
        if !switching {
            session = None;
        }
    }
}

fn wait_text(switching: bool, interval: Duration) -> f64 {
    if switching {
        SWITCH_ROUND.min(interval)
    } else {
        interval
    }
    .as_secs_f64()
}

/// One round; `rounds` only with a regular one. Returns whether a log switch is in progress.
async fn round(
    node: &Node,
    session: &mut Option<Session>,
    keep: Duration,
    rounds: Option<&mut Rounds>,
) -> Result<bool, CleanupError> {
    if session.as_ref().is_none_or(|session| session.is_closed()) {
        *session = Some(Session::connect(&node.conninfo, &node.session_options("local_cleanup")).await?);
    }
    let Some(session) = session.as_ref() else {
        return Ok(false);
    };
    node.board
        .set("local_cleanup", 0, session.backend_pid(), "cleanupEvent", None);
    let started = Instant::now();
    daemon::clean_up(session, &node.cluster, keep).await?;
    let seconds = started.elapsed().as_secs_f64();
    if let Some(rounds) = rounds {
        log::info!("cleanupThread: {seconds:8.3} seconds for cleanupEvent()");
        rounds.count = rounds.count.wrapping_add(1);
        maintain(node, session, rounds).await?;
    } else {
        log::debug1!("cleanupThread: {seconds:8.3} seconds for cleanupEvent() during a log switch");
    }
    let status = daemon::log_status(session, &node.cluster).await?;
    node.board
        .set("local_cleanup", 0, session.backend_pid(), MAIN_LOOP, None);
    Ok(status.switching)
}

fn due(count: u32, vac_frequency: u32, oldest_moved: bool) -> Option<Maintenance> {
    if vac_frequency == 0 {
        return count.is_multiple_of(ANALYZE_FREQUENCY).then_some(Maintenance::Analyze);
    }
    count.is_multiple_of(vac_frequency).then_some(if oldest_moved {
        Maintenance::Vacuum
    } else {
        Maintenance::Analyze
    })
}

/// Vacuums or analyzes; a table that cannot be (no right, locked away) does not keep the others from it.
async fn maintain(node: &Node, session: &Session, rounds: &mut Rounds) -> Result<(), CleanupError> {
    let oldest = daemon::oldest_transaction(session).await?;
    let Some(maintenance) = due(
        rounds.count,
        node.parameters.vac_frequency,
        rounds.vacuumed_at != Some(oldest),
    ) else {
        return Ok(());
    };
    if maintenance == Maintenance::Vacuum {
        rounds.vacuumed_at = Some(oldest);
    }
    let vacuum = maintenance == Maintenance::Vacuum;
    let statements = daemon::maintenance_statements(session, &node.cluster, vacuum).await?;
    let started = Instant::now();
    let count = statements.len();
    for (statement, table) in statements {
        node.board
            .set("local_cleanup", 0, session.backend_pid(), &statement, None);
        if let Err(error) = session.batch_execute(&statement).await {
            if session.is_closed() {
                return Err(error.into());
            }
            log::warn!("cleanupThread: `{table}` is left out: {}", error_text(&error));
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let verb = if vacuum { "vacuuming" } else { "analyzing" };
    log::info!("cleanupThread: {seconds:8.3} seconds for {verb} {count} tables");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_round_vacuums_unless_it_would_free_nothing() {
        let rounds: Vec<_> = (1..=6).map(|count| due(count, 3, true)).collect();
        assert_eq!(
            rounds,
            [
                None,
                None,
                Some(Maintenance::Vacuum),
                None,
                None,
                Some(Maintenance::Vacuum)
            ]
        );
        assert_eq!(due(3, 3, false), Some(Maintenance::Analyze));
        assert_eq!(due(1, 1, true), Some(Maintenance::Vacuum));
    }

    #[test]
    fn without_a_frequency_only_analyze() {
        let rounds: Vec<_> = (1..=3).map(|count| due(count, 0, true)).collect();
        assert_eq!(rounds, [None, None, Some(Maintenance::Analyze)]);
    }
}
