//! What a session does once connected.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use trunkline_sql::{Session, SessionOptions, error_text};

use super::servers::shared;
use super::{bare, connect, connect_with};

const LIMIT: Duration = Duration::from_secs(20);

fn by_socket() -> String {
    let servers = shared();
    format!(
        "host={} port={} dbname=postgres user=postgres",
        servers.sockets().display(),
        servers.primary
    )
}

async fn backend_exists(observer: &Session, pid: i32) -> bool {
    let query = "select exists (select from pg_catalog.pg_stat_activity where pid = $1)";
    observer.query_one(query, &[&pid]).await.unwrap().get(0)
}

async fn wait_until_gone(observer: &Session, pid: i32) {
    let begun = Instant::now();
    while backend_exists(observer, pid).await {
        assert!(begun.elapsed() < LIMIT, "server process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_session_knows_its_server() {
    let servers = shared();
    let session = connect(&format!("{} user=trusted", servers.named())).await;
    let row = session.query_one("select pg_backend_pid()", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), session.backend_pid());
    assert_eq!(
        u32::try_from(session.server_version()).unwrap() / 10_000,
        servers.version
    );
}

#[tokio::test]
async fn options_are_applied_in_order() {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&notices);
    let options = SessionOptions {
        application_name: "slon.local".to_owned(),
        on_connect: vec![
            "set statement_timeout = '100s'".to_owned(),
            "set statement_timeout = '200s'".to_owned(),
            "do $$ begin raise warning 'careful'; end $$".to_owned(),
        ],
        notice: Some(Arc::new(move |message| {
            sink.lock().unwrap().push(message.message().to_owned());
        })),
        ..SessionOptions::default()
    };
    let conninfo = format!("{} application_name=other", by_socket());
    let session = Session::connect_from(&conninfo, &options, bare()).await.unwrap();
    let query = "select current_setting('application_name') || ' ' || current_setting('statement_timeout')";
    assert_eq!(
        session.query_one(query, &[]).await.unwrap().get::<_, &str>(0),
        "slon.local 200s"
    );
    assert_eq!(*notices.lock().unwrap(), ["careful"]);
    let wrong = SessionOptions {
        on_connect: vec!["set nonsense".to_owned()],
        ..SessionOptions::default()
    };
    let reason = Session::connect_from(&by_socket(), &wrong, bare())
        .await
        .unwrap_err()
        .to_string();
    assert!(reason.contains("ERROR: syntax error"), "{reason}");
}

#[tokio::test]
async fn notifications_are_gathered_by_channel() {
    let listener = connect(&by_socket()).await;
    let other = connect(&by_socket()).await;
    listener.batch_execute("listen \"_C_Event\"; listen b").await.unwrap();
    assert!(
        timeout(Duration::from_millis(100), listener.notified()).await.is_err(),
        "nothing rang yet"
    );
    for _ in 0..100 {
        other.batch_execute("notify \"_C_Event\"; notify b").await.unwrap();
    }
    let mut heard = timeout(LIMIT, listener.notified()).await.unwrap().unwrap();
    // Gathered while nobody waits: at most one more bunch.
    if let Ok(more) = timeout(Duration::from_millis(500), listener.notified()).await {
        heard.extend(more.unwrap());
    }
    assert_eq!(heard.into_iter().collect::<Vec<_>>(), ["_C_Event", "b"]);
}

#[tokio::test]
async fn the_end_of_a_connection_is_noticed_and_explained() {
    let session = connect(&by_socket()).await;
    let other = connect(&by_socket()).await;
    other
        .execute("select pg_terminate_backend($1)", &[&session.backend_pid()])
        .await
        .unwrap();
    timeout(LIMIT, session.closed()).await.unwrap();
    let closed = timeout(LIMIT, session.notified()).await.unwrap().unwrap_err();
    assert!(
        closed
            .to_string()
            .contains("terminating connection due to administrator command"),
        "{closed}"
    );
    let error = session.query("select 1", &[]).await.unwrap_err();
    assert!(
        session.is_closed() && error_text(&error).contains("closed"),
        "{}",
        error_text(&error)
    );
}

#[tokio::test]
async fn dropping_a_session_ends_it_even_while_a_statement_runs() {
    let observer = connect(&by_socket()).await;
    let idle = connect(&by_socket()).await;
    let pid = idle.backend_pid();
    drop(idle);
    wait_until_gone(&observer, pid).await;

    let busy = connect(&format!("{} user=trusted", shared().named())).await;
    let pid = busy.backend_pid();
    let statement =
        "do $$ begin for i in 1..400 loop raise notice 'still here'; perform pg_sleep(0.05); end loop; end $$";
    let _ = timeout(Duration::from_millis(300), busy.batch_execute(statement)).await;
    drop(busy);
    // The server notices at its next message.
    wait_until_gone(&observer, pid).await;
}

#[tokio::test]
async fn a_running_statement_is_cancelled_on_every_kind_of_connection() {
    let servers = shared();
    let tls = format!(
        "{} user=tlsonly sslmode=verify-full sslrootcert={}",
        servers.named(),
        servers.file("root.crt")
    );
    for conninfo in [
        by_socket(),
        tls,
        format!("{} user=trusted sslmode=disable", servers.named()),
    ] {
        let session = connect(&conninfo).await;
        let cancel = session.cancel();
        let (result, cancelled) = tokio::join!(timeout(LIMIT, session.batch_execute("select pg_sleep(60)")), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel.await
        });
        cancelled.unwrap();
        assert_eq!(
            result.unwrap().unwrap_err().code(),
            Some(&SqlState::QUERY_CANCELED),
            "{conninfo}"
        );
    }
}

#[tokio::test]
async fn giving_up_on_a_connection_closes_the_socket() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let conninfo = format!("host=127.0.0.1 port={port} user=u sslmode=disable");
    let attempt = timeout(Duration::from_millis(300), connect_with(&conninfo, bare()));
    let (outcome, accepted) = tokio::join!(attempt, silent.accept());
    assert!(outcome.is_err());
    let mut received = Vec::new();
    timeout(LIMIT, accepted.unwrap().0.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert!(!received.is_empty());
}

#[tokio::test]
async fn transactions_work_through_the_session() {
    let mut session = connect(&by_socket()).await;
    let transaction = session.transaction().await.unwrap();
    transaction
        .batch_execute("create temporary table t (a int4) on commit drop")
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    session.client_mut().batch_execute("select 1").await.unwrap();
}
