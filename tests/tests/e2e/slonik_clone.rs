//! `clone prepare` and `clone finish`: a dump of a subscriber's database becomes a node, without a copy over the network.

use std::process::{Command, Stdio};

use trunkline_tests::{Cluster, PATIENCE, slonik_string, wait_until};

const TABLES: &str = r#"create table item (id serial primary key, v text);
    create table "Odd.Name" ("A b" int primary key)"#;

/// Copies a whole database into another one, cluster schema included, as an administrator would.
fn dump_and_restore(from: &str, to: &str) {
    let mut dump = Command::new("pg_dump")
        .args(["--no-owner", "--dbname", from])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pg_dump starts");
    let text = dump.stdout.take().expect("its output is piped");
    let restore = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "--single-transaction",
            "--dbname",
            to,
        ])
        .stdin(text)
        .stdout(Stdio::null())
        .output()
        .expect("psql runs");
    assert!(dump.wait().expect("pg_dump ends").success(), "pg_dump failed");
    assert!(
        restore.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&restore.stderr)
    );
}

/// Whether the PostgreSQL client programs are there and as new as the server.
async fn client_programs(cluster: &Cluster) -> bool {
    let major = cluster.connect(1).await.server_major().await;
    let said = Command::new("pg_dump").arg("--version").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let known = version.ok().and_then(|text| {
        let number = text.split_whitespace().nth(2)?.to_owned();
        number.split('.').next()?.parse::<i32>().ok()
    });
    let usable = known.is_some_and(|known| known >= major);
    if !usable {
        eprintln!("a_dump_of_a_subscriber_becomes_a_node: LEFT OUT, no pg_dump for PostgreSQL {major}");
    }
    usable
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_subscriber_becomes_a_node() {
    let cluster = Cluster::new("clone", 3).await;
    if !client_programs(&cluster).await {
        return;
    }
    for node in [1, 2] {
        cluster.run(node, TABLES).await;
    }
    cluster
        .run(
            1,
            r#"insert into item (v) select i from generate_series(1, 500) i; insert into "Odd.Name" values (1), (2)"#,
        )
        .await;
    let script = cluster.establishing_script();
    let two: Vec<&str> = script.lines().filter(|line| !line.contains("= 3")).collect();
    cluster.slonik(&two.join("\n")).await.succeeds();
    cluster.start_slon(1);
    cluster.start_slon(2);
    cluster
        .create_set(
            1,
            1,
            &[r#""public"."item""#, r#""public"."Odd.Name""#],
            &[r#""public"."item_id_seq""#],
        )
        .await;
    cluster.subscribe(1, 1, 1, 2).await;

    cluster
        .slonik(
            "clone prepare (id = 3, provider = 2, comment = 'copy of 2');\n\
             wait for event (origin = 2, confirmed = 1, wait on = 2, timeout = 60);\n\
             sync (id = 1);\n\
             wait for event (origin = 1, confirmed = 2, wait on = 2, timeout = 60);\n",
        )
        .await
        .succeeds();
    // The stream goes on before, during and after the dump.
    cluster
        .run(1, "insert into item (v) select 'before' from generate_series(1, 100)")
        .await;
    dump_and_restore(&cluster.node(2).conninfo, &cluster.node(3).conninfo);
    cluster
        .run(
            1,
            "update item set v = v || '!' where id % 7 = 0; delete from item where id % 11 = 0",
        )
        .await;
    let paths: Vec<&str> = script
        .lines()
        .filter(|line| line.starts_with("store path") && (line.contains("server = 3,") || line.contains("client = 3,")))
        .collect();
    let finish = format!("clone finish (id = 3, provider = 2);\n{}\n", paths.join("\n"));
    cluster.slonik(&finish).await.succeeds();
    cluster
        .slonik("clone finish (id = 3, provider = 2);\n")
        .await
        .fails()
        .says("is no copy of node 2: it says it is node 3");
    cluster.start_slon(3);
    cluster.run(1, "insert into item (v) values ('after')").await;
    cluster.assert_all_equal().await;

    // It is a node like any other: it can take the place of its model.
    cluster
        .slonik("resubscribe node (origin = 1, provider = 1, receiver = 3);\ndrop node (id = 2, event node = 1);\n")
        .await
        .succeeds();
    cluster
        .slonik(
            "wait for event (origin = 1, confirmed = 3, wait on = 1, timeout = 60);\n\
             try { lock set (id = 1, origin = 1); move set (id = 1, old origin = 1, new origin = 3); }\n\
             wait for event (origin = 1, confirmed = 3, wait on = 1, timeout = 60);\n",
        )
        .await
        .succeeds();
    cluster.run(3, "insert into item (v) values ('here')").await;
    let old_origin = cluster.connect(1).await;
    wait_until(
        "the old origin gets the clone's rows",
        PATIENCE,
        async || match old_origin
            .value::<i64>("select count(*) from item where v = 'here'")
            .await
        {
            1 => Ok(()),
            count => Err(format!("{count} rows")),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_announced_once_and_only_beside_a_node() {
    let cluster = Cluster::new("clone_wrong", 2).await;
    cluster.establish().await;
    cluster
        .slonik("clone prepare (id = 5, provider = 9);\n")
        .await
        .fails()
        .says("provided for node 9");
    cluster
        .slonik("clone prepare (id = 2, provider = 1);\n")
        .await
        .fails()
        .says("node 2 is a node of the cluster already");
    cluster
        .slonik("clone finish (id = 2, provider = 1);\n")
        .await
        .fails()
        .says("it says it is node 2");
    let extra = format!(
        "node 7 admin conninfo = {};\n",
        slonik_string(&cluster.node(1).conninfo)
    );
    cluster
        .slonik(&format!("{extra}clone finish (id = 7, provider = 1);\n"))
        .await
        .fails()
        .says("node 7 not found");
}
