//! Everything that could make a switch fail or last, looked at before anything is done.

use std::collections::BTreeSet;

use trunkline_sql::admin::{older_transactions, older_writers, transaction_horizon};
use trunkline_sql::operator::{self, NodeFacts, TableUser};
use trunkline_sql::{Session, error_text};

use super::SwitchArguments;
use super::later;
use super::plan::Plan;
use crate::console::age;
use crate::finding::Findings;
use crate::hooks::HookEvent;
use crate::proof::list;
use crate::view::{ClusterView, SetStanding, lag};

/// Most sessions named.
const MOST_SESSIONS: usize = 10;

/// Looks at every node.
pub(super) async fn look(view: &ClusterView, plan: &Plan, arguments: &SwitchArguments) -> Findings {
    let mut findings = Findings::default();
    for note in &view.notes {
        findings.warning(None, note.clone());
    }
    nodes(view, plan, &mut findings);
    gaps(view, plan, &mut findings);
    sets(view, plan, arguments, &mut findings);
    hooks(view, plan, &mut findings);
    lags(view, plan, arguments, &mut findings).await;
    if let Some(session) = view.node(plan.old).and_then(|node| node.session())
        && let Some(facts) = view.facts(plan.old)
    {
        paths(view, plan, facts, &mut findings);
        later::look(view, plan, &mut findings);
        transactions(view, session, plan, arguments, &mut findings).await;
        probe(view, session, plan, &mut findings).await;
    }
    sequences(view, plan, &mut findings).await;
    findings
}

/// Nodes between the new origin and the old one, the new one first; their subscriptions are turned round.
fn chain(plan: &Plan) -> Vec<i32> {
    chain_of(plan, plan.new)
}

/// Nodes from `new` up to the old origin.
fn chain_of(plan: &Plan, new: i32) -> Vec<i32> {
    let mut chain = Vec::new();
    for set in &plan.sets {
        let mut node = new;
        while node != plan.old && !chain.contains(&node) {
            chain.push(node);
            match set.subscription(node) {
                Some(subscription) => node = subscription.provider,
                None => break,
            }
        }
    }
    chain
}

/// The node whose events a part of slon fetches or applies.
fn peer(actor: &str) -> Option<i32> {
    ["remoteListenThread_", "remoteWorkerThread_"]
        .iter()
        .find_map(|prefix| actor.strip_prefix(prefix))?
        .parse()
        .ok()
}

fn nodes(view: &ClusterView, plan: &Plan, findings: &mut Findings) {
    let chain = chain(plan);
    for node in view.nodes.values() {
        let takes_part = node.id == plan.old || chain.contains(&node.id);
        let receives = plan.sets.iter().any(|set| set.subscription(node.id).is_some());
        let mut judge = |serious: bool, text: String| {
            if serious {
                findings.problem(node.id, text);
            } else {
                findings.warning(node.id, text);
            }
        };
        let mut tell = |text: String| judge(takes_part, text);
        let Some(facts) = node.facts() else {
            let follow = if receives { "; it follows when it is back" } else { "" };
            tell(format!("cannot be reached: {}{follow}", node.silence().join("; ")));
            continue;
        };
        if let Some(reason) = view.outcast(node.id) {
            tell(format!("does not belong to the cluster any more: {reason}"));
            continue;
        }
        if !facts.daemon.alive {
            let sign = facts.daemon.last_sign.map_or_else(String::new, |seconds| {
                format!(", the last sign of one is {} old", age(seconds))
            });
            tell(format!("no slon serves it{sign}; start one"));
        }
        for missing in &facts.missing_indexes {
            let text = format!(
                "index {} of table {} could not be built after its first copy and is missing: {}; when that is mended, run `{}`",
                missing.index, missing.table, missing.reason, missing.definition
            );
            judge(false, text);
        }
        for trouble in &facts.troubles {
            // Everybody's slon is stuck on a node that is down; if the switch can do without that node, it can do without its events.
            let missed = peer(&trouble.actor).is_some_and(|peer| {
                peer != plan.old && !chain.contains(&peer) && view.node(peer).is_some_and(|node| node.facts().is_none())
            });
            let text = format!(
                "its slon is stuck for {} on {}: {}",
                age(trouble.seconds),
                trouble.actor,
                trouble.message
            );
            judge(takes_part && !missed, text);
        }
    }
    if view.node(plan.new).is_none() {
        findings.problem(plan.new, "there is no such node");
    }
}

/// Whether nothing can be had from the node: it does not answer, or nobody serves it.
fn is_down(view: &ClusterView, node: i32) -> bool {
    view.facts(node).is_none_or(|facts| !facts.daemon.alive)
}

/// A node between new and old origin that is down: what can be done without it.
fn gaps(view: &ClusterView, plan: &Plan, findings: &mut Findings) {
    let chain = chain(plan);
    for dead in chain.iter().filter(|node| **node != plan.new && is_down(view, **node)) {
        let behind: BTreeSet<i32> = plan
            .sets
            .iter()
            .flat_map(|set| &set.subscriptions)
            .filter(|own| own.provider == *dead && chain.contains(&own.receiver))
            .map(|own| own.receiver)
            .collect();
        let statements: Vec<String> = behind
            .iter()
            .map(|receiver| {
                format!(
                    "`resubscribe node (origin = {0}, provider = {0}, receiver = {receiver});`",
                    plan.old
                )
            })
            .collect();
        let others: Vec<i32> = view
            .nodes
            .keys()
            .copied()
            .filter(|node| *node != plan.old && *node != plan.new)
            .filter(|node| {
                let subscribed = |set: &SetStanding| set.subscription(*node).is_some_and(|own| own.active);
                plan.sets.iter().all(subscribed) && !chain_of(plan, *node).iter().any(|link| is_down(view, *link))
            })
            .collect();
        let instead = if others.is_empty() {
            String::new()
        } else {
            format!(
                ", or switch to another node: --to {}",
                list(&others).replace(", ", " or --to ")
            )
        };
        findings.problem(
            *dead,
            format!(
                "stands between node {} and the origin. Start it; or lead node {} past it with slonik, in a script whose \
                 preamble leaves node {dead} out: {}{instead}",
                plan.new,
                list(&behind.into_iter().collect::<Vec<_>>()),
                statements.join(" "),
            ),
        );
    }
}

fn sets(view: &ClusterView, plan: &Plan, arguments: &SwitchArguments, findings: &mut Findings) {
    for set in &plan.sets {
        if set.locked && arguments.resume {
            findings.warning(
                plan.old,
                format!("set {} is locked already; it is taken as it is", set.id),
            );
        } else if set.locked {
            findings.problem(
                plan.old,
                format!(
                    "set {0} is locked already, perhaps by a switch that was cut short: go on with --resume, or open it with \
                     `unlock set (id = {0}, origin = {1});`",
                    set.id, plan.old
                ),
            );
        }
        for (node, origin) in &set.disputed {
            if view.outcast(*node).is_none() {
                findings.problem(
                    *node,
                    format!(
                        "takes node {origin} for the origin of set {}; is a change still under way?",
                        set.id
                    ),
                );
            }
        }
        match set.subscription(plan.new) {
            None => findings.problem(plan.new, format!("does not subscribe to set {}", set.id)),
            Some(own) if !own.active => {
                findings.problem(plan.new, format!("has not finished its first copy of set {}", set.id));
            }
            Some(_) => {}
        }
        for other in set.subscriptions.iter().filter(|other| !other.active) {
            findings.problem(
                other.receiver,
                format!(
                    "is copying set {}; a set does not move while it is being copied",
                    set.id
                ),
            );
        }
        if let (Some(old), Some(new)) = (view.facts(plan.old), view.facts(plan.new)) {
            let count = |facts: &NodeFacts| {
                facts
                    .sets
                    .iter()
                    .find(|known| known.id == set.id)
                    .map_or((0, 0), |known| (known.tables, known.sequences))
            };
            let (here, there) = (count(old), count(new));
            if here != there {
                findings.problem(
                    plan.new,
                    format!(
                        "knows {} tables and {} sequences of set {}, the origin {} and {}",
                        there.0, there.1, set.id, here.0, here.1
                    ),
                );
            }
            if old.fences.iter().any(|fence| fence.set == set.id) {
                findings.problem(plan.old, format!("is fenced off from set {}", set.id));
            }
        }
    }
}

fn hooks(view: &ClusterView, plan: &Plan, findings: &mut Findings) {
    for (node, pre, undo) in [
        (plan.new, HookEvent::PrePromote, HookEvent::UndoPromote),
        (plan.old, HookEvent::PreDemote, HookEvent::UndoDemote),
    ] {
        let hooks = &view.configuration.hooks;
        if hooks.get(node, pre).is_some() && hooks.get(node, undo).is_none() {
            findings.warning(
                node,
                format!(
                    "has a hook {} but no hook {}: if the switch is put back, what the first one did stays",
                    pre.name(),
                    undo.name()
                ),
            );
        }
    }
}

async fn lags(view: &ClusterView, plan: &Plan, arguments: &SwitchArguments, findings: &mut Findings) {
    let chain = chain(plan);
    for set in &plan.sets {
        for subscription in &set.subscriptions {
            let Some(lag) = lag(view, set, subscription).await else {
                continue;
            };
            if lag.seconds <= arguments.max_lag.as_secs_f64() {
                continue;
            }
            let text = format!(
                "is {} and {} events behind with set {}",
                age(lag.seconds),
                lag.events,
                set.id
            );
            if chain.contains(&subscription.receiver) {
                findings.problem(
                    subscription.receiver,
                    format!("{text}; wait, or allow more with --max-lag"),
                );
            } else {
                findings.warning(subscription.receiver, text);
            }
        }
    }
}

fn paths(view: &ClusterView, plan: &Plan, facts: &NodeFacts, findings: &mut Findings) {
    for set in &plan.sets {
        for node in chain(plan) {
            let Some(provider) = set.subscription(node).map(|own| own.provider) else {
                continue;
            };
            // Afterwards the provider is the one who fetches.
            if facts.path(node, provider).is_none() {
                findings.problem(
                    provider,
                    format!(
                        "has no path to node {node}, its provider afterwards; run `{}`",
                        view.store_path(node, provider)
                    ),
                );
            }
        }
        for subscription in &set.subscriptions {
            let receiver = subscription.receiver;
            if receiver != plan.new && facts.path(plan.new, receiver).is_none() {
                findings.warning(
                    receiver,
                    format!(
                        "has no path to node {}: it gets its events by a detour, and could not subscribe to it directly; mend it \
                         with `{}`",
                        plan.new,
                        view.store_path(plan.new, receiver)
                    ),
                );
            }
        }
    }
}

async fn transactions(
    view: &ClusterView,
    session: &Session,
    plan: &Plan,
    arguments: &SwitchArguments,
    findings: &mut Findings,
) {
    let seconds = arguments.max_outage.as_secs_f64();
    let ours = view.facts(plan.old).is_some_and(|facts| facts.ours);
    match operator::users_of_tables(session, &view.cluster, &plan.set_ids(), seconds).await {
        Ok(users) => {
            let in_the_way = |user: &&TableUser| !(user.gives_way || ours && user.reads_only);
            for user in users.iter().filter(in_the_way).take(MOST_SESSIONS) {
                findings.problem(
                    plan.old,
                    format!("{} would have to be waited for: {}", user.table, user.session),
                );
            }
        }
        Err(error) => findings.problem(
            plan.old,
            format!("who uses the tables cannot be read: {}", error_text(&error)),
        ),
    }
    let older = async {
        let horizon = transaction_horizon(session).await?;
        // A node of the original waits for the transactions of every database of its server.
        if ours {
            older_writers(session, horizon.next).await
        } else {
            older_transactions(session, horizon.next).await
        }
    };
    match older.await {
        Ok(blockers) => {
            // The sessions are looked at after the transactions: one that is idle has ended its own in between.
            let old = |blocker: &&trunkline_sql::admin::Blocker| {
                blocker.state.as_deref() != Some("idle") && blocker.seconds.unwrap_or(seconds) >= seconds
            };
            for blocker in blockers.iter().filter(old).take(MOST_SESSIONS) {
                findings.problem(
                    plan.old,
                    format!("a transaction that writes would have to be waited for: {blocker}"),
                );
            }
        }
        Err(error) => findings.problem(
            plan.old,
            format!("open transactions cannot be read: {}", error_text(&error)),
        ),
    }
}

async fn probe(view: &ClusterView, session: &Session, plan: &Plan, findings: &mut Findings) {
    for set in plan.sets.iter().filter(|set| !set.locked) {
        match operator::probe_write(session, &view.cluster, set.id).await {
            Ok(probe) => match probe.accepts() {
                Some(true) => {}
                Some(false) => findings.problem(plan.old, format!("set {}: {probe}", set.id)),
                None => findings.warning(plan.old, format!("set {}: {probe}", set.id)),
            },
            Err(error) => findings.warning(
                plan.old,
                format!(
                    "set {}: whether it takes writes could not be tried: {}",
                    set.id,
                    error_text(&error)
                ),
            ),
        }
    }
}

async fn sequences(view: &ClusterView, plan: &Plan, findings: &mut Findings) {
    let sets = plan.set_ids();
    let mut positions = Vec::new();
    for node in [plan.old, plan.new] {
        let Some(session) = view.node(node).and_then(|node| node.session()) else {
            return;
        };
        match operator::sequence_positions(session, &view.cluster, &sets).await {
            Ok(found) => positions.push(found),
            Err(error) => {
                findings.problem(node, format!("its sequences cannot be read: {}", error_text(&error)));
                return;
            }
        }
    }
    let [old, new] = positions.as_slice() else { return };
    for there in new {
        match old.iter().find(|here| here.id == there.id) {
            Some(here) if here.is_behind(there) => findings.warning(
                plan.new,
                format!(
                    "sequence {} is at {} there and at {} on the origin; it will be set to the origin's value",
                    there.name, there.last_value, here.last_value
                ),
            ),
            Some(_) => {}
            None => findings.problem(
                plan.new,
                format!("sequence {} does not exist on the origin", there.name),
            ),
        }
    }
}
