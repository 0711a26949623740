//! Whether it is worth waiting for a subscriber: what the slons between it and the origin say.

use std::time::{Duration, Instant};

use trunkline_sql::admin::{self, NodeReport, Serving};
use trunkline_sql::{Cluster, Session};

use crate::console::age;

/// What is stuck for so long, without a step forward, is not waited for. Longer than slon's longest pause between two attempts: what
/// was mended a moment ago is tried again within it.
const GRACE: Duration = Duration::from_secs(15);

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// What is seen of a subscriber that is waited for.
pub(super) struct Watch<'a> {
    cluster: &'a Cluster,
    origin: i32,
    /// The subscriber, and who gives it the origin's events.
    nodes: Vec<(i32, &'a Session)>,
    /// Where the subscriber stands.
    position: i64,
    looked: Instant,
    /// Since when it has been stuck.
    since: Option<Instant>,
    obstacles: Vec<String>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(cluster: &'a Cluster, origin: i32, nodes: Vec<(i32, &'a Session)>) -> Self {
        Self {
            cluster,
            origin,
            nodes,
            position: 0,
            looked: Instant::now(),
            since: None,
            obstacles: Vec::new(),
        }
    }

    /// Looks, if it is time, and says whether there is no sense in waiting: why, and for how long that has been so.
    pub(super) async fn is_hopeless(&mut self, position: i64) -> Option<Duration> {
        if self.looked.elapsed() < LOOK {
            return None;
        }
        self.look().await;
        if self.obstacles.is_empty() || position != self.position {
            self.position = position;
            self.since = None;
            return None;
        }
        let stuck = self.since.get_or_insert_with(Instant::now).elapsed();
        (stuck >= GRACE).then_some(stuck)
    }

    /// What the slons say now.
    pub(super) async fn look(&mut self) {
        self.obstacles.clear();
        for (node, session) in &self.nodes {
            // Who cannot be asked is no reason to give up: the subscriber itself is asked for its position as well.
            if let Ok(report) = admin::inspect(session, self.cluster, self.origin).await {
                self.obstacles.extend(obstacles(&report, *node, self.origin));
            }
        }
        self.looked = Instant::now();
    }

    /// What was found at the last look, one line each.
    pub(super) fn into_obstacles(self) -> Vec<String> {
        self.obstacles
    }
}

/// What keeps a node from getting on with the events of `origin`.
fn obstacles(report: &NodeReport, node: i32, origin: i32) -> Vec<String> {
    if !report.installed {
        return Vec::new();
    }
    if report.serving == Serving::No {
        return vec![format!("no slon serves node {node}; start one")];
    }
    let trouble_of = |actor: String| report.troubles.iter().find(move |trouble| trouble.actor == actor);
    let mut found: Vec<_> = trouble_of(format!("remoteWorkerThread_{origin}")).into_iter().collect();
    let listeners: Vec<_> = report
        .providers
        .iter()
        .map(|(provider, _)| trouble_of(format!("remoteListenThread_{provider}")))
        .collect();
    // One that gets through is enough.
    if listeners.iter().all(Option::is_some) {
        found.extend(listeners.into_iter().flatten());
    }
    found
        .iter()
        .map(|trouble| {
            format!(
                "slon of node {node}, {}, for {}: {}",
                trouble.actor,
                age(trouble.seconds),
                trouble.message
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use trunkline_sql::trouble::Trouble;

    use super::*;

    #[test]
    fn only_what_stands_between_the_subscriber_and_the_origin_counts() {
        let trouble = |actor: &str| Trouble {
            actor: actor.into(),
            node: 2,
            message: "refused".into(),
            seconds: 2.0,
            attempts: 4,
        };
        let mut report = NodeReport {
            installed: true,
            node: 2,
            serving: Serving::Yes {
                backend: 1,
                daemon: None,
            },
            troubles: vec![trouble("remoteWorkerThread_3"), trouble("remoteListenThread_3")],
            activity: None,
            knows_origin: true,
            confirmed: 0,
            providers: vec![(1, true), (3, true)],
            locked_out: Vec::new(),
            last_seen: None,
        };
        assert_eq!(obstacles(&report, 2, 1), Vec::<String>::new());
        report.troubles.push(trouble("remoteListenThread_1"));
        assert_eq!(obstacles(&report, 2, 1).len(), 2);
        report.troubles.push(trouble("remoteWorkerThread_1"));
        assert_eq!(obstacles(&report, 2, 1).len(), 3);
        report.serving = Serving::No;
        assert_eq!(obstacles(&report, 2, 1), ["no slon serves node 2; start one"]);
    }
}
