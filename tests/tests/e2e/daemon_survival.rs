//! What slon outlives: a node that does not exist yet, a schema that goes, backends that die, a database that is dropped.

use trunkline_tests::{Cluster, Connection, PATIENCE, shared_server, wait_until};

/// Waits until the slon of `node` has started its threads `times` times.
async fn started(cluster: &Cluster, node: i32, times: usize) {
    wait_until("the worker has started", PATIENCE, async || {
        let log = cluster.with_slon(node, |slon| {
            assert!(slon.ended().is_none(), "slon ended\n{}", slon.log());
            slon.log()
        });
        let seen = log.matches("main: configuration complete - starting threads").count();
        if seen >= times {
            Ok(())
        } else {
            Err(format!("started {seen} times\n{log}"))
        }
    })
    .await;
}

/// Waits until the log of the slon of `node` holds `text`.
async fn says(cluster: &Cluster, node: i32, text: &str) {
    wait_until(text, PATIENCE, async || {
        let log = cluster.with_slon(node, |slon| slon.log());
        if log.contains(text) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn started_before_its_node_exists_and_through_uninstall() {
    let cluster = Cluster::new("before", 2).await;
    cluster.start_slon(1);
    cluster.start_slon(2);
    says(&cluster, 2, "Node is not initialized properly").await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    started(&cluster, 1, 1).await;
    started(&cluster, 2, 1).await;
    cluster.caught_up().await;

    // The reason is said once, not with every look.
    let log = cluster.with_slon(2, |slon| slon.log());
    assert_eq!(log.matches("has no schema").count(), 1, "{log}");

    cluster
        .slonik("uninstall node (id = 2); uninstall node (id = 1);")
        .await
        .succeeds();
    says(&cluster, 2, "worker in").await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    started(&cluster, 1, 2).await;
    started(&cluster, 2, 2).await;
    cluster.caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_backends() {
    let cluster = Cluster::new("terminated", 2).await;
    cluster.establish().await;
    cluster.caught_up().await;
    for _ in 0..3 {
        cluster
            .run(
                1,
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where datname = current_database() and application_name like 'slon.%'",
            )
            .await;
        cluster.caught_up().await;
    }
    for node in [1, 2] {
        assert!(cluster.with_slon(node, |slon| slon.ended().is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_dropped_and_made_again() {
    let cluster = Cluster::new("dropped", 1).await;
    cluster.establish().await;
    started(&cluster, 1, 1).await;
    let administrator = Connection::open(&shared_server().conninfo("postgres")).await;
    let database = trunkline_sql::quote_ident(&cluster.node(1).database);
    // WITH (FORCE) is new in PostgreSQL 13; slon comes back as often as it is thrown out.
    administrator
        .run(&format!("alter database {database} allow_connections false"))
        .await;
    administrator
        .run(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            cluster.node(1).database
        ))
        .await;
    says(&cluster, 1, "Cannot connect to local database").await;
    wait_until("the database can be dropped", PATIENCE, async || {
        administrator.try_run(&format!("drop database {database}")).await
    })
    .await;
    says(&cluster, 1, "does not exist").await;
    administrator.run(&format!("create database {database}")).await;
    cluster.run(1, "create extension hstore").await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    started(&cluster, 1, 2).await;
}
