//! What scripts of older versions meant is what happens.

use trunkline_tests::{Cluster, program, run_slonik};

const TABLES: &str = "create table item (id int primary key, v text);
     create table other (id int primary key, v text)";

/// A trigger that only the subscriber has: what `store trigger` was for.
const SUBSCRIBER_ONLY: &str = "create table seen (id int);
     create function note() returns trigger language plpgsql as $$
       begin
         insert into public.seen values (new.id);
         return null;
       end $$;
     create trigger \"Note\" after insert on item for each row execute procedure note()";

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_slony_1_2_does_what_its_author_meant() {
    let cluster = Cluster::new("old_dialects", 3).await;
    cluster.run_on_all(TABLES).await;
    cluster.run(2, SUBSCRIBER_ONLY).await;
    cluster.establish().await;

    // The preamble once more, as when scripts are put one behind the other; keys and names as they were written.
    let run = cluster
        .slonik(&format!(
            "create set (id = 1, origin = 1, comment = 'one');\n\
             set add table (set id = 1, origin = 1, id = 1, full qualified name = 'public.item', key = serial);\n\
             {}create set (id = 2, origin = 1, comment = 'two');\n\
             set add table (set id = 2, origin = 1, id = 2, full qualified name = 'public.other');\n\
             subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);\n\
             subscribe set (id = 2, provider = 1, receiver = 2, forward = yes);\n\
             wait for event (origin = 1, confirmed = all);\n\
             subscribe set (id = 1, provider = 1, receiver = 3, forward = no);\n\
             subscribe set (id = 2, provider = 1, receiver = 3, forward = no);\n\
             wait for event (origin = 1, confirmed = 3);\n",
            cluster.preamble()
        ))
        .await
        .succeeds();
    for warning in [
        "WARNING: `full qualified name` is the spelling of older versions",
        "WARNING: there are no keys of Slony-I's own any more",
        "WARNING: `cluster name` is given again",
        "WARNING: `wait for event` does not say which node to ask; node 1 is asked",
    ] {
        assert_eq!(run.transcript().matches(warning).count(), 1, "{}", run.transcript());
    }

    let origin = cluster.connect(1).await;
    let subscriber = cluster.connect(2).await;
    let seen = "select id::text from seen order by id";
    origin.run("insert into item values (1, 'before')").await;
    cluster.caught_up().await;
    assert_eq!(subscriber.column::<String>(seen).await, [""; 0]);

    let store = "store trigger (table id = 1, trigger name = 'Note', event node = 1);\n";
    let plan = run_slonik(
        &program("slonik"),
        &["--dry-run"],
        &format!("{}{store}", cluster.preamble()),
    )
    .await;
    assert!(
        plan.stdout.contains("enable always trigger \"Note\""),
        "{}",
        plan.transcript()
    );
    cluster.slonik(store).await.succeeds();
    origin.run("insert into item values (2, 'fires')").await;
    cluster.caught_up().await;
    assert_eq!(subscriber.column::<String>(seen).await, ["2"]);

    cluster
        .slonik("drop trigger (table id = 1, trigger name = 'Note');\n")
        .await
        .succeeds();
    origin.run("insert into item values (3, 'silent')").await;
    cluster.caught_up().await;
    assert_eq!(subscriber.column::<String>(seen).await, ["2"]);

    // One set at a time gets another provider; both do.
    let run = cluster
        .slonik(
            "subscribe set (id = 1, provider = 2, receiver = 3, forward = yes);\n\
             subscribe set (id = 2, provider = 2, receiver = 3, forward = no);\n\
             wait for event (origin = 1, confirmed = all);\n\
             execute script (set id = 1, sql = 'alter table public.item add column w int', event node = 1);\n",
        )
        .await
        .succeeds();
    assert!(
        run.stdout.contains("so it gets set 2 from node 2 as well")
            && run.stdout.contains("`resubscribe node (origin = 1"),
        "{}",
        run.transcript()
    );
    origin
        .run("update item set w = 7; insert into other values (1, 'through node 2')")
        .await;
    cluster.caught_up().await;
    let subscriptions = cluster.sql(
        "select sub_set || ' ' || sub_provider || ' ' || sub_forward from @NAMESPACE@.sl_subscribe
          where sub_receiver = 3 order by sub_set",
    );
    for node in [1, 3] {
        let rows = cluster.connect(node).await.rows(&subscriptions).await;
        assert_eq!(rows, ["1 2 true", "2 2 false"], "on node {node}");
    }
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_any_more_is_refused_before_the_first_step() {
    let cluster = Cluster::new("old_refused", 1).await;
    let run = cluster
        .slonik("init cluster (id = 1);\ntable add key (node id = 1, fully qualified name = 'public.item');\n")
        .await
        .fails();
    assert!(run.stderr.contains("give the table one first"), "{}", run.transcript());
    let schemas = "select nspname::text from pg_namespace where nspname like '\\_%' and nspname not like 'pg\\_%'";
    assert_eq!(cluster.connect(1).await.column::<String>(schemas).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_connects_nowhere() {
    let script =
        "cluster name = c;\nnode 1 admin conninfo = 'host=/nonexistent dbname=x';\nlock set (id = 1, orgin = 1);\n";
    let run = run_slonik(&program("slonik"), &["--check"], script).await;
    assert!(
        run.stderr.contains("<stdin>:3: ERROR: syntax error at or near orgin"),
        "{}",
        run.transcript()
    );
    assert!(!run.transcript().contains("connection"), "{}", run.transcript());
    let run = run_slonik(&program("slonik"), &["--check", "--format", "json"], script).await;
    assert!(
        run.stdout.contains("\"code\": \"unknown-option\""),
        "{}",
        run.transcript()
    );
    let fine = script.replace("orgin", "origin");
    let run = run_slonik(&program("slonik"), &["--check"], &fine).await.succeeds();
    assert_eq!(run.stdout, "");
}
