//! The signals slon answers to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// TERM, INT: stop, exit code 0.
    Stop,
    /// HUP, USR1, ALRM: a new worker instance, at once.
    Restart {
        /// The signal, for the log.
        signal: &'static str,
    },
    /// QUIT: exit code 255, at once.
    Quit,
}

/// Receiver of the signals; from its making on none of them has its default effect.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
    alarm: Signal,
    quit: Signal,
}

impl Signals {
    /// Starts listening; needs the runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            alarm: signal(SignalKind::alarm())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next request; cancel-safe.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.quit.recv() => Request::Quit,
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Restart { signal: "SIGHUP" },
            _ = self.user.recv() => Request::Restart { signal: "SIGUSR1" },
            _ = self.alarm.recv() => Request::Restart { signal: "SIGALRM" },
        }
    }
}
