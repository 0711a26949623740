//! slonctl: the operator's tool.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trunkline_slonctl::demo::{self, DemoOptions};

/// The operator's tool of a Trunkline cluster.
#[derive(Debug, Parser)]
#[command(name = "slonctl", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds a cluster of three throwaway nodes, works on it under load and proves that all nodes are equal.
    ///
    /// Needs the PostgreSQL server programs (with contrib): `TRUNKLINE_PGBIN`, `pg_config` and the usual places are
    /// searched. Exit code 0 only if all nodes are equal and no acknowledged write is lost.
    Demo {
        /// Leave the cluster running at the end, and say how to connect and how to stop it.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = match arguments.command {
        Command::Demo { keep } => runtime.block_on(demo::run(&DemoOptions { keep })),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong, with its causes.
fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprint!("slonctl: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
    ExitCode::FAILURE
}
