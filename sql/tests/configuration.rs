//! The stored functions that change a cluster's configuration, against what Slony-I 2.2.11 does.
//!
//! Each scenario has a transcript recorded from the original; it can be recorded again on a machine where the original's
//! server module is installed: `cargo test -p trunkline-sql --test configuration -- --ignored record_from_slony`.
//! Scenarios named `better_*` show where we differ on purpose; their transcripts are our own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::scenario::{Place, World, connect};
use support::server::{Server, shared};
use tokio::sync::OnceCell;
use trunkline_sql::{Cluster, Session, SessionOptions, install};

const CLUSTER: &str = "orc";

const SCENARIOS: &[&str] = &[
    "trace",
    "nodes",
    "sets",
    "subscribe",
    "cascade",
    "clone",
    "failover",
    "failover_behind",
    "failover_site",
    "failover_candidates",
];

fn file(scenario: &str, suffix: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scenarios")
        .join(format!("{scenario}.{suffix}"))
}

async fn create_database(server: &Server, name: &str) {
    let admin = connect(&format!("{} dbname=postgres", server.conninfo())).await;
    admin.batch_execute(&format!("create database {name}")).await.unwrap();
}

/// A database with our schema, not initialised.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<()> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let server = shared();
            create_database(server, "ours").await;
            let conninfo = format!("{} dbname=ours", server.conninfo());
            let mut session = Session::connect(&conninfo, &SessionOptions::default()).await.unwrap();
            install::install(&mut session, &Cluster::new(CLUSTER).unwrap())
                .await
                .unwrap();
        })
        .await;
    "ours"
}

async fn world(prefix: &str) -> World {
    let template = template().await.to_owned();
    World::new(Place {
        server: shared().conninfo(),
        template,
        schema: format!("_{CLUSTER}"),
        prefix: prefix.to_owned(),
    })
    .await
}

/// Runs a scenario on our schema and compares with its transcript.
async fn check(scenario: &str) {
    let steps = std::fs::read_to_string(file(scenario, "txt")).unwrap();
    let transcript = world(scenario).await.run(&steps).await;
    if std::env::var_os("TRUNKLINE_RECORD").is_some() && scenario.starts_with("better") {
        std::fs::write(file(scenario, "expected"), &transcript).unwrap();
    }
    let expected = std::fs::read_to_string(file(scenario, "expected")).unwrap();
    let mut step = "";
    for (number, pair) in expected.lines().zip(transcript.lines()).enumerate() {
        if pair.0.starts_with('>') {
            step = pair.0;
        }
        assert_eq!(pair.0, pair.1, "{scenario}.expected line {}, after {step}", number + 1);
    }
    assert_eq!(
        expected.lines().count(),
        transcript.lines().count(),
        "{scenario}: the transcript ends differently"
    );
}

#[tokio::test]
async fn three_nodes_do_what_was_traced() {
    check("trace").await;
}

#[tokio::test]
async fn nodes_paths_and_listens() {
    check("nodes").await;
}

#[tokio::test]
async fn sets_and_their_members() {
    check("sets").await;
}

#[tokio::test]
async fn subscriptions_change_and_end() {
    check("subscribe").await;
}

#[tokio::test]
async fn a_set_moves_through_a_cascade() {
    check("cascade").await;
}

#[tokio::test]
async fn a_copy_becomes_a_node() {
    check("clone").await;
}

#[tokio::test]
async fn a_lost_origin_is_replaced() {
    check("failover").await;
}

#[tokio::test]
async fn a_survivor_that_knew_more_gives_up_its_sets() {
    check("failover_behind").await;
}

#[tokio::test]
async fn two_nodes_are_lost_at_once() {
    check("failover_site").await;
}

#[tokio::test]
async fn candidates_are_examined() {
    check("failover_candidates").await;
}

#[tokio::test]
async fn a_missing_path_does_not_hold_up_a_failover() {
    check("better_failover_path").await;
}

#[tokio::test]
async fn failed_nodes_that_fed_each_other_can_be_dropped() {
    check("better_site_dropped").await;
}

#[tokio::test]
async fn impossible_subscriptions_are_refused_at_once() {
    check("better_subscriptions").await;
}

#[tokio::test]
async fn a_node_at_work_is_not_overwritten_by_a_copy() {
    check("better_clone").await;
}

#[tokio::test]
async fn a_dropped_origin_leaves_nothing_behind() {
    check("better_purge").await;
}

#[tokio::test]
async fn a_fenced_set_refuses_writes_and_a_failover_is_remembered() {
    check("better_fence").await;
}

#[tokio::test]
async fn a_set_made_anew_elsewhere_waits_for_its_end() {
    check("better_generations").await;
}

#[tokio::test]
async fn names_with_braces_are_captured_by_row() {
    check("better_braces").await;
}

/// A set of 1000 tables: what one `set add table` costs must not grow with the set.
#[tokio::test]
async fn a_thousand_tables_are_added_quickly() {
    let server = shared();
    let template = template().await;
    let admin = connect(&format!("{} dbname=postgres", server.conninfo())).await;
    admin
        .batch_execute(&format!("create database thousand template {template}"))
        .await
        .unwrap();
    let node = connect(&format!("{} dbname=thousand", server.conninfo())).await;
    node.batch_execute(
        "do $$ begin for i in 1..1000 loop execute format('create table public.t%s (id int primary key, v text)', i); end loop; end $$; \
         select \"_orc\".initializeLocalNode(1, 'one'); select \"_orc\".enableNode(1); select \"_orc\".storeSet(1, 'many')",
    )
    .await
    .unwrap();
    let begun = std::time::Instant::now();
    for first in [1, 501] {
        node.batch_execute("begin").await.unwrap();
        for table in first..first + 500 {
            node.execute(
                &format!(
                    "select \"_orc\".setAddTable(1, {table}, 'public.t{table}', 't{table}_pkey', 'table {table}')"
                ),
                &[],
            )
            .await
            .unwrap();
        }
        node.batch_execute("commit").await.unwrap();
    }
    let each = begun.elapsed() / 1000;
    println!("set add table: {each:?} each");
    assert!(each.as_millis() < 100, "{each:?} for each of 1000 tables");
}

/// Listen entries of random clusters equal those of the rules written out naively.
#[tokio::test]
async fn listen_entries_follow_the_rules() {
    let server = shared();
    let template = template().await;
    let admin = connect(&format!("{} dbname=postgres", server.conninfo())).await;
    admin
        .batch_execute(&format!("create database topologies template {template}"))
        .await
        .unwrap();
    let node = connect(&format!("{} dbname=topologies", server.conninfo())).await;
    let seed: u64 = std::env::var("TRUNKLINE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_250_101);
    for round in 0..60 {
        let topology = topology::Topology::random(seed + round);
        node.batch_execute(&topology.statements("\"_orc\"")).await.unwrap();
        let found: Vec<(i32, i32, i32)> = node
            .query(
                "select li_origin, li_provider, li_receiver from \"_orc\".sl_listen order by 1, 2, 3",
                &[],
            )
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        let wanted: Vec<(i32, i32, i32)> = topology.listens().into_iter().collect();
        assert_eq!(
            found,
            wanted,
            "replay with TRUNKLINE_SEED={}: {topology:?}",
            seed + round
        );
    }
}

/// Records the transcripts from the original.
#[tokio::test]
#[ignore = "needs Slony-I's server module beside the server programs, and its slonik"]
async fn record_from_slony() {
    let server = shared();
    create_database(server, "slony").await;
    let script = format!(
        "cluster name = {CLUSTER};\nnode 1 admin conninfo = '{} dbname=slony';\ninit cluster (id = 1, comment = 'x');\n",
        server.conninfo()
    );
    let script_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script_file.path(), script).unwrap();
    let slonik = std::env::var_os("TRUNKLINE_SLONIK").unwrap_or_else(|| "/usr/bin/slonik".into());
    let output = Command::new(slonik).arg(script_file.path()).output().unwrap();
    assert!(
        output.status.success(),
        "slonik: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // back to the state before initialisation
    connect(&format!("{} dbname=slony", server.conninfo()))
        .await
        .batch_execute(
            "drop trigger apply_trigger on _orc.sl_log_1; drop trigger apply_trigger on _orc.sl_log_2; \
             truncate _orc.sl_event, _orc.sl_confirm; delete from _orc.sl_node; \
             select setval('_orc.sl_local_node_id', -1), setval('_orc.sl_event_seq', 5000000000)",
        )
        .await
        .unwrap();
    for scenario in SCENARIOS {
        let place = Place {
            server: server.conninfo(),
            template: "slony".into(),
            schema: format!("_{CLUSTER}"),
            prefix: format!("slony_{scenario}"),
        };
        let steps = std::fs::read_to_string(file(scenario, "txt")).unwrap();
        let transcript = World::new(place).await.run(&steps).await;
        std::fs::write(file(scenario, "expected"), transcript).unwrap();
    }
}

/// Random clusters and the rules of listen entries, one step after the other.
mod topology {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    #[derive(Debug)]
    pub(crate) struct Topology {
        /// number, active, failed
        nodes: Vec<(i32, bool, bool)>,
        /// server, client, usable
        paths: Vec<(i32, i32, bool)>,
        /// set, origin
        sets: Vec<(i32, i32)>,
        /// set, provider, receiver, active
        subscriptions: Vec<(i32, i32, i32, bool)>,
    }

    /// A small generator: reproducible, no dependency.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % sides
        }
    }

    impl Topology {
        pub(crate) fn random(seed: u64) -> Self {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            dice.roll(2);
            let count = 2 + i32::try_from(dice.roll(6)).unwrap();
            let (inactive, failed, pending, density) = (dice.roll(3), dice.roll(3), dice.roll(4), 2 + dice.roll(8));
            let nodes: Vec<_> = (1..=count)
                .map(|id| (id, dice.roll(10) >= inactive, dice.roll(10) < failed))
                .collect();
            let mut paths = Vec::new();
            for server in 1..=count {
                for client in 1..=count {
                    if server != client && dice.roll(10) < density {
                        paths.push((server, client, dice.roll(10) >= pending));
                    }
                }
            }
            let (mut sets, mut subscriptions) = (Vec::new(), Vec::new());
            for set in 1..=i32::try_from(dice.roll(6)).unwrap() {
                let origin = 1 + i32::try_from(dice.roll(u64::try_from(count).unwrap())).unwrap();
                sets.push((set, origin));
                for receiver in 1..=count {
                    let providers: Vec<i32> = paths
                        .iter()
                        .filter(|path| path.1 == receiver)
                        .map(|path| path.0)
                        .collect();
                    if receiver != origin && !providers.is_empty() && dice.roll(10) < 6 {
                        let chosen = usize::try_from(dice.roll(providers.len() as u64)).unwrap();
                        let direct = providers.contains(&origin) && dice.roll(10) < 4;
                        subscriptions.push((
                            set,
                            if direct { origin } else { providers[chosen] },
                            receiver,
                            dice.roll(10) < 8,
                        ));
                    }
                }
            }
            Self {
                nodes,
                paths,
                sets,
                subscriptions,
            }
        }

        /// Puts the cluster into the tables and derives the listen entries.
        pub(crate) fn statements(&self, schema: &str) -> String {
            let mut sql = format!(
                "delete from {schema}.sl_listen; delete from {schema}.sl_subscribe; delete from {schema}.sl_path; \
                 delete from {schema}.sl_set; delete from {schema}.sl_node;"
            );
            for (id, active, failed) in &self.nodes {
                write!(
                    sql,
                    "insert into {schema}.sl_node values ({id}, {active}, '', {failed});"
                )
                .unwrap();
            }
            for (server, client, usable) in &self.paths {
                let conninfo = if *usable { "x" } else { "<event pending>" };
                write!(
                    sql,
                    "insert into {schema}.sl_path values ({server}, {client}, '{conninfo}', 10);"
                )
                .unwrap();
            }
            for (set, origin) in &self.sets {
                write!(sql, "insert into {schema}.sl_set values ({set}, {origin}, null, '');").unwrap();
            }
            for (set, provider, receiver, active) in &self.subscriptions {
                write!(
                    sql,
                    "insert into {schema}.sl_subscribe values ({set}, {provider}, {receiver}, true, {active});"
                )
                .unwrap();
            }
            // some entries are there already, right ones and wrong ones
            write!(sql, "insert into {schema}.sl_listen select n.no_id, p.pa_server, p.pa_client from {schema}.sl_path p join {schema}.sl_node n on n.no_id <> p.pa_client where (n.no_id + p.pa_server + p.pa_client) % 3 = 0;").unwrap();
            write!(sql, "select {schema}.RebuildListenEntries();").unwrap();
            sql
        }

        pub(crate) fn listens(&self) -> BTreeSet<(i32, i32, i32)> {
            let mut entries: BTreeSet<_> = self
                .paths
                .iter()
                .map(|(server, client, _)| (*server, *server, *client))
                .collect();
            loop {
                let mut more = entries.clone();
                for (origin, _, receiver) in &entries {
                    for (server, client, usable) in &self.paths {
                        if server == receiver && client != origin && *usable {
                            more.insert((*origin, *server, *client));
                        }
                    }
                }
                if more == entries {
                    break;
                }
                entries = more;
            }
            for (origin, active, failed) in &self.nodes {
                let of_origin: Vec<_> = self
                    .subscriptions
                    .iter()
                    .filter(|sub| self.sets.contains(&(sub.0, *origin)))
                    .collect();
                for (receiver, _, _) in &self.nodes {
                    let own: Vec<_> = of_origin.iter().filter(|sub| sub.2 == *receiver && sub.3).collect();
                    let served = |provider: i32| self.nodes.iter().any(|node| node.0 == provider && !node.2);
                    if *active && own.iter().any(|sub| sub.1 == *origin) {
                        entries.retain(|entry| (entry.0, entry.2) != (*origin, *receiver));
                        entries.insert((*origin, *origin, *receiver));
                    } else if own.iter().any(|sub| served(sub.1)) {
                        entries.retain(|entry| (entry.0, entry.2) != (*origin, *receiver));
                        entries.extend(own.iter().map(|sub| (*origin, sub.1, *receiver)));
                    } else if *failed && !of_origin.is_empty() {
                        entries.retain(|entry| {
                            (entry.0, entry.2) != (*origin, *receiver) || of_origin.iter().any(|sub| sub.1 == entry.1)
                        });
                    }
                }
            }
            entries
        }
    }
}
