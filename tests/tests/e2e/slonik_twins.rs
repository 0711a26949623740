//! Each statement and each of its errors, through the real slonik on a cluster of its own and through ours on a twin: the
//! exit code, the server's words and the rows of the configuration are the same.

use std::fmt::Write as _;

use trunkline_tests::{Cluster, ORIGINALS_TRIGGERS, SlonikRun, genuine_slony, program, run_slonik};

const TABLES: &str = r#"create table t1 (id serial primary key, v text);
    create table t2 (id serial primary key, v text);
    create table t3 (id int primary key, v text);
    create table keyless (a int);
    create table nullable (a int unique, b int not null, constraint nullable_b unique (b));
    create view v as select 1 as a;
    create sequence s1; create sequence s2;
    create table "Odd Name" ("A b" int primary key)"#;

/// Where our words are better than the original's (`table 99d not found`).
const OUR_WORDS: &[&str] = &[
    "set add table (set id = 1, origin = 1, id = 13, fully qualified name = 'public.v');",
    "set move table (id = 99, origin = 1, new set = 2);",
    "drop node (id = 9, event node = 1);",
    "execute script (sql = 'select 1', event node = 1, execute only on = 2);",
];

/// One after the other on the same twins, so each finds what the ones before left. No daemon runs: `-w`.
const SCRIPTS: &[&str] = &[
    "create set (id = 1, origin = 1);",
    "create set (id = 1, origin = 1, comment = 'again');",
    "create set (id = 2, origin = 1, comment = 'second');",
    "create set (id = 3, origin = 2, comment = 'of the other');",
    "set add table (set id = 1, origin = 1, id = 10, fully qualified name = 'public.t1');",
    "set add table (set id = 1, origin = 1, id = 10, fully qualified name = 'public.t2');",
    "set add table (set id = 1, origin = 1, id = 11, fully qualified name = 'public.t1');",
    "set add table (set id = 1, origin = 1, id = 12, fully qualified name = 'public.keyless');",
    "set add table (set id = 1, origin = 1, id = 12, fully qualified name = 'public.nullable', key = 'nullable_a_key');",
    "set add table (set id = 1, origin = 1, id = 12, fully qualified name = 'public.nullable', key = 'nope');",
    "set add table (set id = 1, origin = 1, id = 12, fully qualified name = 'public.nullable', key = 'nullable_b');",
    "set add table (set id = 1, origin = 1, id = 13, fully qualified name = 'public.none');",
    "set add table (set id = 1, origin = 1, id = 13, fully qualified name = 'public.v');",
    "set add table (set id = 9, origin = 1, id = 13, fully qualified name = 'public.t2');",
    "set add table (set id = 3, origin = 1, id = 13, fully qualified name = 'public.t2');",
    "set add table (set id = 2, fully qualified name = 'public.\"Odd Name\"', comment = 'odd');",
    "set add table (set id = 2, origin = 1, tables = 'public.t[23]', add sequences = yes);",
    "set add table (set id = 2, origin = 1, tables = 'nothing matches');",
    "set add sequence (set id = 1, origin = 1, id = 20, fully qualified name = 'public.s1');",
    "set add sequence (set id = 1, origin = 1, id = 20, fully qualified name = 'public.s2');",
    "set add sequence (set id = 1, origin = 1, id = 21, fully qualified name = 'public.none');",
    "set add sequence (set id = 1, origin = 1, id = 21, fully qualified name = 'public.t2');",
    "set add sequence (set id = 1, origin = 1, sequences = 'public.s2');",
    "set drop table (id = 99, origin = 1);",
    "set drop sequence (id = 99, origin = 1);",
    "set move table (id = 99, origin = 1, new set = 2);",
    "set move table (id = 10, origin = 1, new set = 1);",
    "set move table (id = 10, origin = 1, new set = 9);",
    "set move table (id = 10, origin = 1, new set = 2);",
    "set move sequence (id = 20, origin = 1, new set = 1);",
    "set move sequence (id = 20, origin = 1, new set = 2);",
    "set drop sequence (id = 20, origin = 1);",
    "set drop table (id = 10, origin = 1);",
    "merge set (id = 1, add id = 1, origin = 1);",
    "merge set (id = 1, add id = 9, origin = 1);",
    "lock set (id = 1, origin = 1);",
    "lock set (id = 1, origin = 1);",
    "move set (id = 1, old origin = 1, new origin = 3);",
    "unlock set (id = 1, origin = 1);",
    "unlock set (id = 1, origin = 1);",
    "unlock set (id = 9, origin = 1);",
    "lock set (id = 3, origin = 1);",
    "move set (id = 1, old origin = 1, new origin = 2);",
    "subscribe set (id = 1, provider = 1, receiver = 9);",
    "subscribe set (id = 1, provider = 1, receiver = 1);",
    "subscribe set (id = 1, provider = 3, receiver = 2);",
    "subscribe set (id = 9, provider = 1, receiver = 2);",
    "subscribe set (id = 1, provider = 1, receiver = 2, forward = no);",
    "subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);",
    "drop path (server = 1, client = 2, event node = 1);",
    "drop path (server = 3, client = 1);",
    "store path (server = 3, client = 1, conninfo = 'dbname=elsewhere', connretry = 7);",
    "store listen (origin = 1, receiver = 3, provider = 2);",
    "drop listen (origin = 1, receiver = 3, provider = 2);",
    "unsubscribe set (id = 3, receiver = 1);",
    "resubscribe node (origin = 1, provider = 1, receiver = 2);",
    "store node (id = 2, event node = 1);",
    "init cluster (id = 1);",
    "drop node (id = 9, event node = 1);",
    "drop node (id = 1, event node = 3);",
    "execute script (sql = 'create table more (id int primary key); insert into more values (1)', event node = 1);",
    "execute script (sql = 'select 1; selekt 2;', event node = 1);",
    "execute script (sql = 'create table here (id int)', event node = 1, execute only on = 1);",
    "execute script (sql = 'select 1', event node = 1, execute only on = 2);",
    "execute script (sql = 'select 1', event node = 1, execute only on = '1,9');",
    "switch log (id = 1);",
    "switch log (id = 1);",
    "repair config (set id = 2, event node = 1);",
    "repair config (set id = 2, event node = 1, execute only on = 3);",
    "clone prepare (id = 7, provider = 2, comment = 'copy');",
    "restart node 1;",
    "sync (id = 2);",
    "sleep (seconds = 0);",
    "try { sync (id = 1); drop set (id = 9, origin = 1); } on error { echo 'handled'; } on success { exit 5; }",
    "try { sync (id = 1); } on error { exit 4; } on success { echo 'done'; }",
    "try { sync (id = 1); lock set (id = 2, origin = 1); }",
    "try { lock set (id = 2, origin = 1); unlock set (id = 2, origin = 1); }",
    "try { uninstall node (id = 4); } on error { echo 'never was one'; }",
    "wait for event (origin = 4, confirmed = all, wait on = 1);",
    "wait for event (origin = 1, confirmed = 9, wait on = 1, timeout = 1);",
    "wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 1);",
    "unsubscribe set (id = 1, receiver = 2);",
    "drop set (id = 9, origin = 1);",
    "drop set (id = 3, origin = 1);",
    "drop set (id = 2, origin = 1);",
    "drop node (id = '2,3', event node = 1);",
    "uninstall node (id = 3);",
    "exit 3;",
];

/// The rows that both must leave, without what differs by nature: OIDs, times, snapshots, conninfos of other databases.
async fn rows(cluster: &Cluster) -> String {
    let queries = [
        "select * from @NAMESPACE@.sl_node order by 1",
        "select pa_server, pa_client, pa_connretry from @NAMESPACE@.sl_path order by 1, 2",
        "select * from @NAMESPACE@.sl_listen order by 1, 2, 3",
        "select set_id, set_origin, set_locked is null, set_comment from @NAMESPACE@.sl_set order by 1",
        "select tab_id, tab_relname, tab_nspname, tab_set, tab_idxname, tab_altered, tab_comment
           from @NAMESPACE@.sl_table order by 1",
        "select seq_id, seq_relname, seq_nspname, seq_set, seq_comment from @NAMESPACE@.sl_sequence order by 1",
        "select * from @NAMESPACE@.sl_subscribe order by 1, 3",
        "select ev_origin, ev_type, ev_data1, ev_data2, case when ev_type <> 'STORE_PATH' then ev_data3 end,
                ev_data4, ev_data5, ev_data6 from @NAMESPACE@.sl_event order by ev_origin, ev_seqno",
        "select con_origin, con_received from @NAMESPACE@.sl_confirm
          where 7 not in (con_origin, con_received) /* a node that is only announced holds back more of our cleanup */ order by 1, 2",
        ORIGINALS_TRIGGERS,
    ];
    let mut text = String::new();
    for node in cluster.nodes() {
        let connection = cluster.connect(node.id).await;
        let installed = "select exists (select from pg_namespace where nspname = '_e2e')";
        if !connection.value::<bool>(installed).await {
            let _ = writeln!(text, "-- node {}: none", node.id);
            continue;
        }
        for query in queries {
            let _ = writeln!(text, "-- node {}: {query}", node.id);
            for row in connection.rows(&cluster.sql(query)).await {
                let _ = writeln!(text, "{row}");
            }
        }
    }
    text
}

/// What the server said, without line numbers and what only one of both says.
fn errors(run: &SlonikRun) -> Vec<String> {
    let said = format!("{}\n{}", run.stdout, run.stderr);
    let words = said.split_once("ERROR:  ").map(|(_, words)| words.to_owned());
    words
        .iter()
        .filter_map(|words| words.lines().next())
        .map(|line| line.trim().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_and_error_leaves_what_the_real_slonik_leaves() {
    let Some(slony) = genuine_slony("every_statement_and_error_leaves_what_the_real_slonik_leaves") else {
        return;
    };
    let ours = program("slonik");
    let mut twins = Vec::new();
    for (name, slonik) in [("twin_real", slony.slonik.clone()), ("twin_ours", ours)] {
        let cluster = Cluster::new(name, 4).await;
        cluster.run_on_all(TABLES).await;
        let script = cluster.establishing_script();
        let three: Vec<&str> = script.lines().filter(|line| !line.contains("= 4")).collect();
        run_slonik(&slonik, &["-w"], &format!("{}{}", cluster.preamble(), three.join("\n")))
            .await
            .succeeds();
        twins.push((cluster, slonik));
    }
    let mut differences = String::new();
    for script in SCRIPTS {
        let mut seen = Vec::new();
        for (cluster, slonik) in &twins {
            let run = run_slonik(slonik, &["-w"], &format!("{}{script}\n", cluster.preamble())).await;
            seen.push((run.code(), errors(&run), rows(cluster).await, run));
        }
        let (real, ours) = (&seen[0], &seen[1]);
        if real.0 != ours.0 || real.1 != ours.1 && !OUR_WORDS.contains(script) {
            let _ = writeln!(
                differences,
                "{script}\n  real: {:?} {:?}\n  ours: {:?} {:?}",
                real.0, real.1, ours.0, ours.1
            );
        }
        if real.2 != ours.2 {
            let _ = writeln!(differences, "{script}: other rows");
            let sections = |text: &str| text.split("-- ").map(ToOwned::to_owned).collect::<Vec<_>>();
            for (real, ours) in sections(&real.2)
                .iter()
                .zip(sections(&ours.2))
                .filter(|(real, ours)| *real != ours)
            {
                let _ = writeln!(differences, "  real: {real}  ours: {ours}");
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
