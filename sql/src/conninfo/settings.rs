//! A connection string made complete: gaps filled, values typed, contradictions refused.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::authentication::RequiredAuthentication;
use super::environment::Environment;
use super::error::ConninfoError;
use super::keyword::KEYWORDS;
use super::parameters::{Parameters, hide, parse};
use super::values::{
    CertificateMode, ChannelBinding, Choice, GssEncryption, LoadBalance, ProtocolVersion, ServerRole, SslMode,
    SslNegotiation, TlsVersion, integer,
};
use super::{passfile, service};

const DEFAULT_PORT: u16 = 5432;

/// Longest path of a Unix-domain socket that every system can address.
const MAX_SOCKET_PATH_BYTES: usize = 103;

/// Text that never shows up in a message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A password and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Password {
    pub(crate) secret: Secret,
    /// The password file, if it came from one.
    pub(crate) file: Option<PathBuf>,
}

/// How to reach a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The directory of its socket; with a leading `@` in the abstract namespace.
    Socket(String),
    /// A name to look up.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// One of the servers a connection string lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// What `host` says, for certificates; `None` if only an address is given.
    pub(crate) name: Option<String>,
    pub(crate) endpoint: Endpoint,
    pub(crate) port: u16,
    pub(crate) password: Option<Password>,
}

impl fmt::Display for Host {
    /// `host:port`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match (&self.name, &self.endpoint) {
            (Some(name), _) | (None, Endpoint::Socket(name) | Endpoint::Name(name)) => name.clone(),
            (None, Endpoint::Address(address)) => address.to_string(),
        };
        let port = self.port;
        if shown.contains(':') {
            write!(formatter, "[{shown}]:{port}")
        } else {
            write!(formatter, "{shown}:{port}")
        }
    }
}

/// When a silent connection counts as dead; `None` leaves it to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepaliveSettings {
    pub(crate) enabled: bool,
    pub(crate) idle: Setting<Duration>,
    pub(crate) interval: Setting<Duration>,
    pub(crate) count: Setting<u32>,
    pub(crate) tcp_user_timeout: Setting<Duration>,
}

/// A value that the string may leave open, hand to the operating system (zero) or give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    Open,
    System,
    Given(T),
}

impl<T> Setting<T> {
    /// The value, with `default` where the string is silent.
    pub(crate) fn or(self, default: T) -> Option<T> {
        match self {
            Setting::Open => Some(default),
            Setting::System => None,
            Setting::Given(value) => Some(value),
        }
    }
}

/// Everything about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(crate) mode: SslMode,
    pub(crate) negotiation: SslNegotiation,
    /// `sslrootcert`, possibly the word `system`.
    pub(crate) root_certificates: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) certificate_mode: CertificateMode,
    pub(crate) revocation_list: Option<String>,
    pub(crate) revocation_directory: Option<String>,
    pub(crate) server_name_indication: bool,
    pub(crate) minimum: TlsVersion,
    pub(crate) maximum: TlsVersion,
}

/// A complete connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) dbname: String,
    pub(crate) options: Option<String>,
    /// `application_name`, else `fallback_application_name`.
    pub(crate) application_name: Option<String>,
    /// `connect_timeout`; [`Setting::System`] asks for no limit.
    pub(crate) connect_timeout: Setting<Duration>,
    pub(crate) keepalives: KeepaliveSettings,
    pub(crate) tls: TlsSettings,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) required_authentication: Option<RequiredAuthentication>,
    pub(crate) required_peer: Option<String>,
    pub(crate) role: ServerRole,
    pub(crate) shuffle: bool,
    /// What a DBA should know although it is no error, for example a password file left alone.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Completes a connection string. Reads the service and the password file, so do not call it on a thread that
    /// must not block.
    pub(crate) fn resolve(conninfo: &str, environment: &Environment) -> Result<Settings, ConninfoError> {
        let parameters = parse(conninfo)?;
        Self::complete(parameters, environment).map_err(|error| hide(error, conninfo))
    }

    fn complete(mut parameters: Parameters, environment: &Environment) -> Result<Settings, ConninfoError> {
        service::apply(&mut parameters, environment)?;
        for keyword in KEYWORDS {
            parameters.set_default(keyword, || {
                keyword
                    .variable
                    .and_then(|name| environment.variable(name))
                    .map(str::to_owned)
            });
        }
        refuse_what_cannot_be_honoured(&parameters)?;
        let user = match parameters.get("user") {
            Some(user) => user.to_owned(),
            None => environment
                .user_name()
                .ok_or(ConninfoError::NoUser(environment.user_id()))?
                .to_owned(),
        };
        let dbname = text(&parameters, "dbname").unwrap_or_else(|| user.clone());
        let mut settings = Settings {
            hosts: hosts(&parameters, environment)?,
            options: text(&parameters, "options"),
            application_name: text(&parameters, "application_name")
                .or_else(|| text(&parameters, "fallback_application_name")),
            connect_timeout: duration(&parameters, "connect_timeout", Duration::from_secs(1))?,
            keepalives: keepalives(&parameters)?,
            tls: tls(&parameters, environment)?,
            channel_binding: choice(&parameters, ChannelBinding::Prefer)?,
            required_authentication: match parameters.get("require_auth") {
                Some(list) => RequiredAuthentication::parse(list)?,
                None => None,
            },
            required_peer: text(&parameters, "requirepeer"),
            role: choice(&parameters, ServerRole::Any)?,
            shuffle: choice(&parameters, LoadBalance::Disable)? == LoadBalance::Random,
            warnings: Vec::new(),
            user,
            dbname,
        };
        settings.add_passwords(&parameters, environment);
        Ok(settings)
    }

    /// `host:port,host:port/dbname as user`.
    pub(crate) fn target(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(Host::to_string).collect();
        format!("{}/{} as {}", hosts.join(","), self.dbname, self.user)
    }

    fn add_passwords(&mut self, parameters: &Parameters, environment: &Environment) {
        if let Some(password) = text(parameters, "password") {
            for host in &mut self.hosts {
                host.password = Some(Password {
                    secret: Secret(password.clone()),
                    file: None,
                });
            }
            return;
        }
        let file = text(parameters, "passfile")
            .map(PathBuf::from)
            .or_else(|| environment.home_file(".pgpass"));
        let Some(file) = file else { return };
        for host in &mut self.hosts {
            let address;
            let name = match &host.endpoint {
                Endpoint::Socket(directory) => {
                    let local = environment.socket_directories().iter().any(|known| known == directory);
                    if local { "localhost" } else { directory }
                }
                Endpoint::Name(name) => name,
                Endpoint::Address(ip) => {
                    address = ip.to_string();
                    host.name.as_ref().unwrap_or(&address)
                }
            };
            let wanted = passfile::Wanted {
                host: name,
                port: host.port,
                dbname: &self.dbname,
                user: &self.user,
            };
            match passfile::lookup(&file, wanted) {
                Ok(password) => {
                    host.password = password.map(|secret| Password {
                        secret: Secret(secret),
                        file: Some(file.clone()),
                    });
                }
                Err(warning) if !self.warnings.contains(&warning) => self.warnings.push(warning),
                Err(_) => {}
            }
        }
    }
}

/// A value that is there and not empty.
fn text(parameters: &Parameters, name: &str) -> Option<String> {
    parameters
        .get(name)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
}

fn choice<C: Choice>(parameters: &Parameters, default: C) -> Result<C, ConninfoError> {
    parameters.get(C::OPTION).map_or(Ok(default), C::parse)
}

/// A number of `unit`s; zero and less mean the system's default.
fn duration(parameters: &Parameters, option: &'static str, unit: Duration) -> Result<Setting<Duration>, ConninfoError> {
    Ok(match number(parameters, option)? {
        Setting::Open => Setting::Open,
        Setting::System => Setting::System,
        Setting::Given(number) => Setting::Given(unit * number),
    })
}

fn number(parameters: &Parameters, option: &'static str) -> Result<Setting<u32>, ConninfoError> {
    let Some(value) = parameters.get(option) else {
        return Ok(Setting::Open);
    };
    Ok(match u32::try_from(integer(option, value)?) {
        Ok(0) | Err(_) => Setting::System,
        Ok(number) => Setting::Given(number),
    })
}

fn keepalives(parameters: &Parameters) -> Result<KeepaliveSettings, ConninfoError> {
    Ok(KeepaliveSettings {
        enabled: match parameters.get("keepalives") {
            Some(value) => integer("keepalives", value)? != 0,
            None => true,
        },
        idle: duration(parameters, "keepalives_idle", Duration::from_secs(1))?,
        interval: duration(parameters, "keepalives_interval", Duration::from_secs(1))?,
        count: number(parameters, "keepalives_count")?,
        tcp_user_timeout: duration(parameters, "tcp_user_timeout", Duration::from_millis(1))?,
    })
}

fn tls(parameters: &Parameters, environment: &Environment) -> Result<TlsSettings, ConninfoError> {
    let root_certificates = text(parameters, "sslrootcert");
    let system_roots = root_certificates.as_deref() == Some("system");
    let old_request = environment
        .variable("PGREQUIRESSL")
        .is_some_and(|value| value.starts_with('1'));
    let default = match (system_roots, old_request) {
        (true, _) => SslMode::VerifyFull,
        (false, true) => SslMode::Require,
        (false, false) => SslMode::Prefer,
    };
    let mode = choice(parameters, default)?;
    if system_roots && mode != SslMode::VerifyFull {
        let name = mode.name();
        return Err(ConninfoError::Conflict(format!(
            "weak sslmode \"{name}\" may not be used with sslrootcert=system (use \"verify-full\")"
        )));
    }
    let negotiation = choice(parameters, SslNegotiation::Postgres)?;
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        let name = mode.name();
        return Err(ConninfoError::Conflict(format!(
            "weak sslmode \"{name}\" may not be used with sslnegotiation=direct (use \"require\", \"verify-ca\", or \
             \"verify-full\")"
        )));
    }
    let version = |option, default| match text(parameters, option) {
        Some(value) => TlsVersion::parse(option, &value),
        None => Ok(default),
    };
    let minimum = version("ssl_min_protocol_version", TlsVersion::V1_2)?;
    let maximum = version("ssl_max_protocol_version", TlsVersion::V1_3)?;
    if minimum > maximum {
        return Err(ConninfoError::Conflict(
            "invalid SSL protocol version range: ssl_min_protocol_version is above ssl_max_protocol_version".to_owned(),
        ));
    }
    if maximum == TlsVersion::Older && mode != SslMode::Disable {
        return Err(ConninfoError::Unsupported {
            option: "ssl_max_protocol_version".to_owned(),
            reason: "TLS before 1.2 is not supported; leave the option out",
        });
    }
    Ok(TlsSettings {
        mode,
        negotiation,
        root_certificates,
        certificate: text(parameters, "sslcert"),
        key: text(parameters, "sslkey"),
        certificate_mode: choice(parameters, CertificateMode::Allow)?,
        revocation_list: text(parameters, "sslcrl"),
        revocation_directory: text(parameters, "sslcrldir"),
        server_name_indication: match parameters.get("sslsni") {
            None | Some("1") => true,
            Some("0") => false,
            Some(value) => {
                let value = value.to_owned();
                return Err(ConninfoError::InvalidValue {
                    option: "sslsni",
                    value,
                    expected: "0 or 1",
                });
            }
        },
        minimum,
        maximum,
    })
}

fn refuse_what_cannot_be_honoured(parameters: &Parameters) -> Result<(), ConninfoError> {
    let refuse = |option: String, reason| Err(ConninfoError::Unsupported { option, reason });
    if choice(parameters, GssEncryption::Optional)? == GssEncryption::Require {
        return refuse(
            "gssencmode=require".to_owned(),
            "GSSAPI encryption is not supported; use TLS (`sslmode=require`)",
        );
    }
    if let Some(replication) = parameters.get("replication")
        && !["", "0", "off", "false", "no"].contains(&replication.to_ascii_lowercase().as_str())
    {
        return refuse(
            format!("replication={replication}"),
            "the programs need ordinary sessions, not walsender ones; leave the option out",
        );
    }
    for key in ["scram_client_key", "scram_server_key"] {
        if parameters.get(key).is_some_and(|value| !value.is_empty()) {
            return refuse(
                key.to_owned(),
                "pass-through of SCRAM keys is not supported; give the password",
            );
        }
    }
    if let Some(value) = text(parameters, "min_protocol_version")
        && ProtocolVersion::parse("min_protocol_version", &value)? == ProtocolVersion::Newer
    {
        return refuse(
            format!("min_protocol_version={value}"),
            "only version 3.0 of the protocol is spoken",
        );
    }
    if let Some(value) = text(parameters, "max_protocol_version") {
        ProtocolVersion::parse("max_protocol_version", &value)?;
    }
    Ok(())
}

/// Pairs names, addresses and ports.
fn hosts(parameters: &Parameters, environment: &Environment) -> Result<Vec<Host>, ConninfoError> {
    let list = |name| text(parameters, name).map(|value| value.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = list("host");
    let addresses = list("hostaddr");
    let ports = list("port").unwrap_or_default();
    if let (Some(names), Some(addresses)) = (&names, &addresses)
        && names.len() != addresses.len()
    {
        return Err(ConninfoError::HostaddrCount {
            hosts: names.len(),
            addresses: addresses.len(),
        });
    }
    let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
    if ports.len() > 1 && ports.len() != count {
        return Err(ConninfoError::PortCount {
            ports: ports.len(),
            hosts: count,
        });
    }
    let nth = |list: &Option<Vec<String>>, index: usize| {
        list.as_ref()
            .and_then(|list| list.get(index))
            .filter(|value| !value.is_empty())
            .cloned()
    };
    let mut hosts = Vec::with_capacity(count);
    for index in 0..count {
        let port = port(ports.get(index).or_else(|| ports.first()).map_or("", String::as_str))?;
        let name = nth(&names, index);
        let endpoint = match (nth(&addresses, index), &name) {
            (Some(address), _) => {
                let parsed = address
                    .trim_matches(|character: char| character.is_ascii_whitespace())
                    .parse();
                Endpoint::Address(parsed.map_err(|_| ConninfoError::InvalidAddress(address))?)
            }
            (None, Some(name)) if name.starts_with(['/', '@']) => Endpoint::Socket(name.clone()),
            (None, Some(name)) => match name.parse() {
                Ok(address) => Endpoint::Address(address),
                Err(_) => Endpoint::Name(name.clone()),
            },
            (None, None) => default_endpoint(port, environment),
        };
        if let Endpoint::Socket(directory) = &endpoint {
            let path = socket_path(directory, port);
            if path.len() > MAX_SOCKET_PATH_BYTES {
                return Err(ConninfoError::SocketPathTooLong {
                    path,
                    maximum: MAX_SOCKET_PATH_BYTES,
                });
            }
        }
        hosts.push(Host {
            name,
            endpoint,
            port,
            password: None,
        });
    }
    Ok(hosts)
}

/// A local server that is there, else `localhost`.
fn default_endpoint(port: u16, environment: &Environment) -> Endpoint {
    environment
        .socket_directories()
        .iter()
        .filter_map(|directory| directory.to_str())
        .find(|directory| std::fs::exists(socket_path(directory, port)).unwrap_or(false))
        .map_or_else(
            || Endpoint::Name("localhost".to_owned()),
            |directory| Endpoint::Socket(directory.to_owned()),
        )
}

/// The socket of the server with this port in a directory.
pub(crate) fn socket_path(directory: &str, port: u16) -> String {
    format!("{directory}/.s.PGSQL.{port}")
}

fn port(value: &str) -> Result<u16, ConninfoError> {
    if value.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let number = integer("port", value)?;
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| ConninfoError::InvalidPort(value.to_owned()))
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
