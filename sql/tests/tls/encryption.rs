//! With or without TLS.

use super::servers::shared;
use super::{connect, encrypted, refused};

#[tokio::test]
async fn each_mode_encrypts_when_it_should() {
    let servers = shared();
    let conninfo = |user: &str, mode: &str| format!("{} user={user} sslmode={mode}", servers.named());
    for (user, mode, expected) in [
        ("trusted", "disable", false),
        ("trusted", "allow", false),
        ("trusted", "prefer", true),
        ("trusted", "require", true),
        ("tlsonly", "allow", true),
        ("tlsonly", "prefer", true),
        ("plainonly", "allow", false),
        ("plainonly", "prefer", false),
    ] {
        let session = connect(&conninfo(user, mode)).await;
        assert_eq!(encrypted(&session).await, expected, "{user} {mode}");
    }
    let unencrypted = if servers.version >= 14 {
        "no encryption"
    } else {
        "SSL off"
    };
    refused(&conninfo("tlsonly", "disable"), unencrypted).await;
    refused(
        &conninfo("plainonly", "require"),
        if servers.version >= 14 {
            "SSL encryption"
        } else {
            "SSL on"
        },
    )
    .await;
    // Nobody lets this role in: both attempts are told.
    for mode in ["allow", "prefer"] {
        refused(&conninfo("postgres", mode), "with TLS: FATAL").await;
        refused(&conninfo("postgres", mode), "without TLS: FATAL").await;
    }
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_if_the_mode_allows() {
    let servers = shared();
    let conninfo = |mode: &str| {
        format!(
            "host=127.0.0.1 port={} dbname=postgres user=trusted sslmode={mode}",
            servers.standby
        )
    };
    for mode in ["disable", "allow", "prefer"] {
        assert!(!encrypted(&connect(&conninfo(mode)).await).await, "{mode}");
    }
    refused(
        &conninfo("require"),
        "server does not support SSL, but SSL was required",
    )
    .await;
}

#[tokio::test]
async fn sockets_are_never_encrypted_whatever_the_mode() {
    let servers = shared();
    let conninfo = format!(
        "host={} port={} dbname=postgres user=trusted",
        servers.sockets().display(),
        servers.primary
    );
    let session = connect(&format!("{conninfo} sslmode=verify-full sslrootcert=/nonexistent")).await;
    assert!(!encrypted(&session).await);
    refused(
        &format!("{conninfo} requirepeer=nobody-at-all"),
        "requirepeer specifies \"nobody-at-all\"",
    )
    .await;
}

#[tokio::test]
async fn protocol_versions_are_bounded() {
    let servers = shared();
    let version = async |bounds: &str| {
        let session = connect(&format!("{} user=tlsonly sslmode=require {bounds}", servers.named())).await;
        let query = "select version from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()";
        session.query_one(query, &[]).await.unwrap().get::<_, String>(0)
    };
    assert_eq!(version("ssl_max_protocol_version=TLSv1.2").await, "TLSv1.2");
    assert_eq!(version("ssl_min_protocol_version=TLSv1").await, version("").await);
    if version("").await == "TLSv1.3" {
        assert_eq!(version("ssl_min_protocol_version=TLSv1.3").await, "TLSv1.3");
    }
}

#[tokio::test]
async fn direct_negotiation_needs_server_17() {
    let servers = shared();
    let conninfo = format!("{} user=tlsonly sslmode=require sslnegotiation=direct", servers.named());
    if servers.version >= 17 {
        assert!(encrypted(&connect(&conninfo).await).await);
        let verified = format!(
            "{conninfo} sslmode=verify-full sslrootcert={}",
            servers.file("root.crt")
        );
        assert!(encrypted(&connect(&verified).await).await);
    } else {
        refused(&conninfo, "server closed the connection during the TLS handshake").await;
    }
}
