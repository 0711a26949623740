//! A steady pulse of single-row inserts whose ids the client chooses: what was acknowledged where and when is known
//! exactly, whatever becomes of the servers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::{Cluster, Connection};

/// How long an insert may take before the client gives the connection up.
const ANSWER: Duration = Duration::from_millis(400);

/// An acknowledged insert.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// The row.
    pub id: i64,
    /// The node that took it.
    pub node: i32,
    /// When the client had the acknowledgement.
    pub at: Instant,
}

/// Writers to the table `pulse`; each tries its nodes in turn when it is refused.
pub struct Pulse {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Beat>>>,
}

impl Pulse {
    /// The table, for [`Cluster::create_set`].
    pub const TABLE: &'static str = r#""public"."pulse""#;

    /// Creates the table on all nodes.
    pub async fn prepare(cluster: &Cluster) {
        cluster
            .run_on_all("create table pulse (id bigint primary key, node int not null, at timestamptz default clock_timestamp())")
            .await;
    }

    /// One writer per list of nodes, each with a pause of `pace` between inserts.
    #[must_use]
    pub fn start(cluster: &Cluster, writers: &[&[i32]], pace: Duration) -> Self {
        static NEXT: AtomicI64 = AtomicI64::new(1);
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = writers
            .iter()
            .map(|nodes| {
                let nodes: Vec<(i32, String)> = nodes
                    .iter()
                    .map(|id| (*id, cluster.node(*id).conninfo.clone()))
                    .collect();
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    let (mut beats, mut which, mut connection) = (Vec::new(), 0, None);
                    while !stop.load(Ordering::Relaxed) {
                        let (node, conninfo) = &nodes[which];
                        let id = NEXT.fetch_add(1, Ordering::Relaxed);
                        let attempt = async {
                            let open = match connection.take() {
                                Some(open) => open,
                                None => Connection::try_open(conninfo).await.ok()?,
                            };
                            let insert = format!("insert into pulse (id, node) values ({id}, {node})");
                            let done = open.try_run(&insert).await.is_ok();
                            Some((open, done))
                        };
                        match tokio::time::timeout(ANSWER, attempt).await {
                            Ok(Some((open, true))) => {
                                beats.push(Beat {
                                    id,
                                    node: *node,
                                    at: Instant::now(),
                                });
                                connection = Some(open);
                            }
                            // Refused: by the set's trigger, or by a server that is gone.
                            _ => which = (which + 1) % nodes.len(),
                        }
                        tokio::time::sleep(pace).await;
                    }
                    beats
                })
            })
            .collect();
        Self { stop, tasks }
    }

    /// Stops and returns what was acknowledged, in order of time.
    pub async fn finish(self) -> Vec<Beat> {
        self.stop.store(true, Ordering::Relaxed);
        let mut beats = Vec::new();
        for task in self.tasks {
            beats.extend(task.await.unwrap_or_else(|error| panic!("a writer failed: {error}")));
        }
        beats.sort_by_key(|beat| beat.at);
        beats
    }
}

impl Pulse {
    /// Ids in the table of a node.
    pub async fn rows(cluster: &Cluster, node: i32) -> BTreeSet<i64> {
        let rows: Vec<i64> = cluster.connect(node).await.column("select id from pulse").await;
        rows.into_iter().collect()
    }

    /// Nodes that accept a write to the table.
    pub async fn writable(cluster: &Cluster) -> Vec<i32> {
        let mut found = Vec::new();
        for node in cluster.nodes() {
            let probe = "begin; set local lock_timeout to '10s'; insert into pulse (id, node) values (-1, 0); rollback";
            if cluster.connect(node.id).await.try_run(probe).await.is_ok() {
                found.push(node.id);
            }
        }
        found
    }
}

impl Beat {
    /// Longest time without an acknowledgement from any node.
    #[must_use]
    pub fn longest_gap(beats: &[Beat]) -> Duration {
        let gaps = beats.windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or_default()
    }

    /// Ids acknowledged by a node.
    #[must_use]
    pub fn of_node(beats: &[Beat], node: i32) -> BTreeSet<i64> {
        beats
            .iter()
            .filter(|beat| beat.node == node)
            .map(|beat| beat.id)
            .collect()
    }
}
