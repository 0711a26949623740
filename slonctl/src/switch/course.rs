//! The switch itself: hooks, script, hooks, proof; and the way back as long as there is one.
//!
//! Whether the old origin has handed over is never concluded from what we did, only read from its own tables: a commit may
//! have succeeded although its answer was lost.

use std::time::{Duration, Instant};

use trunkline_sql::{Session, admin, operator};

use super::SwitchArguments;
use super::plan::{Mark, Plan};
use crate::console::Console;
use crate::duration::show;
use crate::exit::Exit;
use crate::hooks::{HookEvent, Hooks, Occasion};
use crate::proof::{self, Proof};
use crate::script::{Marks, Script};
use crate::stop::Stop;
use crate::view::ClusterView;

/// How long putting back may take before somebody is called.
const PUT_BACK_LIMIT: Duration = Duration::from_secs(60);
/// Between attempts to put back.
const PUT_BACK_PAUSE: Duration = Duration::from_millis(500);
/// How long the old origin may take to say who was in the way: writes are refused meanwhile.
const NAMING_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks at who is in the way.
const NAMING_PAUSE: Duration = Duration::from_millis(10);
/// How many of them are named.
const WRITERS: usize = 5;

/// Why the script did not come to its end.
enum Cut {
    /// A statement failed; slonik has said why.
    Script,
    /// It takes too long.
    TooLong,
    /// Somebody pressed Ctrl-C, or sent SIGTERM.
    Stopped(&'static str),
}

/// Everything the steps need.
struct Course<'a> {
    view: &'a ClusterView,
    plan: &'a Plan,
    arguments: &'a SwitchArguments,
    console: &'a Console,
    occasion: Occasion,
    /// Hooks to run, newest last, if the switch is put back.
    undo: Vec<(i32, HookEvent)>,
}

/// Switches.
pub(super) async fn run(view: &ClusterView, plan: &Plan, arguments: &SwitchArguments, console: &Console) -> Exit {
    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            Console::complain(&format!("signals cannot be caught ({error}); nothing was done"));
            return Exit::Refused;
        }
    };
    let occasion = Occasion::of(view, "switch", &plan.set_ids(), plan.old, plan.new);
    let mut course = Course {
        view,
        plan,
        arguments,
        console,
        occasion,
        undo: Vec::new(),
    };
    course.run(&mut stop).await
}

impl Course<'_> {
    fn hooks(&self) -> &Hooks {
        &self.view.configuration.hooks
    }

    async fn run(&mut self, stop: &mut Stop) -> Exit {
        let Plan { old, new, .. } = *self.plan;
        let ahead = [
            (new, HookEvent::PrePromote, HookEvent::UndoPromote),
            (old, HookEvent::PreDemote, HookEvent::UndoDemote),
        ];
        let mut since = Instant::now();
        for (node, event, undo) in ahead {
            // From here applications may be led away from the origin: the outage begins.
            since = Instant::now();
            // Whatever a hook did before it failed must be taken back as well.
            self.undo.push((node, undo));
            let limit = (event == HookEvent::PreDemote).then_some(self.arguments.max_outage);
            let hook = self.hooks().run(node, event, &self.occasion, limit, self.console);
            let reason = tokio::select! {
                outcome = hook => match outcome {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
                name = stop.asked() => format!("stopped by {name}"),
            };
            return self.put_back(&reason, since).await;
        }
        let deadline = since + self.arguments.max_outage;

        let mut script = self.plan.script.run(self.console);
        let (interrupt, reached) = (script.interrupt.clone(), script.reached.clone());
        let cut = {
            let running = std::pin::pin!(script.execute());
            let cut = watch(running, &reached, deadline, stop, self.console).await;
            if matches!(cut, Some(Cut::TooLong | Cut::Stopped(_))) {
                // Who keeps `lock set` from its tables can be asked only while it waits.
                let _ = tokio::time::timeout(NAMING_LIMIT, self.name_lock_holders()).await;
                // The server must not go on with what nobody waits for any more; the connections are dropped with the run.
                interrupt.cancel_running().await;
            }
            cut
        };
        drop(script);
        let marks = reached.borrow().clone();
        match cut {
            None => self.complete(&marks, since).await,
            Some(cut) => {
                let reason = match cut {
                    Cut::Script => "the script failed".to_owned(),
                    Cut::TooLong => format!(
                        "node {} has not handed over within {}",
                        self.plan.old,
                        show(self.arguments.max_outage)
                    ),
                    Cut::Stopped(name) => format!("stopped by {name}"),
                };
                if marks.iter().any(|(mark, _)| *mark >= Mark::Moved) {
                    return self.incomplete(&reason);
                }
                // slonik names them after two seconds; a shorter limit would leave nobody any wiser.
                let _ = tokio::time::timeout(NAMING_LIMIT, self.name_writers()).await;
                self.put_back(&reason, since).await
            }
        }
    }

    /// Who holds locks that the script waits for, as far as the old origin says so.
    async fn name_lock_holders(&self) {
        let Some(Ok(session)) = self.view.connect(self.plan.old).await else {
            return;
        };
        // It takes its locks with pauses in between, so as not to keep others waiting behind it.
        loop {
            let Ok(waits) = admin::lock_waits(&session, "slonik").await else {
                return;
            };
            for (_, holder) in waits.iter().take(WRITERS) {
                self.console.event(
                    Some(self.plan.old),
                    "step",
                    &format!("in the way, holds a lock that the script waits for: {holder}"),
                );
            }
            if !waits.is_empty() || !self.writers(&session).await.is_empty() {
                return;
            }
            tokio::time::sleep(NAMING_PAUSE).await;
        }
    }

    /// Who still had a transaction open from before the lock, as far as the old origin says so.
    async fn name_writers(&self) {
        let Some(Ok(session)) = self.view.connect(self.plan.old).await else {
            return;
        };
        for writer in self.writers(&session).await.iter().take(WRITERS) {
            self.console.event(
                Some(self.plan.old),
                "step",
                &format!("in the way, open since before the lock: {writer}"),
            );
        }
    }

    /// Transactions of writers from before the lock; none where there is no lock yet.
    async fn writers(&self, session: &Session) -> Vec<admin::Blocker> {
        let Some(set) = self.plan.sets.first() else {
            return Vec::new();
        };
        let writers = admin::writers_before_lock(session, &self.view.cluster, set.id).await;
        writers.unwrap_or_default()
    }

    /// The new origin serves: hooks, then proof.
    async fn complete(&self, marks: &Marks<Mark>, since: Instant) -> Exit {
        let Plan { old, new, .. } = *self.plan;
        let at = |wanted: Mark| marks.iter().find(|(mark, _)| *mark == wanted).map(|(_, at)| *at);
        let taken_over = at(Mark::TakenOver).unwrap_or_else(Instant::now);
        let mut good = true;
        for (node, event) in [(new, HookEvent::PostPromote), (old, HookEvent::PostDemote)] {
            if let Err(error) = self.hooks().run(node, event, &self.occasion, None, self.console).await {
                self.console.event(Some(node), "hook_failed", &error.to_string());
                good = false;
            }
        }
        let outage = taken_over.duration_since(at(Mark::Locked).map_or(since, |locked| locked.min(taken_over)));
        self.console.event(
            None,
            "outage",
            &format!(
                "writes were refused for {:.0} ms at most; {:.0} ms since the first step that may keep applications away",
                outage.as_secs_f64() * 1000.0,
                taken_over.duration_since(since).as_secs_f64() * 1000.0
            ),
        );
        let proof = Proof {
            view: self.view,
            sets: &self.plan.sets,
            old: Some(old),
            new,
            settle: self.arguments.settle,
            extent: self.arguments.verify,
            failed: &[],
            console: self.console,
        };
        let proved = proof.gather().await;
        let sets = proof::list(&self.plan.set_ids());
        match (proved, good) {
            (true, true) => {
                self.console.event(
                    Some(new),
                    "done",
                    &format!("done: the origin of set {sets} is node {new}"),
                );
                Exit::Done
            }
            (_, false) => {
                self.console.event(
                    Some(new),
                    "incomplete",
                    &format!(
                        "the origin of set {sets} is node {new}, but a hook failed: see to what it should have done; the \
                         databases need nothing"
                    ),
                );
                Exit::Incomplete
            }
            (false, true) => {
                self.console.event(
                    Some(new),
                    "unproved",
                    &format!("the origin of set {sets} is node {new}, but not everything could be proved, see above"),
                );
                Exit::Unproved
            }
        }
    }

    /// Handed over, not taken over: there is no way back, only forward.
    fn incomplete(&self, reason: &str) -> Exit {
        let Plan { old, new, .. } = *self.plan;
        self.console.event(
            Some(new),
            "incomplete",
            &format!(
                "{reason}, after node {old} had handed over: node {new} becomes the origin as soon as its slon has processed \
                 that. Until then nobody accepts writes.\n\
                 See to the slon of node {new} (`slonctl status` says what it is stuck on). No hook was run after the \
                 handing over: when node {new} accepts writes, run post_promote and post_demote by hand"
            ),
        );
        Exit::Incomplete
    }

    /// Opens the sets again, takes the hooks back, and shows that the old origin serves.
    async fn put_back(&self, reason: &str, since: Instant) -> Exit {
        let old = self.plan.old;
        self.console
            .event(None, "put_back", &format!("{reason}: putting everything back"));
        let deadline = Instant::now() + PUT_BACK_LIMIT;
        let outcome = loop {
            let state = self.open_sets(deadline).await;
            match state {
                Ok(outcome) => break outcome,
                Err(problem) if Instant::now() >= deadline => {
                    self.console.event(
                        Some(old),
                        "incomplete",
                        &format!(
                            "putting back failed: {problem}\n\
                             Writes are refused until the sets are opened. As soon as node {old} answers, run with slonik: {}",
                            self.unlocking()
                        ),
                    );
                    return Exit::Incomplete;
                }
                Err(problem) => {
                    self.console
                        .event(Some(old), "put_back", &format!("not yet put back: {problem}"));
                    tokio::time::sleep(PUT_BACK_PAUSE).await;
                }
            }
        };
        if outcome == Opened::HandedOver {
            return self.incomplete(reason);
        }
        let mut good = true;
        for (node, undo) in self.undo.iter().rev() {
            if let Err(error) = self.hooks().run(*node, *undo, &self.occasion, None, self.console).await {
                self.console.event(Some(*node), "hook_failed", &error.to_string());
                good = false;
            }
        }
        let serves = proof::accepts_writes(self.view, &self.plan.sets, old, self.console).await;
        if good && serves {
            self.console.event(
                Some(old),
                "put_back",
                &format!(
                    "put back: node {old} is the origin and serves as before; it took {:.1} s in all",
                    since.elapsed().as_secs_f64()
                ),
            );
            return Exit::PutBack;
        }
        self.console.event(
            Some(old),
            "incomplete",
            &format!("node {old} is still the origin, but not everything could be put back, see above"),
        );
        Exit::Incomplete
    }

    fn unlocking(&self) -> String {
        let old = self.plan.old;
        let statements: Vec<String> = self
            .plan
            .sets
            .iter()
            .map(|set| format!("unlock set (id = {}, origin = {old});", set.id))
            .collect();
        statements.join(" ")
    }

    /// Reads what has become of the sets, and opens those that are locked.
    async fn open_sets(&self, deadline: Instant) -> Result<Opened, String> {
        let old = self.plan.old;
        let ids = self.plan.set_ids();
        let session = match self.view.connect(old).await {
            Some(Ok(session)) => session,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err(format!("no way to node {old} is known")),
        };
        let states = operator::settled_set_states(&session, &self.view.cluster, &ids)
            .await
            .map_err(|error| trunkline_sql::error_text(&error))?;
        if states.iter().any(|(_, origin, _)| *origin != old) {
            return Ok(Opened::HandedOver);
        }
        let locked: Vec<i32> = states
            .iter()
            .filter(|(.., locked)| *locked)
            .map(|(set, ..)| *set)
            .collect();
        if locked.is_empty() {
            return Ok(Opened::Yes);
        }
        let mut script: Script<()> = Script::new(self.view, [old]);
        for set in &locked {
            script.line(Some(old), format!("unlock set (id = {set}, origin = {old});"));
        }
        let mut run = script.run(self.console);
        let interrupt = run.interrupt.clone();
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, run.execute()).await {
            Ok(true) => Ok(Opened::Yes),
            // Looked at again: if the handing over came first, there was nothing to unlock.
            Ok(false) => Err("unlocking failed, see above".to_owned()),
            Err(_) => {
                interrupt.cancel_running().await;
                Err("unlocking has to wait for the sessions named above".to_owned())
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// The old origin has its sets, and they are open.
    Yes,
    /// It has handed them over.
    HandedOver,
}

/// Lets the script run to its end, or until it has to be stopped; None: it came to a good end. Behind the point of no
/// return nothing stops it but itself.
async fn watch(
    mut running: std::pin::Pin<&mut impl Future<Output = bool>>,
    reached: &tokio::sync::watch::Receiver<Marks<Mark>>,
    deadline: Instant,
    stop: &mut Stop,
    console: &Console,
) -> Option<Cut> {
    let mut reached = reached.clone();
    let mut told = false;
    let passed = |marks: &Marks<Mark>| marks.iter().any(|(mark, _)| *mark >= Mark::Moved);
    loop {
        let open = !passed(&reached.borrow_and_update());
        tokio::select! {
            biased;
            good = &mut running => return (!good).then_some(Cut::Script),
            Ok(()) = reached.changed() => {}
            name = stop.asked() => {
                if open {
                    return Some(Cut::Stopped(name));
                }
                if !told {
                    told = true;
                    console.step(None, &format!("{name} comes too late: the old origin has handed over"));
                }
            }
            () = tokio::time::sleep_until(deadline.into()), if open => return Some(Cut::TooLong),
        }
    }
}
