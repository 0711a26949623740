//! The conditions one by one.

use std::collections::BTreeSet;

use trunkline_sql::operator::{self, NodeFacts};
use trunkline_sql::{Session, error_text};

use super::threshold::Thresholds;
use super::{Complaint, Condition, Figure, Level};
use crate::console::age;
use crate::view::{ClusterView, call_in_words, lag, overdue_in_words};

/// Most sessions named per node.
const MOST_SESSIONS: usize = 10;

/// What has been seen so far.
struct Look<'a> {
    view: &'a ClusterView,
    limits: &'a Thresholds,
    complaints: Vec<Complaint>,
    figures: Vec<Figure>,
}

/// Looks at the wanted conditions.
pub(super) async fn look(
    view: &ClusterView,
    wanted: &[Condition],
    limits: &Thresholds,
) -> (Vec<Complaint>, Vec<Figure>) {
    let mut look = Look {
        view,
        limits,
        complaints: Vec::new(),
        figures: Vec::new(),
    };
    for condition in wanted {
        match condition {
            Condition::Nodes => look.nodes(),
            Condition::Slon => look.slons().await,
            Condition::Lag => look.lags().await,
            Condition::Log => look.logs(),
            Condition::Listen => look.listens(),
            Condition::Events => look.events(),
            Condition::Confirmations => look.confirmations(),
            Condition::Transactions => look.transactions().await,
            Condition::Components => look.components().await,
            Condition::Sets => look.sets(),
        }
    }
    (look.complaints, look.figures)
}

impl Look<'_> {
    fn complain(&mut self, condition: Condition, level: Level, node: impl Into<Option<i32>>, text: impl Into<String>) {
        let complaint = Complaint {
            condition,
            level,
            node: node.into(),
            text: text.into(),
        };
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    fn figure(&mut self, name: String, value: f64, unit: &'static str) {
        self.figures.push(Figure { name, value, unit });
    }

    /// Nodes that answered and belong to the cluster, with what they say.
    fn members(&self) -> Vec<(i32, NodeFacts)> {
        self.view
            .witnesses()
            .map(|facts| (facts.local, facts.clone()))
            .collect()
    }

    fn nodes(&mut self) {
        let view = self.view;
        for node in view.nodes.values() {
            let outcast = view.outcast(node.id);
            match (node.facts(), outcast) {
                (Some(_), None) => {}
                (Some(_), Some(reason)) => self.complain(Condition::Nodes, Level::Critical, node.id, reason),
                // That it is gone is no news; that the others still keep events for it is.
                (None, Some(reason)) => self.complain(
                    Condition::Nodes,
                    Level::Warning,
                    node.id,
                    format!("{reason}, and it is still in the books: `drop node` takes it out"),
                ),
                (None, None) => self.complain(
                    Condition::Nodes,
                    Level::Critical,
                    node.id,
                    format!("cannot be reached: {}", node.silence().join("; ")),
                ),
            }
        }
        for note in &view.notes {
            self.complain(Condition::Nodes, Level::Warning, None, note.clone());
        }
    }

    async fn slons(&mut self) {
        for (id, facts) in self.members() {
            if !facts.daemon.alive {
                let sign = facts
                    .daemon
                    .last_sign
                    .map_or_else(String::new, |seconds| format!(", last sign {} ago", age(seconds)));
                self.complain(Condition::Slon, Level::Critical, id, format!("no slon serves it{sign}"));
            }
            for missing in &facts.missing_indexes {
                self.complain(
                    Condition::Slon,
                    Level::Warning,
                    facts.local,
                    format!(
                        "lacks index {} of table {}, which could not be built after the first copy: {}",
                        missing.index, missing.table, missing.reason
                    ),
                );
            }
            for trouble in &facts.troubles {
                self.complain(
                    Condition::Slon,
                    Level::Critical,
                    id,
                    format!(
                        "{} is stuck for {}: {}",
                        trouble.actor,
                        age(trouble.seconds),
                        trouble.message
                    ),
                );
            }
        }
        for (id, overdue) in self.view.overdue_syncs(self.limits.sync_age).await {
            match overdue {
                Ok(seconds) => self.complain(Condition::Slon, Level::Critical, id, overdue_in_words(seconds)),
                Err(error) => self.complain(Condition::Slon, Level::Unknown, id, error),
            }
        }
    }

    async fn lags(&mut self) {
        for set in self.view.sets() {
            for subscription in &set.subscriptions {
                let receiver = subscription.receiver;
                let Some(lag) = lag(self.view, &set, subscription).await else {
                    self.complain(
                        Condition::Lag,
                        Level::Unknown,
                        receiver,
                        format!("nobody can tell how far it is with set {}", set.id),
                    );
                    continue;
                };
                self.figure(format!("lag node {receiver} set {}", set.id), lag.seconds, "s");
                #[expect(clippy::cast_precision_loss, reason = "a figure for graphs")]
                self.figure(format!("events node {receiver} set {}", set.id), lag.events as f64, "");
                let level = if lag.seconds >= self.limits.lag_critical {
                    Level::Critical
                } else if lag.seconds >= self.limits.lag_warning {
                    Level::Warning
                } else if lag.stale {
                    Level::Unknown
                } else {
                    continue;
                };
                let stale = if let Some(ago) = lag.heard_seconds_ago {
                    format!(" (of what node {} knew {} ago)", lag.told_by, age(ago))
                } else if lag.stale {
                    format!(" (of what node {} last got from the origin)", lag.told_by)
                } else {
                    String::new()
                };
                self.complain(
                    Condition::Lag,
                    level,
                    receiver,
                    format!(
                        "is {} and {} events behind node {} with set {}{stale}",
                        age(lag.seconds),
                        lag.events,
                        set.origin,
                        set.id
                    ),
                );
            }
        }
    }

    fn logs(&mut self) {
        for (id, facts) in self.members() {
            for (table, rows) in ["sl_log_1", "sl_log_2", "sl_seqlog"].iter().zip(facts.log.rows) {
                self.figure(format!("{table} node {id}"), rows, "");
                if rows > self.limits.log_rows {
                    self.complain(
                        Condition::Log,
                        Level::Warning,
                        id,
                        format!("{table} has about {rows} rows"),
                    );
                }
            }
            if let Some(seconds) = facts
                .log
                .switching_for
                .filter(|seconds| *seconds >= self.limits.silence)
            {
                self.complain(
                    Condition::Log,
                    Level::Warning,
                    id,
                    format!("a log switch waits for {} to empty its old table", age(seconds)),
                );
            }
        }
    }

    fn listens(&mut self) {
        for (id, facts) in self.members() {
            let active: BTreeSet<i32> = facts
                .nodes
                .iter()
                .filter(|node| node.active)
                .map(|node| node.id)
                .collect();
            for origin in &active {
                for receiver in active.iter().filter(|receiver| *receiver != origin) {
                    let listens = facts
                        .listens
                        .iter()
                        .any(|listen| listen.origin == *origin && listen.receiver == *receiver);
                    if !listens {
                        self.complain(
                            Condition::Listen,
                            Level::Warning,
                            id,
                            format!("by its tables node {receiver} does not listen for events of node {origin}: a path is missing"),
                        );
                    }
                }
            }
            for subscription in &facts.subscriptions {
                let (provider, receiver) = (subscription.provider, subscription.receiver);
                let direct = facts.listens.iter().any(|listen| {
                    listen.origin == provider && listen.provider == provider && listen.receiver == receiver
                });
                if !direct && active.contains(&provider) && active.contains(&receiver) {
                    self.complain(
                        Condition::Listen,
                        Level::Warning,
                        id,
                        format!(
                            "by its tables node {receiver} does not listen directly to node {provider}, its provider of set {}",
                            subscription.set
                        ),
                    );
                }
            }
        }
    }

    fn events(&mut self) {
        for (id, facts) in self.members() {
            for node in facts.nodes.iter().filter(|node| node.active) {
                match facts.events_of(node.id) {
                    Some(events) if events.newest_age > self.limits.silence => self.complain(
                        Condition::Events,
                        Level::Warning,
                        id,
                        format!(
                            "its newest event of node {} is {} old: events do not propagate",
                            node.id,
                            age(events.newest_age)
                        ),
                    ),
                    Some(_) => {}
                    None => self.complain(
                        Condition::Events,
                        Level::Warning,
                        id,
                        format!("has no event of node {}", node.id),
                    ),
                }
            }
        }
    }

    fn confirmations(&mut self) {
        for (id, facts) in self.members() {
            let known: BTreeSet<i32> = facts.nodes.iter().map(|node| node.id).collect();
            let active: BTreeSet<i32> = facts
                .nodes
                .iter()
                .filter(|node| node.active)
                .map(|node| node.id)
                .collect();
            for confirmation in &facts.confirmations {
                let (origin, receiver) = (confirmation.origin, confirmation.receiver);
                if !known.contains(&origin) || !known.contains(&receiver) {
                    self.complain(
                        Condition::Confirmations,
                        Level::Warning,
                        id,
                        format!(
                            "keeps confirmations of node {receiver} about node {origin}, one of which does not exist"
                        ),
                    );
                } else if active.contains(&origin)
                    && active.contains(&receiver)
                    && confirmation.age > self.limits.silence
                {
                    self.complain(
                        Condition::Confirmations,
                        Level::Warning,
                        id,
                        format!(
                            "the newest confirmation of node {receiver} about node {origin} is {} old: confirmations do not \
                             propagate",
                            age(confirmation.age)
                        ),
                    );
                }
            }
        }
    }

    async fn transactions(&mut self) {
        for (id, session) in sessions(self.view) {
            match operator::long_transactions(session, self.limits.transaction).await {
                Ok(blockers) => {
                    for blocker in blockers.iter().take(MOST_SESSIONS) {
                        self.complain(Condition::Transactions, Level::Warning, id, blocker.to_string());
                    }
                }
                Err(error) => self.complain(Condition::Transactions, Level::Unknown, id, error_text(&error)),
            }
        }
    }

    async fn components(&mut self) {
        for (id, session) in sessions(self.view) {
            match operator::busy_components(session, &self.view.cluster, self.limits.stuck).await {
                Ok(components) => {
                    for component in components {
                        self.complain(
                            Condition::Components,
                            Level::Warning,
                            id,
                            format!(
                                "{} works on `{}` for {}",
                                component.actor,
                                component.activity,
                                age(component.seconds)
                            ),
                        );
                    }
                }
                Err(error) => self.complain(Condition::Components, Level::Unknown, id, error_text(&error)),
            }
        }
        for (id, calls) in self.view.administrative_calls(self.limits.stuck).await {
            match calls {
                Ok(calls) => {
                    for call in &calls {
                        self.complain(Condition::Components, Level::Warning, id, call_in_words(call));
                    }
                }
                Err(error) => self.complain(Condition::Components, Level::Unknown, id, error),
            }
        }
    }

    fn sets(&mut self) {
        for set in self.view.sets() {
            if set.locked {
                self.complain(
                    Condition::Sets,
                    Level::Warning,
                    set.origin,
                    format!("set {} is locked: writes are refused", set.id),
                );
            }
            for subscription in set.subscriptions.iter().filter(|subscription| !subscription.active) {
                self.complain(
                    Condition::Sets,
                    Level::Warning,
                    subscription.receiver,
                    format!("has not finished its first copy of set {}", set.id),
                );
            }
        }
        for (id, facts) in self.members() {
            for fence in &facts.fences {
                self.complain(
                    Condition::Sets,
                    Level::Critical,
                    id,
                    format!(
                        "is fenced off from set {} for {}: {}",
                        fence.set,
                        age(fence.age),
                        fence.reason
                    ),
                );
            }
        }
    }
}

/// Sessions to the nodes that answered.
fn sessions(view: &ClusterView) -> Vec<(i32, &Session)> {
    view.nodes
        .values()
        .filter_map(|node| Some((node.id, node.session()?)))
        .collect()
}
