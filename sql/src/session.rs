//! The one way to connect to a node's database.
//!
//! A [`Session`] owns one connection: the client, the task that drives its socket, the channels that rang and the
//! sink of the server's notices. Dropping it closes the connection.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::error::DbError;

/// Receives each NOTICE or WARNING of the server, called from the task that drives the connection: be quick.
pub type NoticeSink = Arc<dyn Fn(&DbError) + Send + Sync>;

/// TCP keepalive settings used when the connection string says nothing about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalives {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Lost probes before the connection counts as dead.
    pub count: u32,
    /// How long sent data may stay unacknowledged.
    pub tcp_user_timeout: Duration,
}

impl Default for Keepalives {
    /// A dead peer is noticed after a minute, not after libpq's two hours.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            tcp_user_timeout: Duration::from_secs(60),
        }
    }
}

/// How to connect, beside what the connection string says.
#[derive(Clone, Default)]
pub struct SessionOptions {
    /// Shown in `pg_stat_activity`; wins over the connection string unless empty.
    pub application_name: String,
    /// SQL run right after connecting, in order.
    pub on_connect: Vec<String>,
    /// Receives the server's notices.
    pub notice: Option<NoticeSink>,
    /// Used per host when the connection string has no `connect_timeout`; 10 seconds if `None`.
    pub connect_timeout: Option<Duration>,
    /// Used when the connection string is silent about keepalives.
    pub keepalives: Option<Keepalives>,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string is wrong.
    #[error("invalid connection string `{conninfo}`: {reason}")]
    Conninfo {
        /// The string, without its password.
        conninfo: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No host let us in.
    #[error("cannot connect to {target}: {reason}")]
    Failed {
        /// Where we tried to go.
        target: String,
        /// What each host said.
        reason: String,
    },
}

/// The connection of a session is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection to {target} is closed: {reason}")]
pub struct SessionClosed {
    /// Where it went.
    pub target: String,
    /// What ended it.
    pub reason: String,
}

#[derive(Default)]
struct Life {
    /// Channels that rang since the last look; as many as the session listens to, at most.
    rang: BTreeSet<String>,
    closed: Option<String>,
}

/// One connection to one database.
pub struct Session {
    client: tokio_postgres::Client,
    life: Arc<watch::Sender<Life>>,
    target: String,
    backend_pid: i32,
    server_version: i32,
    driver: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Connects as the connection string and `options` say, within a bounded time.
    pub async fn connect(conninfo: &str, options: &SessionOptions) -> Result<Session, ConnectError> {
        let mut config: tokio_postgres::Config = conninfo
            .parse()
            .map_err(|error| ConnectError::Conninfo { conninfo: redact(conninfo), reason: error_text(&error) })?;
        if !options.application_name.is_empty() {
            config.application_name(&options.application_name);
        }
        let target = format!(
            "{:?}:{:?}/{} as {}",
            config.get_hosts(),
            config.get_ports(),
            config.get_dbname().unwrap_or_default(),
            config.get_user().unwrap_or_default()
        );
        let failed = |reason: String| ConnectError::Failed { target: target.clone(), reason };
        let limit = options.connect_timeout.unwrap_or(Duration::from_secs(10));
        let (client, connection) = tokio::time::timeout(limit, config.connect(tokio_postgres::NoTls))
            .await
            .map_err(|_| failed("timeout expired".to_owned()))?
            .map_err(|error| failed(error_text(&error)))?;
        let life = Arc::new(watch::Sender::new(Life::default()));
        let driver = tokio::spawn(drive(connection, options.notice.clone(), Arc::clone(&life)));
        let mut session = Session { client, life, target: target.clone(), backend_pid: 0, server_version: 0, driver };
        let row = session
            .client
            .query_one(
                "select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')::pg_catalog.int4",
                &[],
            )
            .await
            .map_err(|error| failed(error_text(&error)))?;
        session.backend_pid = row.get(0);
        session.server_version = row.get(1);
        for statement in &options.on_connect {
            session.client.batch_execute(statement).await.map_err(|error| failed(error_text(&error)))?;
        }
        Ok(session)
    }

    /// Process id of the server process that serves this session.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// `server_version_num` of the server, for example 150018.
    #[must_use]
    pub fn server_version(&self) -> i32 {
        self.server_version
    }

    /// Waits until at least one channel rang and takes the names of all that did.
    ///
    /// Cancel-safe: nothing is lost when the future is dropped.
    pub async fn notified(&self) -> Result<BTreeSet<String>, SessionClosed> {
        let mut life = self.life.subscribe();
        // An error means the sender is gone, which we hold ourselves.
        let _ = life.wait_for(|life| !life.rang.is_empty() || life.closed.is_some()).await;
        let mut rang = BTreeSet::new();
        let mut closed = None;
        self.life.send_if_modified(|life| {
            rang = std::mem::take(&mut life.rang);
            closed.clone_from(&life.closed);
            false
        });
        match closed {
            Some(reason) if rang.is_empty() => Err(SessionClosed { target: self.target.clone(), reason }),
            _ => Ok(rang),
        }
    }

    /// Resolves when the connection is gone.
    pub async fn closed(&self) {
        let mut life = self.life.subscribe();
        let _ = life.wait_for(|life| life.closed.is_some()).await;
    }

    /// What ended the connection, if it has ended.
    #[must_use]
    pub fn closed_reason(&self) -> Option<String> {
        self.life.borrow().closed.clone()
    }

    /// The client, for transactions.
    pub fn client_mut(&mut self) -> &mut tokio_postgres::Client {
        &mut self.client
    }

    /// Asks the server to cancel the running statement; the future does not borrow the session.
    pub fn cancel(&self) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static {
        let token = self.client.cancel_token();
        async move { token.cancel_query(tokio_postgres::NoTls).await }
    }

    /// `host:port/dbname as user`, for messages.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Deref for Session {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    notice: Option<NoticeSink>,
    life: Arc<watch::Sender<Life>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let reason = loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(tokio_postgres::AsyncMessage::Notification(ring))) => {
                life.send_modify(|life| {
                    life.rang.insert(ring.channel().to_owned());
                });
            }
            Some(Ok(tokio_postgres::AsyncMessage::Notice(message))) => {
                if let Some(sink) = &notice {
                    sink(&message);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break error_text(&error),
            None => break "closed".to_owned(),
        }
    };
    life.send_modify(|life| life.closed = Some(reason));
}

/// An error of a statement in full: `ERROR: message` with DETAIL, HINT and CONTEXT, or the chain of causes.
#[must_use]
pub fn error_text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return db_error_text(db);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

fn db_error_text(error: &DbError) -> String {
    let mut text = format!("{}: {}", error.severity(), error.message());
    if let Some(detail) = error.detail() {
        let _ = write!(text, "\nDETAIL: {detail}");
    }
    if let Some(hint) = error.hint() {
        let _ = write!(text, "\nHINT: {hint}");
    }
    if let Some(context) = error.where_() {
        let _ = write!(text, "\nCONTEXT: {context}");
    }
    text
}

/// A connection string with its password replaced, for messages.
#[must_use]
pub fn redact(conninfo: &str) -> String {
    if conninfo.contains("password") || conninfo.contains("://") { "(hidden)".to_owned() } else { conninfo.to_owned() }
}
