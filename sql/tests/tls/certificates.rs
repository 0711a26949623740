//! A private authority and what it signs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// The name in the server's certificate.
const SERVER_NAME: &str = "db.trunkline.test";

/// Files of the clients, and of the server in `server.crt` and `server.key`.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) directory: PathBuf,
}

impl Certificates {
    /// Makes all files below `directory`.
    pub(crate) fn make(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let made = Self {
            directory: directory.to_owned(),
        };
        let ours = authority("Trunkline test authority");
        let other = authority("Somebody else");
        made.write("root.crt", &ours.pem());
        made.write("other.crt", &other.pem());

        let mut server = parameters(SERVER_NAME, &[SERVER_NAME, "*.wild.trunkline.test", "127.0.0.1"]);
        server.serial_number = Some(SerialNumber::from(77_u64));
        made.sign("server", &server, &ours);
        made.sign("client", &parameters("certonly", &[]), &ours);
        made.sign("stranger", &parameters("stranger", &[]), &ours);
        made.sign("foreign", &parameters("certonly", &[]), &other);

        made.write("nothing.crl", &revocations(&ours, &[1]));
        made.write("server.crl", &revocations(&ours, &[77]));
        made
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        std::fs::write(&path, text).unwrap();
        let private = path.extension().is_some_and(|extension| extension == "key");
        let mode = if private { 0o600 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn sign(&self, name: &str, parameters: &CertificateParams, authority: &CertifiedIssuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        self.write(
            &format!("{name}.crt"),
            &parameters.signed_by(&key, authority).unwrap().pem(),
        );
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

fn parameters(name: &str, alternatives: &[&str]) -> CertificateParams {
    let alternatives: Vec<_> = alternatives.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(alternatives).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = parameters(name, &[]);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

fn revocations(authority: &CertifiedIssuer<'static, KeyPair>, serials: &[u64]) -> String {
    let revoke = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoke).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(authority).unwrap().pem().unwrap()
}
