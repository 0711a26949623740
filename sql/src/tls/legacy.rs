//! Certificates of version 1, which many old servers have and which the verification library refuses.
//!
//! `openssl x509 -req` made them unless told otherwise, and so do the recipes of older PostgreSQL manuals. They carry
//! no extensions, so they can only be accepted in the simplest chain: signed directly by a trusted authority.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::{Certificate, Version};

/// Checks that one of the authorities signed the certificate and that it is valid now.
pub(super) fn check_signed_by(
    certificate: &Certificate,
    authorities: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), String> {
    check_validity(certificate, now)?;
    let body = certificate
        .tbs_certificate
        .to_der()
        .map_err(|error| error.to_string())?;
    let signed = authorities
        .iter()
        .filter_map(|authority| Certificate::from_der(authority).ok())
        .any(|authority| {
            authority.tbs_certificate.subject == certificate.tbs_certificate.issuer
                && is_authority(&authority)
                && check_validity(&authority, now).is_ok()
                && verify(
                    algorithms.all,
                    Some(&certificate.signature_algorithm),
                    &authority.tbs_certificate.subject_public_key_info,
                    &body,
                    certificate.signature.raw_bytes(),
                )
        });
    if signed {
        Ok(())
    } else {
        Err("it is not signed by a trusted authority".to_owned())
    }
}

/// Whether a trusted certificate may sign others; one of version 1 cannot say that it may not.
fn is_authority(authority: &Certificate) -> bool {
    match authority.tbs_certificate.get::<BasicConstraints>() {
        Ok(Some((_, constraints))) => constraints.ca,
        Ok(None) => authority.tbs_certificate.version == Version::V1,
        Err(_) => false,
    }
}

/// Checks the dates.
pub(super) fn check_validity(certificate: &Certificate, now: UnixTime) -> Result<(), String> {
    let validity = &certificate.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(format!("it is not valid before {}", validity.not_before));
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(format!("it has expired on {}", validity.not_after));
    }
    Ok(())
}

/// Checks that the server owns the key of such a certificate.
pub(super) fn check_handshake(
    certificate: &CertificateDer<'_>,
    message: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return false;
    };
    let candidates = candidates(algorithms, signed.scheme);
    verify(
        candidates,
        None,
        &certificate.tbs_certificate.subject_public_key_info,
        message,
        signed.signature(),
    )
}

fn candidates(
    algorithms: &WebPkiSupportedAlgorithms,
    scheme: SignatureScheme,
) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    algorithms
        .mapping
        .iter()
        .find(|(known, _)| *known == scheme)
        .map_or(&[], |(_, candidates)| *candidates)
}

/// Verifies with the algorithms that fit the key and, if given, the signature's own name.
fn verify(
    candidates: &[&dyn SignatureVerificationAlgorithm],
    signature_algorithm: Option<&AlgorithmIdentifierOwned>,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Some(key_bytes) = key.subject_public_key.as_bytes() else {
        return false;
    };
    candidates.iter().any(|candidate| {
        is_named(&candidate.public_key_alg_id(), &key.algorithm)
            && signature_algorithm.is_none_or(|name| is_named(&candidate.signature_alg_id(), name))
            && candidate.verify_signature(key_bytes, message, signature).is_ok()
    })
}

/// Compares the inside of the encoded sequence, which is how the library names algorithms.
fn is_named(expected: &[u8], name: &AlgorithmIdentifierOwned) -> bool {
    // The sequence is shorter than 128 bytes: one byte for the tag, one for the length.
    name.to_der()
        .is_ok_and(|encoded| encoded.len() < 130 && encoded.get(2..) == Some(expected))
}
