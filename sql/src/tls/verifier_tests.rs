//! Which certificates pass.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use webpki::OwnedCertRevocationList;

use super::*;

/// An authority and a certificate of version 1 signed by it, as `openssl x509 -req` makes them by default.
const OLD_AUTHORITY: &[u8] = include_bytes!("../../tests/tls/old/authority.crt");
const OLD_SERVER: &[u8] = include_bytes!("../../tests/tls/old/server.crt");

/// 2030-01-01.
const NOW: u64 = 1_893_456_000;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str, alternatives: &[&str]) -> CertificateParams {
    let alternatives: Vec<_> = alternatives.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(alternatives).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = named(name, &[]);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_parameters(name), KeyPair::generate().unwrap()).unwrap()
}

fn signed(parameters: &CertificateParams, authority: &Authority) -> CertificateDer<'static> {
    parameters
        .signed_by(&KeyPair::generate().unwrap(), authority)
        .unwrap()
        .der()
        .clone()
}

fn trust(certificates: Vec<CertificateDer<'static>>) -> Arc<Trust> {
    Arc::new(Trust::new(
        "root certificate file \"r\"".to_owned(),
        certificates,
        Vec::new(),
    ))
}

/// `ok` or the reason of refusal.
fn verify(
    trust: &Arc<Trust>,
    host: Option<&str>,
    server: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> String {
    let trust = Arc::clone(trust);
    let verification = match host {
        Some(host) => Verification::Full {
            trust,
            host: host.to_owned(),
        },
        None => Verification::Chain { trust },
    };
    let verifier = ServerVerifier::new(verification, &rustls::crypto::ring::default_provider());
    match verifier.check(
        server,
        intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(NOW)),
    ) {
        Ok(()) => "ok".to_owned(),
        Err(refusal) => refusal.0,
    }
}

#[track_caller]
fn refused(outcome: &str, part: &str) {
    assert!(outcome.contains(part), "{outcome}");
}

#[test]
fn the_chain_must_lead_to_a_trusted_authority() {
    let (ours, other) = (authority("ours"), authority("ours"));
    let server = signed(&named("x", &["db.test"]), &ours);
    let trusted = trust(vec![ours.der().clone()]);
    assert_eq!(verify(&trusted, None, &server, &[]), "ok");
    assert_eq!(verify(&trusted, Some("db.test"), &server, &[]), "ok");
    refused(
        &verify(&trusted, Some("other.test"), &server, &[]),
        "\"db.test\" does not match host name \"other.test\"",
    );
    refused(
        &verify(&trust(vec![other.der().clone()]), None, &server, &[]),
        "trusted, but with another key",
    );
    let stranger = authority("stranger");
    refused(
        &verify(&trust(vec![stranger.der().clone()]), None, &server, &[]),
        "not signed by a trusted authority",
    );
    // Several authorities may share a file.
    assert_eq!(
        verify(
            &trust(vec![other.der().clone(), ours.der().clone()]),
            None,
            &server,
            &[]
        ),
        "ok"
    );
}

#[test]
fn intermediate_authorities_come_from_the_server() {
    let root = authority("root");
    let between =
        CertifiedIssuer::signed_by(authority_parameters("between"), KeyPair::generate().unwrap(), &root).unwrap();
    let server = signed(&named("x", &["db.test"]), &between);
    let trusted = trust(vec![root.der().clone()]);
    assert_eq!(
        verify(&trusted, Some("db.test"), &server, &[between.der().clone()]),
        "ok"
    );
    refused(
        &verify(&trusted, None, &server, &[]),
        "not signed by a trusted authority",
    );
}

#[test]
fn names_follow_libpq() {
    let ours = authority("ours");
    let trusted = trust(vec![ours.der().clone()]);
    let check =
        |parameters: &CertificateParams, host: &str| verify(&trusted, Some(host), &signed(parameters, &ours), &[]);
    // Without alternative names the common name counts, for addresses as well.
    assert_eq!(check(&named("db.test", &[]), "DB.test"), "ok");
    assert_eq!(check(&named("*.test", &[]), "db.test"), "ok");
    assert_eq!(check(&named("10.0.0.1", &[]), "10.0.0.1"), "ok");
    // With an alternative name of the host's kind it does not.
    refused(
        &check(&named("db.test", &["else.test"]), "db.test"),
        "\"else.test\" does not match",
    );
    refused(
        &check(&named("10.0.0.1", &["10.0.0.2"]), "10.0.0.1"),
        "\"10.0.0.2\" does not match",
    );
    assert_eq!(check(&named("db.test", &["10.0.0.2"]), "db.test"), "ok");
    assert_eq!(check(&named("x", &["10.0.0.1", "::1"]), "10.0.0.1"), "ok");
    assert_eq!(check(&named("x", &["10.0.0.1", "::1"]), "0:0::1"), "ok");
    refused(
        &check(&named("x", &["a.test", "b.test", "c.test"]), "d.test"),
        "\"a.test\" (and 2 other names)",
    );
}

#[test]
fn a_self_signed_certificate_may_be_its_own_root() {
    let mut parameters = authority_parameters("db.test");
    let own = |parameters: &CertificateParams| {
        parameters
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .clone()
    };
    let server = own(&parameters);
    assert_eq!(
        verify(&trust(vec![server.clone()]), Some("db.test"), &server, &[]),
        "ok"
    );
    refused(
        &verify(&trust(vec![server.clone()]), Some("x.test"), &server, &[]),
        "does not match",
    );
    refused(
        &verify(&trust(vec![own(&parameters)]), None, &server, &[]),
        "certificate verify failed",
    );
    parameters.not_after = date_time_ymd(2020, 1, 1);
    let expired = own(&parameters);
    refused(
        &verify(&trust(vec![expired.clone()]), None, &expired, &[]),
        "expired on 2020-01-01",
    );
}

#[test]
fn dates_and_purpose_count() {
    let ours = authority("ours");
    let trusted = trust(vec![ours.der().clone()]);
    let check = |parameters: &CertificateParams| verify(&trusted, None, &signed(parameters, &ours), &[]);
    let mut parameters = named("x", &["db.test"]);
    parameters.not_after = date_time_ymd(2020, 1, 1);
    refused(&check(&parameters), "it has expired on 2020-01-01");
    parameters.not_after = date_time_ymd(2040, 1, 1);
    parameters.not_before = date_time_ymd(2035, 1, 1);
    refused(&check(&parameters), "it is not valid before 2035-01-01");
    let mut client = named("x", &["db.test"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    refused(&check(&client), "certificate verify failed");
    let signer = authority("signer");
    refused(
        &verify(&trusted, None, signer.der(), &[]),
        "certificate of an authority",
    );
}

#[test]
fn certificates_of_version_1_need_an_authority_that_signed_them_directly() {
    let old_authority = CertificateDer::from_pem_slice(OLD_AUTHORITY).unwrap();
    let server = CertificateDer::from_pem_slice(OLD_SERVER).unwrap();
    let trusted = trust(vec![authority("other").der().clone(), old_authority.clone()]);
    assert_eq!(verify(&trusted, None, &server, &[]), "ok");
    assert_eq!(verify(&trusted, Some("old.trunkline.test"), &server, &[]), "ok");
    refused(
        &verify(&trusted, Some("new.trunkline.test"), &server, &[]),
        "does not match",
    );
    // The right name with another key is no authority.
    let impostor = authority("Old Authority");
    refused(
        &verify(&trust(vec![impostor.der().clone()]), None, &server, &[]),
        "not signed by a trusted authority",
    );
    // The signature covers the certificate: change one letter of the name.
    let mut forged = server.to_vec();
    let position = forged.windows(3).position(|bytes| bytes == b"old").unwrap();
    forged[position] = b'O';
    refused(
        &verify(&trusted, None, &CertificateDer::from(forged), &[]),
        "not signed by a trusted authority",
    );
    // A server's certificate is no authority.
    let issuer = CertifiedIssuer::self_signed(named("Old Authority", &[]), KeyPair::generate().unwrap()).unwrap();
    refused(
        &verify(&trust(vec![issuer.der().clone()]), None, &server, &[]),
        "not signed by a trusted authority",
    );
}

#[test]
fn revoked_certificates_are_refused() {
    let ours = authority("ours");
    let mut parameters = named("x", &["db.test"]);
    parameters.serial_number = Some(SerialNumber::from(42_u64));
    let server = signed(&parameters, &ours);
    let check = |revoked: &[u64], signer: &Authority| {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2035, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2025, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = OwnedCertRevocationList::from_der(list.signed_by(signer).unwrap().der()).unwrap();
        let trust = Trust::new(
            "r".to_owned(),
            vec![ours.der().clone()],
            vec![CertRevocationList::Owned(list)],
        );
        verify(&Arc::new(trust), None, &server, &[])
    };
    assert_eq!(check(&[1, 2], &ours), "ok");
    refused(&check(&[42], &ours), "it has been revoked");
    refused(&check(&[], &authority("another")), "no revocation list of its issuer");
}
