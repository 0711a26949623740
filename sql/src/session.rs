//! The one way to connect to a node's database.
//!
//! A [`Session`] owns one connection: the client, the task that drives its socket, the channels that rang and the
//! sink of the server's notices. Dropping it closes the connection.

mod connect;
mod error;
mod gate;
mod probe;
mod transport;
mod warnings;

use std::collections::{BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Connection, Statement};

pub use crate::conninfo::redact;
use crate::conninfo::{Environment, ServerRole};
use connect::{Plan, Route};
pub use error::{AttemptError, AttemptFailure, ConnectError, SessionClosed, db_error_text, error_text};
use probe::{PROBE, Server};
use transport::Transport;

/// How long a dropped session may take to say goodbye before its socket is closed all the same.
const GOODBYE: Duration = Duration::from_millis(250);

/// Most statements that [`Session::statement`] keeps.
const MOST_STATEMENTS: usize = 100;

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

#[derive(Default)]
struct Life {
    /// Channels that rang since the last look; as many as the session listens to, at most.
    rang: BTreeSet<String>,
    closed: Option<String>,
}

/// One connection to one database.
///
/// Dropping it closes the connection, within a quarter of a second even if the server does not answer. A statement
/// that still runs then goes on until the server notices; [`Session::cancel`] it first if that matters.
pub struct Session {
    client: tokio_postgres::Client,
    life: Arc<watch::Sender<Life>>,
    target: String,
    route: Route,
    backend_pid: i32,
    server_version: i32,
    statements: Mutex<HashMap<String, Statement>>,
    /// Dropped with the session, which tells the driver task to end.
    _alive: oneshot::Sender<()>,
}

impl Session {
    /// Connects as the connection string and `options` say.
    ///
    /// Takes at most the connect timeout per address, and may be dropped at any time: nothing stays behind.
    pub async fn connect(conninfo: &str, options: &SessionOptions) -> Result<Session, ConnectError> {
        Plan::prepare(conninfo, options, None).await?.connect(options).await
    }

    /// As [`Self::connect`], with the gaps of the connection string filled from `environment`.
    pub async fn connect_from(
        conninfo: &str,
        options: &SessionOptions,
        environment: Environment,
    ) -> Result<Session, ConnectError> {
        Plan::prepare(conninfo, options, Some(environment))
            .await?
            .connect(options)
            .await
    }

    /// Takes over a connection that has just logged in.
    fn start(
        client: tokio_postgres::Client,
        connection: Connection<Transport, Transport>,
        target: String,
        route: Route,
        options: &SessionOptions,
    ) -> Session {
        let life = Arc::new(watch::Sender::new(Life::default()));
        let (alive, dropped) = oneshot::channel();
        tokio::spawn(drive(connection, options.notice.clone(), Arc::clone(&life), dropped));
        Session {
            client,
            life,
            target,
            route,
            backend_pid: 0,
            server_version: 0,
            statements: Mutex::default(),
            _alive: alive,
        }
    }

    /// Asks the server who it is and runs the statements of `options`, all in one round trip.
    async fn look_around(mut self, role: ServerRole, options: &SessionOptions) -> Result<Session, AttemptError> {
        // Polled together and first polled in order, the requests leave in order without waiting for answers.
        let statements = join_all(
            options
                .on_connect
                .iter()
                .map(|statement| self.client.batch_execute(statement)),
        );
        let (messages, results) = futures_util::future::join(self.client.simple_query(PROBE), statements).await;
        let server = Server::read(&messages?)?;
        server.check(role)?;
        results.into_iter().collect::<Result<(), _>>()?;
        self.backend_pid = server.backend_pid;
        self.server_version = server.version;
        Ok(self)
    }

    /// The prepared form of a statement, prepared when it is asked for first: for texts that are sent again and again.
    ///
    /// With it in hand a request is one message and one answer, and is on its way when its future is polled first.
    pub async fn statement(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.known_statements().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let mut known = self.known_statements();
        if known.len() >= MOST_STATEMENTS {
            known.clear();
        }
        known.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn known_statements(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
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
        let _ = life
            .wait_for(|life| !life.rang.is_empty() || life.closed.is_some())
            .await;
        let mut rang = BTreeSet::new();
        let mut closed = None;
        self.life.send_if_modified(|life| {
            rang = std::mem::take(&mut life.rang);
            closed.clone_from(&life.closed);
            false
        });
        match closed {
            Some(reason) if rang.is_empty() => Err(SessionClosed {
                target: self.target.clone(),
                reason,
            }),
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

    /// Asks the server to cancel the running statement, on a connection of its own and within the connect timeout;
    /// the future does not borrow the session.
    pub fn cancel(&self) -> impl Future<Output = Result<(), AttemptError>> + Send + 'static {
        self.route.clone().cancel(self.client.cancel_token())
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
        formatter
            .debug_struct("Session")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Drives the connection until it ends or its session is dropped.
async fn drive(
    mut connection: Connection<Transport, Transport>,
    notice: Option<NoticeSink>,
    life: Arc<watch::Sender<Life>>,
    dropped: oneshot::Receiver<()>,
) {
    let run = async {
        loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(ring))) => life.send_modify(|life| {
                    life.rang.insert(ring.channel().to_owned());
                }),
                Some(Ok(AsyncMessage::Notice(message))) => {
                    if let Some(sink) = &notice {
                        sink(&message);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => break error_text(&error),
                None => break "closed by us".to_owned(),
            }
        }
    };
    let deadline = async {
        // Never sent, only dropped.
        let _ = dropped.await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::pin!(run, deadline);
    let reason = tokio::select! {
        reason = run => reason,
        () = deadline => "the server did not answer while the session was being closed".to_owned(),
    };
    life.send_modify(|life| life.closed = Some(reason));
}
