//! What a failover is known to lose.

use trunkline_sql::operator;

use super::candidates::{copying, has_survivor};
use crate::console::age;
use crate::view::{ClusterView, SetStanding};

/// One line per lost origin, and more where it can still be asked.
pub(super) async fn estimate(view: &ClusterView, failed: &[i32], sets: &[SetStanding]) -> Vec<String> {
    let mut lines = Vec::new();
    for set in sets.iter().filter(|set| !has_survivor(set, failed)) {
        let nobody = if copying(set, failed).next().is_some() {
            "is complete on no survivor"
        } else {
            "has no subscriber among the survivors"
        };
        lines.push(format!(
            "set {} of node {} {nobody}: its tables are lost to the cluster, the empty set goes along",
            set.id, set.origin
        ));
    }
    for origin in failed {
        let ids: Vec<i32> = sets
            .iter()
            .filter(|set| set.origin == *origin)
            .map(|set| set.id)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let newest = view
            .answers()
            .filter(|facts| !failed.contains(&facts.local))
            .filter_map(|facts| Some((facts.events_of(*origin)?, facts.local)))
            .max_by_key(|(events, _)| events.newest);
        let Some((events, node)) = newest else {
            lines.push(format!(
                "no survivor has any event of node {origin}: everything it alone has is lost"
            ));
            continue;
        };
        lines.push(format!(
            "what was committed on node {origin} in the last {} may be lost: the newest of its events that any survivor has \
             is {}, on node {node}; what came after that only node {origin} knows",
            age(events.newest_age),
            events.newest
        ));
        let Some(session) = view.node(*origin).and_then(|node| node.session()) else {
            let record = view.answers().any(|facts| facts.ours && !failed.contains(&facts.local));
            lines.push(if record {
                format!("when node {origin} can be reached again, `slonctl lost --node {origin}` lists it exactly")
            } else {
                "nothing will list it afterwards: the survivors have the schema of Slony-I, which keeps no record of a failover; \
                     `update functions` on one of them before this would"
                    .to_owned()
            });
            continue;
        };
        // It answers, so it can say itself what nobody has.
        match operator::backlog(session, &view.cluster, *origin, events.newest, &ids).await {
            Ok(backlog) => {
                if let Some(rows) = backlog.rows {
                    let more = if rows == operator::MOST_ROWS { " or more" } else { "" };
                    lines.push(format!(
                        "node {origin} still answers: {rows}{more} row changes on it have reached nobody"
                    ));
                }
            }
            Err(error) => lines.push(format!(
                "node {origin} could not be asked how much that is: {}",
                trunkline_sql::error_text(&error)
            )),
        }
    }
    lines
}
