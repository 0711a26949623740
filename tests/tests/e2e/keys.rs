//! Row identity: keys of several columns, keys that change, unique values that trade places.

use trunkline_tests::Cluster;

const TABLES: &str = "create table multi (a int, b text, c date, v int, primary key (b, a, c));
     create table chain (id int primary key, v text);
     create table swap (id int primary key, code text unique deferrable initially immediate, n int, unique (n) deferrable);
     create table spelled (k numeric primary key, v int);
     create table padded (k char(6) primary key, v int);
     create table floating (k float8 primary key, v int);
     create table keyonly (id int primary key)";

async fn cluster(test: &str) -> Cluster {
    let cluster = Cluster::new(test, 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.establish().await;
    let names = ["multi", "chain", "swap", "spelled", "padded", "floating", "keyonly"];
    let names: Vec<String> = names.iter().map(|name| format!(r#""public"."{name}""#)).collect();
    cluster
        .create_set(1, 1, &names.iter().map(String::as_str).collect::<Vec<_>>(), &[])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_columns_change_in_part_and_whole() {
    let cluster = cluster("multikey").await;
    let origin = cluster.connect(1).await;
    origin
        .run("insert into multi select i, 'k' || i % 3, '2024-01-01'::date + i, i from generate_series(1, 60) i")
        .await;
    origin.run("update multi set v = -v where a % 2 = 0").await;
    origin.run("update multi set a = a + 1000 where a % 3 = 0").await;
    origin
        .run("update multi set b = 'new ' || b, c = c + 1000, v = null where a % 5 = 0")
        .await;
    origin.run("delete from multi where b = 'k1'").await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_lives_several_lives_in_one_transaction() {
    let cluster = cluster("lives").await;
    let origin = cluster.connect(1).await;
    origin.run("begin; insert into chain values (1, 'a'); update chain set v = 'b' where id = 1; delete from chain where id = 1; commit").await;
    origin
        .run(
            "begin; insert into chain values (2, 'a'); delete from chain where id = 2; insert into chain values (2, 'b');
             update chain set v = 'c' where id = 2; commit",
        )
        .await;
    origin.run("begin; update chain set v = 'd' where id = 2; delete from chain where id = 2; insert into chain values (2, 'e'); commit").await;
    origin
        .run(
            "begin; insert into chain values (3, 'x'); update chain set id = 4 where id = 3; insert into chain values (3, 'y');
             update chain set id = 5 where id = 4; update chain set id = 4 where id = 3; delete from chain where id = 5; commit",
        )
        .await;
    origin.run("begin; savepoint s; insert into chain values (6, 'gone'); rollback to s; insert into chain values (6, 'stays'); commit").await;
    origin.run("update chain set v = v").await;
    origin.run("insert into keyonly select generate_series(1, 9); update keyonly set id = id where id < 4; update keyonly set id = id + 10 where id > 7").await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster
            .connect(3)
            .await
            .rows("select id, v from chain order by id")
            .await,
        ["2|e", "4|y", "6|stays"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_values_trade_places() {
    let cluster = cluster("swaps").await;
    let origin = cluster.connect(1).await;
    origin
        .run("insert into swap select i, 'code ' || i, i from generate_series(1, 40) i")
        .await;
    cluster.caught_up().await;
    // Two rows swap and all rows rotate within one statement: legal because the constraints are deferrable. (The key itself
    // must not be: "the row with key 2" would mean two rows in between.)
    origin
        .run("update swap set code = case id when 1 then 'code 2' else 'code 1' end where id in (1, 2)")
        .await;
    origin.run("begin; set constraints all deferred; update swap set n = n % 40 + 1; update swap set code = 'code ' || n; commit").await;
    origin.run("begin; set constraints all deferred; update swap set n = 1 where id = 5; update swap set n = 6 where n = 1 and id <> 5; commit").await;
    origin.run("insert into chain select i, i from generate_series(1, 50) i; update chain set id = id + 1000; update chain set id = id - 999; update chain set id = 2000 - id").await;
    // The same with a third value in between, where nothing is deferred.
    origin.run("begin; update swap set id = -1 where id = 1; update swap set id = 1 where id = 2; update swap set id = 2 where id = -1; commit").await;
    // A value freed by a delete is taken by an insert and by an update.
    origin
        .run(
            "begin; delete from swap where id = 10; insert into swap select 100, code, n from (select 'code 41' code, 41 n) q;
             update swap set code = 'code 77' where id = 11; insert into swap values (101, 'again', 77); commit",
        )
        .await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_keys_of_different_spelling_are_one_row() {
    let cluster = cluster("spelling").await;
    let origin = cluster.connect(1).await;
    origin.run("insert into spelled values (1.0, 1), (2.50, 2); insert into padded values ('a', 1), ('b  ', 2); insert into floating values ('-0', 1), ('NaN', 2), (0.1, 3)").await;
    cluster.caught_up().await;
    origin
        .run("begin; update spelled set k = 1.000 where k = 1; update spelled set v = 10 where k = 1; commit")
        .await;
    origin.run("begin; delete from spelled where k = 2.5; insert into spelled values (2.5, 20); update spelled set v = 21 where k = 2.5000; commit").await;
    origin.run("begin; update padded set v = 3 where k = 'a     '; delete from padded where k = 'b'; insert into padded values ('b', 4); commit").await;
    origin.run("begin; update floating set k = 0 where k = 0; update floating set v = 5 where k = 'NaN'; update floating set k = k + 1 where v = 3; commit").await;
    cluster.assert_all_equal().await;
}
