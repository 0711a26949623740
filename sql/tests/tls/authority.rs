//! Whether the server is who it says.

use super::servers::shared;
use super::{bare, connect, connect_with, encrypted, refusal_with, refused};

#[tokio::test]
async fn the_right_authority_and_name_pass_every_mode() {
    let servers = shared();
    let root = servers.file("root.crt");
    for mode in ["require", "verify-ca", "verify-full"] {
        let session = connect(&format!(
            "{} user=tlsonly sslmode={mode} sslrootcert={root}",
            servers.named()
        ))
        .await;
        assert!(encrypted(&session).await, "{mode}");
        assert_eq!(
            session.target(),
            format!("db.trunkline.test:{}/postgres as tlsonly", servers.primary)
        );
    }
    for host in ["127.0.0.1", "a.wild.trunkline.test", "DB.Trunkline.Test"] {
        connect(&format!(
            "host={host} {} user=tlsonly sslmode=verify-full sslrootcert={root}",
            servers.address()
        ))
        .await;
    }
    let uri = format!(
        "postgresql://tlsonly@127.0.0.1:{}/postgres?sslmode=verify-full&sslrootcert={}",
        servers.primary,
        root.replace('/', "%2F")
    );
    connect(&uri).await;
}

#[tokio::test]
async fn the_wrong_authority_is_refused_even_with_require() {
    let servers = shared();
    let other = servers.file("other.crt");
    for mode in ["require", "verify-ca", "verify-full"] {
        let conninfo = format!("{} user=trusted sslmode={mode} sslrootcert={other}", servers.named());
        refused(&conninfo, "certificate verify failed").await;
    }
}

#[tokio::test]
async fn the_wrong_host_name_is_refused_by_verify_full_only() {
    let servers = shared();
    let root = servers.file("root.crt");
    let other = |mode| {
        format!(
            "host=else.test {} user=trusted sslmode={mode} sslrootcert={root}",
            servers.address()
        )
    };
    let message =
        "server certificate for \"db.trunkline.test\" (and 2 other names) does not match host name \"else.test\"";
    refused(&other("verify-full"), message).await;
    assert!(encrypted(&connect(&other("verify-ca")).await).await);
    assert!(encrypted(&connect(&other("require")).await).await);
    let deeper = format!(
        "host=a.b.wild.trunkline.test {} user=trusted sslmode=verify-full sslrootcert={root}",
        servers.address()
    );
    refused(&deeper, "does not match host name").await;
    let nameless = format!(
        "{} user=trusted sslmode=verify-full sslrootcert={root}",
        servers.address()
    );
    refused(&nameless, "host name must be specified for a verified SSL connection").await;
}

#[tokio::test]
async fn verification_without_root_certificates_is_refused() {
    let servers = shared();
    for mode in ["verify-ca", "verify-full"] {
        let conninfo = format!("{} user=trusted sslmode={mode}", servers.named());
        refused(
            &conninfo,
            "root certificate file \"~/.postgresql/root.crt\" does not exist",
        )
        .await;
        let missing = format!("{conninfo} sslrootcert=/nonexistent/root.crt");
        refused(
            &missing,
            "root certificate file \"/nonexistent/root.crt\" does not exist",
        )
        .await;
    }
    assert!(encrypted(&connect(&format!("{} user=trusted sslmode=require", servers.named())).await).await);
    let key = format!(
        "{} user=trusted sslmode=verify-ca sslrootcert={}",
        servers.named(),
        servers.file("client.key")
    );
    refused(&key, "contains no certificate").await;
    let system = format!("{} user=trusted sslrootcert=system", servers.named());
    let reason = refusal_with(&system, bare()).await;
    assert!(
        reason.contains("certificate verify failed") || reason.contains("no trusted root certificate"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_root_file_in_the_home_directory_turns_verification_on() {
    let servers = shared();
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".postgresql")).unwrap();
    let root = home.path().join(".postgresql/root.crt");
    let conninfo = |mode| format!("{} user=trusted sslmode={mode}", servers.named());
    std::fs::copy(servers.file("other.crt"), &root).unwrap();
    let reason = refusal_with(&conninfo("require"), bare().with_home(home.path())).await;
    assert!(reason.contains("certificate verify failed"), "{reason}");
    // As in libpq, prefer then goes on without TLS rather than not at all.
    let session = connect_with(&conninfo("prefer"), bare().with_home(home.path()))
        .await
        .unwrap();
    assert!(!encrypted(&session).await);
    std::fs::copy(servers.file("root.crt"), &root).unwrap();
    for mode in ["prefer", "require", "verify-full"] {
        let session = connect_with(&conninfo(mode), bare().with_home(home.path()))
            .await
            .unwrap();
        assert!(encrypted(&session).await, "{mode}");
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let servers = shared();
    let conninfo = format!(
        "{} user=trusted sslmode=verify-ca sslrootcert={}",
        servers.named(),
        servers.file("root.crt")
    );
    connect(&format!("{conninfo} sslcrl={}", servers.file("nothing.crl"))).await;
    refused(
        &format!("{conninfo} sslcrl={}", servers.file("server.crl")),
        "it has been revoked",
    )
    .await;
    refused(
        &format!("{conninfo} sslcrl=/nonexistent"),
        "could not use certificate revocation list",
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let in_directory = format!("{conninfo} sslcrldir={}", directory.path().display());
    refused(&in_directory, "it contains no revocation list").await;
    std::fs::copy(servers.file("server.crl"), directory.path().join("0a1b2c3d.r0")).unwrap();
    refused(&in_directory, "it has been revoked").await;
}

#[tokio::test]
async fn certificates_of_version_1_without_alternative_names_still_work() {
    let servers = shared();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.crt");
    std::fs::write(&root, include_str!("old/authority.crt")).unwrap();
    let conninfo = |host: &str, root: &str| {
        let port = servers.old;
        format!("host={host} hostaddr=127.0.0.1 port={port} dbname=postgres sslmode=verify-full sslrootcert={root}")
    };
    let root = root.to_str().unwrap();
    for version in ["TLSv1.2", "TLSv1.3"] {
        let options = format!("ssl_max_protocol_version={version} user=scrammed password=s3cret");
        let session = connect(&format!("{} {options}", conninfo("old.trunkline.test", root))).await;
        assert!(encrypted(&session).await);
        if servers.version >= 11 {
            connect(&format!(
                "{} {options} channel_binding=require",
                conninfo("old.trunkline.test", root)
            ))
            .await;
        }
        connect(&format!(
            "host=127.0.0.1 port={} dbname=postgres sslmode=require {options}",
            servers.old
        ))
        .await;
    }
    refused(
        &format!("{} user=trusted", conninfo("new.trunkline.test", root)),
        "does not match host name",
    )
    .await;
    let other = conninfo("old.trunkline.test", &servers.file("root.crt"));
    refused(&format!("{other} user=trusted"), "not signed by a trusted authority").await;
}
