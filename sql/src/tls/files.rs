//! What is trusted: root certificates and revocation lists.

use std::path::Path;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::TlsError;
use super::verifier::Trust;
use crate::conninfo::{Environment, SslMode, TlsSettings};

const ROOTS: &str = "root certificate file";
const REVOCATION: &str = "certificate revocation list";

/// What to verify against; `None` if any certificate will do.
pub(super) fn load_trust(
    settings: &TlsSettings,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Option<Trust>, TlsError> {
    if settings.root_certificates.as_deref() == Some("system") {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            return Err(TlsError::NoSystemRoots {
                reason: reasons.join("; "),
            });
        }
        let trust = Trust::new(
            "the system's trusted roots".to_owned(),
            found.certs,
            load_revocations(settings, environment)?,
        );
        return Ok(Some(trust));
    }
    let named = settings.root_certificates.is_some();
    let path = match &settings.root_certificates {
        Some(path) => Some(path.into()),
        None => environment.home_file(".postgresql/root.crt"),
    };
    let Some(path) = path.filter(|path| path.exists()) else {
        let path = settings
            .root_certificates
            .clone()
            .unwrap_or_else(|| "~/.postgresql/root.crt".to_owned());
        if settings.mode >= SslMode::VerifyCa {
            return Err(TlsError::NoRootFile { path });
        }
        if named {
            warnings.push(format!(
                "root certificate file `{path}` does not exist: with sslmode={} the server's certificate is not verified",
                settings.mode.name()
            ));
        }
        return Ok(None);
    };
    let certificates = certificates(ROOTS, &path)?;
    let source = format!("{ROOTS} \"{}\"", path.display());
    let trust = Trust::new(source, certificates, load_revocations(settings, environment)?);
    if trust.is_empty() {
        let reason = "none of its certificates can serve as an authority".to_owned();
        return Err(TlsError::File {
            what: ROOTS,
            path: path.display().to_string(),
            reason,
        });
    }
    Ok(Some(trust))
}

/// All certificates of a PEM file.
pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::File {
        what,
        path: path.display().to_string(),
        reason,
    };
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| refuse(format!("not valid PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(refuse("it contains no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

/// The revocation lists, named or at the default place. Unlike libpq, one that is named must exist.
fn load_revocations(
    settings: &TlsSettings,
    environment: &Environment,
) -> Result<Vec<CertRevocationList<'static>>, TlsError> {
    let mut lists = Vec::new();
    if let Some(path) = &settings.revocation_list {
        lists.extend(revocation_lists(Path::new(path))?);
    }
    if let Some(directory) = &settings.revocation_directory {
        let refuse = |reason: String| TlsError::File {
            what: "sslcrldir",
            path: directory.clone(),
            reason,
        };
        let entries = std::fs::read_dir(directory).map_err(|error| refuse(error.to_string()))?;
        for entry in entries {
            let path = entry.map_err(|error| refuse(error.to_string()))?.path();
            if path.is_file() {
                lists.extend(revocation_lists(&path)?);
            }
        }
        if lists.is_empty() {
            return Err(refuse("it contains no revocation list".to_owned()));
        }
    }
    if settings.revocation_list.is_none() && settings.revocation_directory.is_none() {
        let default = environment
            .home_file(".postgresql/root.crl")
            .filter(|path| path.exists());
        if let Some(path) = default {
            lists.extend(revocation_lists(&path)?);
        }
    }
    Ok(lists)
}

fn revocation_lists(path: &Path) -> Result<Vec<CertRevocationList<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::File {
        what: REVOCATION,
        path: path.display().to_string(),
        reason,
    };
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(&text) {
        let list = list.map_err(|error| refuse(format!("not valid PEM: {error}")))?;
        let list = OwnedCertRevocationList::from_der(&list).map_err(|error| refuse(error.to_string()))?;
        lists.push(CertRevocationList::Owned(list));
    }
    if lists.is_empty() {
        return Err(refuse("it contains no revocation list in PEM form".to_owned()));
    }
    Ok(lists)
}
