//! From a connection string to a connection: hosts in order, TLS or not, the right kind of server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Uid, User};
use rand::seq::SliceRandom as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{self, SslMode as DriverSslMode, SslNegotiation as DriverSslNegotiation};

use super::error::{AttemptError, AttemptFailure, ConnectError};
use super::gate::Gate;
use super::transport::{Adopt, Transport, configure};
use super::{Keepalives, Session, SessionOptions};
use crate::conninfo::{
    ChannelBinding, Endpoint, Environment, Host, ServerRole, Setting, Settings, SslMode, SslNegotiation, redact,
    socket_path,
};
use crate::tls::{Tls, TlsError};

/// Per address, when neither the connection string nor the options give a limit.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Per address, when the connection string asks for no limit at all: a program must never hang for good.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// The message that asks the server for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Everything known before the first packet.
pub(super) struct Plan {
    settings: Settings,
    /// Loaded lazily into an error, because a connection that falls back to plain text does not need it.
    tls: Option<Result<Tls, TlsError>>,
    keepalives: Keepalives,
    limit: Duration,
}

/// One address to try.
#[derive(Debug, Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(String),
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Off,
    /// On, or off if the server says that it has none.
    IfOffered,
    On,
}

impl Encryption {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "without TLS",
            Self::IfOffered | Self::On => "with TLS",
        }
    }
}

/// How a session reached its server, to reach it again for a cancel request.
#[derive(Clone)]
pub(super) struct Route {
    plan: Arc<Plan>,
    host: usize,
    place: Place,
    encryption: Encryption,
}

impl Plan {
    /// Completes the connection string and loads certificates, off the async threads and within a limit; by default
    /// from the environment of the process.
    pub(super) async fn prepare(
        conninfo: &str,
        options: &SessionOptions,
        environment: Option<Environment>,
    ) -> Result<Plan, ConnectError> {
        let fallback = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let text = conninfo.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let environment = environment.unwrap_or_else(Environment::of_process);
            let settings = Settings::resolve(&text, &environment)?;
            let tcp = settings
                .hosts
                .iter()
                .any(|host| !matches!(host.endpoint, Endpoint::Socket(_)));
            let tls = (tcp && settings.tls.mode != SslMode::Disable).then(|| Tls::load(&settings.tls, &environment));
            Ok((settings, tls))
        });
        let stuck = || ConnectError::FilesTimeout {
            conninfo: redact(conninfo),
            seconds: DEFAULT_TIMEOUT.max(fallback).as_secs(),
        };
        // The task cannot panic; if the runtime is shutting down it is gone, which the caller will notice itself.
        let read = timeout(DEFAULT_TIMEOUT.max(fallback), reading)
            .await
            .map_err(|_| stuck())?
            .map_err(|_| stuck())?;
        let (settings, tls) = read.map_err(|reason| ConnectError::Conninfo {
            conninfo: redact(conninfo),
            reason,
        })?;
        let warnings = settings
            .warnings
            .iter()
            .chain(tls.iter().flatten().flat_map(|tls| &tls.warnings));
        for warning in warnings {
            super::warnings::warn_once(warning);
        }
        let limit = match settings.connect_timeout {
            Setting::Open => fallback,
            Setting::Given(limit) => limit,
            Setting::System => LONGEST_TIMEOUT,
        };
        Ok(Plan {
            settings,
            tls,
            keepalives: options.keepalives.unwrap_or_default(),
            limit,
        })
    }

    /// Where the connection string leads, before it is known which host answers.
    pub(super) fn target(&self) -> String {
        self.settings.target()
    }

    /// Tries the hosts until one lets us in and does for `target_session_attrs`.
    pub(super) async fn connect(self, options: &SessionOptions) -> Result<Session, ConnectError> {
        let plan = Arc::new(self);
        let mut failures = Vec::new();
        let passes: &[ServerRole] = match plan.settings.role {
            ServerRole::PreferStandby => &[ServerRole::Standby, ServerRole::Any],
            ref role => std::slice::from_ref(role),
        };
        'passes: for role in passes {
            let mut order: Vec<_> = (0..plan.settings.hosts.len()).collect();
            if plan.settings.shuffle {
                order.shuffle(&mut rand::rng());
            }
            for index in order {
                let host = &plan.settings.hosts[index];
                let places = match plan.places(host).await {
                    Ok(places) => places,
                    Err(cause) => {
                        failures.push(AttemptFailure {
                            place: host_place(host, None),
                            cause,
                            hint: None,
                        });
                        continue;
                    }
                };
                for place in places {
                    let attempt = plan.attempt(index, &place, *role, options);
                    let cause = match timeout(plan.limit, attempt).await {
                        Ok(Ok(session)) => return Ok(session),
                        Ok(Err(cause)) => cause,
                        Err(_) => AttemptError::Timeout(plan.limit.as_secs()),
                    };
                    let next = cause.tries_next_host();
                    let hint = Plan::hint(&cause, host, &place);
                    failures.push(AttemptFailure {
                        place: host_place(host, Some(&place)),
                        cause,
                        hint,
                    });
                    if !next {
                        break 'passes;
                    }
                }
            }
        }
        Err(ConnectError::Failed {
            target: plan.target(),
            failures,
        })
    }

    /// The addresses of a host.
    async fn places(&self, host: &Host) -> Result<Vec<Place>, AttemptError> {
        match &host.endpoint {
            Endpoint::Socket(directory) => Ok(vec![Place::Unix(socket_path(directory, host.port))]),
            Endpoint::Address(address) => Ok(vec![Place::Tcp(SocketAddr::new(*address, host.port))]),
            Endpoint::Name(name) => {
                let found = timeout(self.limit, tokio::net::lookup_host((name.as_str(), host.port)))
                    .await
                    .map_err(|_| AttemptError::Lookup(format!("timeout expired after {} s", self.limit.as_secs())))?
                    .map_err(|error| AttemptError::Lookup(error.to_string()))?;
                let mut places: Vec<_> = found.map(Place::Tcp).collect();
                if places.is_empty() {
                    return Err(AttemptError::Lookup("the name has no address".to_owned()));
                }
                if self.settings.shuffle {
                    places.shuffle(&mut rand::rng());
                }
                Ok(places)
            }
        }
    }

    /// One address, with the fallbacks of `sslmode` allow and prefer.
    async fn attempt(
        self: &Arc<Self>,
        host: usize,
        place: &Place,
        role: ServerRole,
        options: &SessionOptions,
    ) -> Result<Session, AttemptError> {
        let kinds: &[Encryption] = match (place, self.settings.tls.mode) {
            (Place::Unix(_), _) | (_, SslMode::Disable) => &[Encryption::Off],
            (_, SslMode::Allow) => &[Encryption::Off, Encryption::On],
            (_, SslMode::Prefer) => &[Encryption::IfOffered, Encryption::Off],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Encryption::On],
        };
        let mut first: Option<(Encryption, AttemptError)> = None;
        for kind in kinds {
            let route = Route {
                plan: Arc::clone(self),
                host,
                place: place.clone(),
                encryption: *kind,
            };
            let cause = match self.log_in(route, role, options).await {
                Ok(session) => return Ok(session),
                Err(cause) => cause,
            };
            let otherwise = match (&cause, kind) {
                (AttemptError::Tls(_), Encryption::IfOffered) => true,
                (cause, Encryption::IfOffered | Encryption::Off) => cause.refuses_encryption(),
                (_, Encryption::On) => false,
            };
            if let Some((first_kind, first)) = first {
                return Err(AttemptError::Both {
                    first_how: first_kind.name(),
                    first: Box::new(first),
                    second_how: kind.name(),
                    second: Box::new(cause),
                });
            }
            if !otherwise {
                return Err(cause);
            }
            first = Some((*kind, cause));
        }
        Err(first.map_or(
            AttemptError::Negotiation("no way of connecting is allowed"),
            |(_, cause)| cause,
        ))
    }

    /// Connects, logs in and finds out what kind of server this is.
    async fn log_in(
        &self,
        mut route: Route,
        role: ServerRole,
        options: &SessionOptions,
    ) -> Result<Session, AttemptError> {
        let transport = route.open().await?;
        if !transport.is_encrypted() {
            route.encryption = Encryption::Off;
        }
        let gate = self.settings.required_authentication.clone().map(Gate::new);
        let host = &self.settings.hosts[route.host];
        let config = self.driver_config(host, options);
        let (client, connection) = config.connect_raw(transport.guarded(gate), Adopt).await?;
        let target = format!("{host}/{} as {}", self.settings.dbname, self.settings.user);
        let session = Session::start(client, connection, target, route, options);
        session.look_around(role, options).await
    }

    fn driver_config(&self, host: &Host, options: &SessionOptions) -> Config {
        let mut config = Config::new();
        config.user(&self.settings.user).dbname(&self.settings.dbname);
        // The stream comes ready, so the driver must not negotiate anything.
        config
            .ssl_mode(DriverSslMode::Require)
            .ssl_negotiation(DriverSslNegotiation::Direct);
        config.channel_binding(match self.settings.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        if let Some(password) = &host.password {
            config.password(password.secret.reveal());
        }
        if let Some(settings) = &self.settings.options {
            config.options(settings);
        }
        let own = Some(&options.application_name).filter(|name| !name.is_empty());
        if let Some(name) = own.or(self.settings.application_name.as_ref()) {
            config.application_name(name);
        }
        config
    }

    fn hint(cause: &AttemptError, host: &Host, place: &Place) -> Option<String> {
        if cause.wants_password() {
            return Some(
                "no password supplied: add a line to ~/.pgpass (mode 0600) of the user that runs this program, or set \
                 password= or PGPASSWORD"
                    .to_owned(),
            );
        }
        if cause.code() == Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD) {
            let file = host.password.as_ref()?.file.as_ref()?;
            return Some(format!("password retrieved from file \"{}\"", file.display()));
        }
        match (cause, place) {
            (AttemptError::Socket(error), Place::Tcp(_)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Some("is the server running on that host and accepting TCP/IP connections?".to_owned())
            }
            (AttemptError::Socket(error), Place::Unix(_))
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
            {
                Some("is the server running locally and accepting connections on that socket?".to_owned())
            }
            _ => None,
        }
    }
}

impl Route {
    /// A stream to the server, encrypted as planned.
    async fn open(&self) -> Result<Transport, AttemptError> {
        let address = match &self.place {
            Place::Unix(path) => {
                // A leading `@` stands for the abstract namespace, whose names begin with NUL.
                let path = path
                    .strip_prefix('@')
                    .map_or_else(|| path.clone(), |name| format!("\0{name}"));
                let stream = UnixStream::connect(path).await.map_err(AttemptError::Socket)?;
                self.check_peer(&stream)?;
                return Ok(Transport::unix(stream));
            }
            Place::Tcp(address) => address,
        };
        let settings = &self.plan.settings;
        let mut stream = TcpStream::connect(address).await.map_err(AttemptError::Socket)?;
        configure(&stream, settings.keepalives, self.plan.keepalives).map_err(AttemptError::Socket)?;
        let tls = match (&self.plan.tls, self.encryption) {
            (None, _) | (_, Encryption::Off) => return Ok(Transport::tcp(stream)),
            (Some(tls), Encryption::IfOffered | Encryption::On) => tls.as_ref().map_err(Clone::clone)?,
        };
        if tls.negotiation() == SslNegotiation::Postgres {
            stream.write_all(&SSL_REQUEST).await.map_err(AttemptError::Socket)?;
            // One byte and no more: what follows must be read by TLS.
            let mut answer = [0];
            match stream.read_exact(&mut answer).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(AttemptError::Negotiation(
                        "server closed the connection when asked for TLS",
                    ));
                }
                Err(error) => return Err(AttemptError::Socket(error)),
            }
            match (answer[0], self.encryption) {
                (b'S', _) => {}
                (b'N', Encryption::IfOffered) => return Ok(Transport::tcp(stream)),
                (b'N', _) => {
                    return Err(AttemptError::Negotiation(
                        "server does not support SSL, but SSL was required",
                    ));
                }
                (b'E', _) => {
                    return Err(AttemptError::Negotiation(
                        "server sent an error response during SSL exchange",
                    ));
                }
                _ => {
                    return Err(AttemptError::Negotiation(
                        "received invalid response to SSL negotiation",
                    ));
                }
            }
        }
        let host = &self.plan.settings.hosts[self.host];
        Ok(Transport::tls(tls.handshake(host, stream).await?))
    }

    /// `requirepeer`: who runs the process behind the socket.
    fn check_peer(&self, stream: &UnixStream) -> Result<(), AttemptError> {
        let Some(wanted) = &self.plan.settings.required_peer else {
            return Ok(());
        };
        let id = stream.peer_cred().map_err(AttemptError::Socket)?.uid();
        let actual = User::from_uid(Uid::from_raw(id))
            .ok()
            .flatten()
            .map_or_else(|| id.to_string(), |user| user.name);
        if actual == *wanted {
            Ok(())
        } else {
            Err(AttemptError::Peer {
                wanted: wanted.clone(),
                actual,
            })
        }
    }

    /// Sends a cancel request on a connection of its own, encrypted as the session is.
    pub(super) async fn cancel(self, token: tokio_postgres::CancelToken) -> Result<(), AttemptError> {
        let limit = self.plan.limit;
        let sending = async {
            let transport = self.open().await?;
            token
                .cancel_query_raw(transport, Adopt)
                .await
                .map_err(AttemptError::Database)
        };
        timeout(limit, sending)
            .await
            .map_err(|_| AttemptError::Timeout(limit.as_secs()))?
    }
}

/// As libpq names a place in its messages.
fn host_place(host: &Host, place: Option<&Place>) -> String {
    let port = host.port;
    match (place, &host.name, &host.endpoint) {
        (Some(Place::Unix(path)), _, _) => format!("connection to server on socket \"{path}\""),
        (Some(Place::Tcp(address)), Some(name), _) | (Some(Place::Tcp(address)), None, Endpoint::Name(name))
            if *name != address.ip().to_string() =>
        {
            format!("connection to server at \"{name}\" ({}), port {port}", address.ip())
        }
        (Some(Place::Tcp(address)), _, _) => format!("connection to server at \"{}\", port {port}", address.ip()),
        (None, _, _) => format!("connection to server at \"{host}\""),
    }
}
