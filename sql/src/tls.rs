//! TLS as libpq does it, on rustls.
//!
//! What `sslmode` promises is decided here: `require` and below take any certificate unless a root certificate file
//! exists, in which case they verify the chain like `verify-ca`; `verify-full` also compares the host name, including
//! the common name of certificates without alternative names. The negotiation with the server is not here but in
//! the session, which also knows when to go on without TLS.

mod channel_binding;
mod files;
mod identity;
mod legacy;
mod names;
mod verifier;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_postgres::tls::ChannelBinding;
use tokio_rustls::TlsConnector;

use crate::conninfo::{CertificateMode, Endpoint, Environment, Host, SslMode, SslNegotiation, TlsSettings, TlsVersion};
use identity::{Identity, IdentityResolver};
use verifier::{ServerVerifier, Trust, Verification};

/// The encrypted stream.
pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// How ALPN calls the protocol.
const PROTOCOL: &[u8] = b"postgresql";

/// Why TLS is not possible or not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// `verify-ca` and `verify-full` need something to verify against.
    #[error(
        "root certificate file \"{path}\" does not exist; provide the file, use the system's trusted roots with \
         sslrootcert=system, or change sslmode to disable server certificate verification"
    )]
    NoRootFile {
        /// Where we looked.
        path: String,
    },
    /// A file cannot be read or does not contain what it should.
    #[error("could not use {what} \"{path}\": {reason}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its name.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Others may read the private key.
    #[error(
        "private key file \"{path}\" has group or world access; file must have permissions u=rw (0600) or less if owned \
         by the current user, or permissions u=rw,g=r (0640) or less if owned by root"
    )]
    KeyPermissions {
        /// Its name.
        path: String,
    },
    /// The system has no trusted roots.
    #[error(
        "sslrootcert=system: no trusted root certificate found on this system ({reason}); install its CA certificates"
    )]
    NoSystemRoots {
        /// What went wrong on the way.
        reason: String,
    },
    /// `verify-full` with an address alone.
    #[error("host name must be specified for a verified SSL connection: set `host` beside `hostaddr`")]
    NoHostName,
    /// The handshake failed.
    #[error("SSL error: {0}")]
    Handshake(String),
    /// `sslcertmode=require` and the server did not ask.
    #[error("server did not request an SSL certificate, but sslcertmode=require wants one to be used")]
    CertificateNotRequested,
    /// Whoever answers does not say that it speaks PostgreSQL's protocol.
    #[error("direct SSL connection was established without ALPN protocol negotiation extension")]
    NoProtocol,
    /// A mistake of ours or of the library.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Everything TLS needs that is the same for all hosts of a connection string.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    trust: Option<Arc<Trust>>,
    identity: Option<Arc<Identity>>,
    /// What a DBA should know although it is no error.
    pub(crate) warnings: Vec<String>,
}

impl Tls {
    /// Loads certificates and keys. Reads files, so do not call it on a thread that must not block.
    pub(crate) fn load(settings: &TlsSettings, environment: &Environment) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut warnings = Vec::new();
        let trust = files::load_trust(settings, environment, &mut warnings)?.map(Arc::new);
        let identity = match settings.certificate_mode {
            CertificateMode::Disable => None,
            CertificateMode::Allow | CertificateMode::Require => {
                identity::load(settings, environment, &provider, &mut warnings)?.map(Arc::new)
            }
        };
        Ok(Tls {
            settings: settings.clone(),
            provider,
            trust,
            identity,
            warnings,
        })
    }

    /// Makes TLS out of a TCP connection to this host.
    pub(crate) async fn handshake(&self, host: &Host, stream: TcpStream) -> Result<TlsStream, TlsError> {
        let asked = Arc::new(AtomicBool::new(false));
        let config = self.client_config(host, Arc::clone(&asked))?;
        // The name only serves for indication; the verifier has its own copy and is stricter.
        let name = match (&host.name, &host.endpoint) {
            (Some(name), _) | (None, Endpoint::Name(name) | Endpoint::Socket(name)) => name.clone(),
            (None, Endpoint::Address(address)) => address.to_string(),
        };
        let name = match (ServerName::try_from(name), stream.peer_addr()) {
            (Ok(name), _) => name,
            // A name that TLS cannot carry is not indicated.
            (Err(_), Ok(peer)) => ServerName::from(peer.ip()),
            (Err(_), Err(error)) => return Err(TlsError::Handshake(error.to_string())),
        };
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = connecting
            .await
            .map_err(|error| TlsError::Handshake(handshake_text(&error)))?;
        if self.settings.negotiation == SslNegotiation::Direct && stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(TlsError::NoProtocol);
        }
        if self.settings.certificate_mode == CertificateMode::Require && !asked.load(Ordering::Acquire) {
            return Err(TlsError::CertificateNotRequested);
        }
        Ok(stream)
    }

    fn client_config(&self, host: &Host, asked: Arc<AtomicBool>) -> Result<ClientConfig, TlsError> {
        let verification = match (self.settings.mode, &self.trust) {
            (SslMode::VerifyFull, Some(trust)) => {
                let name = host.name.clone().or_else(|| match &host.endpoint {
                    Endpoint::Name(name) => Some(name.clone()),
                    Endpoint::Address(_) | Endpoint::Socket(_) => None,
                });
                Verification::Full {
                    trust: Arc::clone(trust),
                    host: name.ok_or(TlsError::NoHostName)?,
                }
            }
            (_, Some(trust)) => Verification::Chain {
                trust: Arc::clone(trust),
            },
            (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
                return Err(TlsError::Setup("no root certificates were loaded".to_owned()));
            }
            (_, None) => Verification::Nothing,
        };
        let versions: &[&rustls::SupportedProtocolVersion] = match (self.settings.minimum, self.settings.maximum) {
            (TlsVersion::V1_3, _) => &[&rustls::version::TLS13],
            (_, TlsVersion::V1_3) => &[&rustls::version::TLS13, &rustls::version::TLS12],
            (_, TlsVersion::V1_2 | TlsVersion::Older) => &[&rustls::version::TLS12],
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(verification, &self.provider)))
            .with_client_cert_resolver(Arc::new(IdentityResolver::new(self.identity.clone(), asked)));
        config.enable_sni = self.settings.server_name_indication;
        // Each connection proves itself anew: channel binding and the client certificate need a full handshake.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    /// Whether the server is asked before TLS starts.
    pub(crate) fn negotiation(&self) -> SslNegotiation {
        self.settings.negotiation
    }
}

/// What SCRAM may tie the password to.
pub(crate) fn channel_binding(stream: &TlsStream) -> ChannelBinding {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    certificates
        .first()
        .and_then(channel_binding::server_end_point)
        .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
}

/// What went wrong in TLS, without the layers around it.
pub(crate) fn handshake_text(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => tls_text(inner),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "server closed the connection during the TLS handshake".to_owned()
        }
        None => error.to_string(),
    }
}

/// A TLS error in a DBA's words where they are better than the library's.
pub(crate) fn tls_text(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server demands a client certificate; set sslcert and sslkey".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::DecryptError),
        ) => format!("the server refuses our client certificate (alert {alert:?}); check sslcert and sslkey"),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server speaks no TLS version we may use (1.2 and 1.3, within ssl_min_protocol_version and \
             ssl_max_protocol_version)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
