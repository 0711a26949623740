//! One slon per node: who is refused, who is named, what is taken over.

use std::process::{Command, Output};

use trunkline_tests::{Cluster, PATIENCE, program, wait_until};

fn second_slon(cluster: &Cluster, options: &[&str]) -> Output {
    Command::new(program("slon"))
        .args(options)
        .args([cluster.name().name(), &cluster.node(1).conninfo])
        .output()
        .expect("slon can be run")
}

/// Waits until the slon of node 1 holds the lock.
async fn served(cluster: &Cluster) {
    let connection = cluster.connect(1).await;
    let statement = cluster.sql(
        "select count(*) from @NAMESPACE@.sl_nodelock l join @NAMESPACE@.tl_daemon d on d.da_backend_pid = l.nl_backendpid \
         join pg_stat_activity a on a.pid = l.nl_backendpid and a.application_name = 'slon.local_listen' \
         where l.nl_nodeid = 1 and l.nl_conncnt = 0",
    );
    let pid = cluster.with_slon(1, |slon| slon.pid());
    let process = cluster.sql(&format!(
        "select count(*) from @NAMESPACE@.tl_daemon where da_pid = {pid}"
    ));
    wait_until("the slon of node 1 holds the node lock", PATIENCE, async || {
        let (held, ours): (i64, i64) = (connection.value(&statement).await, connection.value(&process).await);
        if (held, ours) == (1, 1) {
            Ok(())
        } else {
            Err(format!("{held} {ours}\n{}", cluster.with_slon(1, |slon| slon.log())))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_slon_is_refused_and_told_who_serves() {
    let cluster = Cluster::new("second", 1).await;
    cluster.establish().await;
    served(&cluster).await;
    let pid = cluster.with_slon(1, |slon| slon.pid());
    for (options, code) in [(&[][..], 0), (&["--exit-on-conflict=on"][..], 1)] {
        let refused = second_slon(&cluster, options);
        let text = String::from_utf8_lossy(&refused.stdout);
        assert_eq!(refused.status.code(), Some(code), "{text}");
        assert!(
            text.contains("Do you already have a slon running against this node?"),
            "{text}"
        );
        assert!(text.contains(" FATAL  localListenThread: node 1 of cluster"), "{text}");
        assert!(text.contains(&format!(" with pid {pid} on host ")), "{text}");
        assert!(text.contains(" since 2"), "{text}");
        assert!(!text.contains("configuration complete"), "{text}");
    }
    cluster.with_slon(1, |slon| assert!(slon.ended().is_none(), "{}", slon.log()));
    served(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_slon_can_be_started_again_at_once() {
    let cluster = Cluster::new("again", 1).await;
    cluster.establish().await;
    for _ in 0..5 {
        served(&cluster).await;
        cluster.kill_slon(1);
        cluster.start_slon(1);
    }
    served(&cluster).await;
    assert!(cluster.with_slon(1, |slon| !slon.log().contains("FATAL")));
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_dead_backends_and_reused_pids_are_taken_over() {
    let cluster = Cluster::new("takeover", 2).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    let connection = cluster.connect(1).await;
    let lock = |backend: i32| {
        cluster.sql(&format!(
            "delete from @NAMESPACE@.sl_nodelock where nl_nodeid = 1; delete from @NAMESPACE@.tl_daemon; \
             insert into @NAMESPACE@.sl_nodelock (nl_nodeid, nl_conncnt, nl_backendpid) values (1, 0, {backend});"
        ))
    };
    // Nobody has this pid.
    connection.run(&lock(99_999_999)).await;
    cluster.start_slon(1);
    served(&cluster).await;
    cluster.stop_slon(1);

    // A backend of another database has it now.
    let elsewhere = cluster.connect(2).await;
    let pid: i32 = elsewhere.value("select pg_backend_pid()").await;
    connection.run(&lock(pid)).await;
    cluster.start_slon(1);
    served(&cluster).await;
    cluster.stop_slon(1);

    // A backend that began after the daemon wrote its name has it now.
    let younger = cluster.connect(1).await;
    let pid: i32 = younger.value("select pg_backend_pid()").await;
    connection.run(&lock(pid)).await;
    connection
        .run(&cluster.sql(&format!(
            "insert into @NAMESPACE@.tl_daemon values (1, 'elsewhere', 1, {pid}, '0', now() - interval '1 day')"
        )))
        .await;
    cluster.start_slon(1);
    served(&cluster).await;
}
