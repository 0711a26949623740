//! How far a subscriber is behind, and by whose word.

use serde::Serialize;
use trunkline_sql::operator::{self, MOST_ROWS};

use super::{ClusterView, SetStanding, Subscription};

/// How far a subscriber is behind.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Lag {
    /// Age of the oldest event it has not confirmed; 0: it has confirmed all.
    pub(crate) seconds: f64,
    pub(crate) events: i64,
    /// Row changes of its sets that it has not confirmed; None: nobody who answers can tell.
    pub(crate) rows: Option<i64>,
    /// There are more rows than that.
    pub(crate) rows_at_least: bool,
    /// Newest event it has confirmed, and who told.
    pub(crate) confirmed: i64,
    pub(crate) confirmed_told_by: i32,
    /// Node whose word about the origin's events this is.
    pub(crate) told_by: i32,
    /// Whether the origin itself could not be asked: it may have gone further.
    pub(crate) stale: bool,
    /// Age of the newest event of the origin that is known; None: it is not known.
    pub(crate) newest_seconds: Option<f64>,
    /// Where the newest events are known only because they wait on node `told_by`: how long ago that was noted.
    pub(crate) heard_seconds_ago: Option<f64>,
}

/// How far `subscription` is behind, by the best word there is.
pub(crate) async fn lag(view: &ClusterView, set: &SetStanding, subscription: &Subscription) -> Option<Lag> {
    let origin = set.origin;
    let reporter = view.reporter(origin)?;
    let newest = reporter.events_of(origin)?;
    let (confirmed, confirmed_told_by) = view.confirmed(origin, subscription.receiver)?;
    let session = view.node(reporter.local)?.session()?;
    let backlog = operator::backlog(session, &view.cluster, origin, confirmed, &[set.id])
        .await
        .ok();
    let waiting = backlog.and_then(|backlog| backlog.waiting);
    // A subscriber that is stuck has no event of the origin behind the one it is stuck on, and yet knows that there are some.
    let heard = view
        .witnesses()
        .flat_map(|facts| facts.heard.iter().map(|heard| (heard, facts.local)))
        .filter(|(heard, _)| reporter.local != origin && heard.origin == origin && heard.seqno > newest.newest)
        .max_by_key(|(heard, _)| heard.seqno);
    if let Some((heard, node)) = heard {
        return Some(Lag {
            seconds: waiting.unwrap_or(heard.waiting).max(0.0),
            events: (heard.seqno - confirmed).max(0),
            rows: None,
            rows_at_least: false,
            confirmed,
            confirmed_told_by,
            told_by: node,
            stale: true,
            newest_seconds: None,
            heard_seconds_ago: Some(heard.age.max(0.0)),
        });
    }
    let newest_seconds = Some(newest.newest_age.max(0.0));
    let newest = newest.newest;
    let rows = backlog.and_then(|backlog| backlog.rows);
    Some(Lag {
        seconds: waiting.unwrap_or(0.0).max(0.0),
        events: (newest - confirmed).max(0),
        rows,
        rows_at_least: rows == Some(MOST_ROWS),
        confirmed,
        confirmed_told_by,
        told_by: reporter.local,
        stale: reporter.local != origin,
        newest_seconds,
        heard_seconds_ago: None,
    })
}
