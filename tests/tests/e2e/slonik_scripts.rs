//! Scripts: what is checked before anything runs, transactions, `try`, exit codes, streams.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use trunkline_tests::{Cluster, program, run_slonik};

const TABLE: &str = "create table item (id serial primary key, v text); create table keyless (a int)";

async fn prepared(test: &str, nodes: i32) -> Cluster {
    let cluster = Cluster::new(test, nodes).await;
    cluster.run_on_all(TABLE).await;
    cluster.slonik(&cluster.establishing_script()).await.succeeds();
    cluster
}

async fn sets(cluster: &Cluster, node: i32) -> Vec<String> {
    let connection = cluster.connect(node).await;
    connection
        .rows(&cluster.sql("select set_id from @NAMESPACE@.sl_set order by 1"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_while_a_script_has_an_error() {
    let cluster = prepared("script_errors", 1).await;
    let run = cluster
        .slonik(
            "create set (id = 1, origin = 1);\n\
             create set (id = 2, origin = 1, forward = yes);\n\
             drop set (id = 3, origin = 9);\n\
             set add tabel (set id = 1);\n",
        )
        .await
        .fails();
    assert!(
        run.stderr.contains("<stdin>:4: option forward not allowed here"),
        "{}",
        run.transcript()
    );
    assert!(
        run.stderr.contains("<stdin>:6: ERROR: syntax error"),
        "{}",
        run.transcript()
    );
    assert!(sets(&cluster, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_statement_stops_the_script_and_keeps_what_was_committed() {
    let cluster = prepared("script_stops", 1).await;
    let run = cluster
        .slonik(
            "create set (id = 1, origin = 1);\nunlock set (id = 1, origin = 1);\ncreate set (id = 2, origin = 1);\n",
        )
        .await
        .fails();
    assert!(
        run.stderr.contains("<stdin>:4: PGRES_FATAL_ERROR ")
            && run.stderr.contains("ERROR:  Slony-I: set 1 is not locked"),
        "{}",
        run.transcript()
    );
    assert_eq!(sets(&cluster, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_block_is_one_transaction() {
    let cluster = prepared("script_try", 1).await;
    let run = cluster
        .slonik(
            "try { create set (id = 1, origin = 1); sync (id = 1); unlock set (id = 1, origin = 1); }\n\
             on error { echo 'handled'; create set (id = 2, origin = 1); } on success { echo 'wrong'; }\n\
             try { create set (id = 3, origin = 1); sync (id = 1); } on error { echo 'wrong'; } on success { echo 'right'; }\n",
        )
        .await
        .succeeds();
    assert!(
        run.stdout.contains("handled") && run.stdout.contains("right"),
        "{}",
        run.transcript()
    );
    assert!(!run.stdout.contains("wrong"), "{}", run.transcript());
    assert_eq!(sets(&cluster, 1).await, ["2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_leaves_at_once_without_a_commit() {
    let cluster = prepared("script_exit", 1).await;
    let run = cluster
        .slonik("create set (id = 1, origin = 1);\ntry { create set (id = 2, origin = 1); exit 7; } on error { echo 'no'; }\n")
        .await;
    assert_eq!(run.code(), Some(7), "{}", run.transcript());
    assert_eq!(sets(&cluster, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_block_cannot_wait_in_its_middle() {
    let cluster = prepared("script_try_wait", 2).await;
    cluster
        .slonik("try { sync (id = 1); create set (id = 1, origin = 1); }\n")
        .await
        .fails()
        .says("WAIT operation forbidden inside a try block");
    cluster
        .slonik("try { create set (id = 1, origin = 1); drop listen (origin = 1, provider = 1, receiver = 2); }\n")
        .await
        .fails()
        .says("the event origin can not be changed inside of a try block");
    cluster
        .slonik("create set (id = 1, origin = 1); try { sync (id = 1); lock set (id = 1, origin = 1); }\n")
        .await
        .fails()
        .says("cannot lock set - admin connection already in transaction");
    assert_eq!(sets(&cluster, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_statement_that_needs_an_unreachable_node_fails() {
    let cluster = prepared("script_unreachable", 1).await;
    let run = cluster
        .slonik(
            "node 9 admin conninfo = 'host=127.0.0.1 port=1 dbname=nowhere user=nobody password=geheim';\n\
             create set (id = 1, origin = 1);\n\
             try { sync (id = 9); } on error { echo 'inside'; }\n\
             create set (id = 2, origin = 1);\n\
             sync (id = 9);\n",
        )
        .await
        .fails();
    assert!(run.stdout.contains("connection to server"), "{}", run.transcript());
    assert!(run.stdout.contains("inside"), "{}", run.transcript());
    assert!(!run.transcript().replace(&run.script, "").contains("geheim"));
    assert_eq!(sets(&cluster, 1).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_another_node_is_not_touched() {
    let cluster = prepared("script_mixed_up", 2).await;
    let script = format!(
        "cluster name = {};\nnode 1 admin conninfo = {};\ncreate set (id = 1, origin = 1);\n",
        cluster.name().name(),
        trunkline_tests::slonik_string(&cluster.node(2).conninfo)
    );
    let run = run_slonik(&program("slonik"), &[], &script).await.fails();
    assert!(
        run.stdout.contains("database specified in <stdin>:2 reports no_id 2"),
        "{}",
        run.transcript()
    );
    assert!(sets(&cluster, 2).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_path_is_in_no_message() {
    let cluster = prepared("script_password", 2).await;
    // The server's DETAIL would quote the row.
    let refuse = cluster.sql("alter table @NAMESPACE@.sl_path add check (pa_connretry < 100)");
    cluster.run(1, &refuse).await;
    let run = cluster
        .slonik("store path (server = 2, client = 1, conninfo = 'dbname=x password=geheim', connretry = 500);\n")
        .await
        .fails();
    assert!(run.stderr.contains("storePath(2, 1, "), "{}", run.transcript());
    assert!(!run.stderr.contains("geheim"), "{}", run.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_that_others_may_read_is_named() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"*:*:*:*:secret\n").expect("written");
    let name = file.path().display().to_string();
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).expect("permissions");
    // Nobody listens on port 1: the file is looked at before anything is connected.
    let script = format!(
        "cluster name = e2e;\nnode 1 admin conninfo = 'host=127.0.0.1 port=1 dbname=x user=x passfile={name}';\nsync (id = 1);\n"
    );
    run_slonik(&program("slonik"), &[], &script)
        .await
        .fails()
        .says(&format!("WARN password file `{name}`"));
}
