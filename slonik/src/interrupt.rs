//! Stopping a script from outside: what the server is doing at that moment is cancelled, not left behind.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trunkline_sql::Session;

use crate::aftermath::Aftermath;

type Cancel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long a cancel request may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Stops the statement that an interpreter is executing.
///
/// Dropping the interpreter's future closes its connections, which rolls back; but a server process that waits for a
/// lock notices that only when it has got the lock.
#[derive(Clone, Default)]
pub struct Interrupt {
    running: Arc<Mutex<Option<Cancel>>>,
    aftermath: Aftermath,
}

impl Interrupt {
    /// Asks the server to cancel what it is executing for us, if anything.
    pub async fn cancel_running(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cancel) = running {
            // The script ends in any case; a server that does not answer cannot hold us up.
            let _ = tokio::time::timeout(LIMIT, cancel).await;
        }
    }

    /// How things stand after the interruption: what is committed, what is locked, how to go on. One line each.
    #[must_use]
    pub fn aftermath_text(&self) -> Vec<String> {
        self.aftermath.interrupted()
    }

    /// How things stand, to be kept up to date.
    pub(crate) fn aftermath(&self) -> &Aftermath {
        &self.aftermath
    }

    /// Notes that `session` executes something, until the guard is dropped.
    pub(crate) fn running(&self, session: &Session) -> Running {
        let cancel = session.cancel();
        let cancel: Cancel = Box::pin(async move {
            let _ = cancel.await;
        });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(cancel);
        Running {
            interrupt: self.clone(),
        }
    }
}

/// While it lives, there is something to cancel.
pub(crate) struct Running {
    interrupt: Interrupt,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}
