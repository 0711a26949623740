//! What a switch will do.

use std::collections::BTreeSet;
use std::fmt;

use super::SwitchArguments;
use crate::hooks::HookEvent;
use crate::script::Script;
use crate::view::{ClusterView, SetStanding, lag};

/// How far the script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Writes are refused.
    Locked,
    /// The new origin has everything.
    CaughtUp,
    /// The old origin has handed over: the point of no return.
    Moved,
    /// The new origin accepts writes.
    TakenOver,
}

/// A switch.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) old: i32,
    pub(super) new: i32,
    pub(super) sets: Vec<SetStanding>,
    pub(super) script: Script<Mark>,
    cluster: String,
    /// Sets of the old origin that stay there.
    staying: Vec<i32>,
    hooks: Vec<String>,
    limit: std::time::Duration,
}

impl Plan {
    /// Settles which sets go where. Err: why that is not clear, one reason per line.
    pub(super) async fn make(
        view: &ClusterView,
        to: Option<i32>,
        wanted: &[i32],
        arguments: &SwitchArguments,
    ) -> Result<Self, Vec<String>> {
        let all = view.sets();
        let sets = choose_sets(&all, wanted, to)?;
        let old = sets[0].origin;
        let new = match to {
            Some(to) => to,
            None => choose_target(view, &sets).await?,
        };
        let ids: Vec<i32> = sets.iter().map(|set| set.id).collect();
        let staying = all
            .iter()
            .filter(|set| set.origin == old && !ids.contains(&set.id))
            .map(|set| set.id)
            .collect();
        let hooks = [
            (new, HookEvent::PrePromote),
            (old, HookEvent::PreDemote),
            (new, HookEvent::PostPromote),
            (old, HookEvent::PostDemote),
            (old, HookEvent::UndoDemote),
            (new, HookEvent::UndoPromote),
        ]
        .into_iter()
        .filter_map(|(node, event)| {
            let hook = view.configuration.hooks.get(node, event)?;
            Some(format!("node {node} {:<13} {hook}", event.name()))
        })
        .collect();
        Ok(Self {
            old,
            new,
            script: write_script(view, old, new, &sets, arguments),
            cluster: view.cluster.name().to_owned(),
            sets,
            staying,
            hooks,
            limit: arguments.max_outage,
        })
    }

    pub(super) fn set_ids(&self) -> Vec<i32> {
        self.sets.iter().map(|set| set.id).collect()
    }
}

/// The sets to move: the named ones, or all of the only origin.
fn choose_sets(all: &[SetStanding], wanted: &[i32], to: Option<i32>) -> Result<Vec<SetStanding>, Vec<String>> {
    if all.is_empty() {
        return Err(vec!["the cluster has no sets: there is nothing to switch".to_owned()]);
    }
    let unknown: Vec<String> = wanted
        .iter()
        .filter(|id| !all.iter().any(|set| set.id == **id))
        .map(|id| format!("there is no set {id}"))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let sets: Vec<SetStanding> = all
        .iter()
        .filter(|set| wanted.is_empty() || wanted.contains(&set.id))
        // What is there already need not be moved.
        .filter(|set| !wanted.is_empty() || Some(set.origin) != to)
        .cloned()
        .collect();
    let already: Vec<String> = sets
        .iter()
        .filter(|set| Some(set.origin) == to)
        .map(|set| format!("node {} is the origin of set {} already", set.origin, set.id))
        .collect();
    if !already.is_empty() {
        return Err(already);
    }
    let origins: BTreeSet<i32> = sets.iter().map(|set| set.origin).collect();
    match origins.len() {
        0 => Err(vec![format!(
            "node {} is the origin of all sets already",
            to.unwrap_or_default()
        )]),
        1 => Ok(sets),
        _ => Err(sets
            .iter()
            .map(|set| {
                format!(
                    "set {} has node {} as origin: a switch moves sets of one origin, name them with --set",
                    set.id, set.origin
                )
            })
            .collect()),
    }
}

/// The best subscriber of all the sets: direct, forwarding, near.
async fn choose_target(view: &ClusterView, sets: &[SetStanding]) -> Result<i32, Vec<String>> {
    let mut candidates = Vec::new();
    let mut reasons = Vec::new();
    for node in view.nodes.values().filter(|node| node.id != sets[0].origin) {
        let subscriptions: Vec<_> = sets.iter().map(|set| (set, set.subscription(node.id))).collect();
        if let Some((set, _)) = subscriptions.iter().find(|(_, own)| own.is_none_or(|own| !own.active)) {
            reasons.push(format!("node {} is no active subscriber of set {}", node.id, set.id));
            continue;
        }
        if node.facts().is_none() {
            reasons.push(format!("node {} cannot be reached", node.id));
            continue;
        }
        let all = |test: &dyn Fn(&SetStanding) -> bool| sets.iter().all(test);
        let direct = all(&|set| set.subscription(node.id).is_some_and(|own| own.provider == set.origin));
        let forwards = all(&|set| set.subscription(node.id).is_some_and(|own| own.forward));
        let mut events = 0;
        for (set, subscription) in subscriptions {
            if let Some(subscription) = subscription
                && let Some(lag) = lag(view, set, subscription).await
            {
                events = events.max(lag.events);
            }
        }
        candidates.push((!direct, !forwards, events, node.id));
    }
    candidates.into_iter().min().map(|(.., id)| id).ok_or_else(|| {
        reasons.insert(0, "no node can become origin:".to_owned());
        reasons
    })
}

fn write_script(
    view: &ClusterView,
    old: i32,
    new: i32,
    sets: &[SetStanding],
    arguments: &SwitchArguments,
) -> Script<Mark> {
    let reachable = view
        .nodes
        .values()
        .filter(|node| node.facts().is_some())
        .map(|node| node.id);
    let mut script = Script::new(view, reachable);
    let seconds = |time: std::time::Duration| time.as_secs_f64().ceil().max(1.0);
    let open: Vec<&SetStanding> = sets.iter().filter(|set| !set.locked).collect();
    // In one block they are locked in one step.
    let (head, indent, tail) = if open.len() > 1 {
        (Some("try {"), "    ", Some("}"))
    } else {
        (None, "", None)
    };
    script.lines(head);
    for set in open {
        script.line(
            Some(old),
            format!("{indent}lock set (id = {}, origin = {old});", set.id),
        );
    }
    script.lines(tail);
    script.mark(Some(old), Mark::Locked, "locked: writes are refused");
    script.line(Some(old), format!("sync (id = {old});"));
    script.line(
        Some(new),
        format!(
            "wait for event (origin = {old}, confirmed = {new}, wait on = {new}, timeout = {});",
            seconds(arguments.max_outage) + 60.0
        ),
    );
    script.mark(Some(new), Mark::CaughtUp, "has everything");
    // In one transaction: all sets go, or none.
    script.lines(["try {"]);
    for set in sets {
        script.line(
            Some(old),
            format!(
                "    move set (id = {}, old origin = {old}, new origin = {new});",
                set.id
            ),
        );
    }
    script.lines(["}"]);
    script.mark(
        Some(old),
        Mark::Moved,
        "handed over: there is no way back but another switch",
    );
    script.line(
        Some(new),
        format!(
            "wait for event (origin = {old}, confirmed = {new}, wait on = {new}, timeout = {});",
            seconds(arguments.settle)
        ),
    );
    script.mark(Some(new), Mark::TakenOver, "is the origin");
    script
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .sets
            .iter()
            .map(|set| {
                if set.comment.is_empty() {
                    set.id.to_string()
                } else {
                    format!("{} ({})", set.id, set.comment)
                }
            })
            .collect();
        let (old, new) = (self.old, self.new);
        writeln!(
            f,
            "Switch of set {} of cluster {} from node {old} to node {new}",
            names.join(", "),
            self.cluster
        )?;
        writeln!(f, "  - node {new} becomes the origin: applications write there")?;
        writeln!(f, "  - node {old} becomes a subscriber of it and refuses writes")?;
        let mut told = BTreeSet::new();
        for set in &self.sets {
            for subscription in set.subscriptions.iter().filter(|other| other.receiver != new) {
                if told.insert((subscription.receiver, subscription.provider)) {
                    writeln!(
                        f,
                        "  - node {} goes on getting the data from node {}",
                        subscription.receiver, subscription.provider
                    )?;
                }
            }
        }
        if !self.staying.is_empty() {
            let staying: Vec<String> = self.staying.iter().map(ToString::to_string).collect();
            writeln!(f, "  - set {} stays on node {old}", staying.join(", "))?;
        }
        for hook in &self.hooks {
            writeln!(f, "  - hook: {hook}")?;
        }
        write!(
            f,
            "If node {old} has not handed over {} after writes began to be refused, everything is put back.",
            crate::duration::show(self.limit)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(id: i32, origin: i32) -> SetStanding {
        SetStanding {
            id,
            comment: String::new(),
            origin,
            told_by: origin,
            locked: false,
            tables: 1,
            sequences: 0,
            subscriptions: Vec::new(),
            disputed: Vec::new(),
        }
    }

    #[test]
    fn sets_of_one_origin_are_moved_and_no_others() {
        let ids = |result: Result<Vec<SetStanding>, Vec<String>>| {
            result.map(|sets| sets.iter().map(|set| set.id).collect::<Vec<_>>())
        };
        let one = [set(1, 1), set(2, 1)];
        assert_eq!(ids(choose_sets(&one, &[], None)), Ok(vec![1, 2]));
        assert_eq!(ids(choose_sets(&one, &[2], Some(3))), Ok(vec![2]));
        assert!(choose_sets(&one, &[7], None).unwrap_err()[0].contains("no set 7"));
        assert!(choose_sets(&one, &[], Some(1)).unwrap_err()[0].contains("already"));
        assert!(choose_sets(&one, &[1], Some(1)).unwrap_err()[0].contains("already"));
        let two = [set(1, 1), set(2, 2)];
        assert_eq!(choose_sets(&two, &[], None).unwrap_err().len(), 2);
        // What is there already leaves one origin.
        assert_eq!(ids(choose_sets(&two, &[], Some(2))), Ok(vec![1]));
    }
}
