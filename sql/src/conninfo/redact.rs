//! Connection strings for messages.

use std::fmt::Write as _;

use super::{uri, words};

/// A connection string with every secret replaced by `***`, in the form it was given, for messages.
///
/// A string that cannot be parsed is shown up to the mistake, or not at all where a secret might follow.
#[must_use]
pub fn redact(conninfo: &str) -> String {
    match uri::without_scheme(conninfo) {
        Some(rest) => {
            let scheme = &conninfo[..conninfo.len() - rest.len()];
            format!("{scheme}{}", redact_uri(rest).unwrap_or_else(|| "…".to_owned()))
        }
        None => match words::parse_leniently(conninfo) {
            (parameters, None) => parameters.to_redacted_words(),
            (parameters, Some(_)) => {
                let read = parameters.to_redacted_words();
                if read.is_empty() {
                    "…".to_owned()
                } else {
                    format!("{read} …")
                }
            }
        },
    }
}

/// `None` if it is not certain where the password is.
fn redact_uri(rest: &str) -> Option<String> {
    let parts = uri::split(rest).ok()?;
    let behind_credentials = match parts.user {
        Some(_) => rest.split_once('@')?.1,
        None => rest,
    };
    if uri::may_be_cut_wrong(rest) {
        return None;
    }
    let (place, query) = match behind_credentials.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (behind_credentials, None),
    };
    let mut text = String::new();
    if let Some(user) = parts.user {
        text.push_str(user);
        if parts.password.is_some() {
            text.push_str(":***");
        }
        text.push('@');
    }
    text.push_str(place);
    let mut separator = '?';
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = if value.is_empty() || !uri::is_secret(name) {
            value
        } else {
            "***"
        };
        let _ = if pair.contains('=') {
            write!(text, "{separator}{name}={value}")
        } else {
            write!(text, "{separator}{name}")
        };
        separator = '&';
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn passwords_are_replaced_in_both_forms() {
        assert_eq!(redact("host=a password='x y' user=b"), "host=a password=*** user=b");
        assert_eq!(redact("sslpassword=s host=a"), "host=a sslpassword=***");
        assert_eq!(
            redact("postgresql://u:secret@h:1/db?sslmode=require"),
            "postgresql://u:***@h:1/db?sslmode=require"
        );
        assert_eq!(
            redact("postgres://h/db?user=u&password=secret&port=1"),
            "postgres://h/db?user=u&password=***&port=1"
        );
        assert_eq!(
            redact("postgres://h/db?%70assword=secret"),
            "postgres://h/db?%70assword=***"
        );
        assert_eq!(redact("postgres://"), "postgres://");
    }

    #[test]
    fn what_cannot_be_parsed_shows_no_secret() {
        for text in [
            "password=my secret host=a",
            "host=a password='secret",
            "passwort=secret",
            "secret",
            "postgresql://u:a/secret@h",
            "postgresql://u:a@secret@h",
            "postgresql://[u:secret@h",
            "postgresql://h?pass%word=secret",
        ] {
            assert!(!redact(text).contains("secret"), "{text} became {}", redact(text));
        }
    }
}
