//! The supervisor: keeps a worker instance running and answers signals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use trunkline_sql::Cluster;

use crate::backoff::Backoff;
use crate::instance::{self, Ending, InstanceError, Legacy};
use crate::logging as log;
use crate::parameters::Parameters;
use crate::signals::{Request, Signals};

/// How long an instance gets to end when the program stops.
const STOP_GRACE: Duration = Duration::from_millis(80);
/// How long an instance gets to end before the next one starts.
const RESTART_GRACE: Duration = Duration::from_secs(2);
/// An instance that lived this long was well; the pauses start over.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Exit code of a stop and of a fatal end.
pub const EXIT_OK: u8 = 0;
/// Wrong use, or a value the database refuses.
pub const EXIT_USAGE: u8 = 1;
/// The cluster goes on without this node: it was failed over, or dropped while it was an origin.
pub const EXIT_GIVEN_UP: u8 = 3;
/// SIGQUIT, or the pid file cannot be written.
pub const EXIT_QUIT: u8 = 255;

/// What ends the wait for an instance.
enum Event {
    Signal(Request),
    Ended(Result<Ending, InstanceError>),
}

/// Runs instances until told to stop; gives the exit code. `on_stop` is called as soon as the end is decided.
pub async fn run(parameters: Parameters, cluster: Cluster, mut signals: Signals, on_stop: impl Fn(u8)) -> u8 {
    let parameters = Arc::new(parameters);
    let mut legacy = Legacy::new();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let started = Instant::now();
        let cancel = CancellationToken::new();
        let event = {
            let mut instance = Box::pin(instance::run(&parameters, &cluster, &mut legacy, cancel.clone()));
            let event = tokio::select! {
                biased;
                request = signals.next() => Event::Signal(request),
                ended = &mut instance => Event::Ended(ended),
            };
            if let Event::Signal(request) = event {
                let grace = match request {
                    Request::Quit => Duration::ZERO,
                    Request::Stop => STOP_GRACE,
                    Request::Restart { .. } => RESTART_GRACE,
                };
                match request {
                    Request::Quit => on_stop(EXIT_QUIT),
                    Request::Stop => on_stop(EXIT_OK),
                    Request::Restart { .. } => {}
                }
                cancel.cancel();
                // Dropping it ends whatever has not ended by then.
                let _ = tokio::time::timeout(grace, instance).await;
            }
            event
        };
        let pause = match event {
            Event::Signal(Request::Quit) => return EXIT_QUIT,
            Event::Signal(Request::Stop) => return EXIT_OK,
            Event::Signal(Request::Restart { signal }) => {
                log::config!("slon: {signal} - restart of worker");
                Duration::ZERO
            }
            Event::Ended(Ok(Ending::Restart | Ending::Cancelled)) => {
                log::config!("slon: restart of worker");
                Duration::ZERO
            }
            Event::Ended(Ok(Ending::Dropped)) => backoff.next_pause(),
            Event::Ended(Ok(Ending::Conflict { node, holder })) => {
                log::fatal!(
                    "localListenThread: node {node} of cluster {} is served by {holder}\n\
                     Do you already have a slon running against this node?\n\
                     Or is it the backend of a slon that died with its host? It ends by itself within a minute or two, or: \
                     select pg_terminate_backend({})",
                    cluster.name(),
                    holder.backend_pid
                );
                let code = if parameters.exit_on_conflict {
                    EXIT_USAGE
                } else {
                    EXIT_OK
                };
                on_stop(code);
                return code;
            }
            Event::Ended(Ok(Ending::GivenUp(verdict))) => {
                log::fatal!(
                    "main: {verdict}\n\
                     Writers are kept out of these sets. The node stays out of the cluster until `slonctl rejoin` takes it \
                     back or `uninstall node` removes it from the database."
                );
                on_stop(EXIT_GIVEN_UP);
                return EXIT_GIVEN_UP;
            }
            Event::Ended(Err(error)) if error.is_final() => {
                log::fatal!("main: {error}");
                on_stop(EXIT_USAGE);
                return EXIT_USAGE;
            }
            Event::Ended(Err(error)) => {
                if started.elapsed() > HEALTHY_AFTER {
                    backoff.reset();
                }
                let pause = backoff.next_pause();
                log::error!("{error}");
                let pid = std::process::id();
                log::config!("slon: child terminated exit code: 1; pid: {pid}, current worker pid: {pid}");
                log::config!("slon: restart of worker in {:.1} seconds", pause.as_secs_f64());
                pause
            }
        };
        tokio::select! {
            request = signals.next() => match request {
                Request::Quit => {
                    on_stop(EXIT_QUIT);
                    return EXIT_QUIT;
                }
                Request::Stop => {
                    on_stop(EXIT_OK);
                    return EXIT_OK;
                }
                Request::Restart { .. } => {}
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}
