//! Passwords: where they come from and how they travel.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::servers::shared;
use super::{bare, connect, connect_with, encrypted, refusal_with, refused};

#[tokio::test]
async fn passwords_log_in_and_never_show() {
    let servers = shared();
    for user in ["scrammed", "cleared"] {
        connect(&format!("{} user={user} password=s3cret", servers.named())).await;
        let wrong = format!("{} user={user} password=hunter2hunter2", servers.named());
        let reason = refusal_with(&wrong, bare()).await;
        assert!(
            reason.contains("password authentication failed") && !reason.contains("hunter2"),
            "{reason}"
        );
        refused(&format!("{} user={user}", servers.named()), "no password supplied").await;
    }
    let environment = bare().with_variable("PGPASSWORD", "s3cret");
    connect_with(&format!("{} user=scrammed", servers.named()), environment)
        .await
        .unwrap();
    let uri = format!("postgresql://scrammed:s3cret@127.0.0.1:{}/postgres", servers.primary);
    let session = connect(&uri).await;
    assert!(!format!("{session:?}").contains("s3cret"));
}

#[tokio::test]
async fn channel_binding_ties_the_password_to_tls() {
    let servers = shared();
    let scrammed = format!("{} user=scrammed password=s3cret", servers.named());
    if servers.version >= 11 {
        connect(&format!("{scrammed} sslmode=require channel_binding=require")).await;
    }
    connect(&format!("{scrammed} sslmode=require channel_binding=disable")).await;
    refused(
        &format!("{scrammed} sslmode=disable channel_binding=require"),
        "channel binding",
    )
    .await;
    let cleared = format!(
        "{} user=cleared password=s3cret sslmode=require channel_binding=require",
        servers.named()
    );
    refused(&cleared, "channel binding").await;
}

#[tokio::test]
async fn required_authentication_stops_the_password_before_it_is_sent() {
    let servers = shared();
    let conninfo =
        |user: &str, methods: &str| format!("{} user={user} password=s3cret require_auth={methods}", servers.named());
    connect(&conninfo("scrammed", "scram-sha-256")).await;
    connect(&conninfo("scrammed", "!password")).await;
    connect(&conninfo("cleared", "password")).await;
    connect(&conninfo("trusted", "none")).await;
    refused(&conninfo("cleared", "scram-sha-256"), "server requested \"password\"").await;
    refused(&conninfo("cleared", "!password,!md5"), "server requested \"password\"").await;
    refused(&conninfo("scrammed", "md5"), "server requested \"scram-sha-256\"").await;
    refused(
        &conninfo("trusted", "scram-sha-256"),
        "server did not ask for any authentication",
    )
    .await;
    refused(
        &format!("{} sslmode=disable", conninfo("cleared", "md5")),
        "server requested \"password\"",
    )
    .await;
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn the_password_file_is_read_unless_others_can_read_it() {
    let servers = shared();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    let conninfo = format!("{} user=scrammed", servers.named());
    write_private(
        &file,
        &format!(
            "# mine\ndb.trunkline.test:{}:postgres:scrammed:s3cret\n",
            servers.primary
        ),
    );
    connect_with(&conninfo, bare().with_home(home.path())).await.unwrap();
    let variable = bare().with_variable("PGPASSFILE", file.to_str().unwrap());
    connect_with(&conninfo, variable).await.unwrap();
    connect(&format!("{conninfo} passfile={}", file.display())).await;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let reason = refusal_with(&conninfo, bare().with_home(home.path())).await;
    assert!(reason.contains("no password supplied"), "{reason}");
    write_private(&file, "*:*:*:*:wrong\n");
    let reason = refusal_with(&conninfo, bare().with_home(home.path())).await;
    assert!(
        reason.contains(&format!("password retrieved from file \"{}\"", file.display())),
        "{reason}"
    );
}

#[tokio::test]
async fn a_service_names_everything() {
    let servers = shared();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("services.conf");
    let text = format!(
        "[node1]\nhost=db.trunkline.test\nhostaddr=127.0.0.1\nport={}\ndbname=postgres\nuser=tlsonly\nsslmode=verify-full\n\
         sslrootcert={}\n",
        servers.primary,
        servers.file("root.crt")
    );
    std::fs::write(&file, &text).unwrap();
    let variable = bare().with_variable("PGSERVICEFILE", file.to_str().unwrap());
    let session = connect_with("service=node1", variable.clone()).await.unwrap();
    assert!(encrypted(&session).await);
    connect_with("postgresql:///?service=node1", variable.clone())
        .await
        .unwrap();
    connect_with("", variable.clone().with_variable("PGSERVICE", "node1"))
        .await
        .unwrap();
    let other = connect_with("service=node1 user=trusted", variable.clone())
        .await
        .unwrap();
    assert!(other.target().ends_with("as trusted"), "{}", other.target());
    connect(&format!("service=node1 servicefile={}", file.display())).await;
    std::fs::write(directory.path().join("pg_service.conf"), &text).unwrap();
    let system = bare().with_variable("PGSYSCONFDIR", directory.path().to_str().unwrap());
    connect_with("service=node1", system).await.unwrap();
    let reason = refusal_with("service=node2", variable).await;
    assert!(reason.contains("definition of service \"node2\" not found"), "{reason}");
}

#[tokio::test]
async fn variables_stand_in_for_keywords() {
    let servers = shared();
    let environment = bare()
        .with_variable("PGHOST", "127.0.0.1")
        .with_variable("PGPORT", &servers.primary.to_string())
        .with_variable("PGUSER", "tlsonly")
        .with_variable("PGDATABASE", "postgres")
        .with_variable("PGSSLMODE", "verify-full")
        .with_variable("PGSSLROOTCERT", &servers.file("root.crt"))
        .with_variable("PGAPPNAME", "from-environment")
        .with_variable("PGOPTIONS", "-c statement_timeout=12345");
    let session = connect_with("", environment).await.unwrap();
    let query = "select current_setting('application_name'), current_setting('statement_timeout')";
    let row = session.query_one(query, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1)),
        ("from-environment", "12345ms")
    );
}
