//! Takes the place of the nodes while a script is planned: notes each step and foresees what it changes.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_grammar::Id;
use trunkline_sql::admin::{Call, Locks, NodeState};

use super::{Forecast, Step};

/// Events that are not made yet have numbers from here on, far beyond those of real ones.
const PLANNED: i64 = 1 << 60;

/// What is noted while a script is planned.
#[derive(Debug, Default)]
pub(crate) struct Rehearsal {
    /// How the cluster will look.
    pub(crate) forecast: Forecast,
    /// The same as of the last commit: what a failing `try` block falls back to.
    committed: Forecast,
    /// Nodes whose cluster schema is really there now.
    installed: BTreeSet<Id>,
    /// Planned events: what they are, and which statement makes them.
    events: BTreeMap<i64, String>,
    place: String,
    steps: Vec<Step>,
    obstacles: Vec<String>,
    notes: Vec<String>,
}

/// What was noted of one statement.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) steps: Vec<Step>,
    pub(crate) obstacles: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Rehearsal {
    /// A node of the preamble is there, and this is what it knows.
    pub(crate) fn found(&mut self, node: Id, state: NodeState) {
        self.installed.insert(node);
        self.forecast.found(node, state);
        self.committed = self.forecast.clone();
    }

    /// A new statement begins.
    pub(crate) fn begin_statement(&mut self, place: String) {
        self.place = place;
    }

    /// What was noted since the last call.
    pub(crate) fn take(&mut self) -> Noted {
        Noted {
            steps: std::mem::take(&mut self.steps),
            obstacles: std::mem::take(&mut self.obstacles),
            notes: std::mem::take(&mut self.notes),
        }
    }

    /// Whether node `id` has the cluster schema now, so that it can be asked.
    pub(crate) fn is_installed(&self, id: Id) -> bool {
        self.installed.contains(&id)
    }

    /// Whether node `id` will have the cluster schema at this point of the script.
    pub(crate) fn knows(&self, id: Id) -> bool {
        self.forecast.state(id).is_some()
    }

    /// Notes a reason why the statement will fail; each only once.
    pub(crate) fn obstacle(&mut self, text: String) {
        if !self.obstacles.contains(&text) {
            self.obstacles.push(text);
        }
    }

    /// Whether the statement has a reason to fail already.
    pub(crate) fn has_obstacles(&self) -> bool {
        !self.obstacles.is_empty()
    }

    /// Notes what is worth knowing; each only once.
    pub(crate) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Notes a wait.
    pub(crate) fn wait(&mut self, node: Id, until: String) {
        self.steps.push(Step::Wait { node, until });
    }

    /// Notes something that is no single statement.
    pub(crate) fn work(&mut self, node: Id, what: String) {
        self.steps.push(Step::Work { node, what });
    }

    /// Notes locks.
    pub(crate) fn lock(&mut self, node: Id, locks: Locks) {
        if locks != Locks::None {
            self.steps.push(Step::Lock {
                node,
                tables: locks.tables().to_vec(),
            });
        }
    }

    /// Notes a call and foresees its effect; the answer is the number of its last event.
    pub(crate) fn call(&mut self, node: Id, call: &Call) -> Option<i64> {
        let foreseen = self.forecast.call(node, call);
        for obstacle in foreseen.obstacles {
            self.obstacle(obstacle);
        }
        for note in foreseen.notes {
            self.note(note);
        }
        self.steps.push(Step::Call {
            node,
            sql: call.to_string(),
            events: foreseen.events.clone(),
        });
        let event = foreseen.events.last()?;
        let number = PLANNED + i64::try_from(self.events.len()).unwrap_or(0);
        self.events.insert(number, format!("{event} ({})", self.place));
        self.forecast.set_last_event(node, number);
        Some(number)
    }

    /// Notes a commit: what was foreseen stays, whatever becomes of a `try` block.
    pub(crate) fn commit(&mut self, node: Id) {
        self.steps.push(Step::Commit { node });
        self.committed = self.forecast.clone();
    }

    /// Forgets what was foreseen since the last commit.
    pub(crate) fn roll_back(&mut self) {
        self.forecast = self.committed.clone();
    }

    /// What a planned event is called; None: `seqno` is the number of a real one.
    pub(crate) fn planned_event(&self, seqno: i64) -> Option<&str> {
        self.events.get(&seqno).map(String::as_str)
    }

    /// What an event is called.
    pub(crate) fn event_text(&self, origin: Id, seqno: i64) -> String {
        match self.planned_event(seqno) {
            Some(text) => format!("{text} of node {origin}"),
            None => format!("event {seqno} of node {origin}"),
        }
    }
}
