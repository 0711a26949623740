//! Several sets: other origins, both directions, added and merged while the cluster runs.

use std::time::Duration;

use trunkline_tests::{Cluster, Writers, test_seed, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn sets_of_different_origins_cross_each_other() {
    let cluster = Cluster::new("crossing", 3).await;
    cluster.run_on_all("create table a (id int primary key, v text); create table b (id int primary key, v text); create table c (id int primary key, v text)").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."a""#], &[]).await;
    cluster.create_set(2, 2, &[r#""public"."b""#], &[]).await;
    cluster.create_set(3, 3, &[r#""public"."c""#], &[]).await;
    for (id, table) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster
            .run(
                id,
                &format!("insert into {table} select i, 'before' from generate_series(1, 100) i"),
            )
            .await;
    }
    // 1 and 2 feed each other directly; the set of 3 comes to 1 over 2, the set of 1 to 3 over 2.
    for (set, origin, provider, receiver) in [
        (1, 1, 1, 2),
        (2, 2, 2, 1),
        (3, 3, 3, 2),
        (3, 3, 2, 1),
        (1, 1, 2, 3),
        (2, 2, 2, 3),
    ] {
        cluster.subscribe(set, origin, provider, receiver).await;
    }
    for (id, table) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster.run(id, &format!("insert into {table} select i, 'after' from generate_series(101, 200) i; update {table} set v = 'x' where id % 3 = 0; delete from {table} where id % 7 = 0")).await;
    }
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_joins_a_running_set_by_merge_under_load() {
    let seed = test_seed("a_table_joins_a_running_set_by_merge_under_load");
    let cluster = Cluster::new("merge", 3).await;
    Writers::prepare(&cluster, 1).await;
    cluster
        .run_on_all("create table late (id serial primary key, v text)")
        .await;
    cluster
        .run(1, "insert into late (v) select i from generate_series(1, 1000) i")
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &Writers::TABLE_NAMES, &Writers::SEQUENCE_NAMES)
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    let writers = Writers::start(&cluster, &[1], 4, Duration::from_millis(5), seed);
    cluster
        .create_set(2, 1, &[r#""public"."late""#], &[r#""public"."late_id_seq""#])
        .await;
    cluster.subscribe(2, 1, 1, 2).await;
    cluster.subscribe(2, 1, 2, 3).await;
    cluster.run(1, "insert into late (v) values ('before the merge')").await;
    cluster
        .slonik("merge set (id = 1, add id = 2, origin = 1); wait for event (origin = 1, confirmed = all, wait on = 1, timeout = 60);")
        .await
        .succeeds();
    cluster
        .run(
            1,
            "insert into late (v) values ('after the merge'); update late set v = 'u' where id % 10 = 0",
        )
        .await;
    let outcome = writers.finish().await;
    cluster.assert_all_equal().await;
    outcome.assert_nothing_lost(&cluster, 3).await;
    let third = cluster.connect(3).await;
    assert_eq!(
        third
            .value::<i64>(&cluster.sql("select count(*) from @NAMESPACE@.sl_set"))
            .await,
        1
    );
    assert_eq!(
        third
            .value::<i64>("select count(*) from late where v like '%the merge'")
            .await,
        2
    );
}

/// Under load a move meets writers that queue behind the locks it holds itself; it must not go round in circles for them.
#[tokio::test(flavor = "multi_thread")]
async fn locks_that_a_move_holds_already_are_not_waited_for() {
    let cluster = Cluster::new("own_locks", 1).await;
    cluster
        .run_on_all("create table a (id int primary key); create table b (id int primary key)")
        .await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."a""#, r#""public"."b""#], &[])
        .await;
    let mover = cluster.connect(1).await;
    mover.run("begin; lock table a, b in access exclusive mode").await;
    let (first, second, watcher) = tokio::join!(cluster.connect(1), cluster.connect(1), cluster.connect(1));
    let ((), (), ()) = tokio::join!(
        first.run("insert into a values (1)"),
        second.run("insert into b values (1)"),
        async {
            wait_until("both writers queue", Duration::from_secs(20), async || {
                let queued = watcher
                    .value::<i64>(
                        "select count(*) from pg_locks l where not l.granted and l.locktype = 'relation' \
                         and l.database = (select oid from pg_database where datname = current_database())",
                    )
                    .await;
                if queued == 2 {
                    Ok(())
                } else {
                    Err(format!("{queued} queue"))
                }
            })
            .await;
            mover
                .run(&cluster.sql(
                    "set local statement_timeout to '10s'; \
                     select @NAMESPACE@.tl_lockTablesOfSet(1, 'share row exclusive'); commit",
                ))
                .await;
        }
    );
    assert_eq!(mover.value::<i64>("select count(*) from a natural join b").await, 1);
}
