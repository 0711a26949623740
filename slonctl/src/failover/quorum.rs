//! Do the survivors agree that a node is gone?
//!
//! A network that is cut between slonctl and the origin looks like a dead origin, while the other nodes, and perhaps the
//! applications, still reach it. So each survivor is asked. Its database cannot connect anywhere, but it tells what its slon
//! has seen: trouble of the listener that fetches from the node in question (`tl_trouble`), and how long ago the last news of
//! that node was confirmed. slons make a SYNC at least every ten seconds while all is well, so silence is news.

use std::time::Duration;

use trunkline_sql::operator::NodeFacts;

use crate::console::{Console, Said, age};
use crate::finding::Findings;
use crate::view::ClusterView;

/// Trouble that is younger than this, in seconds, is no vote: one connection that broke would be a majority.
const HICCUP: f64 = 2.0;

/// A survivor's word about a failed node.
#[derive(Debug, Clone, PartialEq)]
enum Vote {
    /// It cannot reach it, and why we say so.
    Gone(String),
    /// It has recent news of it.
    Reached(String),
    /// It cannot tell.
    Unknown(String),
}

/// Asks all survivors; without a majority for each failed node that is a problem.
pub(super) fn ask(view: &ClusterView, failed: &[i32], silence: Duration, console: &Console, findings: &mut Findings) {
    let survivors: Vec<_> = view
        .nodes
        .values()
        .filter(|node| !failed.contains(&node.id) && view.outcast(node.id).is_none())
        .collect();
    for id in failed {
        let mut gone = 0;
        let mut said = Said::default();
        for reason in view.node(*id).map_or(&[][..], |node| node.silence()) {
            said.once(reason);
        }
        for node in &survivors {
            let vote = node.facts().map_or_else(
                || Vote::Unknown("cannot be asked".to_owned()),
                |facts| vote(facts, *id, silence.as_secs_f64()),
            );
            let text = match &vote {
                Vote::Gone(why) => {
                    gone += 1;
                    match why.split_once(": ").filter(|_| !console.is_json()) {
                        Some((since, message)) => format!("cannot reach node {id}: {since}: {}", said.once(message)),
                        None => format!("cannot reach node {id}: {why}"),
                    }
                }
                Vote::Reached(why) => format!("reaches node {id}: {why}"),
                Vote::Unknown(why) => format!("cannot tell about node {id}: {why}"),
            };
            console.event(Some(node.id), "vote", &text);
        }
        if gone * 2 <= survivors.len() {
            findings.problem(
                *id,
                format!(
                    "no quorum: {gone} of {} surviving nodes cannot reach it, a majority is needed",
                    survivors.len()
                ),
            );
        }
    }
}

fn vote(facts: &NodeFacts, failed: i32, silence: f64) -> Vote {
    // What it hears in the name of such a node is the failover itself.
    let row = facts.nodes.iter().find(|node| node.id == failed);
    let remembered = || facts.failovers.iter().any(|failover| failover.failed == failed);
    if row.map_or_else(remembered, |node| node.failed) {
        return Vote::Gone("the cluster has given it up before".to_owned());
    }
    if !facts.daemon.alive {
        return Vote::Unknown("no slon serves it, so it has had no news of anybody".to_owned());
    }
    let actor = format!("remoteListenThread_{failed}");
    if let Some(trouble) = facts.troubles.iter().find(|trouble| trouble.actor == actor) {
        if trouble.seconds < HICCUP {
            return Vote::Unknown(format!(
                "its slon has not reached it for {} only, which may pass: {}",
                age(trouble.seconds),
                trouble.message
            ));
        }
        return Vote::Gone(format!("for {}: {}", age(trouble.seconds), trouble.message));
    }
    let Some(news) = facts.confirmation(failed, facts.local) else {
        return Vote::Unknown("it has never had an event of it".to_owned());
    };
    if news.age >= silence {
        return Vote::Gone(format!("no news of it for {}", age(news.age)));
    }
    Vote::Reached(format!("its last news is {} old", age(news.age)))
}

#[cfg(test)]
mod tests {
    use trunkline_sql::operator::{ConfirmationFacts, FailoverFacts};
    use trunkline_sql::trouble::Trouble;

    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts {
            confirmations: vec![ConfirmationFacts {
                origin: 1,
                receiver: 2,
                seqno: 7,
                age: 3.0,
                waiting: None,
            }],
            ..crate::view::standing::tests::facts(2)
        }
    }

    #[test]
    fn recent_news_trouble_and_silence_are_told_apart() {
        let mut facts = facts();
        assert!(matches!(vote(&facts, 1, 20.0), Vote::Reached(_)));
        facts.confirmations[0].age = 25.0;
        assert!(matches!(vote(&facts, 1, 20.0), Vote::Gone(_)));
        facts.confirmations[0].age = 3.0;
        facts.troubles.push(Trouble {
            actor: "remoteListenThread_1".into(),
            node: 2,
            message: "refused".into(),
            seconds: 2.0,
            attempts: 4,
        });
        assert!(matches!(vote(&facts, 1, 20.0), Vote::Gone(_)));
        facts.troubles[0].seconds = 0.1;
        assert!(matches!(vote(&facts, 1, 20.0), Vote::Unknown(_)));
        facts.troubles.clear();
        facts.failovers.push(FailoverFacts {
            failed: 1,
            seqno: 7,
            successor: 2,
            sets: vec![1],
            age: 1.0,
        });
        assert!(matches!(vote(&facts, 1, 20.0), Vote::Gone(why) if why.contains("given it up")));
        facts.failovers.clear();
        facts.daemon.alive = false;
        assert!(matches!(vote(&facts, 1, 20.0), Vote::Unknown(_)));
        assert!(matches!(vote(&facts, 5, 20.0), Vote::Unknown(_)));
    }
}
