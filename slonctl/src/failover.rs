//! `slonctl failover`: the origin is lost, another node takes its sets over, and it is known beforehand what that costs.

mod candidates;
mod checks;
mod loss;
mod quorum;

use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;

use crate::cli::CommandError;
use crate::confirmation::{self, Consent};
use crate::console::Console;
use crate::duration;
use crate::exit::Exit;
use crate::finding::Findings;
use crate::hooks::{HookEvent, Occasion};
use crate::proof::{Proof, list};
use crate::script::Script;
use crate::stop::Stop;
use crate::verify::{self, Extent};
use crate::view::{ClusterView, SetStanding};

use candidates::{Candidate, candidates, has_survivor};

/// Options of `slonctl failover`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct FailoverArguments {
    /// The nodes that are lost, all of them.
    #[arg(long, value_name = "NODE", value_delimiter = ',', required = true)]
    failed: Vec<i32>,
    /// The node that becomes origin of their sets; without it the most advanced one that can be is suggested.
    #[arg(long, value_name = "NODE")]
    to: Option<i32>,
    /// Do not ask.
    #[arg(short = 'f', long = "yes", visible_alias = "force")]
    yes: bool,
    /// Afterwards drop the failed nodes from the cluster, so that nobody keeps events for them.
    #[arg(long)]
    drop_node: bool,
    /// Refuse unless a majority of the surviving nodes cannot reach the failed ones either.
    #[arg(long)]
    quorum: bool,
    /// With --quorum: a survivor that has had no news of a failed node for this long cannot reach it.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::parse)]
    quorum_silence: Duration,
    /// Give up nodes that answer.
    #[arg(long)]
    although_alive: bool,
    /// How long to wait for the subscribers afterwards.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    settle: Duration,
    /// How much of the subscribers' tables is compared with the new origin's in the end: `all`, `none`, or what can be
    /// compared in this time, small tables first. The new origin serves meanwhile.
    #[arg(long, value_name = "TIME|all|none", default_value = "10s", value_parser = verify::parse_extent)]
    verify: Extent,
    /// Check and show the plan, but do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl FailoverArguments {
    /// The nodes that are lost.
    pub(crate) fn failed(&self) -> &[i32] {
        &self.failed
    }

    /// What `switch` offers when the origin is down.
    pub(crate) fn instead_of_switch(origin: i32, to: Option<i32>, yes: bool, settle: Duration, verify: Extent) -> Self {
        Self {
            failed: vec![origin],
            to,
            yes,
            drop_node: false,
            quorum: false,
            quorum_silence: Duration::from_secs(20),
            although_alive: false,
            settle,
            verify,
            dry_run: false,
        }
    }
}

/// How far the script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    TakenOver,
}

/// A failover.
struct Plan {
    failed: Vec<i32>,
    new: i32,
    /// Sets whose origin is lost.
    sets: Vec<SetStanding>,
    script: Script<Mark>,
}

/// Plans, checks, asks, fences, fails over, proves.
pub(crate) async fn run(
    arguments: &FailoverArguments,
    console: &Console,
    view: ClusterView,
) -> Result<Exit, CommandError> {
    for node in arguments.failed.iter().filter_map(|id| view.node(*id)) {
        if !node.silence().is_empty() {
            console.event(
                Some(node.id),
                "silent",
                &format!("does not answer: {}", node.silence().join("; ")),
            );
        }
    }
    if let Some(plan) = done_before(arguments, &view) {
        return conclude(arguments, console, &view, &plan).await;
    }
    let (plan, slow) = tokio::join!(
        prepare(arguments, console, &view),
        slow_nodes(arguments, console, &view)
    );
    let Some(plan) = plan.filter(|_| !slow) else {
        return Ok(Exit::Refused);
    };
    if arguments.dry_run {
        return Ok(Exit::Done);
    }
    if !arguments.yes && confirmation::press_enter().await == Consent::Refused {
        return Ok(Exit::Declined);
    }
    Ok(carry_out(arguments, console, &view, &plan).await)
}

/// An earlier run that was cut short behind its script: the nodes have been failed over and dropped, by everybody's account.
fn done_before(arguments: &FailoverArguments, view: &ClusterView) -> Option<Plan> {
    let mut failed = arguments.failed.clone();
    failed.sort_unstable();
    failed.dedup();
    let mut sets: Vec<i32> = Vec::new();
    for id in &failed {
        if view
            .witnesses()
            .any(|facts| facts.local == *id || facts.nodes.iter().any(|node| node.id == *id))
        {
            return None;
        }
        let remembered = view.witnesses().flat_map(|facts| &facts.failovers);
        let newest = remembered
            .filter(|failover| failover.failed == *id)
            .min_by(|a, b| a.age.total_cmp(&b.age))?;
        sets.extend(&newest.sets);
    }
    let standing: Vec<SetStanding> = view.sets().into_iter().filter(|set| sets.contains(&set.id)).collect();
    let new = standing.first()?.origin;
    let all_there = standing.iter().all(|set| set.origin == new) && arguments.to.is_none_or(|to| to == new);
    all_there.then(|| Plan {
        failed,
        new,
        sets: standing,
        script: Script::new(view, [new]),
    })
}

/// What comes behind the script: the hook of the new origin, and the proof.
async fn conclude(
    arguments: &FailoverArguments,
    console: &Console,
    view: &ClusterView,
    plan: &Plan,
) -> Result<Exit, CommandError> {
    let sets: Vec<i32> = plan.sets.iter().map(|set| set.id).collect();
    console.event(
        None,
        "plan",
        &format!(
            "Node {} has been failed over and dropped already, the origin of set {} is node {}. What is left is its hook \
             `post_promote`, if there is one, and the proof",
            list(&plan.failed),
            list(&sets),
            plan.new
        ),
    );
    if arguments.dry_run {
        return Ok(Exit::Done);
    }
    if !arguments.yes && confirmation::press_enter().await == Consent::Refused {
        return Ok(Exit::Declined);
    }
    let old = plan.failed.first().copied().unwrap_or(plan.new);
    let occasion = Occasion::of(view, "failover", &sets, old, plan.new);
    let hooks_good = promoted(view, &occasion, plan.new, console).await;
    let arguments = FailoverArguments {
        drop_node: true,
        ..arguments.clone()
    };
    Ok(finish(&arguments, console, view, plan, hooks_good).await)
}

/// Runs the hook of the new origin; false if it failed, which has been said.
async fn promoted(view: &ClusterView, occasion: &Occasion, new: i32, console: &Console) -> bool {
    let hooks = &view.configuration.hooks;
    let ran = hooks.run(new, HookEvent::PostPromote, occasion, None, console).await;
    if let Err(error) = &ran {
        console.event(Some(new), "hook_failed", &error.to_string());
    }
    ran.is_ok()
}

/// Whether a node that is to be given up is only slow: those that were not waited for are asked once more while the plan is read.
/// Not where the answer would change nothing: what others have given up before is not given up by being slow.
async fn slow_nodes(arguments: &FailoverArguments, console: &Console, view: &ClusterView) -> bool {
    let judged = arguments
        .failed
        .iter()
        .copied()
        .filter(|id| view.hurried.contains(id) && !arguments.although_alive && view.outcast(*id).is_none());
    let asked = judged.map(async |id| {
        let begun = Instant::now();
        let answer = view.ask_patiently(id).await;
        let seconds = begun.elapsed().as_secs_f64();
        match answer {
            Ok(()) => {
                console.event(
                    Some(id),
                    "refused",
                    &format!(
                        "answers after all, after {seconds:.1} s more: it is slow, not lost. Nothing was done. If it can be kept \
                         alive for a minute, `slonctl switch` loses nothing; to give it up all the same, add --although-alive"
                    ),
                );
                true
            }
            Err(reasons) => {
                console.event(
                    Some(id),
                    "silent",
                    &format!("does not answer within {seconds:.1} s more either: {}", reasons.join("; ")),
                );
                false
            }
        }
    });
    join_all(asked).await.contains(&true)
}

/// Shows what a failover would do and cost, and does it only if somebody says so in a word.
pub(crate) async fn offer(
    arguments: &FailoverArguments,
    console: &Console,
    view: ClusterView,
    nobody_to_ask: bool,
) -> Result<Exit, CommandError> {
    console.step(None, "what is possible instead is a failover:");
    let Some(plan) = prepare(arguments, console, &view).await else {
        return Ok(Exit::OriginDown);
    };
    if nobody_to_ask || console.is_json() {
        console.event(
            None,
            "origin_down",
            &format!(
                "nothing was done. To fail over, run `slonctl failover --failed {} --to {}`, or switch with --failover-if-down",
                list(&plan.failed).replace(' ', ""),
                plan.new
            ),
        );
        return Ok(Exit::OriginDown);
    }
    if confirmation::type_word("failover", "give the failed node up").await == Consent::Refused {
        return Ok(Exit::OriginDown);
    }
    Ok(carry_out(arguments, console, &view, &plan).await)
}

/// Shows candidates, loss, findings and script. None: refused, and why has been said.
async fn prepare(arguments: &FailoverArguments, console: &Console, view: &ClusterView) -> Option<Plan> {
    let mut failed = arguments.failed.clone();
    failed.sort_unstable();
    failed.dedup();
    let sets: Vec<SetStanding> = view
        .sets()
        .into_iter()
        .filter(|set| failed.contains(&set.origin))
        .collect();
    let found = candidates(view, &failed, &sets);
    console.event(None, "plan", &format!("Failover of node {}", list(&failed)));
    for candidate in &found {
        console.event(Some(candidate.node), "candidate", &candidate.to_string());
    }
    let mut findings = Findings::default();
    let chosen = choose(arguments.to, &found, &mut findings);
    checks::look(view, &failed, &sets, &found, chosen, arguments, &mut findings);
    if arguments.quorum {
        quorum::ask(view, &failed, arguments.quorum_silence, console, &mut findings);
    }
    for line in loss::estimate(view, &failed, &sets).await {
        console.event(None, "loss", &line);
    }
    console.line("");
    findings.tell(console);
    if !findings.is_empty() {
        console.line("");
    }
    let new = chosen.filter(|_| !findings.forbid());
    let Some(new) = new else {
        console.event(None, "refused", "refused: nothing was done");
        return None;
    };
    let script = write_script(view, &failed, new, &sets, arguments);
    console.passage("script", &script.to_string());
    Some(Plan {
        failed,
        new,
        sets,
        script,
    })
}

/// The named node, or the best one.
fn choose(to: Option<i32>, found: &[Candidate], findings: &mut Findings) -> Option<i32> {
    if let Some(to) = to {
        match found.iter().find(|candidate| candidate.node == to) {
            None => findings.problem(to, "is no survivor that could take over"),
            Some(candidate) => {
                for obstacle in &candidate.obstacles {
                    findings.problem(to, obstacle.clone());
                }
            }
        }
        return Some(to);
    }
    let best = found.iter().find(|candidate| candidate.obstacles.is_empty());
    if best.is_none() {
        findings.problem(None, "no surviving node can take over, for the reasons above");
    }
    best.map(|candidate| candidate.node)
}

fn write_script(
    view: &ClusterView,
    failed: &[i32],
    new: i32,
    sets: &[SetStanding],
    arguments: &FailoverArguments,
) -> Script<Mark> {
    let survivors = view
        .nodes
        .values()
        .filter(|node| !failed.contains(&node.id) && node.facts().is_some())
        .map(|node| node.id);
    let mut script = Script::new(view, survivors);
    let statement = match failed {
        [one] => format!("failover (id = {one}, backup node = {new});"),
        several => {
            let nodes: Vec<String> = several
                .iter()
                .map(|id| format!("node = (id = {id}, backup node = {new})"))
                .collect();
            format!("failover ({});", nodes.join(", "))
        }
    };
    script.line(Some(new), statement);
    if !sets.is_empty() {
        script.mark(Some(new), Mark::TakenOver, "is the origin");
    }
    if arguments.drop_node {
        // In one statement: receivers go before their providers then.
        let ids = match failed {
            [one] => one.to_string(),
            several => format!("'{}'", list(several).replace(' ', "")),
        };
        script.line(Some(new), format!("drop node (id = {ids}, event node = {new});"));
    }
    script
}

async fn carry_out(arguments: &FailoverArguments, console: &Console, view: &ClusterView, plan: &Plan) -> Exit {
    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            Console::complain(&format!("signals cannot be caught ({error}); nothing was done"));
            return Exit::Refused;
        }
    };
    let hooks = &view.configuration.hooks;
    let new = plan.new;
    let ids: Vec<i32> = plan.sets.iter().map(|set| set.id).collect();
    let old = plan.sets.first().map_or(plan.failed[0], |set| set.origin);
    let occasion = Occasion::of(view, "failover", &ids, old, new);
    for node in &plan.failed {
        let fence = hooks.run(*node, HookEvent::Fence, &occasion, None, console);
        let reason = tokio::select! {
            outcome = fence => match outcome {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            },
            name = stop.asked() => format!("stopped by {name}"),
        };
        console.event(
            Some(*node),
            "failed",
            &format!(
                "{reason}. Without the fence two nodes could accept writes, so nothing was done in the cluster. Make sure that \
                 node {node} is cut off, then take the hook out of the configuration or mend it, and run this again"
            ),
        );
        return Exit::Failed;
    }
    let promote = hooks.run(new, HookEvent::PrePromote, &occasion, None, console);
    let refused = tokio::select! {
        outcome = promote => outcome.err().map(|error| error.to_string()),
        name = stop.asked() => Some(format!("stopped by {name}")),
    };
    if let Some(reason) = refused {
        console.event(
            Some(new),
            "failed",
            &format!("{reason}; nothing was done in the cluster"),
        );
        undo_promote(view, &occasion, new, console).await;
        return Exit::Failed;
    }
    let mut script = plan.script.run(console);
    let (interrupt, reached) = (script.interrupt.clone(), script.reached.clone());
    let outcome = tokio::select! {
        good = script.execute() => if good { None } else { Some("the script failed".to_owned()) },
        name = stop.asked() => {
            interrupt.cancel_running().await;
            Some(format!("stopped by {name}"))
        }
    };
    drop(script);
    let taken_over = !reached.borrow().is_empty();
    if let Some(reason) = &outcome
        && !taken_over
    {
        console.event(
            Some(new),
            "failed",
            &format!(
                "{reason}. Run the same command again once what it complains of is mended: a failover that was cut short \
                 goes on where it stopped"
            ),
        );
        undo_promote(view, &occasion, new, console).await;
        return Exit::Incomplete;
    } else if let Some(reason) = outcome {
        console.event(
            Some(new),
            "failed",
            &format!("{reason} after node {new} had taken over; the failed node may still have to be dropped"),
        );
    }
    let good = promoted(view, &occasion, new, console).await;
    finish(arguments, console, view, plan, good).await
}

/// Proves what the failover has brought about.
async fn finish(
    arguments: &FailoverArguments,
    console: &Console,
    view: &ClusterView,
    plan: &Plan,
    hooks_good: bool,
) -> Exit {
    // Of a set that is lost nothing can be proved, nor of a subscription that has ended with the origin.
    let mut kept = plan.sets.clone();
    kept.retain(|set| has_survivor(set, &plan.failed));
    for set in &mut kept {
        set.subscriptions.retain(|own| own.active);
    }
    let proof = Proof {
        view,
        sets: &kept,
        old: None,
        new: plan.new,
        settle: arguments.settle,
        extent: arguments.verify,
        failed: &plan.failed,
        console,
    };
    let proved = proof.gather().await;
    let outcome = outcome(plan);
    let failed = list(&plan.failed);
    if !hooks_good {
        console.event(
            Some(plan.new),
            "incomplete",
            &format!("{outcome}, but a hook failed: see to what it should have done"),
        );
        return Exit::Incomplete;
    }
    if !proved {
        console.event(
            Some(plan.new),
            "unproved",
            "failed over, but not everything could be proved, see above",
        );
        return Exit::Unproved;
    }
    let rest = if arguments.drop_node {
        String::new()
    } else {
        format!("; the cluster still keeps node {failed} in its books, `drop node` takes it out")
    };
    console.event(Some(plan.new), "done", &format!("done: {outcome}{rest}"));
    Exit::Done
}

/// What has become of the failed nodes' parts.
fn outcome(plan: &Plan) -> String {
    let (new, failed) = (plan.new, list(&plan.failed));
    if plan.sets.is_empty() {
        return format!(
            "node {failed} was the origin of no set; what it provided to others comes from node {new}, or from the set's origin"
        );
    }
    // In a run that concludes an earlier one the sets have gone on already.
    let is_kept = |set: &&SetStanding| !plan.failed.contains(&set.origin) || has_survivor(set, &plan.failed);
    let (kept, gone): (Vec<&SetStanding>, Vec<&SetStanding>) = plan.sets.iter().partition(is_kept);
    let numbers = |sets: &[&SetStanding]| list(&sets.iter().map(|set| set.id).collect::<Vec<i32>>());
    let mut texts = Vec::new();
    if !kept.is_empty() {
        texts.push(format!("the origin of set {} is node {new}", numbers(&kept)));
    }
    if !gone.is_empty() {
        texts.push(format!(
            "no other node had set {}: what it replicated is with node {failed} alone",
            numbers(&gone)
        ));
    }
    texts.join("; ")
}

async fn undo_promote(view: &ClusterView, occasion: &Occasion, new: i32, console: &Console) {
    let hooks = &view.configuration.hooks;
    if hooks.get(new, HookEvent::PrePromote).is_none() {
        return;
    }
    if let Err(error) = hooks.run(new, HookEvent::UndoPromote, occasion, None, console).await {
        console.event(Some(new), "hook_failed", &error.to_string());
    }
}
