//! slonctl: the operator's tool.

use std::process::ExitCode;

use trunkline_slonctl::cli;

fn main() -> ExitCode {
    trunkline_slonik::warnings::to_stderr();
    cli::main(std::env::args_os()).into()
}
