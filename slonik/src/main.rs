//! The program `slonik`.

use std::process::ExitCode;
use std::sync::Arc;

use trunkline_slonik::cli::{self, Invocation};
use trunkline_slonik::{EXIT_FAILED, Options, Output, Slonik, Terminal};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Invocation::Version(text) => {
            Terminal.out(&text);
            ExitCode::SUCCESS
        }
        Invocation::Usage(text) => {
            Terminal.err(&text);
            ExitCode::FAILURE
        }
        Invocation::Run { automatic_waits, files } => {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    Terminal.err(&format!("slonik: cannot start: {error}\n"));
                    return ExitCode::from(EXIT_FAILED);
                }
            };
            let mut slonik = Slonik::new(Options { automatic_waits }, Arc::new(Terminal));
            ExitCode::from(runtime.block_on(slonik.run_files(&files)))
        }
    }
}
