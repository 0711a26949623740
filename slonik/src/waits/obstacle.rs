//! What stands in the way of a wait, asked on the node that lags.

use std::time::Duration;

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, NodeReport, Serving};

use super::Lagging;
use crate::interpreter::Interpreter;
use crate::progress::duration_text;

/// Most troubles of one daemon that are shown at a time.
const TROUBLES: usize = 5;

impl Interpreter<'_> {
    /// Says why `lag.node` has not confirmed the event yet, as far as that can be seen from here; `asked` is the node
    /// whose word about confirmations counts for the wait.
    pub(crate) async fn tell_obstacles(&mut self, lag: Lagging, asked: Id) {
        let reasons = match self.look_at(lag.node, lag.origin).await {
            Ok(report) => obstacles(lag, asked, &report),
            Err(reason) => vec![reason],
        };
        let behind = lag.seqno - lag.confirmed;
        let head = match (reasons.is_empty(), lag.confirmed) {
            (true, _) => format!(
                "node {} has confirmed event {} of node {}",
                lag.node, lag.seqno, lag.origin
            ),
            (false, 0) => format!("node {} has confirmed no event of node {} yet", lag.node, lag.origin),
            (false, confirmed) => {
                format!(
                    "node {} has confirmed event {confirmed} of node {}, {behind} to go",
                    lag.node, lag.origin
                )
            }
        };
        if !reasons.is_empty() {
            self.report.say(&format!("  {head}: {}", reasons.join("; ")));
            return;
        }
        // The confirmation exists on its node; what brings it here is the daemon of the node that was asked.
        let reasons = match self.look_at(asked, lag.node).await {
            Ok(report) => daemon_obstacles(asked, &report),
            Err(reason) => vec![reason],
        };
        let why = if reasons.is_empty() {
            String::new()
        } else {
            format!(": {}", reasons.join("; "))
        };
        self.report
            .say(&format!("  {head}, the news is still on its way to node {asked}{why}"));
    }

    /// What the node itself says; Err: why it cannot be asked.
    async fn look_at(&mut self, node: Id, origin: Id) -> Result<NodeReport, String> {
        if !self.connections.knows(node) {
            return Err(format!(
                "the script has no admin conninfo for node {node}, so it cannot be asked what it is doing"
            ));
        }
        let cluster = self.cluster.clone();
        let session = match self.connections.session(node).await {
            Ok(session) => session,
            Err(failure) => return Err(format!("node {node} cannot be asked: {failure}")),
        };
        admin::inspect(session, &cluster, origin)
            .await
            .map_err(|error| format!("node {node} cannot be asked: {}", trunkline_sql::error_text(&error)))
    }
}

/// What a node's own report says about a lag. Empty: the node has confirmed the event meanwhile.
fn obstacles(lag: Lagging, asked: Id, report: &NodeReport) -> Vec<String> {
    let node = lag.node;
    if !report.installed {
        return vec![format!(
            "the cluster schema does not exist in the database of node {node}"
        )];
    }
    if report.node != node {
        return vec![format!(
            "the database given for node {node} says it is node {}",
            report.node
        )];
    }
    if report.confirmed >= lag.seqno && asked != node {
        return Vec::new();
    }
    let mut lines = daemon_obstacles(node, report);
    if report.serving == Serving::No {
        // What the node knows of the others may be long out of date.
        return lines;
    }
    if !report.knows_origin {
        lines.push(format!(
            "node {node} does not know node {origin}: the news of it has not arrived, or it was dropped (then take it \
             out of the preamble)",
            origin = lag.origin
        ));
    } else if report.providers.is_empty() {
        lines.push(format!(
            "node {node} knows no way to the events of node {origin}; `store path` must give it one",
            origin = lag.origin
        ));
    } else if report.providers.iter().all(|(_, usable)| !usable) {
        let providers: Vec<String> = report
            .providers
            .iter()
            .map(|(provider, _)| provider.to_string())
            .collect();
        let providers = providers.join(" or ");
        lines.push(format!(
            "node {node} has no conninfo for node {providers}, from which it gets the events of node {origin}; \
             run `store path (server = {providers}, client = {node}, …)`",
            origin = lag.origin
        ));
    }
    if report.troubles.is_empty()
        && let Some(activity) = &report.activity
    {
        let event = match (activity.event, &activity.event_type) {
            (Some(event), Some(kind)) => format!(" on {kind} ({},{event})", lag.origin),
            (Some(event), None) => format!(" on event ({},{event})", lag.origin),
            _ => String::new(),
        };
        let since = duration_text(seconds(activity.seconds));
        // The original repeats the event's type, or says that it is in its loop.
        let words = if activity.event_type.as_deref() == Some(activity.activity.as_str()) {
            String::new()
        } else {
            format!(": {}", activity.activity)
        };
        lines.push(format!("its slon works{event} for {since}{words}"));
    }
    if lines.is_empty() {
        lines.push("its slon runs and reports no trouble".to_owned());
    }
    lines
}

/// Whether a daemon serves the node, and what it is stuck on.
fn daemon_obstacles(node: Id, report: &NodeReport) -> Vec<String> {
    if report.serving == Serving::No {
        let seen = report
            .last_seen
            .map(|ago| format!(" (the last trace of one is {} old)", duration_text(seconds(ago))));
        return vec![format!(
            "no slon serves node {node} now{}; start one, unless it is just being restarted",
            seen.unwrap_or_default()
        )];
    }
    let mut lines: Vec<String> = report
        .troubles
        .iter()
        .take(TROUBLES)
        .map(|trouble| {
            let since = duration_text(seconds(trouble.seconds));
            let place = match &report.serving {
                Serving::Yes {
                    daemon: Some((host, pid)),
                    ..
                } => format!("slon of node {node} (pid {pid} on {host})"),
                _ => format!("slon of node {node}"),
            };
            let attempts = if trouble.attempts == 1 { "attempt" } else { "attempts" };
            format!(
                "{place} is stuck for {since}, {} {attempts}: {}",
                trouble.attempts, trouble.message
            )
        })
        .collect();
    for (session, blocker) in report.locked_out.iter().take(TROUBLES) {
        lines.push(format!("its session {session} waits for a lock held by {blocker}"));
    }
    if report.troubles.len() > TROUBLES {
        lines.push(format!(
            "and {} more troubles in tl_trouble",
            report.troubles.len() - TROUBLES
        ));
    }
    lines
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use trunkline_sql::trouble::Trouble;

    use super::*;

    fn report() -> NodeReport {
        NodeReport {
            installed: true,
            node: 2,
            serving: Serving::Yes {
                backend: 10,
                daemon: Some(("h".into(), 77)),
            },
            troubles: Vec::new(),
            activity: None,
            knows_origin: true,
            confirmed: 5,
            providers: vec![(1, true)],
            locked_out: Vec::new(),
            last_seen: Some(4.2),
        }
    }

    const LAG: Lagging = Lagging {
        origin: 1,
        seqno: 9,
        node: 2,
        confirmed: 5,
    };

    #[test]
    fn the_daemon_and_its_trouble_are_named() {
        assert_eq!(
            obstacles(
                LAG,
                1,
                &NodeReport {
                    serving: Serving::No,
                    ..report()
                }
            ),
            [
                "no slon serves node 2 now (the last trace of one is 4 s old); start one, unless it is just being restarted"
            ]
        );
        let trouble = Trouble {
            actor: "remoteWorkerThread_1".into(),
            node: 2,
            message: "table \"public\".\"t\" does not exist on node 2".into(),
            seconds: 12.2,
            attempts: 3,
        };
        assert_eq!(
            obstacles(
                LAG,
                1,
                &NodeReport {
                    troubles: vec![trouble],
                    ..report()
                }
            ),
            [
                "slon of node 2 (pid 77 on h) is stuck for 12 s, 3 attempts: table \"public\".\"t\" does not exist on node 2"
            ]
        );
        assert_eq!(obstacles(LAG, 1, &report()), ["its slon runs and reports no trouble"]);
    }

    #[test]
    fn a_missing_path_is_named() {
        let lines = obstacles(
            LAG,
            1,
            &NodeReport {
                providers: vec![(3, false)],
                ..report()
            },
        );
        assert_eq!(
            lines,
            [
                "node 2 has no conninfo for node 3, from which it gets the events of node 1; \
              run `store path (server = 3, client = 2, …)`"
            ]
        );
    }

    #[test]
    fn a_confirmation_under_way_is_no_obstacle_of_its_node() {
        assert!(
            obstacles(
                LAG,
                1,
                &NodeReport {
                    confirmed: 9,
                    ..report()
                }
            )
            .is_empty()
        );
    }
}
