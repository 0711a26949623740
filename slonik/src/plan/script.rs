//! Goes through a script as the interpreter would, and keeps what each statement would do.

use trunkline_grammar::{Command, Script, Statement, StatementKind, TryBlock};
use trunkline_sql::admin;
use trunkline_sql::session::redact;

use super::{Plan, PlannedStatement, Step};
use crate::EXIT_FAILED;
use crate::interpreter::{Interpreter, failed_nodes};
use crate::statements::statements_together;

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its last statement was planned; whether one of them will fail.
    Through { fails: bool },
    /// It came to `exit`.
    Exit(u8),
}

impl Interpreter<'_> {
    /// Plans the statements of a script instead of executing them.
    pub(crate) async fn rehearse(&mut self, script: &Script) -> Plan {
        let mut plan = Plan {
            cluster: self.cluster.name().to_owned(),
            notes: Vec::new(),
            statements: Vec::new(),
            exit: None,
        };
        if let Some(first) = script.statements.first() {
            self.report.set_place(self.location(first.span));
        }
        self.connections.open_all(&failed_nodes(&script.statements)).await;
        self.find_states().await;
        plan.notes = self.report.take();
        if let Ending::Exit(code) = self.rehearse_block(&script.statements, false, &[], &mut plan).await
            && plan.exit.is_none()
        {
            plan.exit = Some(code);
        }
        plan
    }

    /// Reads what every node knows that the forecast does not know of yet.
    async fn find_states(&mut self) {
        for node in self.connections.nodes() {
            if self
                .connections
                .rehearsal()
                .is_none_or(|rehearsal| rehearsal.knows(node))
            {
                continue;
            }
            let Some(session) = self.connections.open_session(node) else {
                continue;
            };
            let found = async {
                if admin::schema_exists(session, &self.cluster).await? {
                    return admin::node_state(session, &self.cluster).await.map(Some);
                }
                Ok(None)
            };
            match found.await {
                Ok(Some(state)) => {
                    if let Some(rehearsal) = self.connections.rehearsal() {
                        rehearsal.found(node, state);
                    }
                }
                Ok(None) => {}
                Err(error) => self.report.say(&format!(
                    "the configuration of node {node} cannot be read: {}",
                    trunkline_sql::error_text(&error)
                )),
            }
        }
    }

    async fn rehearse_block(
        &mut self,
        statements: &[Statement],
        in_try: bool,
        blocks: &[&'static str],
        plan: &mut Plan,
    ) -> Ending {
        let outer = self.begin_block(statements, in_try).await;
        // Whoever cannot be reached was named when the plan began.
        self.report.take();
        let mut fails = false;
        let mut together = 0;
        for (at, statement) in statements.iter().enumerate() {
            self.follows_an_addition = together > 1;
            together = match together {
                0 | 1 => statements_together(&statements[at..]),
                more => more - 1,
            };
            match &statement.kind {
                StatementKind::Try(block) => match Box::pin(self.rehearse_try(block, blocks, plan)).await {
                    Ending::Through { fails: one } => fails |= one,
                    exit @ Ending::Exit(_) => return exit,
                },
                StatementKind::Command(command) => {
                    let place = self.location(statement.span);
                    self.report.set_place(place.clone());
                    if let Some(rehearsal) = self.connections.rehearsal() {
                        rehearsal.begin_statement(place);
                    }
                    self.rehearse_command(command, in_try, blocks, plan).await;
                    let failed = plan
                        .statements
                        .last()
                        .is_some_and(|statement| !statement.obstacles.is_empty());
                    fails |= failed;
                    if failed && !blocks.contains(&"try") {
                        stop_at(plan, plan.statements.len() - 1);
                    }
                    if let Command::Exit { code } = command {
                        return Ending::Exit(*code);
                    }
                }
            }
        }
        self.end_block(outer);
        Ending::Through { fails }
    }

    async fn rehearse_command(&mut self, command: &Command, in_try: bool, blocks: &[&'static str], plan: &mut Plan) {
        // These do nothing to the cluster, and a plan is not worth waiting for.
        let quiet = matches!(
            command,
            Command::Echo { .. } | Command::Date { .. } | Command::Sleep { .. } | Command::Exit { .. }
        );
        let mut failure = None;
        if !quiet {
            failure = self.execute(command).await.err();
            self.report.quiet(false);
            self.count(command);
            if !in_try && let Err(other) = self.connections.commit_all().await {
                failure.get_or_insert(other);
            }
        }
        let place = self.report.place();
        let heard = self.report.take();
        let Some(rehearsal) = self.connections.rehearsal() else {
            return;
        };
        // What was foreseen says the same with more detail.
        if let Some(failure) = failure.filter(|_| !rehearsal.has_obstacles()) {
            let text = failure.to_string();
            let text = text.strip_prefix("Error: ").or(text.strip_prefix("ERROR: "));
            rehearsal.obstacle(text.map_or_else(|| failure.to_string(), ToOwned::to_owned));
        }
        let noted = rehearsal.take();
        plan.statements.push(PlannedStatement {
            place,
            statement: shown(command),
            blocks: blocks.to_vec(),
            steps: noted.steps,
            obstacles: noted.obstacles,
            handled: false,
            stops: false,
            runs: plan.stop().is_none(),
            notes: heard.into_iter().chain(noted.notes).collect(),
        });
    }

    async fn rehearse_try(&mut self, block: &TryBlock, blocks: &[&'static str], plan: &mut Plan) -> Ending {
        let inside = |word| {
            let mut inside = blocks.to_vec();
            inside.push(word);
            inside
        };
        let start = plan.statements.len();
        let outer = self.block;
        let ending = self.rehearse_block(&block.body, true, &inside("try"), plan).await;
        self.block = outer;
        let fails = match ending {
            Ending::Exit(_) => return ending,
            Ending::Through { fails } => fails,
        };
        // The first failure ends the block.
        let failed = plan.statements[start..]
            .iter()
            .position(|statement| !statement.obstacles.is_empty() && !statement.handled)
            .map(|index| start + index);
        if let Some(failed) = failed {
            for statement in &mut plan.statements[failed + 1..] {
                statement.runs = false;
            }
            if block.on_error.is_none() && !blocks.contains(&"try") {
                stop_at(plan, failed);
            }
        }
        if fails && let Some(handler) = &block.on_error {
            for statement in &mut plan.statements[start..] {
                statement.handled = true;
            }
            self.connections.rollback_all().await;
            return self.rehearse_block(handler, false, &inside("on error"), plan).await;
        }
        // Planning commits nothing, so it cannot fail.
        let _ = self.connections.commit_all().await;
        let commits = self.connections.rehearsal().map(|rehearsal| rehearsal.take().steps);
        if let Some(last) = plan.statements.last_mut() {
            last.steps.extend::<Vec<Step>>(commits.unwrap_or_default());
        }
        let Some(handler) = &block.on_success else {
            return Ending::Through { fails };
        };
        match self.rehearse_block(handler, false, &inside("on success"), plan).await {
            Ending::Through { fails: also } => Ending::Through { fails: fails || also },
            exit @ Ending::Exit(_) => exit,
        }
    }
}

/// The script ends with the failure of a statement, unless it has ended before.
fn stop_at(plan: &mut Plan, index: usize) {
    if plan.stop().is_none() {
        plan.statements[index].stops = true;
        plan.exit = Some(EXIT_FAILED);
    }
}

/// The statement with all its options, passwords hidden.
fn shown(command: &Command) -> String {
    match command {
        Command::StorePath {
            server,
            client,
            conninfo,
            connretry,
        } => Command::StorePath {
            server: *server,
            client: *client,
            conninfo: redact(conninfo),
            connretry: *connretry,
        }
        .to_string(),
        other => other.to_string(),
    }
}
