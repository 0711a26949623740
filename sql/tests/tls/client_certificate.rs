//! Who we say we are.

use std::os::unix::fs::PermissionsExt as _;

use super::servers::{Servers, shared};
use super::{bare, connect, connect_with, refused};

fn as_certonly(servers: &Servers, certificate: &str, key: &str) -> String {
    let (certificate, key) = (servers.file(certificate), servers.file(key));
    format!(
        "{} user=certonly sslmode=require sslcert={certificate} sslkey={key}",
        servers.named()
    )
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let servers = shared();
    let session = connect(&as_certonly(servers, "client.crt", "client.key")).await;
    let row = session.query_one("select current_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "certonly");
    connect(&format!(
        "{} sslcertmode=require",
        as_certonly(servers, "client.crt", "client.key")
    ))
    .await;
}

#[tokio::test]
async fn the_wrong_certificate_or_none_does_not() {
    let servers = shared();
    let none = format!("{} user=certonly sslmode=require", servers.named());
    refused(&none, "valid client certificate").await;
    refused(
        &format!(
            "{} sslcertmode=disable",
            as_certonly(servers, "client.crt", "client.key")
        ),
        "valid client certificate",
    )
    .await;
    refused(
        &as_certonly(servers, "stranger.crt", "stranger.key"),
        "certificate authentication failed",
    )
    .await;
    refused(
        &as_certonly(servers, "foreign.crt", "foreign.key"),
        "the server refuses our client certificate",
    )
    .await;
    // As in libpq a file that does not exist is no certificate, and the server's answer tells the rest.
    let missing = format!("{none} sslcert=/nonexistent/client.crt");
    refused(&missing, "valid client certificate").await;
}

#[tokio::test]
async fn the_key_must_be_ours_alone_and_fit() {
    let servers = shared();
    refused(
        &as_certonly(servers, "client.crt", "stranger.key"),
        "it does not match certificate file",
    )
    .await;
    refused(
        &as_certonly(servers, "client.crt", "missing.key"),
        "certificate present, but not private key file",
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open.key");
    std::fs::copy(servers.file("client.key"), &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let conninfo = format!(
        "{} user=certonly sslmode=require sslcert={} sslkey={}",
        servers.named(),
        servers.file("client.crt"),
        open.display()
    );
    refused(&conninfo, "has group or world access").await;
}

#[tokio::test]
async fn the_home_directory_holds_the_default() {
    let servers = shared();
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join(".postgresql");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(servers.file("client.crt"), directory.join("postgresql.crt")).unwrap();
    std::fs::copy(servers.file("client.key"), directory.join("postgresql.key")).unwrap();
    let conninfo = format!("{} user=certonly sslmode=require", servers.named());
    connect_with(&conninfo, bare().with_home(home.path())).await.unwrap();
}
