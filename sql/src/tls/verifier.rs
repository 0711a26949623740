//! How far the server's certificate is verified.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{legacy, names};

/// What is trusted.
pub(super) struct Trust {
    /// Where it came from, for messages.
    source: String,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    revocations: Vec<CertRevocationList<'static>>,
}

impl Trust {
    pub(super) fn new(
        source: String,
        certificates: Vec<CertificateDer<'static>>,
        revocations: Vec<CertRevocationList<'static>>,
    ) -> Self {
        let anchors = certificates
            .iter()
            .filter_map(|certificate| webpki::anchor_from_trusted_cert(certificate).ok())
            .map(|anchor| anchor.to_owned())
            .collect();
        Self {
            source,
            certificates,
            anchors,
            revocations,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    fn check_chain(
        &self,
        server: &CertificateDer<'_>,
        parsed: &Certificate,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), String> {
        // The usual small setup: the server's self-signed certificate copied to the clients as root.crt. The library
        // does not take a trust anchor for a server's certificate, so compare it.
        let tbs = &parsed.tbs_certificate;
        let self_signed = tbs.issuer == tbs.subject;
        if self_signed && self.revocations.is_empty() && self.certificates.iter().any(|trusted| trusted == server) {
            return legacy::check_validity(parsed, now);
        }
        let end_entity = match EndEntityCert::try_from(server) {
            Ok(end_entity) => end_entity,
            Err(webpki::Error::UnsupportedCertVersion) if self.revocations.is_empty() => {
                return legacy::check_signed_by(parsed, &self.certificates, now, algorithms);
            }
            Err(webpki::Error::UnsupportedCertVersion) => {
                return Err(
                    "it is of version 1, which cannot be checked against revocation lists; make a new one".to_owned(),
                );
            }
            Err(error) => return Err(format!("it cannot be used: {error}")),
        };
        let lists: Vec<_> = self.revocations.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(RevocationOptionsBuilder::build);
        let usage = KeyUsage::server_auth();
        end_entity
            .verify_for_usage(
                algorithms.all,
                &self.anchors,
                intermediates,
                now,
                usage,
                revocation,
                None,
            )
            .map(|_| ())
            .map_err(|error| match error {
                webpki::Error::UnknownIssuer => "it is not signed by a trusted authority".to_owned(),
                webpki::Error::CertExpired { .. } => legacy::check_validity(parsed, now)
                    .err()
                    .unwrap_or_else(|| "a certificate of its chain has expired".to_owned()),
                webpki::Error::CertNotValidYet { .. } => legacy::check_validity(parsed, now)
                    .err()
                    .unwrap_or_else(|| "a certificate of its chain is not valid yet".to_owned()),
                webpki::Error::InvalidSignatureForPublicKey => {
                    "an authority of its issuer's name is trusted, but with another key".to_owned()
                }
                webpki::Error::CertRevoked => "it has been revoked".to_owned(),
                webpki::Error::UnknownRevocationStatus => {
                    "no revocation list of its issuer is at hand (sslcrl, sslcrldir)".to_owned()
                }
                webpki::Error::CaUsedAsEndEntity => {
                    "it is the certificate of an authority and not itself in the root certificate file".to_owned()
                }
                error => error.to_string(),
            })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Trust").field(&self.source).finish()
    }
}

/// What `sslmode` and the files at hand amount to.
#[derive(Debug)]
pub(super) enum Verification {
    /// Any certificate will do.
    Nothing,
    /// Signed by somebody we trust.
    Chain { trust: Arc<Trust> },
    /// Also for this host.
    Full { trust: Arc<Trust>, host: String },
}

/// Verifies the server's certificate as far as asked, and in any case that the server owns its key.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    verification: Verification,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(verification: Verification, provider: &CryptoProvider) -> Self {
        Self {
            verification,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn check(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let (trust, host) = match &self.verification {
            Verification::Nothing => return Ok(()),
            Verification::Chain { trust } => (trust, None),
            Verification::Full { trust, host } => (trust, Some(host)),
        };
        let parsed = Certificate::from_der(server)
            .map_err(|error| Refusal(format!("server certificate is malformed: {error}")))?;
        trust
            .check_chain(server, &parsed, intermediates, now, &self.algorithms)
            .map_err(|reason| {
                Refusal(format!(
                    "certificate verify failed: server certificate against {}: {reason}",
                    trust.source
                ))
            })?;
        host.map_or(Ok(()), |host| names::check(&parsed, host).map_err(Refusal))
    }
}

/// Why the server's certificate was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|refusal| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_handshake(message, cert, dss, verify_tls12_signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_handshake(message, cert, dss, verify_tls13_signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

type VerifyHandshake = fn(
    &[u8],
    &CertificateDer<'_>,
    &DigitallySignedStruct,
    &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error>;

impl ServerVerifier {
    fn check_handshake(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        verify: VerifyHandshake,
    ) -> Result<HandshakeSignatureValid, Error> {
        if matches!(
            EndEntityCert::try_from(certificate),
            Err(webpki::Error::UnsupportedCertVersion)
        ) {
            return if legacy::check_handshake(certificate, message, signed, &self.algorithms) {
                Ok(HandshakeSignatureValid::assertion())
            } else {
                Err(Error::InvalidCertificate(CertificateError::BadSignature))
            };
        }
        verify(message, certificate, signed, &self.algorithms)
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
