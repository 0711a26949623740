//! The load: pgbench, and clients that follow the set.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use trunkline_sql::Session;

use super::cluster::DemoCluster;
use super::{DemoError, connect};
use crate::throwaway::{Server, signal};

/// Transactions a second that pgbench is held to; the demo is to run on small machines.
const PGBENCH_RATE: u32 = 150;
/// Pause of a client between two writes.
const PACE: Duration = Duration::from_millis(15);
/// Pause of a client that was refused before it tries the other node.
const RETRY_PACE: Duration = Duration::from_millis(2);
/// How often a watcher looks for new rows.
const LOOK: Duration = Duration::from_millis(4);

/// The transaction of pgbench plus a row that only this client writes, as one statement.
const WRITE: &str = "with account as (update pgbench_accounts set abalance = abalance + $4 where aid = $3), \
    teller as (update pgbench_tellers set tbalance = tbalance + $4 where tid = $5), \
    branch as (update pgbench_branches set bbalance = bbalance + $4 where bid = 1), \
    history as (insert into pgbench_history (tid, bid, aid, delta, mtime) values ($5, 1, $3, $4, now())) \
    insert into client_write (client, number, aid, delta) values ($1, $2, $3, $4)";

/// A running pgbench.
pub(super) struct Pgbench(Child);

impl Pgbench {
    /// Starts pgbench on node 1 if it is installed.
    pub(super) fn start(server: &Server) -> Result<Option<Self>, DemoError> {
        let Some(program) = server.binaries().optional_program("pgbench") else {
            return Ok(None);
        };
        let child = Command::new(&program)
            .args([
                "-n",
                "-c",
                "2",
                "-T",
                "600",
                "-R",
                &PGBENCH_RATE.to_string(),
                "-U",
                "postgres",
            ])
            .arg("-h")
            .arg(server.socket_directory())
            .args(["-p", &server.port().to_string(), "demo"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| DemoError::Run { program, source })?;
        Ok(Some(Self(child)))
    }

    /// Ends it. SIGINT would not do: who starts us in the background of a script has it ignored, and pgbench inherits that.
    pub(super) fn stop(&mut self) {
        signal(self.0.id(), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our own clients.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    follow: Arc<AtomicBool>,
    accepted: Arc<AtomicI64>,
    clients: Vec<JoinHandle<Vec<(i64, Instant)>>>,
    /// What the lag is measured with: a client whose numbers grow, and where to look for them.
    conninfos: [String; 3],
    /// When the writes of client 0 were acknowledged; shared while it runs.
    commits: Arc<Mutex<BTreeMap<i64, Instant>>>,
}

/// What the clients had acknowledged: per client the numbers, with the time of the acknowledgement.
pub(super) struct Written(Vec<Vec<(i64, Instant)>>);

impl Load {
    /// Starts the clients on node 1. They know nodes 1 and 2.
    pub(super) async fn start(demo: &DemoCluster, clients: u32) -> Result<Self, DemoError> {
        let (stop, follow) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let accepted = Arc::new(AtomicI64::new(0));
        let commits = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = Vec::new();
        for number in 0..clients {
            let sessions = [connect(&demo.conninfo(1)).await?, connect(&demo.conninfo(2)).await?];
            let client = Client {
                number: i32::try_from(number).unwrap_or_default(),
                conninfos: [demo.conninfo(1), demo.conninfo(2)],
                sessions,
                stop: stop.clone(),
                follow: follow.clone(),
                accepted: accepted.clone(),
                commits: (number == 0).then(|| commits.clone()),
            };
            tasks.push(tokio::spawn(client.run()));
        }
        let conninfos = [demo.conninfo(1), demo.conninfo(2), demo.conninfo(3)];
        Ok(Self {
            stop,
            follow,
            accepted,
            clients: tasks,
            conninfos,
            commits,
        })
    }

    /// Lets the clients try the other node from now on when a write is refused.
    pub(super) fn follow_the_set(&self) {
        self.follow.store(true, Ordering::Relaxed);
    }

    /// Writes accepted so far.
    pub(super) fn accepted(&self) -> i64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Median time from the acknowledgement of a write on node 1 to its being visible on nodes 2 and 3.
    pub(super) async fn measure_lag(&self, time: Duration) -> Result<[Option<Duration>; 3], DemoError> {
        let (second, third) = tokio::join!(
            sightings(&self.conninfos[1], time), //
            sightings(&self.conninfos[2], time)
        );
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let median = |seen: Vec<(i64, Instant)>| {
            let mut lags: Vec<Duration> = seen
                .iter()
                .filter_map(|(number, at)| Some(at.saturating_duration_since(*commits.get(number)?)))
                .collect();
            lags.sort_unstable();
            lags.get(lags.len() / 2).copied()
        };
        Ok([None, median(second?), median(third?)])
    }

    /// Lets every client finish its write.
    pub(super) async fn finish(self) -> Result<Written, DemoError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for client in self.clients {
            written.push(client.await?);
        }
        Ok(Written(written))
    }
}

/// Watches client 0's rows arrive: number of the newest one and when it was seen.
async fn sightings(conninfo: &str, time: Duration) -> Result<Vec<(i64, Instant)>, DemoError> {
    let session = connect(conninfo).await?;
    let look_error = DemoError::statement("looking for new rows");
    let statement = session
        .prepare("select coalesce(max(number), 0) from client_write where client = 0")
        .await
        .map_err(&look_error)?;
    let end = Instant::now() + time;
    let mut seen: Vec<(i64, Instant)> = Vec::new();
    let mut newest: Option<i64> = None;
    while Instant::now() < end {
        let number: i64 = session.query_one(&statement, &[]).await.map_err(&look_error)?.get(0);
        // The first look only tells where we are.
        if newest.is_some_and(|newest| number > newest) {
            seen.push((number, Instant::now()));
        }
        newest = Some(number);
        tokio::time::sleep(LOOK).await;
    }
    Ok(seen)
}

struct Client {
    number: i32,
    conninfos: [String; 2],
    sessions: [Session; 2],
    stop: Arc<AtomicBool>,
    follow: Arc<AtomicBool>,
    accepted: Arc<AtomicI64>,
    commits: Option<Arc<Mutex<BTreeMap<i64, Instant>>>>,
}

impl Client {
    /// Writes until told to stop; a refused write is tried again, under a number of its own.
    async fn run(mut self) -> Vec<(i64, Instant)> {
        let mut acknowledged = Vec::new();
        let mut node = 0;
        let mut number: i64 = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            // Spread over the accounts, the same in every run.
            let spread = number
                .wrapping_mul(7_919)
                .wrapping_add(i64::from(self.number) * 104_729);
            let account = i32::try_from(spread.rem_euclid(i64::from(DemoCluster::accounts())) + 1).unwrap_or(1);
            let delta = account % 1_000 - 500;
            // A teller for each client, so that only the branch is fought for.
            let teller = self.number + 1;
            let parameters: [&(dyn ToSql + Sync); 5] = [&self.number, &number, &account, &delta, &teller];
            if self.sessions[node].execute(WRITE, &parameters).await.is_ok() {
                let now = Instant::now();
                acknowledged.push((number, now));
                self.accepted.fetch_add(1, Ordering::Relaxed);
                if let Some(commits) = &self.commits {
                    commits
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(number, now);
                }
                tokio::time::sleep(PACE).await;
            } else {
                // Before that, node 2 is an ordinary database to which nobody would send an application.
                if self.follow.load(Ordering::Relaxed) {
                    node = 1 - node;
                }
                // A server that was killed may be back.
                if self.sessions[node].closed_reason().is_some()
                    && let Ok(session) = connect(&self.conninfos[node]).await
                {
                    self.sessions[node] = session;
                }
                tokio::time::sleep(RETRY_PACE).await;
            }
        }
        acknowledged
    }
}

impl Written {
    /// How many writes were accepted.
    pub(super) fn accepted(&self) -> i64 {
        i64::try_from(self.0.iter().map(Vec::len).sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// The acknowledged numbers of each client, in the order of the clients.
    pub(super) fn numbers(&self) -> impl Iterator<Item = impl Iterator<Item = i64> + '_> + '_ {
        self.0.iter().map(|client| client.iter().map(|(number, _)| *number))
    }

    /// The longest time in which no client had a write accepted, between `start` and `end`.
    pub(super) fn longest_gap(&self, start: Instant, end: Instant) -> Duration {
        let mut times: Vec<Instant> = self
            .0
            .iter()
            .flatten()
            .map(|(_, at)| *at)
            .filter(|at| *at >= start && *at <= end)
            // The pause may begin with what is measured: nobody writes between a kill and the first write elsewhere.
            .chain([start])
            .collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}
