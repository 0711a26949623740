//! What all parts of a running slon share.

use std::sync::Arc;

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
    /// Connection string of the local database.
    pub conninfo: String,
    /// The effective parameters.
    pub parameters: Arc<Parameters>,
    /// The cluster as the local database knows it; replaced by [`Node::reload`].
    pub configuration: watch::Sender<Arc<Configuration>>,
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

    /// Reads the configuration again; watchers are woken only if it changed.
    ///
    /// # Errors
    /// Any database error of the read.
    pub async fn reload(&self, session: &Session) -> Result<Arc<Configuration>, tokio_postgres::Error> {
        let fresh = Arc::new(configuration::load(session, &self.cluster).await?);
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
        let mut on_connect = Vec::new();
        if let Some(sql) = &self.parameters.sql_on_connection {
            on_connect.push(sql.clone());
        }
        // What is applied must be read the way it was logged, whatever the role's or database's defaults are.
        on_connect.push(
            "set datestyle to iso; set intervalstyle to postgres; set standard_conforming_strings to on; \
             set lc_monetary to 'C'; set statement_timeout to 0; set lock_timeout to 0; \
             set idle_in_transaction_session_timeout to 0"
                .to_owned(),
        );
        SessionOptions { application_name: format!("slon.{role}"), on_connect, ..SessionOptions::default() }
    }
}
