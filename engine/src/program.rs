//! The program `slon`: command line in, exit code out.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use trunkline_sql::Cluster;
use trunkline_sql::daemon::PROTOCOL_VERSION;

use crate::allocator;
use crate::cli::{self, Invocation};
use crate::logging as log;
use crate::parameters::Parameters;
use crate::pid_file::PidFile;
use crate::signals::Signals;
use crate::supervisor::{self, EXIT_OK, EXIT_QUIT, EXIT_USAGE};

/// After the end is decided the process ends within this time, even if the log's reader has stopped reading.
const LAST_RESORT: Duration = Duration::from_secs(2);
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_millis(200);
/// Threads of the runtime; the work is waiting for databases.
const RUNTIME_THREADS: usize = 2;

/// Runs slon with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    allocator::fix_threshold();
    log::start();
    let arguments = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    let invocation = cli::parse(arguments, std::env::var("CLUSTER").ok(), |path| {
        std::fs::read_to_string(path)
    });
    let code = match invocation {
        Ok(Invocation::Help { code }) => {
            log::write_stdout(cli::usage().as_bytes());
            code
        }
        Ok(Invocation::Version) => {
            let version = env!("CARGO_PKG_VERSION");
            log::write_stdout(format!("slon version {PROTOCOL_VERSION} (Trunkline {version})\n").as_bytes());
            EXIT_OK
        }
        Ok(Invocation::Run { parameters, warnings }) => run(*parameters, &warnings),
        Err(error) => {
            for problem in &error.problems {
                log::fatal!("main: {problem}");
            }
            let mut text = error.to_string();
            text.push('\n');
            if error.show_usage {
                text.push('\n');
                text.push_str(&cli::usage());
            }
            // Nobody may be reading stderr either.
            let _ = std::io::stderr().write_all(text.as_bytes());
            EXIT_USAGE
        }
    };
    log::flush(LAST_LINES);
    ExitCode::from(code)
}

fn run(parameters: Parameters, warnings: &[String]) -> u8 {
    log::apply(parameters.log_settings());
    for warning in warnings {
        log::warn!("{warning}");
    }
    let cluster = match Cluster::new(parameters.cluster_name.as_deref().unwrap_or_default()) {
        Ok(cluster) => cluster,
        Err(error) => {
            log::fatal!("main: {error}");
            return EXIT_USAGE;
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    log::config!("main: slon version {PROTOCOL_VERSION} starting up (Trunkline {version})");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("slon")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            log::fatal!("slon: cannot start the runtime: {error}");
            return EXIT_QUIT;
        }
    };
    // Before there is a pid file, so that a signal cannot leave one behind.
    let signals = match runtime.block_on(async { Signals::listen() }) {
        Ok(signals) => signals,
        Err(error) => {
            log::fatal!("slon: cannot listen to signals: {error}");
            return EXIT_QUIT;
        }
    };
    let pid_file = match parameters.pid_file.as_deref().map(PidFile::create).transpose() {
        Ok(pid_file) => Arc::new(pid_file),
        Err(error) => {
            log::fatal!("slon: {error}");
            return EXIT_QUIT;
        }
    };
    log::info!("slon: watchdog process started");
    log::config!("slon: watchdog ready - pid = {}", std::process::id());
    for line in parameters.dump() {
        log::config!("main: {line}");
    }
    let on_stop = |code| last_resort(&pid_file, code);
    let code = runtime.block_on(supervisor::run(parameters, cluster, signals, on_stop));
    // What has not ended by now is cut off; its transactions roll back.
    runtime.shutdown_background();
    log::info!("slon: done");
    if let Some(file) = pid_file.as_ref() {
        log::info!("slon: remove pid file");
        file.remove();
    }
    log::info!("slon: exit({code})");
    code
}

/// Ends the process by force should the orderly way hang, for example in a full pipe nobody reads.
fn last_resort(pid_file: &Arc<Option<PidFile>>, code: u8) {
    let pid_file = Arc::clone(pid_file);
    let spawned = std::thread::Builder::new()
        .name("last resort".to_owned())
        .spawn(move || {
            std::thread::sleep(LAST_RESORT);
            if let Some(file) = pid_file.as_ref() {
                file.remove();
            }
            std::process::exit(i32::from(code));
        });
    if spawned.is_err() {
        log::debug1!("slon: no thread for the last resort");
    }
}
