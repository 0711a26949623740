//! What ties a SCRAM password exchange to the TLS connection: the hash of the server's certificate (RFC 5929,
//! `tls-server-end-point`).

use ring::digest::{self, Algorithm};
use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;

/// Signature algorithms with the hash they use; where that is weaker than SHA-256, the RFC asks for SHA-256.
const HASHES: [(&str, &Algorithm); 8] = [
    // With RSA: MD5, SHA-1, SHA-256, SHA-384, SHA-512.
    ("1.2.840.113549.1.1.4", &digest::SHA256),
    ("1.2.840.113549.1.1.5", &digest::SHA256),
    ("1.2.840.113549.1.1.11", &digest::SHA256),
    ("1.2.840.113549.1.1.12", &digest::SHA384),
    ("1.2.840.113549.1.1.13", &digest::SHA512),
    // With ECDSA: SHA-256, SHA-384, SHA-512.
    ("1.2.840.10045.4.3.2", &digest::SHA256),
    ("1.2.840.10045.4.3.3", &digest::SHA384),
    ("1.2.840.10045.4.3.4", &digest::SHA512),
];

/// The binding data; `None` for certificates whose signature names no hash, with which the server cannot bind either.
pub(super) fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let (_, hash) = HASHES
        .iter()
        .find(|(oid, _)| ObjectIdentifier::new(oid).is_ok_and(|oid| oid == parsed.signature_algorithm.oid))?;
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}
