//! Execution of a script: blocks, `try`, transactions.

use std::collections::BTreeSet;

use trunkline_grammar::{Command, Id, Script, SourceMap, Span, Statement, StatementKind, TryBlock};
use trunkline_sql::Cluster;
use trunkline_sql::admin::{self, Call, Locks};

use crate::Options;
use crate::aftermath::Aftermath;
use crate::connections::Connections;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::memory::Memory;
use crate::report::Report;
use crate::statements::statements_together;

/// Why execution stopped before the end. What there was to say has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A statement failed and nothing handled it.
    Failed,
    /// `exit n;`
    Exit(u8),
}

/// Where in a block execution is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Block {
    in_try: bool,
    /// Statements executed so far that count; `echo` and `date` do not.
    counted: usize,
    /// Whether it was said that part of the `try` block is committed before its end.
    parted: bool,
}

impl Block {
    /// Whether this is the body of a `try`.
    pub(crate) fn in_try(self) -> bool {
        self.in_try
    }

    /// Whether an automatic wait is allowed here. Once a `try` block holds locks, what it waited for could never
    /// arrive.
    pub(crate) fn may_wait(self) -> bool {
        !self.in_try || self.counted == 0
    }

    /// The statement that is being executed has done something that counts, and goes on.
    pub(crate) fn has_begun(&mut self) {
        self.counted = self.counted.max(1);
    }

    /// A statement commits by itself. Whether that also commits what a `try` block did before, and was not said yet.
    pub(crate) fn parts(&mut self) -> bool {
        let news = self.in_try && self.counted > 0 && !self.parted;
        self.parted |= news;
        news
    }
}

/// An event to be made: on which node, by which call, and what comes with it.
pub(crate) struct Submission {
    /// Node whose event it is.
    pub(crate) node: Id,
    /// Locks taken first.
    pub(crate) locks: Locks,
    /// The stored function.
    pub(crate) call: Call,
    /// Whether the node becomes the one that later events elsewhere wait for.
    pub(crate) leads: Leads,
}

/// Whether an event takes part in the order of events across nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// It waits for the last event elsewhere, and later ones wait for it.
    Yes,
    /// The same even where automatic waits are switched off.
    Always,
    /// It neither waits nor is waited for.
    No,
}

/// One script being executed.
pub(crate) struct Interpreter<'a> {
    pub(crate) cluster: Cluster,
    pub(crate) connections: Connections,
    pub(crate) memory: &'a mut Memory,
    pub(crate) report: Report,
    pub(crate) options: Options,
    pub(crate) block: Block,
    /// How things stand if the script ends here.
    pub(crate) aftermath: Aftermath,
    /// `lock set` statements of the `try` block that are still to come: (set, origin). The first takes all of them.
    pub(crate) locks_ahead: Vec<(Id, Id)>,
    /// In a plan: this statement and the one before it will be executed together.
    pub(crate) follows_an_addition: bool,
    sources: &'a SourceMap,
}

impl<'a> Interpreter<'a> {
    pub(crate) fn new(
        cluster: Cluster,
        script: &Script,
        sources: &'a SourceMap,
        memory: &'a mut Memory,
        report: Report,
        interrupt: Interrupt,
        options: Options,
    ) -> Self {
        let aftermath = interrupt.aftermath().clone();
        let connections = Connections::new(cluster.clone(), report.clone(), interrupt, script, sources);
        memory.start_script();
        Self {
            cluster,
            connections,
            memory,
            report,
            options,
            block: Block::default(),
            aftermath,
            locks_ahead: Vec::new(),
            follows_an_addition: false,
            sources,
        }
    }

    /// Executes the statements of a script.
    pub(crate) async fn run(&mut self, script: &Script) -> Result<(), Stop> {
        let outcome = self.run_block(&script.statements, false).await;
        if outcome == Err(Stop::Failed) {
            for line in self.aftermath.failed() {
                self.report.say(&line);
            }
        }
        outcome
    }

    /// `file:line` of a place in the script.
    pub(crate) fn location(&self, span: Span) -> String {
        self.sources.location(span)
    }

    /// Connects to all nodes, asks them for their newest events, and enters the block. The answer is the block around it.
    pub(crate) async fn begin_block(&mut self, statements: &[Statement], in_try: bool) -> Block {
        let outer = std::mem::replace(
            &mut self.block,
            Block {
                in_try,
                ..Block::default()
            },
        );
        self.locks_ahead.clear();
        if in_try {
            self.locks_ahead
                .extend(statements.iter().filter_map(|statement| match &statement.kind {
                    StatementKind::Command(Command::LockSet { id, origin }) => Some((*id, *origin)),
                    _ => None,
                }));
        }
        if let Some(first) = statements.first() {
            self.report.set_place(self.location(first.span));
        }
        self.connections.open_all(&failed_nodes(statements)).await;
        self.remember_events().await;
        outer
    }

    /// Leaves a block for the one around it.
    pub(crate) fn end_block(&mut self, outer: Block) {
        self.block = outer;
    }

    async fn run_block(&mut self, statements: &[Statement], in_try: bool) -> Result<(), Stop> {
        let outer = self.begin_block(statements, in_try).await;
        let mut rest = statements;
        // So many of the next statements are executed one by one whatever they are.
        let mut singly = 0;
        while let Some((statement, behind)) = rest.split_first() {
            if singly == 0 {
                let together = statements_together(rest);
                if together > 1 {
                    if self.run_together(&rest[..together], in_try).await? {
                        rest = &rest[together..];
                        continue;
                    }
                    singly = together;
                }
            }
            singly = singly.saturating_sub(1);
            rest = behind;
            let place = self.location(statement.span);
            if !in_try {
                self.aftermath.begin(&place);
            }
            match &statement.kind {
                StatementKind::Try(block) => Box::pin(self.run_try(block)).await?,
                StatementKind::Command(Command::Exit { code }) => return Err(Stop::Exit(*code)),
                StatementKind::Command(command) => {
                    self.report.set_place(place);
                    self.run_command(command, in_try).await?;
                }
            }
        }
        self.end_block(outer);
        Ok(())
    }

    async fn run_command(&mut self, command: &Command, in_try: bool) -> Result<(), Stop> {
        let outcome = self.execute(command).await;
        self.conclude(outcome, in_try).await?;
        self.count(command);
        Ok(())
    }

    /// Executes statements that belong together as one. False: nothing is done, they are to be executed one by one.
    async fn run_together(&mut self, statements: &[Statement], in_try: bool) -> Result<bool, Stop> {
        let (Some(first), Some(last)) = (statements.first(), statements.last()) else {
            return Ok(false);
        };
        if !in_try {
            self.aftermath.begin(&self.location(first.span));
        }
        self.report.set_place(self.location(first.span));
        let outcome = self.add_statements_together(statements).await;
        match outcome {
            Ok(false) => return Ok(false),
            Ok(true) if !in_try => self.aftermath.begin(&self.location(last.span)),
            _ => {}
        }
        self.conclude(outcome.map(|_| ()), in_try).await?;
        for statement in statements {
            if let StatementKind::Command(command) = &statement.kind {
                self.count(command);
            }
        }
        Ok(true)
    }

    /// Commits what a statement did, or says why it failed.
    async fn conclude(&mut self, outcome: Result<(), Failure>, in_try: bool) -> Result<(), Stop> {
        self.report.quiet(false);
        let outcome = match outcome {
            Ok(()) if in_try => Ok(()),
            Ok(()) => self.commit_all().await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            failure.print(&self.report);
            self.rollback_all().await;
            return Err(Stop::Failed);
        }
        Ok(())
    }

    /// Counts a statement of the block; after the first one nothing may wait in a `try` block.
    pub(crate) fn count(&mut self, command: &Command) {
        if !matches!(command, Command::Echo { .. } | Command::Date { .. }) {
            self.block.counted += 1;
        }
    }

    async fn commit_all(&mut self) -> Result<(), Failure> {
        self.connections.commit_all().await?;
        self.aftermath.committed();
        Ok(())
    }

    async fn rollback_all(&mut self) {
        self.connections.rollback_all().await;
        self.aftermath.rolled_back();
    }

    async fn run_try(&mut self, block: &TryBlock) -> Result<(), Stop> {
        let outer = self.block;
        let outcome = self.run_block(&block.body, true).await;
        self.block = outer;
        match outcome {
            Ok(()) => {
                if let Err(failure) = self.commit_all().await {
                    failure.print(&self.report);
                    return Err(Stop::Failed);
                }
                match &block.on_success {
                    Some(handler) => self.run_block(handler, false).await,
                    None => Ok(()),
                }
            }
            Err(Stop::Failed) => {
                self.rollback_all().await;
                match &block.on_error {
                    Some(handler) => self.run_block(handler, false).await,
                    None => Err(Stop::Failed),
                }
            }
            Err(exit) => Err(exit),
        }
    }

    /// Asks every node for its newest event, at the start of each block.
    async fn remember_events(&mut self) {
        for node in self.connections.nodes() {
            let newest = self.newest_event(node).await;
            let (identity, seqno) = match newest {
                Ok(found) => found.unzip(),
                Err(error) => {
                    let reason = trunkline_sql::error_text(&error);
                    self.report
                        .say(&format!("the newest event of node {node} cannot be read: {reason}"));
                    (None, None)
                }
            };
            // A plan goes on from what it has foreseen.
            let planned = self.connections.rehearsal().map(|rehearsal| {
                let known = rehearsal.forecast.state(node).map(|state| state.local);
                (
                    known,
                    rehearsal
                        .forecast
                        .last_event(node)
                        .or(seqno.filter(|_| known.is_some())),
                )
            });
            let (identity, seqno) = planned.unwrap_or((identity, seqno));
            self.connections.set_identity(node, identity);
            self.memory.remember(node, seqno);
        }
    }

    /// The number the node gives itself and its newest event; None: not reachable or no cluster schema.
    async fn newest_event(&self, node: Id) -> Result<Option<(Id, i64)>, tokio_postgres::Error> {
        let Some(session) = self.connections.open_session(node) else {
            return Ok(None);
        };
        if !admin::schema_exists(session, &self.cluster).await? {
            return Ok(None);
        }
        let identity = admin::local_node_id(session, &self.cluster).await?;
        Ok(Some((identity, admin::last_event(session, &self.cluster).await?)))
    }

    /// Begins a transaction on `node`, with the event lock inside a `try` block.
    pub(crate) async fn begin(&mut self, node: Id) -> Result<(), Failure> {
        self.connections.begin(node, self.block.in_try).await
    }

    /// Begins a transaction on `node` before the cluster schema is there.
    pub(crate) async fn begin_for_install(&mut self, node: Id) -> Result<(), Failure> {
        self.connections.begin_unprivileged(node, self.block.in_try).await
    }

    /// Makes an event and remembers its number.
    pub(crate) async fn submit(&mut self, submission: Submission) -> Result<(), Failure> {
        let node = submission.node;
        let seqno = self.submit_unremembered(submission).await?;
        self.memory
            .remember(node, seqno.as_deref().and_then(|seqno| seqno.parse().ok()));
        Ok(())
    }

    /// Makes an event; the answer is what the stored function returned.
    pub(crate) async fn submit_unremembered(&mut self, submission: Submission) -> Result<Option<String>, Failure> {
        let Submission {
            node,
            locks,
            call,
            leads,
        } = submission;
        self.must_be_itself(node).await?;
        if leads != Leads::No {
            self.wait_for_last_event_node(node, leads == Leads::Always).await?;
        }
        self.begin(node).await?;
        self.connections.lock(node, locks).await?;
        let answer = self.connections.run(node, &call).await?;
        if leads == Leads::Always || (leads == Leads::Yes && self.options.automatic_waits) {
            self.memory.set_last_event_node(node);
        }
        Ok(answer)
    }

    /// Refuses to work on a database that says it is another node than the preamble says.
    pub(crate) async fn must_be_itself(&mut self, node: Id) -> Result<(), Failure> {
        self.connections.session(node).await?;
        match self
            .connections
            .identity(node)
            .filter(|identity| *identity >= 0 && *identity != node)
        {
            Some(identity) => Err(Failure::Plain(format!(
                "database specified in {} reports no_id {identity}; correct the admin conninfo of node {node}",
                self.connections.declared(node)
            ))),
            None => Ok(()),
        }
    }
}

/// Nodes that a block says have failed.
pub(crate) fn failed_nodes(statements: &[Statement]) -> BTreeSet<Id> {
    let failed = statements.iter().flat_map(|statement| match &statement.kind {
        StatementKind::Command(Command::Failover { nodes }) => nodes.as_slice(),
        _ => &[],
    });
    failed.map(|node| node.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_block_may_wait_only_before_it_has_done_anything() {
        assert!(
            Block {
                in_try: false,
                counted: 5,
                parted: false,
            }
            .may_wait()
        );
        assert!(
            Block {
                in_try: true,
                counted: 0,
                parted: false,
            }
            .may_wait()
        );
        assert!(
            !Block {
                in_try: true,
                counted: 1,
                parted: false,
            }
            .may_wait()
        );
    }

    #[test]
    fn a_try_block_that_commits_part_of_itself_says_so_once() {
        let mut block = Block {
            in_try: true,
            ..Block::default()
        };
        assert!(!block.parts(), "nothing was done before");
        block.has_begun();
        assert!(!block.may_wait());
        assert!(block.parts());
        assert!(!block.parts());
    }
}
