//! Events, what must not be mixed with them, and sequence values.

use std::time::Duration;

use crate::{Connection, node, replicate};

#[tokio::test]
async fn events_and_changes_exclude_each_other() {
    let connection = node("mixed").await;
    connection.run("create table public.t (id int primary key)").await;
    replicate(&connection, 1, "public.t").await;
    assert_eq!(
        connection
            .refusal("begin; select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC'); insert into public.t values (1)")
            .await,
        "Slony-I: log trigger called in an event transaction"
    );
    connection.run("rollback").await;
    assert_eq!(
        connection
            .refusal("begin; select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC'); truncate public.t")
            .await,
        "Slony-I: log trigger called in an event transaction"
    );
    connection.run("rollback").await;
    assert_eq!(
        connection.refusal("begin; savepoint s; insert into public.t values (1); release s; select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC')").await,
        "createEvent called in a data transaction"
    );
    connection.run("rollback").await;
    connection.run("insert into public.t values (1)").await;
}

#[tokio::test]
async fn events_are_numbered_and_ring_the_bell() {
    let connection = node("bell").await;
    let listener = Connection::open("bell", "keeper").await;
    let listen = format!("listen {}", listener.cluster.event_channel());
    listener.session.batch_execute(&listen).await.unwrap();
    let first: i64 = connection
        .value("select @NAMESPACE@.createEvent(@CLUSTER@, 'X', 'a', null, 'c')")
        .await
        .parse()
        .unwrap();
    assert!(first > 5_000_000_000);
    let all = "'1', '2', '3', '4', '5', '6', '7', '8'";
    assert_eq!(
        connection
            .value(&format!("select @NAMESPACE@.createEvent(@CLUSTER@, 'Y', {all})"))
            .await,
        (first + 1).to_string()
    );
    assert_eq!(
        connection
            .rows(&format!("select ev_type, ev_data1, ev_data2, ev_data3, ev_data4, ev_data8 from @NAMESPACE@.sl_event where ev_seqno >= {first} order by ev_seqno"))
            .await,
        ["X|a|NULL|c|NULL|NULL", "Y|1|2|3|4|8"]
    );
    let rang = tokio::time::timeout(Duration::from_secs(10), listener.session.notified())
        .await
        .unwrap()
        .unwrap();
    assert!(rang.contains(&listener.cluster.event_channel_name()), "{rang:?}");
    assert_eq!(
        connection
            .value("select @NAMESPACE@.generate_sync_event('1 hour'), @NAMESPACE@.generate_sync_event('1 hour')")
            .await,
        "1|0"
    );
}

#[tokio::test]
async fn a_snapshot_is_taken_after_the_lock() {
    let connection = node("in_order").await;
    let other = Connection::open("in_order", "keeper").await;
    connection
        .run("begin; lock table @NAMESPACE@.sl_event_lock; select txid_current()")
        .await;
    let txid: i64 = connection.value("select txid_current()").await.parse().unwrap();
    let waiting = tokio::spawn(async move { other.value("select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC')").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    connection
        .run("select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC'); commit")
        .await;
    let seqno = waiting.await.unwrap();
    assert_eq!(
        connection
            .value(&format!("select txid_visible_in_snapshot({txid}, ev_snapshot) from @NAMESPACE@.sl_event where ev_seqno = {seqno}"))
            .await,
        "t"
    );
}

#[tokio::test]
async fn sequence_values_go_with_a_sync_when_they_changed() {
    let connection = node("seqlog").await;
    connection
        .run("create sequence public.s; create sequence public.\"Odd one\" start 100")
        .await;
    connection
        .run("select @NAMESPACE@.setAddSequence(1, 1, 'public.s', ''), @NAMESPACE@.setAddSequence(1, 2, 'public.\"Odd one\"', '')")
        .await;
    connection
        .run("truncate @NAMESPACE@.sl_seqlog; truncate @NAMESPACE@.tl_sequence_seen")
        .await;
    let sync = "select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC')";
    let logged = "select seql_seqid, seql_last_value from @NAMESPACE@.sl_seqlog order by seql_ev_seqno, seql_seqid";
    connection.run(sync).await;
    assert_eq!(connection.rows(logged).await, ["1|1", "2|100"]);
    connection.run(sync).await;
    connection.run("select nextval('public.s'), nextval('public.s')").await;
    connection.run(&format!("begin; {sync}; rollback")).await;
    connection.run(sync).await;
    connection.run("alter sequence public.s restart with 7").await;
    connection.run(sync).await;
    assert_eq!(connection.rows(logged).await, ["1|1", "2|100", "1|2", "1|7"]);
    // a new subscriber needs all of them
    connection
        .run("select @NAMESPACE@.createEvent(@CLUSTER@, 'ENABLE_SUBSCRIPTION', '1', '1', '2', 't', 'f')")
        .await;
    assert_eq!(connection.rows(logged).await[4..], ["1|7", "2|100"]);
    assert_eq!(
        connection
            .value("select @NAMESPACE@.sequenceSetValue(2, 1, 42, 500, false), nextval('public.\"Odd one\"')")
            .await,
        "2|501"
    );
    assert_eq!(
        connection
            .value("select @NAMESPACE@.sequenceSetValue(77, 1, 42, 500, true) is null")
            .await,
        "t"
    );
    assert!(
        connection
            .refusal("select @NAMESPACE@.sequenceSetValue(77, 1, 42, 500, false)")
            .await
            .contains("sequence 77 not found")
    );
}
