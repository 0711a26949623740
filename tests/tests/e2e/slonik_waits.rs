//! Waiting: for a copy, for whoever stands in the way, and saying who that is.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_tests::{Cluster, PATIENCE, program, wait_until};

const TABLES: [&str; 1] = [r#""public"."item""#];

async fn with_set(test: &str, nodes: i32) -> Cluster {
    let cluster = Cluster::new(test, nodes).await;
    cluster
        .run_on_all("create table item (id int primary key, v text)")
        .await;
    cluster
        .run(1, "insert into item select i, 'v' || i from generate_series(1, 1000) i")
        .await;
    cluster
}

const SUBSCRIBE: &str = "subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);\n";

#[tokio::test(flavor = "multi_thread")]
async fn wait_for_event_after_subscribe_set_waits_for_the_copy() {
    let cluster = with_set("wait_copy", 2).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    // The copy needs the table for itself.
    let reader = cluster.connect(2).await;
    reader.run("begin; lock table item in access exclusive mode").await;
    cluster
        .slonik(&format!(
            "{SUBSCRIBE}wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 3);\n"
        ))
        .await
        .fails()
        .says("to be confirmed on node 2")
        .says("waits for a lock held by pid")
        .says("lock table item in access exclusive mode")
        .says("timeout exceeded while waiting for event confirmation");
    reader.run("rollback").await;
    cluster
        .slonik("wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    assert_eq!(
        cluster.connect(2).await.value::<i64>("select count(*) from item").await,
        1000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_names_the_table_that_is_missing_on_the_subscriber() {
    let cluster = with_set("wait_missing", 2).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.run(2, "drop table item").await;
    let run = cluster
        .slonik(&format!(
            "{SUBSCRIBE}wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 15);\n"
        ))
        .await
        .fails();
    let line = run
        .stdout
        .lines()
        .find(|line| line.contains("item") && line.contains("node 2"));
    assert!(
        line.is_some_and(|line| line.contains("does not exist")),
        "{}",
        run.transcript()
    );
    cluster.run(2, "create table item (id int primary key, v text)").await;
    cluster
        .slonik("wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n")
        .await
        .succeeds();
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_says_that_nobody_serves_a_node() {
    let cluster = with_set("wait_no_slon", 2).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.start_slon(1);
    cluster
        .slonik("sync (id = 1);\nwait for event (origin = 1, confirmed = all, wait on = 1, timeout = 3);\n")
        .await
        .fails()
        .says("no slon serves node 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_waits_by_itself_and_goes_on_when_the_slons_start() {
    let cluster = with_set("wait_automatic", 2).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    let script = "create set (id = 1, origin = 1);\n\
                  set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public.item');\n\
                  subscribe set (id = 1, provider = 1, receiver = 2);\n\
                  wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n";
    let (run, ()) = tokio::join!(cluster.slonik(script), async {
        let node = cluster.connect(1).await;
        let waiting = cluster.sql("select count(*) from @NAMESPACE@.sl_table");
        wait_until(
            "the script came to `subscribe set`",
            Duration::from_secs(30),
            async || match node.value::<i64>(&waiting).await {
                1 => Ok(()),
                count => Err(format!("{count} tables")),
            },
        )
        .await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        cluster.start_slon(1);
        cluster.start_slon(2);
    });
    run.succeeds().says("waiting for events  (2,");
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_set_names_the_transactions_it_waits_for() {
    let cluster = with_set("wait_lock", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.run(1, "create table other (id int)").await;

    // A transaction that wrote to a table of the set holds up the lock itself.
    let writer = cluster.connect(1).await;
    writer.run("begin; update item set v = 'mine' where id = 1").await;
    let (run, ()) = tokio::join!(cluster.slonik("lock set (id = 1, origin = 1);\n"), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.run("commit").await;
    });
    run.succeeds().says("update item set v = 'mine'");
    cluster.slonik("unlock set (id = 1, origin = 1);\n").await.succeeds();

    // One that wrote elsewhere is older than the lock.
    writer.run("begin; insert into other values (42)").await;
    let (run, ()) = tokio::join!(cluster.slonik("lock set (id = 1, origin = 1);\n"), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.run("commit").await;
    });
    run.succeeds()
        .says("insert into other values (42)")
        .says("idle in transaction");
    assert!(
        writer
            .try_run("insert into item values (5000, 'too late')")
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_locked_and_moved_beside_writers_of_other_databases_of_the_server() {
    let cluster = with_set("wait_elsewhere", 2).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    // Node 2 is another database of the same server.
    cluster.run(2, "create table elsewhere (id int)").await;
    let writer = cluster.connect(2).await;
    writer.run("begin; insert into elsewhere values (1)").await;
    cluster.move_set(1, 1, 2).await;
    writer.run("commit").await;
    cluster.run(2, "update item set v = 'moved' where id = 1").await;
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

/// Another mode of a lock that is held already is refused at once while somebody queues for the table.
#[tokio::test(flavor = "multi_thread")]
async fn tables_locked_already_are_locked_again_at_once_although_writers_queue() {
    let cluster = with_set("wait_again", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.run_on_all("create table more (id int primary key)").await;
    cluster.create_set(1, 1, &[TABLES[0], r#""public"."more""#], &[]).await;
    let holder = cluster.connect(1).await;
    holder
        .run(&cluster.sql("begin; select @NAMESPACE@.tl_lockTablesOfSet(1, 'access exclusive')"))
        .await;
    let writers = [cluster.connect(1).await, cluster.connect(1).await];
    let statements = ["update item set v = 'x' where id = 1", "insert into more values (1)"];
    let written = async { tokio::join!(writers[0].run(statements[0]), writers[1].run(statements[1])) };
    let locked = async {
        let observer = cluster.connect(1).await;
        wait_until("both writers queue", PATIENCE, async || {
            let queued: i64 = observer
                .value(
                    "select count(distinct pid) from pg_locks where locktype = 'relation' and not granted \
                        and relation in ('item'::regclass, 'more'::regclass)",
                )
                .await;
            if queued == 2 {
                Ok(())
            } else {
                Err(format!("{queued} queue"))
            }
        })
        .await;
        let start = std::time::Instant::now();
        holder
            .run(&cluster.sql("select @NAMESPACE@.tl_lockTablesOfSet(1, 'share row exclusive')"))
            .await;
        let took = start.elapsed();
        holder.run("commit").await;
        assert!(took < Duration::from_secs(2), "the locks took {took:?}");
    };
    tokio::join!(written, locked);
}

/// Whoever calls for the locks may hold one already that the writers wait for: nobody could ever go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_many_tables_that_can_never_succeed_is_an_error_and_not_a_wait_for_ever() {
    let cluster = with_set("wait_never", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster
        .run_on_all("create table more (id int primary key); insert into more values (1)")
        .await;
    cluster.create_set(1, 1, &[TABLES[0], r#""public"."more""#], &[]).await;
    let holder = cluster.connect(1).await;
    holder
        .run("set deadlock_timeout to '50ms'; begin; lock table item in share row exclusive mode")
        .await;
    let writer = cluster.connect(1).await;
    writer.run("begin; update more set id = 1").await;
    let lock = cluster.sql("select @NAMESPACE@.tl_lockTablesOfSet(1, 'share row exclusive')");
    let stuck = async {
        let written = writer.try_run("update item set v = 'x' where id = 1").await;
        writer.run("rollback").await;
        written
    };
    let locked = async {
        let locked = tokio::time::timeout(PATIENCE, holder.try_run(&lock)).await;
        holder.run("rollback").await;
        locked.expect("the lock is still waited for")
    };
    let (written, locked) = tokio::join!(stuck, locked);
    assert!(
        locked.as_ref().is_err_and(|error| error.contains("deadlock")) || written.is_err(),
        "{locked:?}, {written:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_set_waits_for_the_copies() {
    let cluster = with_set("wait_merge", 2).await;
    cluster.run_on_all("create table more (id int primary key)").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.create_set(2, 1, &[r#""public"."more""#], &[]).await;
    let reader = cluster.connect(2).await;
    reader.run("begin; lock table more in access exclusive mode").await;
    let script = "subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);\n\
                  merge set (id = 1, add id = 2, origin = 1);\n\
                  wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);\n";
    let (run, ()) = tokio::join!(cluster.slonik(script), async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        reader.run("rollback").await;
    });
    run.succeeds()
        .says("subscription in progress before mergeSet. waiting")
        .says("set 2 is still being copied to node 2");
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_sets_of_a_try_are_locked_at_once_and_waited_for_once() {
    let cluster = with_set("wait_locks", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster
        .run_on_all("create table more (id int primary key); create table other (id int); insert into more values (1)")
        .await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.create_set(2, 1, &[r#""public"."more""#], &[]).await;

    // Writers who take the tables in the opposite order: locked one set after the other there would be deadlocks.
    let stop = AtomicBool::new(false);
    let load = async {
        let writer = cluster.connect(1).await;
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            let change =
                "begin; update more set id = id; select pg_sleep(0.02); update item set v = 'x' where id = 1; commit";
            match writer.try_run(change).await {
                Ok(()) => written += 1,
                Err(error) => {
                    assert!(error.contains("locked"), "{error}");
                    writer.run("rollback").await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        written
    };
    let script = "try { lock set (id = 1, origin = 1); lock set (id = 2, origin = 1); } on success { echo 'both'; }\n\
                  try { unlock set (id = 1, origin = 1); unlock set (id = 2, origin = 1); }\n";
    let rounds = async {
        for _ in 0..4 {
            cluster.slonik(script).await.succeeds().says("both");
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(load, rounds);
    assert!(written > 0, "nothing was written beside the locks");

    // One older transaction, one wait.
    let writer = cluster.connect(1).await;
    writer.run("begin; insert into other values (1)").await;
    let (run, ()) = tokio::join!(cluster.slonik(script), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.run("commit").await;
    });
    let run = run.succeeds().says("began before the lock of sets 1, 2");
    assert_eq!(
        run.stdout.matches("began before the lock").count(),
        1,
        "{}",
        run.transcript()
    );

    // A set that cannot be locked leaves none locked.
    cluster
        .slonik("try { lock set (id = 1, origin = 1); lock set (id = 9, origin = 1); }\n")
        .await
        .fails()
        .says("set 9 not found");
    let locked = cluster.sql("select count(*) from @NAMESPACE@.sl_set where set_locked is not null");
    assert_eq!(cluster.connect(1).await.value::<i64>(&locked).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_script_says_what_stays_and_the_next_run_goes_on() {
    let cluster = with_set("wait_interrupt", 2).await;
    cluster.run(1, "create table other (id int)").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &TABLES, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let writer = cluster.connect(1).await;
    writer.run("begin; insert into other values (1)").await;

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("move.sk");
    let script = format!(
        "{}create set (id = 2, origin = 1);\nlock set (id = 1, origin = 1);\nmove set (id = 1, old origin = 1, new origin = 2);\n",
        cluster.preamble()
    );
    std::fs::write(&file, script).expect("the script is written");
    let slonik = tokio::process::Command::new(program("slonik"))
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("slonik starts");
    let locked = cluster.sql("select count(*) from @NAMESPACE@.sl_set where set_locked is not null");
    let node = cluster.connect(1).await;
    wait_until("the set is locked", PATIENCE, async || {
        match node.value::<i64>(&locked).await {
            1 => Ok(()),
            count => Err(format!("{count} sets are locked")),
        }
    })
    .await;
    let pid = i32::try_from(slonik.id().expect("it runs")).expect("a process id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT).expect("SIGINT is sent");
    let ended = slonik.wait_with_output().await.expect("slonik ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    for line in [
        "stopped by SIGINT",
        "move.sk:5 and not committed by itself is rolled back",
        "move.sk:4 is committed; go on behind it",
        "set 1 stays locked on node 1",
    ] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }

    // Behind the lock, which is in force; what it waited for, `move set` waits for now.
    let rest = "move set (id = 1, old origin = 1, new origin = 2);\n\
                wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 60);\n";
    let (run, ()) = tokio::join!(cluster.slonik(rest), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.run("commit").await;
    });
    run.succeeds()
        .says("`move set` waits for 2 s for transactions on node 1")
        .says("insert into other values (1)");
    cluster.run(2, "insert into item values (5000, 'here')").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_says_which_sets_stay_locked() {
    let cluster = with_set("wait_failed", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &TABLES, &[]).await;
    let script = "lock set (id = 1, origin = 1);\nmove set (id = 1, old origin = 1, new origin = 2);\n";
    let extra = "node 2 admin conninfo = 'dbname=nowhere host=127.0.0.1 port=1';\n";
    cluster
        .slonik(&format!("{extra}{script}"))
        .await
        .fails()
        .says("set 1 stays locked on node 1, nobody can write to its tables; `unlock set (id = 1, origin = 1);`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_set_ends_with_the_slonik_that_was_killed() {
    let cluster = with_set("wait_killed", 1).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster.create_set(1, 1, &TABLES, &[]).await;
    let writer = cluster.connect(1).await;
    writer.run("begin; update item set v = 'held' where id = 1").await;
    let watcher = cluster.connect(1).await;
    let left =
        "select count(*) from pg_stat_activity where application_name = 'slonik' and datname = current_database()";
    let gone = async || {
        wait_until(
            "no call of slonik is left on the server",
            PATIENCE,
            async || match watcher.value::<i64>(left).await {
                0 => Ok(()),
                count => Err(format!("{count} sessions")),
            },
        )
        .await;
    };

    let life = Duration::from_secs(2);
    let run = cluster
        .slonik_killed_after(life, "lock set (id = 1, origin = 1);\n")
        .await;
    assert_eq!(
        run.code(),
        None,
        "it was not killed while it waited\n{}",
        run.transcript()
    );
    // Older servers do not look at a connection while a statement runs: the call stays until it has its locks.
    let looks = watcher.server_major().await >= 14;
    if looks {
        gone().await;
    }
    writer.run("rollback").await;
    gone().await;
    // Nothing came of it either way: its transaction was never committed.
    let locked = cluster.sql("select set_locked is not null from @NAMESPACE@.sl_set");
    assert!(!watcher.value::<bool>(&locked).await);
    writer.run("update item set v = 'free' where id = 1").await;
}
