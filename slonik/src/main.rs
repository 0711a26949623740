//! The program `slonik`.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use trunkline_grammar::{ParseOptions, Parsed, parse_file, parse_text};
use trunkline_slonik::cli::{self, Invocation, Request, Task};
use trunkline_slonik::plan::dry_run;
use trunkline_slonik::{EXIT_FAILED, Options, Output, Slonik, Terminal, check, warnings};

fn main() -> ExitCode {
    warnings::to_stderr();
    match cli::parse(std::env::args_os().skip(1)) {
        Invocation::Version(text) => {
            Terminal.out(&text);
            ExitCode::SUCCESS
        }
        Invocation::Usage(text) => {
            Terminal.err(&text);
            ExitCode::FAILURE
        }
        Invocation::Run(request) => ExitCode::from(serve(&request).unwrap_or_else(|error| {
            Terminal.err(&format!("slonik: {error}\n"));
            EXIT_FAILED
        })),
    }
}

fn serve(request: &Request) -> std::io::Result<u8> {
    // Read before signals are caught, so that Ctrl-C ends the reading as well.
    let mut typed = Vec::new();
    if request.files.is_empty() {
        std::io::stdin().lock().read_to_end(&mut typed)?;
    }
    match request.task {
        Task::Check => Ok(check::check(
            scripts(&request.files, typed),
            request.format,
            request.options.deny_warnings,
            &Terminal,
        )),
        Task::Execute => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(request.options, &request.files, typed))
        }
        Task::DryRun => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut slonik = Slonik::new(request.options, Arc::new(Terminal));
            let scripts = scripts(&request.files, typed);
            Ok(runtime.block_on(dry_run(&mut slonik, scripts, request.format, &Terminal)))
        }
    }
}

/// The scripts of the command line, each read when it is asked for.
fn scripts(files: &[PathBuf], typed: Vec<u8>) -> impl Iterator<Item = Parsed> {
    let typed = files.is_empty().then_some(typed);
    files
        .iter()
        .map(|file| parse_file(file, &ParseOptions::default()))
        .chain(typed.map(|text| parse_text("<stdin>", text, &ParseOptions::default())))
}

/// Runs the scripts, or stops at SIGINT and SIGTERM: then nothing of the statement, or of the `try` block, that was
/// being executed stays, and the exit code is the one shells use.
async fn run(options: Options, files: &[PathBuf], typed: Vec<u8>) -> std::io::Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut slonik = Slonik::new(options, Arc::new(Terminal));
    let running = slonik.interrupt();
    let script = async {
        if files.is_empty() {
            slonik.run_text("<stdin>", typed).await
        } else {
            slonik.run_files(files).await
        }
    };
    tokio::pin!(script);
    let (name, number) = tokio::select! {
        code = &mut script => return Ok(code),
        _ = interrupt.recv() => ("SIGINT", 2),
        _ = terminate.recv() => ("SIGTERM", 15),
    };
    // The script is not dropped before this: its connections are what is cancelled.
    running.cancel_running().await;
    Terminal.err(&format!("slonik: stopped by {name}\n"));
    for line in running.aftermath_text() {
        Terminal.err(&format!("slonik: {line}\n"));
    }
    Ok(128 + number)
}
