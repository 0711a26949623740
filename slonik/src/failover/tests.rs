//! Decisions of a failover on made-up clusters.

#![allow(clippy::unwrap_used)]
use trunkline_sql::admin::TakenOver;
use trunkline_sql::configuration::{NodeRow, SetRow};

use super::*;

/// Nodes 1 to `nodes` with paths between all; set 1 of node 1; subscriptions (provider, receiver, forward).
fn cluster(nodes: Id, subscriptions: &[(Id, Id, bool)]) -> Survey {
    let row = |id| NodeRow {
        id,
        active: true,
        failed: false,
        comment: String::new(),
    };
    let subscriptions = subscriptions
        .iter()
        .map(|(provider, receiver, forward)| SubscriptionRow {
            set: 1,
            provider: *provider,
            receiver: *receiver,
            forward: *forward,
            active: true,
        });
    let set = SetRow {
        id: 1,
        origin: 1,
        comment: String::new(),
    };
    Survey {
        configuration: Configuration {
            local: 2,
            nodes: (1..=nodes).map(|id| (id, row(id))).collect(),
            paths: BTreeMap::new(),
            listens: Vec::new(),
            sets: [(1, set)].into(),
            subscriptions: subscriptions.collect(),
        },
        paths: (1..=nodes).flat_map(|s| (1..=nodes).map(move |c| (s, c))).collect(),
        newest: BTreeMap::new(),
        announcements: Vec::new(),
        taken_over: Vec::new(),
    }
}

fn pair(id: Id, backup_node: Id) -> FailedNode {
    FailedNode { id, backup_node }
}

fn situation(pairs: &[FailedNode], survey: &Survey) -> Situation {
    let mut situation = Situation {
        pairs: pairs.to_vec(),
        ..Situation::default()
    };
    for id in survey.configuration.nodes.keys() {
        if !pairs.iter().any(|pair| pair.id == *id) {
            let mut own = survey.clone();
            own.configuration.local = *id;
            situation.surveys.insert(*id, own);
        }
    }
    situation
}

#[test]
fn the_candidate_with_most_leads_and_the_backup_node_wins_a_tie() {
    let survey = cluster(4, &[(1, 2, true), (1, 3, true), (2, 4, false)]);
    let situation = situation(&[pair(1, 3)], &survey);
    assert_eq!(situation.refusals(), Vec::<String>::new());
    let lead = |newest: &[(Id, i64)]| {
        situation
            .leadership(pair(1, 3), &newest.iter().copied().collect())
            .unwrap()
    };
    assert_eq!(lead(&[(2, 7), (3, 7), (4, 7)]).leader, 3);
    assert_eq!(lead(&[(2, 8), (3, 7), (4, 7)]).leader, 2);
    let beside = lead(&[(2, 7), (3, 7), (4, 9)]);
    assert_eq!((beside.leader, beside.last_seqno), (3, 7));
    assert_eq!(
        beside.ahead,
        [Ahead {
            node: 4,
            seqno: 9,
            sets: vec![1]
        }]
    );
}

#[test]
fn every_obstacle_is_named_before_the_first_step() {
    let mut survey = cluster(5, &[(1, 2, false), (1, 3, true), (1, 4, true)]);
    survey.paths.retain(|path| *path != (2, 4));
    let mut situation = situation(&[pair(1, 2)], &survey);
    situation.surveys.remove(&3);
    situation.surveys.remove(&5);
    situation.unreachable.insert(3, "connection refused".into());
    let reasons = situation.refusals();
    assert_eq!(reasons.len(), 4, "{reasons:#?}");
    assert_eq!(reasons[0], "node 2 is not a forwarding subscriber of set 1 from node 1");
    assert_eq!(reasons[1], "can't failover node 4 does not have a path to 2");
    assert!(reasons[2].starts_with("node 3 cannot be asked: connection refused; if it is lost as well"));
    assert!(reasons[3].starts_with("error no conninfo for candidate for 5"));
}

#[test]
fn a_failed_backup_node_and_an_unknown_node_are_refused() {
    let survey = cluster(3, &[(1, 2, true), (1, 3, true)]);
    let refused = situation(&[pair(1, 2), pair(2, 3)], &survey).refusals();
    assert_eq!(
        refused[0],
        "node 2 is to take over from node 1 and is itself among the failed nodes"
    );
    let refused = situation(&[pair(9, 2)], &survey).refusals();
    assert_eq!(refused, ["node 2 knows no node 9"]);
}

#[test]
fn receivers_of_a_failed_provider_need_a_way_to_the_origin() {
    // Set 1 of node 1 reaches 4 over 2, which fails; 3 has nothing of it.
    let mut survey = cluster(4, &[(1, 2, true), (2, 4, false)]);
    assert_eq!(situation(&[pair(2, 3)], &survey).refusals(), Vec::<String>::new());
    survey.paths.retain(|path| *path != (1, 4));
    let refused = situation(&[pair(2, 3)], &survey).refusals();
    assert!(
        refused[0].contains("store path (server = 1, client = 4"),
        "{refused:#?}"
    );
}

#[test]
fn an_interrupted_failover_is_recognised() {
    let mut survey = cluster(3, &[(1, 2, true), (1, 3, true)]);
    let one = pair(1, 2);
    assert_eq!(situation(&[one], &survey).stage(one), Stage::Fresh);
    let announcement = Announcement {
        leader: 3,
        seqno: 50,
        failed: 1,
        last_seqno: 7,
    };
    survey.announcements.push(announcement.clone());
    // Announced by a former failover of a node with that number: this one is well.
    assert_eq!(situation(&[one], &survey).stage(one), Stage::Fresh);
    survey.configuration.nodes.get_mut(&1).unwrap().failed = true;
    assert_eq!(situation(&[one], &survey).stage(one), Stage::Announced(announcement));
    // Its leader fails as well, and others have followed it.
    let both = [one, pair(3, 2)];
    survey.configuration.nodes.get_mut(&1).unwrap().active = false;
    survey.configuration.sets.get_mut(&1).unwrap().origin = 3;
    assert_eq!(situation(&both, &survey).stage(one), Stage::Superseded(3));
    survey.taken_over.push(TakenOver {
        failed: 1,
        last_seqno: 7,
        successor: 3,
        sets: vec![1],
    });
    let situation_now = situation(&[one], &survey);
    assert_eq!(situation_now.stage(one), Stage::TakenOver { leader: 3, seqno: 50 });
    assert_eq!(situation_now.sets_to_hand_on(one, 3), [1]);
    survey.configuration.sets.get_mut(&1).unwrap().origin = 2;
    assert_eq!(situation(&[one], &survey).stage(one), Stage::Done);
    survey.configuration.nodes.remove(&1);
    assert_eq!(situation(&[one], &survey).stage(one), Stage::Done);
}

/// Nodes 1 and 3 have failed, 3 while it led the failover of 1; node 4 alone has followed it.
fn heard_by_node_4(forwards: bool) -> Situation {
    let survey = cluster(4, &[(1, 2, true), (1, 3, true), (1, 4, forwards)]);
    let mut situation = situation(&[pair(1, 2), pair(3, 2)], &survey);
    let follower = situation.surveys.get_mut(&4).unwrap();
    follower.announcements.push(Announcement {
        leader: 3,
        seqno: 50,
        failed: 1,
        last_seqno: 7,
    });
    follower.newest = [(1, 7), (3, 50)].into();
    let view = &mut follower.configuration;
    view.sets.get_mut(&1).unwrap().origin = 3;
    let one = view.nodes.get_mut(&1).unwrap();
    (one.active, one.failed) = (false, true);
    situation
}

#[test]
fn a_dead_leader_is_succeeded_by_who_has_heard_of_it() {
    let situation = heard_by_node_4(true);
    assert_eq!(situation.stage(pair(1, 2)), Stage::Superseded(3));
    assert_eq!(situation.stage(pair(3, 2)), Stage::Fresh);
    let newest = [(2, 49), (4, 50)].into();
    let leadership = situation.leadership(pair(3, 2), &newest).unwrap();
    assert_eq!((leadership.leader, leadership.last_seqno), (4, 50));
}

#[test]
fn what_only_a_node_that_cannot_lead_has_heard_is_void() {
    let situation = heard_by_node_4(false);
    assert_eq!(situation.stage(pair(1, 2)), Stage::Fresh);
    // And that node is no witness of what node 1 was: it counts node 3 as the origin.
    assert!(situation.is_candidate(pair(1, 2), 2));
    let leadership = situation.leadership(pair(1, 2), &[(2, 5), (4, 7)].into()).unwrap();
    assert_eq!(leadership.leader, 2);
    let ahead: Vec<Id> = leadership.ahead.iter().map(|one| one.node).collect();
    assert_eq!(ahead, [4]);
}

#[test]
fn who_leads_must_be_able_to_by_its_own_word_too() {
    // Set 7 is dropped; only node 5 has heard of it.
    let mut survey = cluster(5, &[(1, 2, true), (1, 4, true), (1, 5, false)]);
    let mut set = survey.configuration.sets[&1].clone();
    set.id = 7;
    survey.configuration.sets.insert(7, set);
    let mut subscription = survey.configuration.subscriptions[0];
    subscription.set = 7;
    survey.configuration.subscriptions.push(subscription);
    let mut situation = situation(&[pair(1, 2)], &survey);
    let informed = situation.surveys.get_mut(&5).unwrap();
    informed.newest = [(1, 9)].into();
    informed.configuration.sets.remove(&7);
    informed.configuration.subscriptions.retain(|row| row.set != 7);
    assert!(situation.is_candidate(pair(1, 2), 2));
    assert!(!situation.is_candidate(pair(1, 2), 4));
}

#[test]
fn news_of_a_dropped_node_is_waited_for() {
    let survey = cluster(4, &[(1, 2, true), (1, 3, true)]);
    let mut situation = situation(&[pair(1, 2)], &survey);
    situation.surveys.remove(&4);
    assert!(!situation.awaits_a_drop(), "everybody still counts on it");
    let dropped_it = &mut situation.surveys.get_mut(&3).unwrap().configuration;
    dropped_it.nodes.remove(&4);
    assert!(situation.awaits_a_drop());
    situation.surveys.get_mut(&2).unwrap().configuration.nodes.remove(&4);
    assert!(!situation.awaits_a_drop(), "the backup node knows");
}

#[test]
fn who_is_still_copying_counts_for_nothing() {
    // Node 3 has not finished, whatever the others think.
    let survey = cluster(4, &[(1, 2, true), (1, 3, true), (3, 4, true)]);
    let copies_on = |nodes: &[Id]| {
        let mut situation = situation(&[pair(1, 2)], &survey);
        for node in nodes {
            let own = &mut situation.surveys.get_mut(node).unwrap().configuration.subscriptions;
            own.iter_mut().find(|row| row.receiver == *node).unwrap().active = false;
        }
        situation.ask_receivers();
        situation
    };
    let one = copies_on(&[3, 4]);
    assert_eq!(one.refusals(), Vec::<String>::new());
    assert!(one.is_candidate(pair(1, 2), 2) && !one.is_candidate(pair(1, 2), 3));
    let unfinished: Vec<(Id, Id)> = one.unfinished.iter().map(|one| (one.set, one.receiver)).collect();
    assert_eq!(unfinished, [(1, 3), (1, 4)]);
    let lead = one.leadership(pair(1, 2), &[(2, 7), (3, 9), (4, 7)].into()).unwrap();
    assert_eq!((lead.leader, lead.ahead), (2, Vec::new()));

    let refused = copies_on(&[2]).refusals();
    assert!(
        refused[0].starts_with(
            "node 2 has not finished its first copy of set 1 from node 1 and cannot take over; node 3, 4 has it"
        ),
        "{refused:#?}"
    );
    let nobody = copies_on(&[2, 3, 4]);
    let refused = nobody.refusals();
    assert!(
        refused[0].contains("`unsubscribe set (id = 1, receiver = 2)` first"),
        "{refused:#?}"
    );
    assert_eq!(nobody.lost_sets(pair(1, 2)), [1]);
}
