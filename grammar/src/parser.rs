//! From tokens to the script: the preamble, the statements, the blocks.
//!
//! The script is read step by step: the tokens up to a `;` or a brace are one step, which pest reads by
//! the `step_…` rule that fits the place. A step that makes no sense is reported and left out; reading
//! goes on behind it, so all mistakes are reported at once. Blocks are kept on a stack of our own, with
//! a bound, so that no script can exhaust the stack of the process.

use pest::iterators::Pair;

use crate::ParseOptions;
use crate::ast::{AdminNode, Command, Id, Script, Statement, StatementKind, TryBlock};
use crate::code::Code;
use crate::diagnostic::{Diagnostic, Findings};
use crate::flow::Flow;
use crate::form;
use crate::lexer::{Lexer, TokenKind, unquote};
use crate::mismatch;
use crate::preamble::Preamble;
use crate::source::{SourceMap, Span};
use crate::statement::{FlattenRule as _, number, read_command};
use crate::syntax::{Chunk, Mismatch, Rule};

/// Blocks that may be open inside each other.
const MAX_BLOCKS: usize = 64;

/// Wrong options of one statement that are reported one by one.
const MAX_OPTIONS: usize = 10;

/// What a block of statements is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    Script,
    Try,
    OnError,
    OnSuccess,
    /// Opened by something that makes no sense: read for its mistakes, then thrown away.
    Broken,
}

/// A block that is being read.
struct Block {
    kind: BlockKind,
    opened: Span,
    statements: Vec<Statement>,
    /// Whether anything was read in it, right or wrong.
    used: bool,
    /// The `try` a handler belongs to.
    owner: Option<OpenTry>,
    /// The statement that leaves the script for certain; what follows in the block is never reached.
    left_at: Option<Span>,
    /// That was said.
    said_unreachable: bool,
}

/// A `try` whose body is closed and which may still get handlers.
struct OpenTry {
    block: TryBlock,
    first: Span,
    last: Span,
    broken: bool,
    /// Whether each part leaves the script for certain.
    leaves: Leaves,
}

/// Which parts of a `try` end in `exit` whatever happens.
#[derive(Debug, Clone, Copy, Default)]
struct Leaves {
    body: bool,
    on_error: bool,
    on_success: bool,
}

/// Reads one script.
pub(crate) struct ScriptParser<'a> {
    lexer: Lexer<'a>,
    options: &'a ParseOptions,
    chunk: Chunk,
    preamble: Preamble,
    blocks: Vec<Block>,
    closed_try: Option<OpenTry>,
    /// The bound on blocks was reported.
    too_deep: bool,
    flow: Flow,
    /// The cluster of the script, once it is known.
    cluster: Option<(String, Span)>,
    /// Where the preamble that is being repeated starts; its `node` lines follow.
    repeating: Option<Span>,
}

impl<'a> ScriptParser<'a> {
    pub(crate) fn new(lexer: Lexer<'a>, options: &'a ParseOptions) -> Self {
        Self {
            lexer,
            options,
            chunk: Chunk::default(),
            preamble: Preamble::default(),
            blocks: Vec::new(),
            closed_try: None,
            too_deep: false,
            flow: Flow::default(),
            cluster: None,
            repeating: None,
        }
    }

    /// Reads all of it.
    pub(crate) fn run(mut self) -> (Option<Script>, Findings, SourceMap) {
        self.read_preamble();
        let statements = self.read_statements();
        let Lexer { findings, sources, .. } = self.lexer;
        let script = match self.cluster {
            Some((cluster, cluster_span)) if !findings.has_errors() => Some(Script {
                cluster,
                cluster_span,
                nodes: self.preamble.nodes,
                statements,
            }),
            _ => None,
        };
        (script, findings, sources)
    }

    // ---- preamble --------------------------------------------------------------------------------

    fn read_preamble(&mut self) {
        self.chunk.fill(&mut self.lexer);
        let mut complain = true;
        if self.chunk.is_word(0, "cluster") {
            match self.chunk.parse(Rule::step_cluster) {
                Ok(step) => self.cluster = self.cluster_name(step),
                Err(found) => self.mismatch(Rule::step_cluster, &found),
            }
            self.chunk.finish();
        } else {
            complain = false;
            if !self.lexer.incomplete {
                self.mismatch_at_start(
                    Rule::step_cluster,
                    "a script starts with `cluster name = <name>;` and `node <number> admin conninfo = '…';`",
                );
            }
        }
        loop {
            self.chunk.fill(&mut self.lexer);
            if self.lexer.findings.errors_are_full() {
                break;
            } else if self.chunk.is_word(0, "node") {
                self.read_node_line();
            } else if !self.repeats_cluster_line() {
                break;
            }
        }
        if self.preamble.nodes.is_empty() && !self.preamble.uncertain {
            self.preamble.uncertain = true;
            if complain && !self.lexer.incomplete {
                self.mismatch_at_start(
                    Rule::step_node,
                    "the nodes come behind the cluster name: `node <number> admin conninfo = '…';`",
                );
            }
        }
        if self.lexer.incomplete {
            self.preamble.uncertain = true;
        }
    }

    /// Reads `cluster name` given again, as when scripts are put one behind the other: fine if it is the same cluster.
    /// False: there is no such line here.
    fn repeats_cluster_line(&mut self) -> bool {
        if !self.chunk.is_word(0, "cluster") {
            return false;
        }
        let Some((cluster, before)) = self.cluster.clone() else {
            return false;
        };
        let place = self.step_span();
        let Some((again, span)) = self
            .chunk
            .parse(Rule::step_cluster)
            .ok()
            .and_then(|step| self.cluster_name(step))
        else {
            return false;
        };
        self.chunk.finish();
        self.repeating = Some(place);
        if again == cluster {
            self.lexer.findings.push_once(
                Diagnostic::new(Code::RepeatedPreamble, place, "WARNING: `cluster name` is given again")
                    .related(before, "given here before")
                    .help("a script has one preamble, at its top: leave this one out"),
            );
        } else {
            self.lexer.findings.push(
                Diagnostic::new(
                    Code::AnotherCluster,
                    span,
                    format!("Error: the script is for cluster {cluster}, not for {again}"),
                )
                .related(before, "given here before")
                .help("write one script for each cluster, and give both to slonik"),
            );
        }
        true
    }

    fn cluster_name(&self, step: Pair<'_, Rule>) -> Option<(String, Span)> {
        let name = step.into_inner().flatten_rule(Rule::cluster_name)?;
        let (span, _) = self.chunk.ends_of(&name)?;
        Some((name.as_str().to_owned(), span))
    }

    fn read_node_line(&mut self) {
        let place = self.step_span();
        let number = self
            .chunk
            .tokens()
            .get(1)
            .filter(|token| token.kind == TokenKind::Number)
            .map(|token| token.span);
        let id = number.and_then(|span| self.number(span));
        let before = id.and_then(|id| self.preamble.note(id, place));
        if id.is_none() {
            self.preamble.uncertain = true;
        }
        match self.chunk.parse(Rule::step_node) {
            Ok(step) => {
                let conninfo = step
                    .into_inner()
                    .flatten_rule(Rule::string)
                    .map(|string| unquote(string.as_str()));
                let known = id.and_then(|id| self.preamble.conninfo(id));
                let repeated = self.repeating.is_some() && before.is_some() && known == conninfo.as_deref();
                if repeated {
                    // Says what is known already.
                } else if let (Some(id), Some(before)) = (id, before) {
                    self.lexer.findings.push(
                        Diagnostic::new(
                            Code::NodeGivenTwice,
                            place,
                            format!("Error: duplicate admin conninfo for node {id}"),
                        )
                        .related(before, "location of the previous definition"),
                    );
                } else if let (Some(id), Some(conninfo)) = (id, conninfo) {
                    self.preamble.add(AdminNode {
                        id,
                        conninfo,
                        span: place,
                    });
                }
            }
            Err(found) => self.mismatch(Rule::step_node, &found),
        }
        self.chunk.finish();
    }

    // ---- blocks ----------------------------------------------------------------------------------

    fn read_statements(&mut self) -> Vec<Statement> {
        let start = self.step_span();
        self.blocks.push(Block::new(BlockKind::Script, start, None));
        loop {
            self.chunk.fill(&mut self.lexer);
            if self.chunk.tokens().is_empty() {
                break;
            }
            if self.lexer.findings.errors_are_full() {
                let rest = self.step_span();
                self.lexer.findings.stop(rest);
                return Vec::new();
            }
            if self.closed_try.is_some() && self.chunk.is_word(0, "on") {
                self.open_handler();
                continue;
            }
            self.settle_try();
            if self.blocks.len() == 1 {
                if self.repeats_cluster_line() {
                    continue;
                }
                if self.repeating.is_some() && self.chunk.is_word(0, "node") {
                    self.read_node_line();
                    continue;
                }
            }
            self.repeating = None;
            if matches!(self.chunk.tokens().first(), Some(token) if token.kind == TokenKind::Sign(b'}')) {
                self.close_block();
            } else {
                self.read_step();
            }
        }
        self.settle_try();
        self.end_of_script()
    }

    fn end_of_script(&mut self) -> Vec<Statement> {
        let open = self
            .blocks
            .iter()
            .rev()
            .find(|block| block.kind != BlockKind::Script)
            .map(|block| block.opened);
        if let Some(opened) = open {
            if !self.lexer.incomplete {
                self.mismatch_with(0, Rule::right_brace, |finding| {
                    finding.related(opened, "this block is not closed")
                });
            }
        } else if self.blocks.iter().all(|block| !block.used) && !self.lexer.findings.has_unreadable_words() {
            self.mismatch_at_start(
                Rule::step_statement,
                "a script has at least one statement behind the preamble",
            );
        }
        self.blocks
            .drain(..)
            .next()
            .map(|script| script.statements)
            .unwrap_or_default()
    }

    /// `}` ends the innermost block.
    fn close_block(&mut self) {
        let brace = self.step_span();
        let closed = if self.blocks.len() > 1 { self.blocks.pop() } else { None };
        let Some(block) = closed else {
            self.mismatch_at_start(Rule::step_statement, "no block is open here");
            self.chunk.finish();
            return;
        };
        if !block.used && block.kind != BlockKind::Broken {
            self.mismatch_at_start(Rule::step_statement, "a block holds at least one statement");
        }
        self.chunk.finish();
        let statements = block.statements;
        let leaves = block.left_at.is_some();
        let fresh = |body, broken| OpenTry {
            block: TryBlock {
                body,
                on_error: None,
                on_success: None,
            },
            first: block.opened,
            last: brace,
            broken,
            leaves: Leaves {
                body: leaves,
                ..Leaves::default()
            },
        };
        self.closed_try = Some(match (block.kind, block.owner) {
            (BlockKind::OnError, Some(mut owner)) => {
                owner.block.on_error = Some(statements);
                owner.leaves.on_error = leaves;
                OpenTry { last: brace, ..owner }
            }
            (BlockKind::OnSuccess, Some(mut owner)) => {
                owner.block.on_success = Some(statements);
                owner.leaves.on_success = leaves;
                OpenTry { last: brace, ..owner }
            }
            (BlockKind::Try, _) => fresh(statements, false),
            (_, Some(owner)) => OpenTry {
                last: brace,
                broken: true,
                ..owner
            },
            (_, None) => fresh(Vec::new(), true),
        });
    }

    /// No more handlers: the `try` becomes a statement of the block around it.
    fn settle_try(&mut self) {
        let Some(closed) = self.closed_try.take() else { return };
        if !closed.broken {
            let span = self.lexer.sources.join(closed.first, closed.last);
            // Without `on error` a failure leaves the script as well.
            let leaves = (closed.leaves.body || closed.leaves.on_success)
                && (closed.block.on_error.is_none() || closed.leaves.on_error);
            self.reach(closed.first);
            self.add(Statement {
                kind: StatementKind::Try(closed.block),
                span,
            });
            if leaves {
                self.leave(span);
            }
        }
    }

    /// Warns about a statement that is never reached, once for each block.
    fn reach(&mut self, place: Span) {
        let Some(block) = self.blocks.last_mut() else { return };
        let Some(left_at) = block.left_at.filter(|_| !block.said_unreachable) else {
            return;
        };
        block.said_unreachable = true;
        self.lexer.findings.push(
            Diagnostic::new(
                Code::Unreachable,
                place,
                "WARNING: this statement and those behind it are never reached",
            )
            .related(left_at, "the script always ends here"),
        );
    }

    fn leave(&mut self, place: Span) {
        if let Some(block) = self.blocks.last_mut() {
            block.left_at.get_or_insert(place);
        }
    }

    fn add(&mut self, statement: Statement) {
        if let Some(block) = self.blocks.last_mut() {
            block.statements.push(statement);
        }
    }

    /// `on error {` or `on success {` behind the `}` of a `try`.
    fn open_handler(&mut self) {
        let opened = self.step_span();
        let Some(mut owner) = self.closed_try.take() else {
            return;
        };
        let kind = match self.chunk.parse(Rule::step_handler) {
            Ok(step) => {
                let kind = if step.into_inner().flatten_rule(Rule::kw_error).is_some() {
                    BlockKind::OnError
                } else {
                    BlockKind::OnSuccess
                };
                let twice = match kind {
                    BlockKind::OnError => owner.block.on_error.is_some(),
                    _ => owner.block.on_success.is_some(),
                };
                if twice && !owner.broken {
                    // Like slonik: with one handler missing, `on` could still be right.
                    let both = owner.block.on_error.is_some() && owner.block.on_success.is_some();
                    self.mismatch_with(usize::from(!both), Rule::step_handler, |finding| {
                        finding.help("a `try` has one `on error` and one `on success` block")
                    });
                    BlockKind::Broken
                } else {
                    kind
                }
            }
            Err(found) => {
                self.mismatch(Rule::step_handler, &found);
                BlockKind::Broken
            }
        };
        let opens = self.chunk_opens_block();
        self.chunk.finish();
        if kind == BlockKind::Broken {
            owner.broken = true;
        }
        if opens {
            self.open_block(kind, opened, Some(owner));
        } else {
            self.closed_try = Some(owner);
        }
    }

    fn open_block(&mut self, kind: BlockKind, opened: Span, owner: Option<OpenTry>) {
        if let Some(block) = self.blocks.last_mut() {
            block.used = true;
        }
        let mut block = Block::new(kind, opened, owner);
        if self.blocks.len() >= MAX_BLOCKS && !self.too_deep {
            self.too_deep = true;
            let message = format!("ERROR: blocks are nested deeper than {MAX_BLOCKS}");
            self.lexer
                .findings
                .push(Diagnostic::new(Code::NestedTooDeep, opened, message));
        }
        if self.blocks.len() >= MAX_BLOCKS {
            // Read on to find the closing braces, but keep nothing: a tree this deep could not even be
            // dropped safely.
            block.kind = BlockKind::Broken;
            block.owner = None;
        }
        self.blocks.push(block);
    }

    fn chunk_opens_block(&self) -> bool {
        matches!(self.chunk.tokens().last(), Some(token) if token.kind == TokenKind::Sign(b'{'))
    }

    // ---- one statement ---------------------------------------------------------------------------

    fn read_step(&mut self) {
        let kind = self.blocks.last().map_or(BlockKind::Script, |block| block.kind);
        if let Some(block) = self.blocks.last_mut() {
            block.used = true;
        }
        let place = self.step_span();
        let known = form::of_chunk(&self.chunk).find_map(|form| self.chunk.parse_as(form.rule));
        if let Some(statement) = known {
            if kind == BlockKind::Try && statement.as_rule() == Rule::wait_for_event {
                self.lexer.findings.push(
                    Diagnostic::new(Code::WaitInTry, place, "wait for event not allowed inside try block").help(
                        "nothing is committed before the block ends: wait behind the block, or in its `on success` block",
                    ),
                );
            }
            let in_handler = self
                .blocks
                .iter()
                .any(|block| matches!(block.kind, BlockKind::OnError | BlockKind::OnSuccess));
            let command = read_command(
                &mut self.lexer,
                &self.chunk,
                &self.preamble,
                self.options,
                statement,
                &mut self.flow,
                in_handler,
            );
            self.chunk.finish();
            self.reach(place);
            if let Some(command) = command {
                if matches!(command, Command::Exit { .. }) {
                    self.leave(place);
                }
                self.add(Statement {
                    kind: StatementKind::Command(command),
                    span: place,
                });
            }
            return;
        }
        let rule = if kind == BlockKind::Try {
            Rule::step_try_statement
        } else {
            Rule::step_statement
        };
        match self.chunk.parse(rule) {
            // Every command has its form, so this is the opening of a `try`.
            Ok(_) => {
                self.chunk.finish();
                self.open_block(BlockKind::Try, place, None);
            }
            Err(found) => self.skip_step(rule, &found, place),
        }
    }

    /// Reports a step that makes no sense, and finds where to go on.
    fn skip_step(&mut self, rule: Rule, found: &Mismatch, place: Span) {
        if found.index == 0 && self.chunk.is_word(0, "node") {
            // A node line too late still tells that there is such a node.
            self.preamble.uncertain = true;
        }
        self.mismatch(rule, found);
        self.report_further_options(rule, found);
        if mismatch::misses_semicolon(&self.chunk, found) {
            self.chunk.resume_at(found.index);
            return;
        }
        let opens = self.chunk_opens_block();
        self.chunk.finish();
        if opens {
            self.open_block(BlockKind::Broken, place, None);
        }
    }

    /// Leaves out an option that is not one, to see whether others behind it are not either.
    fn report_further_options(&mut self, rule: Rule, found: &Mismatch) {
        let mut index = found.index;
        let mut shorter = self.chunk.without_option(index);
        for _ in 0..MAX_OPTIONS {
            let Some(chunk) = shorter else { return };
            let Err(next) = chunk.parse(rule) else { return };
            let finding = mismatch::describe(&self.lexer.sources, &chunk, rule, &next);
            // Anything else may only follow from what was left out.
            if finding.code != Code::UnknownOption || next.index < index {
                return;
            }
            self.lexer.findings.push(finding);
            index = next.index;
            shorter = chunk.without_option(index);
        }
    }

    // ---- positions and messages --------------------------------------------------------------------

    /// From the first to the last token of the step; the end of the script if there is none.
    fn step_span(&self) -> Span {
        let tokens = self.chunk.tokens();
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => self.lexer.sources.join(first.span, last.span),
            _ => self.chunk.token(0).map_or(
                Span {
                    source: 0,
                    start: 0,
                    end: 0,
                    line: 1,
                },
                |token| token.span,
            ),
        }
    }

    fn number(&mut self, span: Span) -> Option<Id> {
        number(&self.lexer.sources, &mut self.lexer.findings, span)
    }

    fn mismatch(&mut self, rule: Rule, found: &Mismatch) {
        let at_end = found.index >= self.chunk.tokens().len();
        if at_end && self.nothing_left_because_incomplete() {
            return;
        }
        let finding = mismatch::describe(&self.lexer.sources, &self.chunk, rule, found);
        self.lexer.findings.push(finding);
    }

    fn mismatch_at_start(&mut self, rule: Rule, help: &str) {
        self.mismatch_with(0, rule, |finding| finding.help(help));
    }

    fn mismatch_with(&mut self, index: usize, rule: Rule, more: impl FnOnce(Diagnostic) -> Diagnostic) {
        let found = Mismatch {
            index,
            expected: Vec::new(),
        };
        let finding = mismatch::describe(&self.lexer.sources, &self.chunk, rule, &found);
        self.lexer.findings.push(more(finding));
    }

    /// The text ends here only because a part of it could not be read.
    fn nothing_left_because_incomplete(&self) -> bool {
        self.lexer.incomplete
            && self
                .chunk
                .token(self.chunk.tokens().len())
                .is_some_and(|token| token.kind == TokenKind::End)
    }
}

impl Block {
    fn new(kind: BlockKind, opened: Span, owner: Option<OpenTry>) -> Self {
        Self {
            kind,
            opened,
            statements: Vec::new(),
            used: false,
            owner,
            left_at: None,
            said_unreachable: false,
        }
    }
}
