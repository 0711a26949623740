//! The two log tables take turns, and nothing goes before everybody has it.

use std::time::Instant;

use crate::{Connection, node, replicate};

async fn table(name: &str) -> Connection {
    let connection = node(name).await;
    connection.run("create table public.t (id int primary key)").await;
    replicate(&connection, 1, "public.t").await;
    connection
}

const START: &str = "select @NAMESPACE@.logswitch_start()";
const FINISH: &str = "select @NAMESPACE@.logswitch_finish()";
const SYNC: &str = "select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC')";
/// As if everything before had been confirmed and cleaned up.
const FORGET: &str =
    "delete from @NAMESPACE@.sl_event e where ev_seqno < (select max(ev_seqno) from @NAMESPACE@.sl_event)";

#[tokio::test]
async fn the_log_tables_take_turns() {
    let connection = table("turns").await;
    assert_eq!(connection.value(FINISH).await, "0");
    connection.run("insert into public.t values (1)").await;
    assert_eq!(connection.value(START).await, "2");
    assert_eq!(connection.refusal(START).await, "Previous logswitch still in progress");
    connection.run("insert into public.t values (2)").await;
    let rows = "select (select count(*) from @NAMESPACE@.sl_log_1), (select count(*) from @NAMESPACE@.sl_log_2), (select last_value from @NAMESPACE@.sl_log_status)";
    assert_eq!(connection.value(rows).await, "1|1|3");
    assert_eq!(connection.value(FINISH).await, "-1", "our own rows are in no SYNC yet");
    connection.run(SYNC).await;
    connection.run(FORGET).await;
    assert_eq!(connection.value(FINISH).await, "2");
    assert_eq!(connection.value(rows).await, "0|1|1");
    assert_eq!(connection.value(START).await, "1");
    connection.run(SYNC).await;
    connection.run(FORGET).await;
    assert_eq!(connection.value(FINISH).await, "1");
    assert_eq!(connection.value(rows).await, "0|0|0");
    assert_eq!(
        connection.value("select count(*) from pg_catalog.pg_indexes where schemaname = @CLUSTER@ and indexname like 'PartInd%-node-1'").await,
        "2"
    );
}

/// It may have read the status before the switch and write its row at any time after.
#[tokio::test]
async fn a_transaction_older_than_the_switch_holds_it_up() {
    for isolation in ["read committed", "serializable"] {
        let connection = table(&format!("older_{}", isolation.replace(' ', "_"))).await;
        let writer = Connection::open(&connection.value("select current_database()").await, "keeper").await;
        writer.run("begin; select txid_current()").await;
        connection
            .run(&format!("begin isolation level {isolation}; select 1; {START}; commit"))
            .await;
        connection.run(SYNC).await;
        connection.run(FORGET).await;
        assert_eq!(connection.value(FINISH).await, "-1");
        // not held up by younger ones, nor by those of other databases
        let younger = Connection::open(&connection.value("select current_database()").await, "keeper").await;
        younger.run("begin; select txid_current()").await;
        let elsewhere = Connection::open("postgres", "keeper").await;
        elsewhere.run("begin; select txid_current()").await;
        writer
            .run("insert into @NAMESPACE@.sl_log_1 (log_origin, log_txid) values (1, txid_current()); commit")
            .await;
        assert_eq!(
            connection.value(FINISH).await,
            "-1",
            "its row is not in the oldest SYNC"
        );
        connection.run(SYNC).await;
        connection.run(FORGET).await;
        assert_eq!(connection.value(FINISH).await, "2");
    }
}

#[tokio::test]
async fn a_reader_of_the_old_table_holds_it_up() {
    let connection = table("reader").await;
    let reader = Connection::open("reader", "keeper").await;
    connection.run(START).await;
    connection.run(SYNC).await;
    connection.run(FORGET).await;
    reader.run("begin; select * from @NAMESPACE@.sl_log_1").await;
    assert_eq!(connection.value(FINISH).await, "-1");
    reader.run("commit").await;
    assert_eq!(connection.value(FINISH).await, "2");
}

#[tokio::test]
async fn events_go_when_all_nodes_have_them() {
    let connection = table("keeping").await;
    connection
        .run("select @NAMESPACE@.storeNode_int(2, 'two'), @NAMESPACE@.enableNode_int(2)")
        .await;
    connection
        .run(
            "insert into @NAMESPACE@.sl_event (ev_origin, ev_seqno, ev_timestamp, ev_snapshot, ev_type)
              select 2, n, now(), '10:10:', 'SYNC' from generate_series(1, 10) n;
              insert into @NAMESPACE@.sl_seqlog select 1, 2, n, n from generate_series(1, 10) n;
              insert into @NAMESPACE@.sl_confirm select 2, 1, n, now() - interval '1 hour' from generate_series(1, 7) n;
              insert into @NAMESPACE@.sl_confirm values (3, 1, 5, now()), (2, 1, 8, now())",
        )
        .await;
    assert_eq!(
        connection.value("select @NAMESPACE@.cleanupEvent('10 minutes')").await,
        "0"
    );
    assert_eq!(
        connection
            .value("select min(ev_seqno), max(ev_seqno) from @NAMESPACE@.sl_event where ev_origin = 2")
            .await,
        "7|10"
    );
    assert_eq!(
        connection
            .value("select min(seql_ev_seqno) from @NAMESPACE@.sl_seqlog where seql_origin = 2")
            .await,
        "7"
    );
    assert_eq!(
        connection
            .rows("select con_seqno from @NAMESPACE@.sl_confirm where con_origin = 2 and con_received = 1 order by 1")
            .await,
        ["7", "8"]
    );
    assert_eq!(
        connection
            .value("select count(*) from @NAMESPACE@.sl_confirm where con_origin = 3")
            .await,
        "0"
    );
    // node 2 has confirmed nothing of ours
    assert_eq!(
        connection
            .value("select count(*) > 1 from @NAMESPACE@.sl_event where ev_origin = 1")
            .await,
        "t"
    );
}

#[tokio::test]
async fn a_hundred_thousand_events_are_cleaned_up_quickly() {
    let connection = table("many").await;
    connection
        .run(
            "insert into @NAMESPACE@.sl_event (ev_origin, ev_seqno, ev_timestamp, ev_snapshot, ev_type)
              select 1, n, now(), '10:10:', 'SYNC' from generate_series(1, 100000) n; analyze @NAMESPACE@.sl_event",
        )
        .await;
    let begin = Instant::now();
    connection.run("select @NAMESPACE@.cleanupEvent('10 minutes')").await;
    assert_eq!(connection.value("select count(*) from @NAMESPACE@.sl_event").await, "1");
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn connections_of_other_nodes_are_known_and_can_be_ended() {
    let connection = table("connections").await;
    let other = Connection::open("connections", "keeper").await;
    other.run("select @NAMESPACE@.registerNodeConnection(2)").await;
    connection
        .run("insert into @NAMESPACE@.sl_nodelock values (3, 1, 999999999)")
        .await;
    assert_eq!(connection.value("select @NAMESPACE@.cleanupNodelock()").await, "1");
    assert_eq!(
        connection.value("select count(*) from @NAMESPACE@.sl_nodelock").await,
        "1"
    );
    connection.run("select @NAMESPACE@.terminateNodeConnections(2)").await;
    tokio::time::timeout(std::time::Duration::from_secs(10), other.session.closed())
        .await
        .unwrap();
    assert_eq!(
        connection.value("select count(*) from @NAMESPACE@.sl_nodelock").await,
        "0"
    );
    assert_eq!(
        connection
            .value(
                "select @NAMESPACE@.killBackend(999999999, 'NULL'), @NAMESPACE@.killBackend(pg_backend_pid(), 'NULL')"
            )
            .await,
        "-1|0"
    );
}
