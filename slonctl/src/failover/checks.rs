//! What would make a failover fail, or be the wrong thing.

use super::FailoverArguments;
use super::candidates::{Candidate, copying, has_survivor};
use crate::console::age;
use crate::finding::Findings;
use crate::hooks::HookEvent;
use crate::proof::list;
use crate::view::{ClusterView, PATIENCE_WITH_LOST, SetStanding, Subscription};

/// Said of a failed origin that nothing will cut off.
const NO_FENCE: &str = "no `fence` hook is configured for it, so nothing makes sure that it is dead. If it still runs, or comes back \
     before its slon can ask the others, applications that reach it write where nobody reads: cut it off (power, network, address) \
     before you say yes";

/// Looks at the failed nodes and at the survivors.
pub(super) fn look(
    view: &ClusterView,
    failed: &[i32],
    sets: &[SetStanding],
    found: &[Candidate],
    chosen: Option<i32>,
    arguments: &FailoverArguments,
    findings: &mut Findings,
) {
    for id in failed {
        match view.node(*id) {
            None => findings.problem(*id, "there is no such node"),
            Some(node) if node.facts().is_some() && view.outcast(*id).is_none() => {
                let text = "answers. If it can be kept alive for a minute, `slonctl switch` loses nothing";
                if arguments.although_alive {
                    findings.warning(*id, text);
                } else {
                    findings.problem(*id, format!("{text}; to give it up all the same, add --although-alive"));
                }
            }
            Some(_) if view.hurried.contains(id) && !arguments.although_alive => findings.warning(
                *id,
                format!(
                    "has not answered within {} s, which a node that is only slow may need as well: it is asked once more, with the \
                     usual time limits, before anything is done",
                    PATIENCE_WITH_LOST.as_secs()
                ),
            ),
            Some(_) => {}
        }
        let originates = sets.iter().any(|set| set.origin == *id);
        if originates && view.configuration.hooks.get(*id, HookEvent::Fence).is_none() {
            findings.warning(*id, NO_FENCE);
        }
    }
    for set in sets {
        for own in copying(set, failed) {
            let kept = has_survivor(set, failed);
            findings.warning(
                own.receiver,
                unfinished(set.id, own, chosen.filter(|new| kept && *new != own.receiver)),
            );
        }
    }
    if sets.is_empty() {
        findings.warning(
            None,
            "no set has its origin on the failed nodes: what they provided is taken over, but `drop node` may be all you need",
        );
    }
    for node in view.nodes.values().filter(|node| !failed.contains(&node.id)) {
        if view.outcast(node.id).is_some() {
            continue;
        }
        match node.facts() {
            None => findings.problem(
                node.id,
                format!(
                    "cannot be reached either, see above; if it is lost too, name it as well: --failed {},{}",
                    list(failed).replace(' ', ""),
                    node.id
                ),
            ),
            Some(facts) if !facts.daemon.alive && Some(node.id) != chosen => {
                let sign = facts
                    .daemon
                    .last_sign
                    .map_or_else(String::new, |seconds| format!(" (last sign {} ago)", age(seconds)));
                findings.problem(
                    node.id,
                    format!("no slon serves it{sign}: the failover would wait for it; start one"),
                );
            }
            Some(_) => {}
        }
    }
    ahead(sets, found, failed, findings);
}

/// What becomes of a subscription that is still being copied; `new` is the origin from which it can be had again.
fn unfinished(set: i32, own: &Subscription, new: Option<i32>) -> String {
    let ends = format!(
        "has not finished its first copy of set {set}: the failover ends this subscription, the tables keep what was committed there"
    );
    match new {
        Some(new) => format!(
            "{ends}. Subscribe it again afterwards: `subscribe set (id = {set}, provider = {new}, receiver = {}, forward = {});`",
            own.receiver,
            if own.forward { "yes" } else { "no" }
        ),
        None => format!("{ends}, and nobody has the rest"),
    }
}

/// Direct subscribers that forward nothing and are further than everybody who could take over: nobody can get from them
/// what they have.
fn ahead(sets: &[SetStanding], found: &[Candidate], failed: &[i32], findings: &mut Findings) {
    for origin in failed {
        let newest = |candidate: &Candidate| {
            candidate
                .newest
                .iter()
                .find(|(of, _)| of == origin)
                .and_then(|(_, newest)| newest.map(|(event, _)| event))
        };
        let forwards = |node: i32| {
            sets.iter()
                .filter(|set| set.origin == *origin)
                .filter_map(|set| set.subscription(node))
                .any(|own| own.forward)
        };
        let Some(best) = found.iter().filter(|one| forwards(one.node)).filter_map(newest).max() else {
            continue;
        };
        let subscribes = |node: i32| {
            sets.iter()
                .any(|set| set.origin == *origin && set.subscription(node).is_some())
        };
        for one in found.iter().filter(|one| subscribes(one.node) && !forwards(one.node)) {
            if let Some(event) = newest(one).filter(|event| *event > best) {
                findings.warning(
                    one.node,
                    format!(
                        "has event {event} of node {origin}, everybody who forwards only {best}, and it forwards nothing: its \
                         subscriptions will end and it must be subscribed again. What it alone has is lost to the others; \
                         look at its tables before that"
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Subscription;

    #[test]
    fn a_subscriber_that_is_ahead_and_forwards_nothing_is_named() {
        let subscription = |receiver, forward| Subscription {
            provider: 1,
            receiver,
            forward,
            active: true,
        };
        let set = SetStanding {
            id: 1,
            comment: String::new(),
            origin: 1,
            told_by: 2,
            locked: false,
            tables: 1,
            sequences: 0,
            subscriptions: vec![subscription(2, true), subscription(3, false)],
            disputed: Vec::new(),
        };
        let candidate = |node, event| Candidate {
            node,
            newest: vec![(1, Some((event, 1.0)))],
            direct: true,
            obstacles: Vec::new(),
            silence: String::new(),
        };
        let mut findings = Findings::default();
        ahead(
            std::slice::from_ref(&set),
            &[candidate(2, 10), candidate(3, 12)],
            &[1],
            &mut findings,
        );
        assert!(!findings.is_empty() && !findings.forbid());
        let mut findings = Findings::default();
        ahead(&[set], &[candidate(2, 12), candidate(3, 12)], &[1], &mut findings);
        assert!(findings.is_empty());
    }
}
