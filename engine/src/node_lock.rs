//! The node lock: exactly one slon serves a node, and everybody can see which.
//!
//! The lock is the row (node, 0, backend pid) of `sl_nodelock` and lives as long as that backend. slonik's failover waits
//! for its pid to change, so each worker instance takes it with a new connection.

use std::time::{Duration, Instant};

use trunkline_sql::daemon::{self, DaemonIdentity, LockHolder, NodeLock};
use trunkline_sql::{Cluster, Session};

use crate::logging as log;

/// How long a holder that may be just going away (a slon that was killed, its backend still closing) is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// The backend of our own previous instance is ended by force after this time ...
const OWN_PATIENCE: Duration = Duration::from_millis(500);
/// ... and given up after that.
const OWN_LIMIT: Duration = Duration::from_secs(15);

/// This daemon, for the row in `tl_daemon`.
#[must_use]
pub fn identity() -> DaemonIdentity {
    let host =
        nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned());
    DaemonIdentity {
        host,
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Takes the lock for `session`; gives the holder if another slon keeps it. `previous` is the backend that held the lock
/// for this process before.
pub async fn acquire(
    session: &mut Session,
    cluster: &Cluster,
    node: i32,
    ours: bool,
    previous: Option<i32>,
) -> Result<Result<(), LockHolder>, tokio_postgres::Error> {
    let identity = identity();
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    let mut terminated = false;
    loop {
        let holder = match daemon::take_node_lock(session.client_mut(), cluster, node, ours, &identity).await? {
            NodeLock::Taken => return Ok(Ok(())),
            NodeLock::Held(holder) => holder,
        };
        let own = previous == Some(holder.backend_pid);
        if own && !terminated && started.elapsed() > OWN_PATIENCE {
            log::warn!(
                "main: ending our former backend {}, which still holds the node lock",
                holder.backend_pid
            );
            daemon::terminate_backend(session, holder.backend_pid).await?;
            terminated = true;
        }
        if started.elapsed() > if own { OWN_LIMIT } else { GRACE } {
            return Ok(Err(holder));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
