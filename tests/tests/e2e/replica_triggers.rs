//! Triggers of the user's own on a subscriber's tables.

use trunkline_tests::Cluster;

const TABLES: &str = "create table t (id int primary key, v text);
     create table audit (seq serial, tag text, op text, id int, v text);
     create function note() returns trigger language plpgsql as $$
       begin
         -- in PostgreSQL 10 there is no new row at all in a delete
         if tg_op = 'DELETE' then
           insert into audit (tag, op, id) values (tg_argv[0], tg_op, old.id);
         else
           insert into audit (tag, op, id, v) values (tg_argv[0], tg_op, new.id, new.v);
         end if;
         return null;
       end $$;
     create trigger plain after insert or update or delete on t for each row execute procedure note('plain');
     create trigger always_fires after insert or update or delete on t for each row execute procedure note('always');
     create trigger on_replica after insert or update or delete on t for each row execute procedure note('replica');
     alter table t enable always trigger always_fires;
     alter table t enable replica trigger on_replica";

#[tokio::test(flavor = "multi_thread")]
async fn always_and_replica_triggers_fire_once_per_row_in_order() {
    let cluster = Cluster::new("triggers", 2).await;
    cluster.run_on_all(TABLES).await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."t""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    let origin = cluster.connect(1).await;
    origin
        .run("insert into t select i, 'v' || i from generate_series(1, 5) i")
        .await;
    origin.run("begin; update t set v = 'a' where id = 1; update t set v = 'b' where id = 1; delete from t where id = 2; insert into t values (2, 'again'); commit").await;
    origin.run("begin; insert into t values (9, 'short'); update t set v = 'life' where id = 9; delete from t where id = 9; commit").await;
    cluster.assert_all_equal().await;

    let subscriber = cluster.connect(2).await;
    let seen = |tag: &str| {
        format!("select op || ' ' || id || coalesce(' ' || v, '') from audit where tag = '{tag}' order by seq")
    };
    let expected = [
        "INSERT 1 v1",
        "INSERT 2 v2",
        "INSERT 3 v3",
        "INSERT 4 v4",
        "INSERT 5 v5",
        "UPDATE 1 a",
        "UPDATE 1 b",
        "DELETE 2",
        "INSERT 2 again",
        "INSERT 9 short",
        "UPDATE 9 life",
        "DELETE 9",
    ];
    assert_eq!(subscriber.column::<String>(&seen("always")).await, expected);
    assert_eq!(subscriber.column::<String>(&seen("replica")).await, expected);
    assert_eq!(subscriber.column::<String>(&seen("plain")).await, [""; 0]);
    assert_eq!(origin.column::<String>(&seen("plain")).await, expected);
    assert_eq!(origin.column::<String>(&seen("replica")).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_triggers_of_a_subscriber_may_change_local_columns() {
    let cluster = Cluster::new("before", 2).await;
    cluster.run_on_all("create table b (id int primary key, v text)").await;
    cluster
        .run(
            2,
            "alter table b add column searchable text;
             create function fold() returns trigger language plpgsql as $$ begin new.searchable := lower(new.v); return new; end $$;
             create trigger fold before insert or update on b for each row execute procedure fold();
             alter table b enable always trigger fold",
        )
        .await;
    cluster.run(1, "insert into b values (1, 'COPIED')").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."b""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.run(1, "insert into b values (2, 'Logged'); update b set v = 'CHANGED' where id = 1; insert into b values (3, null)").await;
    cluster.assert_all_equal().await;
    let rows = cluster
        .connect(2)
        .await
        .rows("select id, searchable from b order by id")
        .await;
    assert_eq!(rows, ["1|changed", "2|logged", "3|NULL"]);
}
