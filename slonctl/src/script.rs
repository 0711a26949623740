//! slonik scripts that slonctl writes, shows and runs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use trunkline_slonik::{Interrupt, Options, Output, Slonik};
use trunkline_sql::session::redact;

use crate::console::Console;
use crate::view::ClusterView;

/// Name in front of slonik's messages.
const NAME: &str = "slonctl";

/// A script under construction.
#[derive(Debug, Clone)]
pub(crate) struct Script<M> {
    cluster: String,
    nodes: Vec<(i32, String)>,
    lines: Vec<Line<M>>,
}

#[derive(Debug, Clone)]
struct Line<M> {
    text: String,
    node: Option<i32>,
    mark: Option<M>,
}

/// Marks of a running script that have been reached, with the time.
pub(crate) type Marks<M> = Vec<(M, Instant)>;

impl<M: Copy + PartialEq + Send + Sync + 'static> Script<M> {
    /// A script whose preamble names those of `nodes` that a way is known to.
    pub(crate) fn new(view: &ClusterView, nodes: impl IntoIterator<Item = i32>) -> Self {
        let nodes = nodes
            .into_iter()
            .filter_map(|id| Some((id, view.node(id)?.conninfo()?.to_owned())))
            .collect();
        Self {
            cluster: view.cluster.name().to_owned(),
            nodes,
            lines: Vec::new(),
        }
    }

    /// A line of the script that belongs to `node`.
    pub(crate) fn line(&mut self, node: Option<i32>, text: impl Into<String>) {
        self.lines.push(Line {
            text: text.into(),
            node,
            mark: None,
        });
    }

    /// Lines that belong to no node.
    pub(crate) fn lines<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        for text in lines {
            self.line(None, text);
        }
    }

    /// An `echo` that tells people, and us, how far the script is.
    pub(crate) fn mark(&mut self, node: Option<i32>, mark: M, text: &str) {
        self.lines.push(Line {
            text: format!("echo {};", literal(text)),
            node,
            mark: Some(mark),
        });
    }

    /// The script as slonik runs it, passwords included.
    fn text(&self) -> String {
        self.write(str::to_owned)
    }

    fn preamble(&self, show: impl Fn(&str) -> String) -> String {
        let mut text = format!("cluster name = {};\n", self.cluster);
        for (id, conninfo) in &self.nodes {
            let _ = writeln!(text, "node {id} admin conninfo = {};", literal(&show(conninfo)));
        }
        text
    }

    fn write(&self, show: impl Fn(&str) -> String) -> String {
        let mut text = self.preamble(show);
        for line in &self.lines {
            text.push_str(&line.text);
            text.push('\n');
        }
        text
    }

    /// Prepares a run that speaks through `console`.
    pub(crate) fn run(&self, console: &Console) -> ScriptRun<M> {
        let (marks, reached) = watch::channel(Vec::new());
        let output = ScriptOutput {
            console: console.clone(),
            lines: self.lines.clone(),
            // A conninfo may hold line feeds.
            first: 1 + self.preamble(str::to_owned).matches('\n').count(),
            marks,
        };
        let slonik = Slonik::new(Options::default(), Arc::new(output));
        ScriptRun {
            text: self.text(),
            interrupt: slonik.interrupt(),
            slonik,
            reached,
        }
    }
}

impl<M: Copy + PartialEq + Send + Sync + 'static> std::fmt::Display for Script<M> {
    /// The script for people: indented, without passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("The slonik script that does it:")?;
        self.write(redact)
            .lines()
            .try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// A script about to run.
pub(crate) struct ScriptRun<M> {
    text: String,
    slonik: Slonik,
    /// Stops what it is executing.
    pub(crate) interrupt: Interrupt,
    /// Marks reached so far.
    pub(crate) reached: watch::Receiver<Marks<M>>,
}

impl<M> ScriptRun<M> {
    /// Runs it; true if it came to its end.
    pub(crate) async fn execute(&mut self) -> bool {
        // The interpreter's future is large; boxed, it does not make those that contain it large as well.
        Box::pin(self.slonik.run_text(NAME, self.text.clone())).await == 0
    }
}

/// slonik's voice: each message is shown with the node its statement belongs to.
struct ScriptOutput<M> {
    console: Console,
    lines: Vec<Line<M>>,
    /// Number of the line behind the preamble.
    first: usize,
    marks: watch::Sender<Marks<M>>,
}

impl<M: Copy + Send + Sync> ScriptOutput<M> {
    fn speak(&self, kind: &str, text: &str) {
        let text = text.trim_end_matches('\n');
        let placed = text
            .strip_prefix(NAME)
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(|rest| rest.split_once(": "))
            .and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)));
        let Some((number, words)) = placed else {
            self.console.event(None, kind, text);
            return;
        };
        let line = number.checked_sub(self.first).and_then(|index| self.lines.get(index));
        self.console.event(line.and_then(|line| line.node), kind, words);
        if let Some(mark) = line.and_then(|line| line.mark) {
            self.marks.send_modify(|reached| reached.push((mark, Instant::now())));
        }
    }
}

impl<M: Copy + Send + Sync> Output for ScriptOutput<M> {
    fn out(&self, text: &str) {
        self.speak("slonik", text);
    }

    fn err(&self, text: &str) {
        self.speak("slonik_error", text);
    }
}

/// A slonik string.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
