//! What a script will do, as data: `slonik --dry-run`, and what slonctl shows before it acts.
//!
//! A plan comes from the code that executes the statements. It runs on read-only connections, and wherever it would
//! change something, a `Rehearsal` notes the step and foresees its effect instead (`Forecast`). So plan and
//! execution cannot drift apart, and a precondition takes into account what earlier statements will have done.

mod dry_run;
mod examine;
mod forecast;
mod install;
mod rehearsal;
mod script;
mod text;
mod waits;

use serde::Serialize;
use trunkline_grammar::Id;

pub use dry_run::dry_run;
pub(crate) use examine::examine;
pub(crate) use forecast::Forecast;
pub(crate) use rehearsal::Rehearsal;

/// What a script will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Name of the cluster.
    pub cluster: String,
    /// What was noticed before the first statement: nodes that cannot be reached.
    pub notes: Vec<String>,
    /// The statements in the order in which they will run. What stands behind `exit`, and a handler that will not run,
    /// is left out.
    pub statements: Vec<PlannedStatement>,
    /// The code with which the script will end before its last statement: that of the `exit` it will come to, or 255 if a
    /// statement fails and nothing takes care of it.
    pub exit: Option<u8>,
}

/// One statement of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStatement {
    /// `file:line`.
    pub place: String,
    /// The statement with all its options, passwords hidden.
    pub statement: String,
    /// The blocks around it, outermost first: `try`, `on error`, `on success`.
    pub blocks: Vec<&'static str>,
    /// What will be done, in that order.
    pub steps: Vec<Step>,
    /// What keeps it from succeeding, one reason each.
    pub obstacles: Vec<String>,
    /// Whether an `on error` block takes care of its failure.
    pub handled: bool,
    /// Whether the script ends with its failure.
    pub stops: bool,
    /// Whether it will run at all. What stands behind a failure is planned as if that had worked, so that everything
    /// that keeps the script from succeeding is told at once.
    pub runs: bool,
    /// What is worth knowing besides.
    pub notes: Vec<String>,
}

/// One step of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// slonik waits.
    Wait {
        /// Node that is asked.
        node: Id,
        /// What ends the wait.
        until: String,
    },
    /// Tables of the cluster schema are locked until the transaction ends.
    Lock {
        /// Where.
        node: Id,
        /// Which, in that order.
        tables: Vec<&'static str>,
    },
    /// A stored function, or another statement, is executed.
    Call {
        /// Where.
        node: Id,
        /// The statement, passwords hidden.
        sql: String,
        /// Types of the events it makes, in that order.
        events: Vec<&'static str>,
    },
    /// Something that is no single statement.
    Work {
        /// Where.
        node: Id,
        /// What.
        what: String,
    },
    /// The node's transaction is committed.
    Commit {
        /// Where.
        node: Id,
    },
}

impl Plan {
    /// Whether nothing is known that would make the script fail.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.obstacles().next().is_none()
    }

    /// What will make the script fail, and where.
    pub fn obstacles(&self) -> impl Iterator<Item = (&PlannedStatement, &str)> {
        self.statements
            .iter()
            .filter(|statement| !statement.handled)
            .flat_map(|statement| statement.obstacles.iter().map(move |text| (statement, text.as_str())))
    }

    /// The statement that will end the script by its failure.
    #[must_use]
    pub fn stop(&self) -> Option<&PlannedStatement> {
        self.statements.iter().find(|statement| statement.stops)
    }

    /// The events that the script will make: node and type, in the order in which they are made. Those that a failing
    /// `try` block rolls back, and those of statements that will not run, are left out.
    #[must_use]
    pub fn events(&self) -> Vec<(Id, &'static str)> {
        let mut made = Vec::new();
        for statement in self.statements.iter().filter(|statement| statement.runs) {
            for (index, step) in statement.steps.iter().enumerate() {
                let Step::Call { node, events, .. } = step else {
                    continue;
                };
                let committed = || statement.steps[index..].contains(&Step::Commit { node: *node });
                if !statement.handled || committed() {
                    made.extend(events.iter().map(|event| (*node, *event)));
                }
            }
        }
        made
    }
}
