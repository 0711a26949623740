//! Whether a certificate is for the host we meant, by libpq's rules.

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Compares the host with the alternative names, then with the common name if there is no alternative name of the
/// host's kind. The error tells what the certificate is for.
pub(super) fn check(certificate: &Certificate, host: &str) -> Result<(), String> {
    let address: Option<IpAddr> = host.parse().ok();
    let mut names = Vec::new();
    let mut common_name_counts = true;
    let alternatives = certificate
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|error| format!("its alternative names cannot be read: {error}"))?;
    for alternative in alternatives.iter().flat_map(|(_, alternatives)| &alternatives.0) {
        match alternative {
            GeneralName::DnsName(name) => {
                common_name_counts &= address.is_some();
                if matches(name.as_str(), host) {
                    return Ok(());
                }
                names.push(name.to_string());
            }
            GeneralName::IpAddress(bytes) => {
                common_name_counts &= address.is_none();
                let meant = ip_address(bytes.as_bytes());
                if meant.is_some() && meant == address {
                    return Ok(());
                }
                names.push(meant.map_or_else(|| "(malformed address)".to_owned(), |meant| meant.to_string()));
            }
            _ => {}
        }
    }
    if common_name_counts && let Some(name) = common_name(certificate) {
        if matches(&name, host) {
            return Ok(());
        }
        names.push(name);
    }
    Err(match names.split_first() {
        None => "could not get server's host name from server certificate: it names none".to_owned(),
        Some((first, [])) => format!("server certificate for \"{first}\" does not match host name \"{host}\""),
        Some((first, others)) => format!(
            "server certificate for \"{first}\" (and {} other names) does not match host name \"{host}\"",
            others.len()
        ),
    })
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The first common name of the subject.
fn common_name(certificate: &Certificate) -> Option<String> {
    let attributes = certificate
        .tbs_certificate
        .subject
        .0
        .iter()
        .flat_map(|relative| relative.0.iter());
    let value = attributes
        .into_iter()
        .find(|attribute| attribute.oid == COMMON_NAME)?
        .value
        .value();
    String::from_utf8(value.to_vec()).ok()
}

/// Compares without regard to case; `*.example.org` stands for one label.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(suffix) = pattern
        .strip_prefix('*')
        .filter(|suffix| suffix.starts_with('.') && suffix.len() > 1)
    else {
        return false;
    };
    // The first dot of the host must be the one of the pattern.
    host.find('.')
        .is_some_and(|dot| dot > 0 && host[dot..].eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(matches("db.Example.org", "DB.example.ORG"));
        assert!(matches("*.example.org", "db.example.org"));
        for (pattern, host) in [
            ("*.example.org", "a.b.example.org"),
            ("*.example.org", "example.org"),
            ("*.example.org", ".example.org"),
            ("*", "example"),
            ("*.", "example."),
            ("d*.example.org", "db.example.org"),
            ("db.example.org\0.evil", "db.example.org"),
        ] {
            assert!(!matches(pattern, host), "{pattern} {host}");
        }
    }
}
