//! `slonik --dry-run`: the plan says what execution then does, names every precondition that does not hold, and
//! changes nothing.

use std::fmt::Write as _;
use std::path::PathBuf;

use std::sync::Arc;

use serde_json::Value;
use trunkline_grammar::{ParseOptions, parse_text};
use trunkline_slonik::plan::Plan;
use trunkline_slonik::{Options, Slonik, Terminal};
use trunkline_tests::{Cluster, SlonikRun, program, run_slonik};

const TABLES: &str = r"create table t1 (id serial primary key, v text);
    create table t2 (id serial primary key, v text);
    create table t3 (id int primary key, v text);
    create table keyless (a int);
    create table nullable (a int unique);
    create view v as select 1 as a;
    create sequence s1; create sequence s2";

/// Everything that makes events and runs without daemons.
const SCRIPT: &str = r"
create set (id = 1, origin = 1, comment = 'first');
set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public.t1', comment = 'comment');
set add table (set id = 1, tables = 'public\.t[23]', add sequences = yes);
set add sequence (set id = 1, fully qualified name = 'public.s1');
create set (id = 2, origin = 1);
set add sequence (set id = 2, sequences = 'public.s2');
set move sequence (id = 3, origin = 1, new set = 1);
set drop sequence (id = 3, origin = 1);
set move table (id = 3, origin = 1, new set = 2);
set drop table (id = 3, origin = 1);
merge set (id = 1, add id = 2, origin = 1);
sync (id = 2);
try { create set (id = 3, origin = 1); drop set (id = 3, origin = 1); }
try { lock set (id = 1, origin = 1); unlock set (id = 1, origin = 1); }
on error { sync (id = 3); } on success { sync (id = 1); }
try { sync (id = 2); unlock set (id = 1, origin = 1); } on error { sync (id = 3); } on success { sync (id = 1); }
subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);
store listen (origin = 1, receiver = 3, provider = 2);
execute script (sql = 'create table more (id int primary key)', event node = 1);
switch log (id = 1);
repair config (set id = 1, event node = 1);
update functions (id = 1);
drop node (id = 3, event node = 1);
uninstall node (id = 3);
exit 7;
sync (id = 1);
";

async fn dry_run(cluster: &Cluster, options: &[&str], script: &str) -> SlonikRun {
    let mut arguments = vec!["--dry-run"];
    arguments.extend(options);
    let slonik: PathBuf = program("slonik");
    run_slonik(&slonik, &arguments, &format!("{}{script}", cluster.preamble())).await
}

/// The plan of the cluster's script, from our library: it must not need the program.
async fn plan(cluster: &Cluster, script: &str) -> Plan {
    let options = Options {
        automatic_waits: false,
        ..Options::default()
    };
    let mut slonik = Slonik::new(options, Arc::new(Terminal));
    let text = format!("{}{script}", cluster.preamble());
    let mut parsed = parse_text("s", text, &ParseOptions::default());
    slonik.plan(&mut parsed).await.expect("the script is right")
}

/// Everything a dry run could have changed.
async fn everything(cluster: &Cluster) -> String {
    let mut text = String::new();
    for node in cluster.nodes() {
        let connection = cluster.connect(node.id).await;
        let tables = connection
            .rows(
                "select format('%I.%I', schemaname, tablename) from pg_tables
                  where schemaname !~ '^(pg_|information_schema)' order by 1",
            )
            .await;
        for table in tables {
            let rows = connection
                .rows(&format!("select t::text from {table} t order by 1"))
                .await;
            let _ = writeln!(text, "{} {table}\n{}", node.id, rows.join("\n"));
        }
        let rest = "select c.relname, t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid order by 1, 2";
        text.push_str(&connection.rows(rest).await.join("\n"));
        let sequences = "select schemaname, sequencename, last_value from pg_sequences order by 1, 2";
        text.push_str(&connection.rows(sequences).await.join("\n"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_foretells_every_event_and_changes_nothing() {
    let cluster = Cluster::new("plan_events", 3).await;
    cluster.run_on_all(TABLES).await;
    let script = format!("{}{SCRIPT}", cluster.establishing_script());
    let before = everything(&cluster).await;
    let run = dry_run(&cluster, &["-w", "--format", "json"], &script).await;
    assert_eq!(run.code(), Some(0), "{}", run.transcript());
    assert_eq!(everything(&cluster).await, before, "the dry run changed something");
    let document: Value = serde_json::from_str(&run.stdout).expect("a JSON document");
    assert_eq!(document["holds"], true);
    assert_eq!(document["scripts"][0]["plan"]["exit"], 7);
    let planned = plan(&cluster, &script).await.events();

    // What a node made before its schema was removed can no longer be read.
    let kept = script.replace("uninstall node (id = 3);\n", "");
    let preamble = cluster.preamble();
    let run = run_slonik(&program("slonik"), &["-w"], &format!("{preamble}{kept}")).await;
    assert_eq!(run.code(), Some(7), "{}", run.transcript());
    for node in [1, 2, 3] {
        let connection = cluster.connect(node).await;
        let made = connection
            .rows(&cluster.sql(&format!(
                "select ev_type from @NAMESPACE@.sl_event
                  where ev_origin = {node} and ev_type <> 'DROP_LISTEN' order by ev_seqno"
            )))
            .await;
        let foretold: Vec<&str> = planned
            .iter()
            .filter(|(on, _)| *on == node)
            .map(|(_, event)| *event)
            .collect();
        assert_eq!(made, foretold, "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_precondition_that_does_not_hold_is_named_on_its_line() {
    let cluster = Cluster::new("plan_obstacles", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(2, "drop table t2").await;
    let script = cluster.establishing_script();
    let prepared = format!(
        "{script}create set (id = 1, origin = 1);\n\
         set add table (set id = 1, fully qualified name = 'public.t1');\n\
         set add table (set id = 1, fully qualified name = 'public.t2');\n\
         create set (id = 2, origin = 1);\n"
    );
    cluster.slonik(&prepared).await.succeeds();
    let before = everything(&cluster).await;
    let cases = [
        ("init cluster (id = 1);", "already exists in database of node 1"),
        (
            "store node (id = 2, event node = 1);",
            "node 2 is a node of the cluster already",
        ),
        (
            "create set (id = 1, origin = 1);",
            "set 1 exists already, its origin is node 1",
        ),
        ("drop set (id = 9, origin = 1);", "set 9 does not exist"),
        (
            "drop set (id = 1, origin = 2);",
            "set 1 originates on node 1, not on node 2",
        ),
        ("merge set (id = 1, add id = 1, origin = 1);", "merged with itself"),
        ("unlock set (id = 1, origin = 1);", "set 1 is not locked"),
        (
            "move set (id = 1, old origin = 1, new origin = 2);",
            "`lock set` comes first",
        ),
        (
            "move set (id = 1, old origin = 1, new origin = 2);",
            "node 2 does not subscribe to set 1",
        ),
        (
            "set add table (set id = 1, fully qualified name = 'public.keyless');",
            "has no primary key",
        ),
        (
            "set add table (set id = 1, fully qualified name = 'public.nullable', key = 'nullable_a_key');",
            "may be null",
        ),
        (
            "set add table (set id = 1, fully qualified name = 'public.t3', key = 'nope');",
            "no unique index nope",
        ),
        (
            "set add table (set id = 1, fully qualified name = 'public.none');",
            "does not exist on node 1",
        ),
        (
            "set add table (set id = 1, fully qualified name = 'public.v');",
            "is no table",
        ),
        (
            "set add table (set id = 1, fully qualified name = 'public.t1');",
            "is in set 1 already",
        ),
        (
            "set add table (set id = 1, id = 1, fully qualified name = 'public.t3');",
            "table number 1 is in use",
        ),
        (
            "set add sequence (set id = 1, fully qualified name = 'public.none');",
            "sequence public.none does not exist",
        ),
        (
            "set add sequence (set id = 1, fully qualified name = 'public.t1');",
            "is no sequence",
        ),
        (
            "set add table (set id = 7, fully qualified name = 'public.t3');",
            "unable to determine the origin for set 7",
        ),
        ("set drop table (id = 44, origin = 1);", "table 44 is in no set"),
        (
            "set move table (id = 1, origin = 1, new set = 1);",
            "table 1 is in set 1 already",
        ),
        (
            "subscribe set (id = 1, provider = 1, receiver = 2);",
            "node 2 lacks public.t2",
        ),
        (
            "subscribe set (id = 1, provider = 3, receiver = 2);",
            "node 3 does not forward set 1",
        ),
        (
            "subscribe set (id = 1, provider = 1, receiver = 1);",
            "cannot subscribe to it",
        ),
        (
            "subscribe set (id = 6, provider = 1, receiver = 2);",
            "can not determine set origin for set 6",
        ),
        (
            "resubscribe node (origin = 1, provider = 3, receiver = 2);",
            "subscribes to no set of node 1",
        ),
        (
            "drop node (id = 8, event node = 1);",
            "node 8 is no node of the cluster",
        ),
        (
            "clone prepare (id = 2, provider = 1);",
            "node 2 is a node of the cluster already",
        ),
        (
            "clone finish (id = 2, provider = 1);",
            "is no copy of node 1: it says it is node 2",
        ),
        (
            "execute script (sql = 'select 1', event node = 1, execute only on = '2,8');",
            "must name the event node 1",
        ),
        ("sync (id = 4);", "connection to server of node 4 failed"),
        (
            "sync (id = 5);",
            "the cluster schema is not installed in the database of node 5",
        ),
        (
            "try { sync (id = 1); create set (id = 5, origin = 1); }",
            "WAIT operation forbidden inside a try block",
        ),
        (
            "wait for event (origin = 5, confirmed = all, wait on = 1);",
            "script did not generate any event on node 5",
        ),
    ];
    let empty = Cluster::new("plan_no_node", 1).await;
    let mut script = format!(
        "node 4 admin conninfo = 'host=127.0.0.1 port=1 dbname=nowhere user=nobody password=geheim';\n\
         node 5 admin conninfo = {};\n",
        trunkline_tests::slonik_string(&empty.node(1).conninfo)
    );
    let head = cluster.preamble().lines().count() + script.lines().count();
    // Each in a script of its own block: a failure that is handled is undone before the next.
    for (statement, _) in &cases {
        let body = if statement.starts_with("try") {
            (*statement).to_owned()
        } else {
            format!("try {{ {statement} }}")
        };
        let body = if statement.starts_with("wait") {
            (*statement).to_owned()
        } else {
            format!("{body} on error {{ echo 'x'; }}")
        };
        script.push_str(&body);
        script.push('\n');
    }
    let run = dry_run(&cluster, &["--format", "json"], &script).await;
    assert_eq!(run.code(), Some(255), "{}", run.transcript());
    let document: Value = serde_json::from_str(&run.stdout).expect("a JSON document");
    let planned = document["scripts"][0]["plan"]["statements"]
        .as_array()
        .expect("statements");
    for (index, (statement, reason)) in cases.iter().enumerate() {
        let place = format!("<stdin>:{}", head + index + 1);
        let told: Vec<&str> = planned
            .iter()
            .filter(|planned| planned["place"] == place.as_str())
            .flat_map(|planned| planned["obstacles"].as_array().expect("obstacles"))
            .filter_map(Value::as_str)
            .collect();
        assert!(
            told.iter().any(|told| told.contains(reason)),
            "{statement}: `{reason}` is not among {told:?}"
        );
    }
    assert!(!run.stdout.contains("geheim"), "{}", run.stdout);
    assert_eq!(everything(&cluster).await, before, "the dry run changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_knows_what_earlier_statements_will_have_done() {
    let cluster = Cluster::new("plan_foreseen", 2).await;
    cluster.run_on_all(TABLES).await;
    let script = format!(
        "{}create set (id = 1, origin = 1);\n\
         set add table (set id = 1, fully qualified name = 'public.t1');\n\
         subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);\n\
         wait for event (origin = 1, confirmed = all, wait on = 1);\n\
         lock set (id = 1, origin = 1);\n\
         move set (id = 1, old origin = 1, new origin = 2);\n\
         lock set (id = 1, origin = 1);\n",
        cluster.establishing_script()
    );
    let run = dry_run(&cluster, &[], &script).await;
    assert_eq!(run.code(), Some(255), "{}", run.transcript());
    let refused: Vec<&str> = run.stdout.lines().filter(|line| line.contains("cannot: ")).collect();
    assert_eq!(
        refused,
        ["  cannot: set 1 originates on node 2, not on node 1"],
        "{}",
        run.transcript()
    );
    assert!(run.stdout.contains("the script stops here"), "{}", run.transcript());
    assert!(
        run.stdout
            .contains("wait until all nodes have confirmed ENABLE_SUBSCRIPTION (<stdin>:"),
        "{}",
        run.transcript()
    );
    assert!(
        run.stdout
            .contains("wait until every transaction has ended that began before the lock of set 1"),
        "{}",
        run.transcript()
    );
}

/// A plan tells everything there is to mend, and what of it a run would come to.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_where_the_script_stops_and_what_will_not_run() {
    let cluster = Cluster::new("plan_stop", 2).await;
    cluster.run_on_all(TABLES).await;
    let head = format!("{}create set (id = 1, origin = 1);\n", cluster.establishing_script());
    let first = cluster.preamble().lines().count() + head.lines().count() + 1;
    let script = format!(
        "{head}try {{ create set (id = 1, origin = 1); sync (id = 2); }} on error {{ sync (id = 1); }}\n\
         store path (server = 1, client = 2, conninfo = 'dbnam=x');\n\
         try {{ sync (id = 1); drop set (id = 9, origin = 1); sync (id = 2); }}\n\
         drop set (id = 8, origin = 1);\n\
         exit 3;\n"
    );
    let run = dry_run(&cluster, &[], &script).await;
    assert_eq!(run.code(), Some(255), "{}", run.transcript());
    let place = |line: usize| format!("<stdin>:{}", first + line);
    let ends = format!("; the script would end at {} with exit code 255\n", place(2));
    assert!(run.stdout.ends_with(&ends), "{}", run.transcript());
    for line in [
        format!("{}: (will not run) [try] sync (id = 2)", place(0)),
        format!("{}: (will not run) drop set (id = 8", place(3)),
        format!("{}: (will not run) exit", place(4)),
    ] {
        assert!(run.stdout.contains(&line), "{line} in\n{}", run.transcript());
    }
    // A conninfo nobody can use is stored all the same, here as by Slony's slonik: a note, no obstacle.
    assert!(
        run.stdout
            .contains("note: nobody can connect with the conninfo of the path"),
        "{}",
        run.transcript()
    );
    let run = dry_run(&cluster, &["--format", "json"], &script).await;
    let document: Value = serde_json::from_str(&run.stdout).expect("a JSON document");
    let plan = &document["scripts"][0]["plan"];
    assert_eq!(plan["exit"], 255);
    let statements = plan["statements"].as_array().expect("statements");
    let stops: Vec<&Value> = statements.iter().filter(|planned| planned["stops"] == true).collect();
    assert_eq!(stops.len(), 1);
    assert_eq!(stops[0]["place"], place(2).as_str());
    // What is told holds: the run ends there.
    let run = cluster.slonik(&script).await.fails();
    let transcript = run.transcript();
    assert!(
        transcript.contains(&place(2)) && !transcript.contains(&place(3)),
        "{transcript}"
    );
}
