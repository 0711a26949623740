//! Beside a statement that runs: who holds the lock that it waits for.

use std::time::Duration;

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Blocker};
use trunkline_sql::{Session, SessionOptions};

use crate::progress::{Announcements, duration_text};
use crate::report::Report;

/// How often it is looked who blocks a call, before it counts as working.
const LOOKS: usize = 10;

/// Pause between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// Never ends: as long as it is polled beside a statement, says who holds the lock that the statement waits for.
pub(super) async fn watch_locks(
    id: Id,
    pid: i32,
    conninfo: &str,
    observer: &mut Option<Session>,
    report: &Report,
    announcements: &mut Announcements,
) -> std::convert::Infallible {
    loop {
        tokio::time::sleep_until(announcements.next().into()).await;
        let Some(elapsed) = announcements.due() else { continue };
        if observer.as_ref().is_none_or(|session| session.is_closed()) {
            let options = SessionOptions {
                application_name: "slonik".to_owned(),
                ..SessionOptions::default()
            };
            *observer = Session::connect(conninfo, &options).await.ok();
        }
        let Some(session) = observer else {
            report.say(&format!("waiting for node {id} for {}", duration_text(elapsed)));
            continue;
        };
        let waited = duration_text(elapsed);
        let blockers = look_for_blockers(session, pid).await;
        for blocker in &blockers {
            report.say(&format!(
                "waiting for {waited} on node {id} for a lock held by {blocker}"
            ));
        }
        if blockers.is_empty() {
            report.say(&format!("node {id} has been working for {waited}"));
        }
    }
}

/// Who keeps the server process from a lock. A stored function that takes locks with little patience, so as not to be in
/// the way of applications, waits in short turns: it is looked at a few times.
async fn look_for_blockers(session: &Session, pid: i32) -> Vec<Blocker> {
    for _ in 0..LOOKS {
        let blockers = admin::lock_holders(session, pid).await.unwrap_or_default();
        if !blockers.is_empty() {
            return blockers;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Vec::new()
}
