//! What all parts of a running slon share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use trunkline_sql::configuration::{self, Configuration};
use trunkline_sql::{Cluster, Session, SessionOptions};

use crate::monitor::Board;
use crate::parameters::Parameters;

/// The node this slon serves, from the start of a worker instance to its end.
///
/// A restart (signal, `"_C_Restart"`, lost lock) drops it and makes a new one: nothing here is needed to go on,
/// all lasting state is in the databases.
#[derive(Debug)]
pub struct Node {
    /// The cluster.
    pub cluster: Cluster,
    /// Local node number.
    pub id: i32,
    /// Whether the cluster schema is ours, or Slony's own.
    pub ours: bool,
    /// Connection string of the local database.
    pub conninfo: String,
    /// The effective parameters.
    pub parameters: Arc<Parameters>,
    /// The cluster as the local database knows it; replaced by [`Node::reload`].
    pub configuration: watch::Sender<Arc<Configuration>>,
    /// Grows with every [`Node::reload`]: what was learned before may be outdated.
    pub generation: AtomicU64,
    /// Rung when something new may be in the local database (an event stored, a confirmation forwarded).
    pub local_news: Notify,
    /// What each part is doing, for `sl_components`.
    pub board: Board,
    /// Ends the instance: every part returns soon after it is cancelled.
    pub cancel: CancellationToken,
}

impl Node {
    /// The current configuration.
    #[must_use]
    pub fn current(&self) -> Arc<Configuration> {
        self.configuration.borrow().clone()
    }

    /// How often the configuration was read; tables may have moved between sets when it grew.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Reads the configuration again; watchers are woken only if it changed.
    ///
    /// # Errors
    /// Any database error of the read.
    pub async fn reload(&self, session: &Session) -> Result<Arc<Configuration>, tokio_postgres::Error> {
        let fresh = Arc::new(configuration::load(session, &self.cluster).await?);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.configuration.send_if_modified(|current| {
            let changed = **current != *fresh;
            if changed {
                *current = Arc::clone(&fresh);
            }
            changed
        });
        Ok(fresh)
    }

    /// Options for a session of this slon; `role` follows `slon.` in `application_name`, as in Slony.
    #[must_use]
    pub fn session_options(&self, role: &str) -> SessionOptions {
        crate::sessions::options(&self.parameters, role)
    }
}
