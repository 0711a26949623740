//! Whether another node could take over should the new origin die after the switch.

use std::collections::BTreeSet;

use super::plan::Plan;
use crate::finding::Findings;
use crate::view::{ClusterView, SetStanding};

/// Warns if, after the switch, nobody could take over from the new origin for want of paths; with the statements that mend it for the
/// node that lacks fewest.
pub(super) fn look(view: &ClusterView, plan: &Plan, findings: &mut Findings) {
    let fed = fed_by_new_origin(plan);
    let known = |server: i32, client: i32| {
        let mut answers = view.witnesses();
        answers.any(|facts| facts.path(server, client).is_some())
    };
    let candidates = view.nodes.keys().copied().filter(|node| {
        let forwards = |set: &SetStanding| set.subscription(*node).is_some_and(|own| own.forward && own.active);
        // The old origin will be one of them.
        *node == plan.old || *node != plan.new && plan.sets.iter().all(forwards)
    });
    let Some((node, missing)) = nearest(candidates, &fed, known).filter(|(_, missing)| !missing.is_empty()) else {
        return;
    };
    let statements: Vec<String> = missing
        .iter()
        .map(|receiver| format!("`{}`", view.store_path(node, *receiver)))
        .collect();
    findings.warning(
        plan.new,
        format!(
            "should it die as the origin, nobody could take over for want of paths; node {node} could with {}",
            statements.join(" ")
        ),
    );
}

/// The candidate that lacks fewest paths to those who would get the sets from it, and whose paths these are.
fn nearest(
    candidates: impl Iterator<Item = i32>,
    fed: &BTreeSet<i32>,
    known: impl Fn(i32, i32) -> bool,
) -> Option<(i32, Vec<i32>)> {
    candidates
        .map(|node| {
            let others = fed.iter().copied().filter(|receiver| *receiver != node);
            (
                node,
                others.filter(|receiver| !known(node, *receiver)).collect::<Vec<_>>(),
            )
        })
        .min_by_key(|(node, missing)| (missing.len(), *node))
}

/// Who gets a set straight from the new origin after the switch: its subscribers, and the node it got the set from.
fn fed_by_new_origin(plan: &Plan) -> BTreeSet<i32> {
    let mut fed = BTreeSet::new();
    for set in &plan.sets {
        fed.extend(set.subscription(plan.new).map(|own| own.provider));
        fed.extend(
            set.subscriptions
                .iter()
                .filter(|other| other.provider == plan.new)
                .map(|other| other.receiver),
        );
    }
    fed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_lacks_fewest_paths_is_the_one_to_mend() {
        let fed = BTreeSet::from([1, 3, 4]);
        let paths = [(1, 3), (3, 1), (3, 4)];
        let known = |server, client| paths.contains(&(server, client));
        assert_eq!(nearest([1, 3].into_iter(), &fed, known), Some((3, vec![])));
        assert_eq!(nearest([4, 1].into_iter(), &fed, known), Some((1, vec![4])));
        assert_eq!(nearest([].into_iter(), &fed, known), None);
    }
}
