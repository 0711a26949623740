//! The same script through the real slonik and ours leaves the same rows.

use std::fmt::Write as _;

use trunkline_tests::{Cluster, ORIGINALS_TRIGGERS, genuine_slony, program, run_slonik};

const TABLES: &str = r#"create table t1 (id serial primary key, v text);
    create table t2 (id serial primary key, v text);
    create table t3 (id int primary key, v text);
    create sequence s1; create sequence s2;
    create table "Odd Name" ("A b" int primary key)"#;

/// Everything that can run without daemons.
const SCRIPT: &str = r#"
create set (id = 1, origin = 1, comment = 'first');
set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public.t1', comment = 'comment');
set add table (set id = 1, origin = 1, tables = 'public\.t[23]', add sequences = yes);
set add sequence (set id = 1, origin = 1, id = 10, fully qualified name = 'public.s1');
set add table (set id = 1, id = 50, fully qualified name = 'public."Odd Name"');
create set (id = 2, origin = 1);
set add sequence (set id = 2, origin = 1, sequences = 'public.s2');
set move sequence (id = 11, origin = 1, new set = 1);
set move sequence (id = 11, origin = 1, new set = 2);
set move table (id = 50, origin = 1, new set = 2);
set drop sequence (id = 10, origin = 1);
set drop table (id = 3, origin = 1);
sync (id = 1);
create set (id = 3, origin = 1);
drop set (id = 3, origin = 1);
store listen (origin = 1, receiver = 3, provider = 2);
drop listen (origin = 1, receiver = 3, provider = 2);
drop path (server = 3, client = 1);
subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);
switch log (id = 1);
repair config (set id = 1, event node = 1);
try { sync (id = 1); unlock set (id = 1, origin = 1); } on error { sync (id = 1); }
try { lock set (id = 1, origin = 1); unlock set (id = 1, origin = 1); }
drop node (id = 3, event node = 1);
exit 7;
"#;

/// What the script left, without what differs by nature: OIDs, times, snapshots.
async fn state(cluster: &Cluster) -> String {
    let queries = [
        "select * from @NAMESPACE@.sl_node order by 1",
        "select pa_server, pa_client, pa_connretry from @NAMESPACE@.sl_path order by 1, 2",
        "select * from @NAMESPACE@.sl_listen order by 1, 2, 3",
        "select set_id, set_origin, set_locked is null, set_comment from @NAMESPACE@.sl_set order by 1",
        "select tab_id, tab_relname, tab_nspname, tab_set, tab_idxname, tab_altered, tab_comment
           from @NAMESPACE@.sl_table order by 1",
        "select seq_id, seq_relname, seq_nspname, seq_set, seq_comment from @NAMESPACE@.sl_sequence order by 1",
        "select * from @NAMESPACE@.sl_subscribe order by 1, 3",
        "select ev_origin, ev_seqno, ev_type, ev_data1, ev_data2, case when ev_type <> 'STORE_PATH' then ev_data3 end,
                ev_data4, ev_data5, ev_data6 from @NAMESPACE@.sl_event order by 1, 2",
        "select con_origin, con_received, con_seqno from @NAMESPACE@.sl_confirm order by 1, 2, 3",
        ORIGINALS_TRIGGERS,
        "select last_value from @NAMESPACE@.sl_log_status",
    ];
    let mut text = String::new();
    for node in cluster.nodes() {
        let connection = cluster.connect(node.id).await;
        for query in queries {
            let _ = writeln!(text, "-- node {}: {query}", node.id);
            for row in connection.rows(&cluster.sql(query)).await {
                let _ = writeln!(text, "{row}");
            }
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_script_leaves_the_same_rows() {
    let Some(slony) = genuine_slony("the_same_script_leaves_the_same_rows") else {
        return;
    };
    let mut states = Vec::new();
    // The original's functions and ours, driven by the original and by us.
    for (test, installer, interpreter) in [
        ("golden_real", slony.slonik.clone(), slony.slonik.clone()),
        ("golden_ours", slony.slonik.clone(), program("slonik")),
        ("golden_all_ours", program("slonik"), program("slonik")),
        ("golden_schema", program("slonik"), slony.slonik.clone()),
    ] {
        let cluster = Cluster::new(test, 3).await;
        cluster.run_on_all(TABLES).await;
        let script = format!("{}{}", cluster.preamble(), cluster.establishing_script());
        run_slonik(&installer, &["-w"], &script).await.succeeds();
        let script = format!("{}{SCRIPT}", cluster.preamble());
        let run = run_slonik(&interpreter, &["-w"], &script).await;
        assert_eq!(run.code(), Some(7), "{test}: {}", run.transcript());
        states.push((test, state(&cluster).await));
    }
    for (test, state) in &states[1..] {
        assert_eq!(*state, states[0].1, "{test} differs from {}", states[0].0);
    }
}
