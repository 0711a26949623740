//! Writers: the load under which the tests work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use crate::{Cluster, Connection, Seed};

/// Tables the writers work on; create them on every node.
const TABLES: &str = "create table accounts (id int primary key, owner text not null, balance numeric not null default 0, touched timestamptz);
     create table journal (id bigserial primary key, writer int not null, account int, note text, amount numeric);
     create table pairs (left_id int, right_id int, label text unique, primary key (left_id, right_id))";

/// Rows in `accounts` at the start.
const ACCOUNTS: i32 = 500;
/// How long a writer tries to get a write in before the test is given up.
const PATIENCE: Duration = Duration::from_secs(90);

/// One writer; see [`Writers`].
pub struct Writer {
    number: u32,
    random: StdRng,
    nodes: Vec<String>,
    stop: Arc<AtomicBool>,
    pace: Duration,
}

/// What a writer did.
#[derive(Debug, Default)]
pub struct WriterOutcome {
    /// Ids in `journal` whose commit was acknowledged.
    pub acknowledged: BTreeSet<i64>,
    /// Commits acknowledged.
    pub commits: u64,
    /// Transactions rolled back on purpose.
    pub rollbacks: u64,
    /// Longest time between two acknowledged commits.
    pub longest_gap: Duration,
}

/// Several writers at work: random inserts, updates and deletes on three tables in transactions with random commits,
/// rollbacks, savepoints and pauses. They follow the set: who is refused (a subscriber, a locked set, a server that is gone)
/// tries the next node.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<WriterOutcome>>,
}

impl Writers {
    /// Tables, and sequence, for [`Cluster::create_set`].
    pub const TABLE_NAMES: [&'static str; 3] =
        [r#""public"."accounts""#, r#""public"."journal""#, r#""public"."pairs""#];
    /// The sequence behind `journal.id`.
    pub const SEQUENCE_NAMES: [&'static str; 1] = [r#""public"."journal_id_seq""#];

    /// Creates the writers' tables on all nodes and fills them on node `origin`.
    pub async fn prepare(cluster: &Cluster, origin: i32) {
        cluster.run_on_all(TABLES).await;
        cluster
            .run(
                origin,
                &format!("insert into accounts select i, 'owner ' || i, i from generate_series(1, {ACCOUNTS}) i"),
            )
            .await;
    }

    /// Starts `count` writers that pause for `pace` between transactions; they may write on any of `nodes`.
    #[must_use]
    pub fn start(cluster: &Cluster, nodes: &[i32], count: u32, pace: Duration, seed: Seed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let conninfos: Vec<String> = nodes.iter().map(|id| cluster.node(*id).conninfo.clone()).collect();
        let tasks = (0..count)
            .map(|number| {
                let writer = Writer {
                    number,
                    random: seed.generator(u64::from(number)),
                    nodes: conninfos.clone(),
                    stop: stop.clone(),
                    pace,
                };
                tokio::spawn(writer.run())
            })
            .collect();
        Self { stop, tasks }
    }

    /// Lets every writer finish its transaction and returns what they did.
    pub async fn finish(self) -> WriterOutcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = WriterOutcome::default();
        for task in self.tasks {
            let outcome = task.await.unwrap_or_else(|error| panic!("a writer failed: {error}"));
            total.acknowledged.extend(outcome.acknowledged);
            total.commits += outcome.commits;
            total.rollbacks += outcome.rollbacks;
            total.longest_gap = total.longest_gap.max(outcome.longest_gap);
        }
        println!(
            "writers: {} commits, {} rollbacks, longest time without a commit {:?}",
            total.commits, total.rollbacks, total.longest_gap
        );
        total
    }
}

impl WriterOutcome {
    /// Panics unless every acknowledged row of `journal` is on node `id`.
    pub async fn assert_nothing_lost(&self, cluster: &Cluster, id: i32) {
        assert!(!self.acknowledged.is_empty(), "the writers got nothing in");
        let there: BTreeSet<i64> = cluster
            .connect(id)
            .await
            .column("select id from journal")
            .await
            .into_iter()
            .collect();
        let lost: Vec<_> = self.acknowledged.difference(&there).collect();
        assert!(
            lost.is_empty(),
            "{} acknowledged rows are lost on node {id}, among them {:?}",
            lost.len(),
            &lost[..lost.len().min(10)]
        );
    }
}

impl Writer {
    async fn run(mut self) -> WriterOutcome {
        let mut outcome = WriterOutcome::default();
        let mut last_commit = Instant::now();
        let mut node = 0;
        let mut connection: Option<Connection> = None;
        while !self.stop.load(Ordering::Relaxed) {
            assert!(
                last_commit.elapsed() < PATIENCE,
                "writer {} got no write in for {PATIENCE:?}",
                self.number
            );
            let open = match connection.take() {
                Some(open) => Ok(open),
                None => Connection::try_open(&self.nodes[node]).await,
            };
            let Ok(open) = open else {
                node = (node + 1) % self.nodes.len();
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            match self.transaction(&open).await {
                Ok(Some(ids)) => {
                    outcome.commits += 1;
                    outcome.longest_gap = outcome.longest_gap.max(last_commit.elapsed());
                    last_commit = Instant::now();
                    outcome.acknowledged.extend(ids);
                    connection = Some(open);
                }
                Ok(None) => {
                    outcome.rollbacks += 1;
                    connection = Some(open);
                }
                // Refused, dead or an ordinary conflict of concurrent writers.
                Err(error) => {
                    let conflict = error
                        .code()
                        .is_some_and(|code| matches!(code.code(), "40P01" | "23505" | "40001"));
                    if !conflict {
                        node = (node + 1) % self.nodes.len();
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    } else if open.batch_execute("rollback").await.is_ok() {
                        connection = Some(open);
                    }
                }
            }
            tokio::time::sleep(self.pace).await;
        }
        outcome
    }

    /// One transaction; `None` when it was rolled back on purpose, else the ids it wrote into `journal`.
    async fn transaction(&mut self, connection: &Connection) -> Result<Option<Vec<i64>>, tokio_postgres::Error> {
        connection.batch_execute("begin").await?;
        let mut ids = Vec::new();
        for step in 0..self.random.random_range(1..6) {
            if self.random.random_bool(0.2) {
                let kept = self.random.random_bool(0.5);
                connection.batch_execute("savepoint s").await?;
                let id = self.change(connection, step).await?;
                connection
                    .batch_execute(if kept { "release s" } else { "rollback to s" })
                    .await?;
                ids.extend(id.filter(|_| kept));
            } else {
                ids.extend(self.change(connection, step).await?);
            }
            if self.random.random_bool(0.03) {
                // A long transaction, while others come and go.
                tokio::time::sleep(Duration::from_millis(self.random.random_range(50..800))).await;
            }
        }
        if self.random.random_bool(0.15) {
            connection.batch_execute("rollback").await?;
            return Ok(None);
        }
        connection.batch_execute("commit").await?;
        Ok(Some(ids))
    }

    /// One random change; the id of a new row in `journal`.
    async fn change(&mut self, connection: &Connection, step: i32) -> Result<Option<i64>, tokio_postgres::Error> {
        let account = self.random.random_range(1..=ACCOUNTS);
        let writer = i32::try_from(self.number).unwrap_or(0);
        let amount = self.random.random_range(-100..100);
        match self.random.random_range(0..10) {
            0..=3 => {
                let statement = "insert into journal (writer, account, note, amount) \
                     values ($1, $2, 'step ' || $3::int4 || E' \\\\ \\' \\n é', $4::int4 / 7.0) returning id";
                let row = connection
                    .query_one(statement, &[&writer, &account, &step, &amount])
                    .await?;
                return Ok(Some(row.get(0)));
            }
            4..=6 => {
                let statement = "update accounts set balance = balance + $2::int4, touched = now() where id = $1";
                connection.execute(statement, &[&account, &amount]).await?;
            }
            7 => {
                // Unlabelled again and again: the same unique label wanders between rows.
                let statement = "insert into pairs values ($1, $2, $3) on conflict (left_id, right_id) do update set label = excluded.label";
                let label = format!("label {writer}-{amount}");
                connection
                    .execute("delete from pairs where label = $1", &[&label])
                    .await?;
                connection
                    .execute(statement, &[&writer, &(account % 20), &label])
                    .await?;
            }
            8 => {
                let statement = "delete from pairs where left_id = $1 and right_id = $2";
                connection.execute(statement, &[&writer, &(account % 20)]).await?;
            }
            _ => {
                // The primary key itself changes.
                let statement = "update pairs set right_id = right_id + 1000 where left_id = $1 and right_id = $2";
                connection.execute(statement, &[&writer, &(account % 20)]).await?;
            }
        }
        Ok(None)
    }
}
