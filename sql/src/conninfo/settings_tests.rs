//! What connection strings and environments add up to.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

fn resolve(conninfo: &str) -> Result<Settings, ConninfoError> {
    Settings::resolve(conninfo, &Environment::bare("me"))
}

fn target(conninfo: &str, environment: &Environment) -> String {
    match Settings::resolve(conninfo, environment) {
        Ok(settings) => settings.target(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn gaps_are_filled_from_the_environment_then_from_defaults() {
    let bare = Environment::bare("me");
    let check = |conninfo: &str, expected: &str| assert_eq!(target(conninfo, &bare), expected, "for {conninfo}");
    check("", "localhost:5432/me as me");
    check("user=x", "localhost:5432/x as x");
    check("user=x dbname=''", "localhost:5432/x as x");
    check("host=a,b port=1", "a:1,b:1/me as me");
    check("host=a,b port=1,", "a:1,b:5432/me as me");
    check("host=,b", "localhost:5432,b:5432/me as me");
    check("hostaddr=::1 port=1", "[::1]:1/me as me");
    check("host=a hostaddr=127.0.0.1", "a:5432/me as me");
    check("host=/tmp", "/tmp:5432/me as me");
    check("postgresql://u@a:1,[::1]:2/d", "a:1,[::1]:2/d as u");
    check(
        "host=a,b hostaddr=1.1.1.1",
        "error: could not match 2 host names to 1 hostaddr values",
    );
    check("host=a port=1,2", "error: could not match 2 port numbers to 1 hosts");
    check("hostaddr=a", "error: could not parse network address \"a\" in hostaddr");
    check(
        "port=x",
        "error: invalid integer value \"x\" for connection option \"port\"",
    );
    let variables = Environment::bare("me")
        .with_variable("PGHOST", "h")
        .with_variable("PGPORT", "7")
        .with_variable("PGUSER", "u")
        .with_variable("PGDATABASE", "d");
    assert_eq!(target("", &variables), "h:7/d as u");
    assert_eq!(target("host=x user=y", &variables), "x:7/d as y");
    assert!(target("port=0", &bare).starts_with("error: invalid port number: \"0\""));
    assert!(target("port=65536", &bare).starts_with("error: invalid port number"));
    assert!(target(&format!("host=/{}", "x".repeat(200)), &bare).contains("is too long (maximum 103 bytes)"));
}

#[test]
fn the_default_host_is_a_socket_that_exists() {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::bare("me").with_socket_directory(directory.path());
    assert_eq!(target("port=7", &environment), "localhost:7/me as me");
    std::fs::write(directory.path().join(".s.PGSQL.7"), "").unwrap();
    let settings = Settings::resolve("port=7", &environment).unwrap();
    assert_eq!(
        settings.hosts[0].endpoint,
        Endpoint::Socket(directory.path().to_str().unwrap().to_owned())
    );
    assert_eq!(target("port=8", &environment), "localhost:8/me as me");
}

#[test]
fn passwords_come_from_the_string_the_variable_or_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pass");
    let sockets = directory.path().join("sockets");
    std::fs::write(
        &file,
        "localhost:*:*:*:local\na:1:*:*:one\n1.2.3.4:*:*:*:address\nb:*:*:*:two\n",
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let environment = Environment::bare("me")
        .with_variable("PGPASSFILE", file.to_str().unwrap())
        .with_socket_directory(&sockets);
    let check = |conninfo: &str, environment: &Environment, expected: &[Option<&str>]| {
        let settings = Settings::resolve(conninfo, environment).unwrap();
        let passwords: Vec<_> = settings
            .hosts
            .iter()
            .map(|host| host.password.as_ref().map(|password| password.secret.reveal()))
            .collect();
        assert_eq!(passwords, expected, "for {conninfo}");
        assert!(!format!("{settings:?}").contains("secret\""), "{settings:?}");
    };
    check("host=a,b,c port=1", &environment, &[Some("one"), Some("two"), None]);
    check(&format!("host={}", sockets.display()), &environment, &[Some("local")]);
    check("host=/elsewhere", &environment, &[None]);
    check("", &environment, &[Some("local")]);
    check("host=c hostaddr=1.2.3.4", &environment, &[None]);
    check("hostaddr=1.2.3.4", &environment, &[Some("address")]);
    check("host=a port=1 password=''", &environment, &[Some("one")]);
    check("host=a port=1 password=x", &environment, &[Some("x")]);
    check(
        "host=a port=1",
        &environment.clone().with_variable("PGPASSWORD", "y"),
        &[Some("y")],
    );
    check("host=a port=1 passfile=/nonexistent", &environment, &[None]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o604)).unwrap();
    let settings = Settings::resolve("host=a,b port=1", &environment).unwrap();
    assert_eq!(
        (settings.warnings.len(), settings.hosts[0].password.as_ref()),
        (1, None)
    );
}

#[test]
fn values_are_typed() {
    let settings = resolve("keepalives_idle=3 keepalives_count=0 tcp_user_timeout=1500 connect_timeout=0").unwrap();
    assert_eq!(settings.keepalives.idle, Setting::Given(Duration::from_secs(3)));
    assert_eq!(settings.keepalives.interval, Setting::Open);
    assert_eq!(settings.keepalives.count, Setting::System);
    assert_eq!(
        settings.keepalives.tcp_user_timeout,
        Setting::Given(Duration::from_millis(1500))
    );
    assert_eq!(settings.connect_timeout, Setting::System);
    assert!(!resolve("keepalives=0").unwrap().keepalives.enabled);
    assert_eq!(resolve("").unwrap().tls.mode, SslMode::Prefer);
    assert_eq!(resolve("sslrootcert=system").unwrap().tls.mode, SslMode::VerifyFull);
    let old = Environment::bare("me").with_variable("PGREQUIRESSL", "1");
    assert_eq!(Settings::resolve("", &old).unwrap().tls.mode, SslMode::Require);
    assert_eq!(
        resolve("application_name='' fallback_application_name=f")
            .unwrap()
            .application_name
            .as_deref(),
        Some("f")
    );
    for attrs in ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] {
        assert!(resolve(&format!("target_session_attrs={attrs}")).is_ok());
    }
}

#[test]
fn what_is_safe_is_ignored_and_the_rest_refused_with_a_reason() {
    for ignored in [
        "gssencmode=prefer krbsrvname=postgres gsslib=gssapi gssdelegation=1",
        "client_encoding=LATIN1 sslcompression=1 replication=off",
        "max_protocol_version=latest min_protocol_version=3.0",
        "oauth_issuer=x oauth_client_id=y oauth_scope=z oauth_client_secret=w",
        "sslpassword=x sslkeylogfile=y",
    ] {
        assert!(resolve(ignored).is_ok(), "{ignored}");
    }
    let check = |conninfo: &str, part: &str| {
        let message = resolve(conninfo).unwrap_err().to_string();
        assert!(message.contains(part), "{conninfo}: {message}");
    };
    check("gssencmode=require", "GSSAPI encryption is not supported");
    check("gssencmode=x", "invalid gssencmode value: \"x\"");
    check("replication=database", "ordinary sessions");
    check("scram_client_key=abc", "give the password");
    check("require_auth=gss", "none is supported");
    check("min_protocol_version=3.2", "3.0");
    check("sslmode=on", "invalid sslmode value: \"on\"");
    check("sslmode=''", "invalid sslmode value: \"\"");
    check("sslmode=require sslrootcert=system", "weak sslmode \"require\"");
    check("sslnegotiation=direct", "weak sslmode \"prefer\"");
    check(
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "version range",
    );
    check(
        "ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1",
        "before 1.2",
    );
    check("sslsni=2", "sslsni");
    check("service=s", "definition of service \"s\" not found");
}

/// Keywords and values a string can carry.
fn any_parameters() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names = proptest::sample::select(KEYWORDS.iter().map(|keyword| keyword.name).collect::<Vec<_>>());
    proptest::collection::vec((names, "[^\0]{0,12}"), 0..8)
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect::<Vec<_>>()
        .concat()
}

proptest! {
    #[test]
    fn words_survive_a_round_trip(values in any_parameters()) {
        let words: Vec<_> = values.iter().map(|(name, value)| {
            format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "\\'"))
        }).collect();
        let text = words.concat();
        let parameters = parse(&text).unwrap();
        prop_assert_eq!(&parse(&parameters.to_words()).unwrap(), &parameters);
        for (name, value) in parameters.iter() {
            prop_assert_eq!(Some(value), values.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value.as_str()));
        }
    }

    #[test]
    fn uri_parameters_survive_a_round_trip(values in any_parameters()) {
        let query: Vec<_> = values.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
        let parameters = parse(&format!("postgresql:///?{}", query.join("&"))).unwrap();
        prop_assert_eq!(&parse(&parameters.to_words()).unwrap(), &parameters);
        for (name, value) in &values {
            prop_assert!(parameters.get(name).is_some(), "{} = {} is lost", name, value);
        }
    }

    #[test]
    fn uri_places_survive_a_round_trip(user in ".{1,8}", password in ".{1,8}", host in ".{1,8}", port in 1u16.., dbname in ".{1,8}") {
        prop_assume!([&user, &password, &host, &dbname].iter().all(|part| !part.contains('\0')));
        let [u, p, h, d] = [&user, &password, &host, &dbname].map(|part| percent_encode(part));
        let parameters = parse(&format!("postgres://{u}:{p}@{h}:{port}/{d}")).unwrap();
        let expected = [("user", user), ("password", password), ("host", host), ("port", port.to_string()), ("dbname", dbname)];
        for (name, value) in expected {
            prop_assert_eq!(parameters.get(name), Some(value.as_str()));
        }
    }

    #[test]
    fn garbage_never_panics(text in "(postgres(ql)?://)?[ -~\\n=\\\\'é@:/?&%\\[\\],]{0,60}") {
        let _ = resolve(&text);
        let _ = super::super::redact(&text);
    }

    #[test]
    fn secrets_never_reach_messages(before in "[a-z=' @:/?]{0,10}", after in "[a-z=' @:/?&]{0,10}") {
        for text in [format!("host=h password={before}SECRET{after}"), format!("postgresql://u:{before}SECRET{after}@h/d")] {
            let shown = super::super::redact(&text);
            prop_assert!(!shown.contains("SECRET"), "{} shown as {}", text, shown);
            if let Err(error) = resolve(&text) {
                prop_assert!(!error.to_string().contains("SECRET"), "{} gives {}", text, error);
            }
        }
    }
}
