//! Who we are: the client certificate and its key.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::{TlsError, files};
use crate::conninfo::{Environment, TlsSettings};

const CERTIFICATE: &str = "certificate file";
const KEY: &str = "private key file";

/// A certificate with its key.
pub(super) type Identity = CertifiedKey;

/// Loads `sslcert` and `sslkey` or their defaults in `~/.postgresql`.
///
/// As in libpq a certificate file that does not exist means that there is none; if it was named, with a warning.
pub(super) fn load(
    settings: &TlsSettings,
    environment: &Environment,
    provider: &CryptoProvider,
    warnings: &mut Vec<String>,
) -> Result<Option<Identity>, TlsError> {
    let place = |named: &Option<String>, default: &str| match named {
        Some(path) => Some(PathBuf::from(path)),
        None => environment.home_file(default),
    };
    let Some(certificate) = place(&settings.certificate, ".postgresql/postgresql.crt") else {
        return Ok(None);
    };
    match std::fs::metadata(&certificate) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            if settings.certificate.is_some() {
                warnings.push(format!(
                    "certificate file `{}` does not exist: no client certificate is sent",
                    certificate.display()
                ));
            }
            return Ok(None);
        }
        Err(error) => {
            let path = certificate.display().to_string();
            return Err(TlsError::File {
                what: CERTIFICATE,
                path,
                reason: error.to_string(),
            });
        }
    }
    let chain = files::certificates(CERTIFICATE, &certificate)?;
    let Some(key) = place(&settings.key, ".postgresql/postgresql.key") else {
        let reason = "there is no private key file: set sslkey".to_owned();
        return Err(TlsError::File {
            what: CERTIFICATE,
            path: certificate.display().to_string(),
            reason,
        });
    };
    let private = private_key(&key)?;
    let identity = CertifiedKey::from_der(chain, private, provider).map_err(|error| {
        let reason = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("it does not match certificate file \"{}\"", certificate.display())
            }
            error => error.to_string(),
        };
        TlsError::File {
            what: KEY,
            path: key.display().to_string(),
            reason,
        }
    })?;
    Ok(Some(identity))
}

/// Reads a key that nobody else may read: PKCS#8, PKCS#1 or SEC 1, in PEM or DER.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let shown = path.display().to_string();
    let refuse = |reason: String| TlsError::File {
        what: KEY,
        path: shown.clone(),
        reason,
    };
    if shown.contains(':') && !path.exists() {
        return Err(refuse(
            "keys in an OpenSSL engine are not supported; name a file".to_owned(),
        ));
    }
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => refuse("certificate present, but not private key file".to_owned()),
        _ => refuse(error.to_string()),
    })?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file".to_owned()));
    }
    // A key that belongs to root may be readable by a group, which is how packages share one.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(TlsError::KeyPermissions { path: shown });
    }
    let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(refuse(
            "encrypted keys (sslpassword) are not supported; store it unencrypted with mode 0600: \
             openssl pkey -in <key> -out <new key>"
                .to_owned(),
        ));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => PrivateKeyDer::try_from(bytes)
            .map_err(|_| refuse("it contains no private key (PKCS#8, PKCS#1 or SEC 1, in PEM or DER)".to_owned())),
        Err(error) => Err(refuse(format!("not valid PEM: {error}"))),
    }
}

/// Hands out our certificate and remembers that it was asked for.
#[derive(Debug)]
pub(super) struct IdentityResolver {
    identity: Option<Arc<Identity>>,
    asked: Arc<AtomicBool>,
}

impl IdentityResolver {
    pub(super) fn new(identity: Option<Arc<Identity>>, asked: Arc<AtomicBool>) -> Self {
        Self { identity, asked }
    }
}

impl ResolvesClientCert for IdentityResolver {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Release);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A throwaway key in the form `openssl ecparam -genkey` writes.
    const SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEICBZLK0JOhZZwORXiSLBp5ppuB1aesQNCAtY7lA7xmo1oAoGCCqGSM49
AwEHoUQDQgAE+yl/1FaElCormcCjfugXuQQLx06Tkq3YjK0Z+z3WYHz6+UMHMyBF
jRjqviNogATu9mwqvsi12zfzVyFlWTjI0w==
-----END EC PRIVATE KEY-----
";

    fn load(content: &[u8], mode: u32) -> Result<PrivateKeyDer<'static>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        private_key(&path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "key"))
    }

    #[test]
    fn keys_come_in_several_forms() {
        let generated = rcgen::KeyPair::generate().unwrap();
        assert!(matches!(load(SEC1.as_bytes(), 0o600), Ok(PrivateKeyDer::Sec1(_))));
        assert!(matches!(
            load(generated.serialize_pem().as_bytes(), 0o400),
            Ok(PrivateKeyDer::Pkcs8(_))
        ));
        assert!(matches!(
            load(&generated.serialize_der(), 0o600),
            Ok(PrivateKeyDer::Pkcs8(_))
        ));
        let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
        assert!(matches!(load(pkcs1.as_bytes(), 0o600), Ok(PrivateKeyDer::Pkcs1(_))));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_with_a_reason() {
        let check = |content: &str, mode, part: &str| {
            let message = load(content.as_bytes(), mode).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        check(SEC1, 0o644, "private key file \"key\" has group or world access");
        check(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            0o600,
            "encrypted keys (sslpassword) are not supported",
        );
        check(
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
            0o600,
            "encrypted keys",
        );
        check("nonsense", 0o600, "it contains no private key");
        let missing = private_key(Path::new("/nonexistent/key")).unwrap_err().to_string();
        assert!(
            missing.contains("certificate present, but not private key file"),
            "{missing}"
        );
        let engine = private_key(Path::new("engine:key")).unwrap_err().to_string();
        assert!(engine.contains("OpenSSL engine"), "{engine}");
    }
}
