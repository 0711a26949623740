//! The form `postgresql://user:password@host:port,host:port/dbname?keyword=value&…`.

use super::error::ConninfoError;
use super::keyword;
use super::parameters::Parameters;

/// The text behind the scheme, if this is a URI at all.
pub(super) fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// A URI cut at its separators, still percent-encoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) hosts: Vec<(&'a str, &'a str)>,
    pub(super) dbname: Option<&'a str>,
    pub(super) query: Option<&'a str>,
}

/// Cuts a URI as libpq does: credentials end at the first `@` before any `/`.
pub(super) fn split(rest: &str) -> Result<Parts<'_>, ConninfoError> {
    let mut parts = Parts::default();
    let mut rest = rest;
    let authority = rest.find(['@', '/']).filter(|&end| rest[end..].starts_with('@'));
    if let Some(end) = authority {
        let credentials = &rest[..end];
        rest = &rest[end + 1..];
        match credentials.split_once(':') {
            Some((user, password)) => (parts.user, parts.password) = (Some(user), Some(password)),
            None => parts.user = Some(credentials),
        }
    }
    loop {
        let host = if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').ok_or(ConninfoError::UnclosedBracket)?;
            if end == 0 {
                return Err(ConninfoError::EmptyBrackets);
            }
            rest = &inner[end + 1..];
            if let Some(next) = rest
                .chars()
                .next()
                .filter(|next| !matches!(next, ':' | '/' | '?' | ','))
            {
                return Err(ConninfoError::AfterBracket(next));
            }
            &inner[..end]
        } else {
            take_until(&mut rest, &[':', '/', '?', ','])
        };
        let port = match rest.strip_prefix(':') {
            Some(after) => {
                rest = after;
                take_until(&mut rest, &['/', '?', ','])
            }
            None => "",
        };
        parts.hosts.push((host, port));
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
    }
    if let Some(path) = rest.strip_prefix('/') {
        rest = path;
        parts.dbname = Some(take_until(&mut rest, &['?']));
    }
    parts.query = rest.strip_prefix('?');
    Ok(parts)
}

/// Takes everything up to one of the separators.
fn take_until<'a>(rest: &mut &'a str, separators: &[char]) -> &'a str {
    let (taken, left) = rest.split_at(rest.find(separators).unwrap_or(rest.len()));
    *rest = left;
    taken
}

/// Reads the text behind the scheme.
pub(super) fn parse(rest: &str) -> Result<Parameters, ConninfoError> {
    let cut = split(rest)?;
    let mut parameters = Parameters::default();
    let hosts = cut.hosts.iter().map(|(host, _)| *host).collect::<Vec<_>>().join(",");
    let ports = cut.hosts.iter().map(|(_, port)| *port).collect::<Vec<_>>().join(",");
    let named = [
        ("user", cut.user.unwrap_or_default()),
        ("password", cut.password.unwrap_or_default()),
        ("host", hosts.as_str()),
        ("port", ports.as_str()),
        ("dbname", cut.dbname.unwrap_or_default()),
    ];
    for (name, encoded) in named {
        if !encoded.is_empty() {
            // These names are in the table.
            let _ = parameters.set_named(name, decode(encoded, name)?);
        }
    }
    let Some(query) = cut.query.filter(|query| !query.is_empty()) else {
        return Ok(parameters);
    };
    for pair in query.strip_suffix('&').unwrap_or(query).split('&') {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(ConninfoError::MissingSeparator(pair.to_owned()));
        };
        let name = decode(name, "name of a query parameter")?;
        if value.contains('=') {
            return Err(ConninfoError::ExtraSeparator(name));
        }
        let value = decode(value, &format!("query parameter \"{name}\""))?;
        // The spelling of JDBC.
        let (name, value) = if name == "ssl" && value == "true" {
            ("sslmode".to_owned(), "require".to_owned())
        } else {
            (name, value)
        };
        if parameters.set_named(&name, value).is_err() {
            return Err(ConninfoError::UnknownUriParameter(name));
        }
    }
    Ok(parameters)
}

/// Undoes percent-encoding, strictly: a lone `%` is an error.
fn decode(text: &str, part: &str) -> Result<String, ConninfoError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err(ConninfoError::PercentEncoding { part: part.to_owned() });
        };
        rest = after;
        match (hex(*high), hex(*low)) {
            (Some(0), Some(0)) => return Err(ConninfoError::PercentNul { part: part.to_owned() }),
            (Some(high), Some(low)) => bytes.push(high * 16 + low),
            _ => return Err(ConninfoError::PercentEncoding { part: part.to_owned() }),
        }
    }
    String::from_utf8(bytes).map_err(|_| ConninfoError::NotUtf8 { part: part.to_owned() })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Whether an `@` follows the credentials, as it does when a password has unescaped separators: what looks like a port
/// or a parameter may then be a piece of the password.
pub(super) fn may_be_cut_wrong(rest: &str) -> bool {
    let end = rest.find(['@', '/']).filter(|&end| rest[end..].starts_with('@'));
    rest[end.map_or(0, |end| end + 1)..].contains('@')
}

/// Whether a query parameter's value must not be shown; unknown names count as secret.
pub(super) fn is_secret(name: &str) -> bool {
    decode(name, "")
        .ok()
        .and_then(|name| keyword::find(&name))
        .is_none_or(|keyword| keyword.secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse(without_scheme(text).unwrap_or("no scheme")) {
            Ok(parameters) => parameters.to_words(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "for {text:?}");
    }

    #[test]
    fn uris_are_read_as_libpq_reads_them() {
        check("postgresql://", "");
        check("postgres:///db", "dbname=db");
        check("postgresql://u@h", "host=h user=u");
        check(
            "postgresql://u:p%40ss@h:1/db",
            "dbname=db host=h password=p@ss port=1 user=u",
        );
        check("postgresql://u:@h", "host=h user=u");
        check("postgresql://:p@h", "host=h password=p");
        check("postgresql://u:a:b@h", "host=h password=a:b user=u");
        check("postgresql://a:1,b,[::1]:3/db", "dbname=db host=a,b,::1 port=1,,3");
        check("postgresql://a,b", "host=a,b port=,");
        check(
            "postgresql://%2Fvar%2Frun/db?connect_timeout=3",
            "connect_timeout=3 dbname=db host=/var/run",
        );
        check("postgresql://h?user=x&dbname=y", "dbname=y host=h user=x");
        check("postgresql://h/db?ssl=true", "dbname=db host=h sslmode=require");
        check("postgresql://h/a/b", "dbname=a/b host=h");
        check("postgresql://h/?", "host=h");
        check(
            "postgresql://h/db?options=-c%20a%3Db",
            "dbname=db host=h options='-c a=b'",
        );
        check("postgresql:///?host=%2Ftmp&port=7", "host=/tmp port=7");
    }

    #[test]
    fn errors_are_worded_as_libpq_words_them() {
        check(
            "postgresql://[::1",
            "error: end of string reached when looking for matching \"]\" in IPv6 host address in URI",
        );
        check("postgresql://[]", "error: IPv6 host address may not be empty in URI");
        check(
            "postgresql://[::1]x",
            "error: unexpected character \"x\" after \"]\" in URI (expected \":\" or \"/\")",
        );
        check(
            "postgresql://h?a",
            "error: missing key/value separator \"=\" in URI query parameter: \"a\"",
        );
        check(
            "postgresql://h?user=b=c",
            "error: extra key/value separator \"=\" in URI query parameter: \"user\"",
        );
        check("postgresql://h?zzz=1", "error: invalid URI query parameter: \"zzz\"");
        check(
            "postgresql://u:%zz@h",
            "error: invalid percent-encoded token in the password of the URI",
        );
        check(
            "postgresql://h/a%00",
            "error: forbidden value %00 in the dbname of the URI",
        );
        check(
            "postgresql://h/a%ff",
            "error: the dbname of the URI is not UTF-8 after percent-decoding",
        );
    }
}
