//! slonik: the interpreter of slonik scripts, as a library.
//!
//! A [`Slonik`] reads scripts and executes them: parse everything, say everything that is wrong, and only then connect
//! and begin. What it knows of events survives from one script to the next, as with several files on a command line.

mod aftermath;
pub mod check;
pub mod cli;
mod connections;
mod examine;
mod failover;
mod failure;
mod interpreter;
mod interrupt;
mod memory;
pub mod plan;
mod progress;
mod report;

mod statements;
mod waits;
pub mod warnings;

use std::path::Path;
use std::sync::Arc;

use trunkline_grammar::{ParseOptions, Parsed, parse_file, parse_text};
use trunkline_sql::Cluster;

use crate::interpreter::{Interpreter, Stop};
pub use crate::interrupt::Interrupt;
use crate::memory::Memory;
use crate::plan::{Plan, Rehearsal};
use crate::report::Report;
pub use crate::report::{Output, Terminal};

/// The exit code after any error.
pub const EXIT_FAILED: u8 = 255;

/// How scripts are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether slonik waits by itself where an event builds on others (switched off by `-w`).
    pub automatic_waits: bool,
    /// Whether a script with warnings is refused like one with errors (`--deny-warnings`).
    pub deny_warnings: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            automatic_waits: true,
            deny_warnings: false,
        }
    }
}

/// The interpreter.
pub struct Slonik {
    options: Options,
    output: Arc<dyn Output>,
    memory: Memory,
    interrupt: Interrupt,
    /// What plans have foreseen so far, for which cluster.
    foreseen: Option<(Cluster, Rehearsal, Memory)>,
}

impl Slonik {
    /// An interpreter that speaks through `output`.
    #[must_use]
    pub fn new(options: Options, output: Arc<dyn Output>) -> Self {
        Self {
            options,
            output,
            memory: Memory::default(),
            interrupt: Interrupt::default(),
            foreseen: None,
        }
    }

    /// The way to stop what is being executed, from beside the future that executes it.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Runs scripts one after the other until one does not end with 0. The answer is the exit code.
    pub async fn run_files(&mut self, files: &[impl AsRef<Path>]) -> u8 {
        for file in files {
            let parsed = parse_file(file.as_ref(), &ParseOptions::default());
            let code = self.run_parsed(parsed).await;
            if code != 0 {
                return code;
            }
        }
        0
    }

    /// Runs a script from memory; `name` stands in front of its messages. The answer is the exit code.
    pub async fn run_text(&mut self, name: &str, text: impl Into<Vec<u8>>) -> u8 {
        let parsed = parse_text(name, text, &ParseOptions::default());
        self.run_parsed(parsed).await
    }

    /// Says what was found while reading, and executes the script if that was no error. The answer is the exit code.
    pub async fn run_parsed(&mut self, mut parsed: Parsed) -> u8 {
        self.judge(&mut parsed);
        check::say(&parsed, self.output.as_ref());
        if let Some(code) = parsed.exit_code() {
            return code;
        }
        let Some(script) = &parsed.script else {
            return EXIT_FAILED;
        };
        let report = Report::new(Arc::clone(&self.output));
        let cluster = match Cluster::new(&script.cluster) {
            Ok(cluster) => cluster,
            Err(error) => {
                report.set_place(parsed.sources.location(script.cluster_span));
                report.say(&format!("Error: {error}"));
                return EXIT_FAILED;
            }
        };
        let mut interpreter = Interpreter::new(
            cluster,
            script,
            &parsed.sources,
            &mut self.memory,
            report,
            self.interrupt.clone(),
            self.options,
        );
        match interpreter.run(script).await {
            Ok(()) => 0,
            Err(Stop::Failed) => EXIT_FAILED,
            Err(Stop::Exit(code)) => code,
        }
    }

    /// Everything that can be said of a script before it begins.
    fn judge(&self, parsed: &mut Parsed) {
        examine::examine(parsed);
        if self.options.deny_warnings {
            parsed.deny_warnings();
        }
    }

    /// What the script would do, as if the scripts planned before had been executed. It connects read-only and changes
    /// nothing. None: the script has an error, which its findings tell.
    pub async fn plan(&mut self, parsed: &mut Parsed) -> Option<Plan> {
        self.judge(parsed);
        if parsed.exit_code().is_some() {
            return None;
        }
        let script = parsed.script.as_ref()?;
        let cluster = Cluster::new(&script.cluster).ok()?;
        let before = self.foreseen.take().filter(|(of, ..)| *of == cluster);
        let (rehearsal, mut memory) =
            before.map_or_else(Default::default, |(_, rehearsal, memory)| (rehearsal, memory));
        let mut interpreter = Interpreter::new(
            cluster.clone(),
            script,
            &parsed.sources,
            &mut memory,
            Report::keeping(),
            self.interrupt.clone(),
            self.options,
        );
        interpreter.connections.begin_rehearsal(rehearsal);
        let plan = interpreter.rehearse(script).await;
        let rehearsal = interpreter.connections.take_rehearsal();
        self.foreseen = rehearsal.map(|rehearsal| (cluster, rehearsal, memory));
        Some(plan)
    }
}
