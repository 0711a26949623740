//! `slonctl demo`: a cluster of three throwaway nodes from nothing to a moved set, a killed origin and its return, under
//! load, with proof.

mod cluster;
mod disaster;
mod load;
mod programs;
mod proof;
mod script;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use trunkline_sql::{Cluster, ConnectError, Session, SessionOptions};

use crate::console::Console;
use crate::throwaway::{ServerBinaries, Throwaway, ThrowawayError};
use cluster::DemoCluster;
use load::{Load, Pgbench};
use proof::Proof;
use table::Closing;

/// Clients that write all the time and follow the set when it moves.
const CLIENTS: u32 = 4;
/// How long the load runs in the phases between the statements.
const PHASE: Duration = Duration::from_secs(4);

/// Why the demo could not be finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// Servers.
    #[error(transparent)]
    Throwaway(#[from] ThrowawayError),
    /// Server programs.
    #[error(transparent)]
    Binaries(#[from] crate::throwaway::BinariesError),
    /// One of our own programs is not there.
    #[error("`{}` is missing; it is built together with slonctl: `cargo build --workspace --bins`", .0.display())]
    ProgramMissing(PathBuf),
    /// A program could not be run.
    #[error("cannot run `{}`", program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A script failed.
    #[error("slonik failed ({status}) on `{}`, see its messages above; {logs}", script.display())]
    Script {
        /// The script's file.
        script: PathBuf,
        /// How slonik ended.
        status: std::process::ExitStatus,
        /// What the slons said last.
        logs: String,
    },
    /// slonctl did not do what it was to do.
    #[error("`slonctl {command}` ended with exit code {code}, see its messages above")]
    Slonctl {
        /// Its arguments.
        command: String,
        /// The exit code.
        code: i32,
    },
    /// The list of lost transactions cannot be read.
    #[error("cannot read the saved list of lost transactions `{}`", path.display())]
    Lost {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A node cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("{what}: {message}")]
    Statement {
        /// What it was for.
        what: &'static str,
        /// The server's words.
        message: String,
    },
    /// The name of the cluster; cannot happen.
    #[error(transparent)]
    Name(#[from] trunkline_sql::ClusterNameError),
    /// A task of the load broke.
    #[error("a client of the load broke")]
    Client(#[from] tokio::task::JoinError),
}

impl DemoError {
    /// Wraps an error of a statement that served `what`.
    fn statement(what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |error| Self::Statement {
            what,
            message: trunkline_sql::error_text(&error),
        }
    }
}

/// Says what happens, with the time since the start.
#[derive(Debug, Clone)]
struct Progress(Console);

impl Progress {
    fn say(&self, text: &str) {
        if self.0.is_json() {
            self.0.step(None, text);
        } else {
            let seconds = self.0.elapsed().as_secs_f64();
            self.0.line(&format!("{seconds:6.1} s  {text}"));
        }
    }

    /// Lines that belong to what was said last.
    fn detail(&self, text: &str) {
        if self.0.is_json() {
            self.0.event(None, "detail", text);
        } else {
            self.0.line(&format!("            {text}"));
        }
    }
}

/// Runs the demo; true if all nodes are equal and nothing acknowledged is lost. With `keep` everything goes on running in the end.
pub(crate) async fn run(keep: bool, console: &Console) -> Result<bool, DemoError> {
    let progress = Progress(console.clone());
    let (slonik, slon) = (programs::beside_us("slonik")?, programs::beside_us("slon")?);
    let binaries = ServerBinaries::find_or_install(&|line| progress.say(line))?;
    progress.say(&format!(
        "PostgreSQL {} in {}",
        binaries.version(),
        binaries.directory().display()
    ));
    let throwaway = Throwaway::new("demo", binaries)?;
    let mut demo = DemoCluster::start(throwaway, slonik, slon, progress.clone())?;
    progress.say(&format!("3 servers run in {}", demo.directory().display()));

    let rows = demo.fill().await?;
    progress.say(&format!(
        "node 1 has the pgbench tables with {} rows, nodes 2 and 3 have them empty",
        table::number(rows)
    ));
    let mut pgbench = Pgbench::start(demo.server(1))?;
    let load = Load::start(&demo, CLIENTS).await?;
    progress.say(&match &pgbench {
        Some(_) => format!("load on node 1: pgbench and {CLIENTS} clients of our own"),
        None => format!("load on node 1: {CLIENTS} clients of our own (there is no pgbench here)"),
    });

    demo.slonik("1-cluster", &script::cluster(&demo)).await?;
    demo.start_slons()?;
    progress.say("a slon runs beside each node");
    demo.slonik("2-subscribe", &script::subscribe()).await?;
    let copied = demo.rows_copied().await?;
    progress.say(&format!(
        "nodes 2 and 3 are subscribed: {} and {} rows copied while {} writes were accepted",
        table::number(copied[1]),
        table::number(copied[2]),
        table::number(load.accepted()),
    ));

    let lag = load.measure_lag(PHASE);
    progress.say("the load goes on, the lag is measured");
    let lag = lag.await?;
    if let Some(pgbench) = &mut pgbench {
        // A denied write would end it, so only the clients that can change the server see the move.
        pgbench.stop();
        progress.say("pgbench is stopped, the clients go on and will follow the set");
    }
    load.follow_the_set();
    let before = Instant::now();
    demo.slonik("3-move", &script::move_to_second()).await?;
    progress.say(&format!(
        "the set has moved to node 2 in {:.1} s",
        before.elapsed().as_secs_f64()
    ));
    let moved = Instant::now();
    tokio::time::sleep(PHASE).await;
    let disaster = disaster::strike(&mut demo, &progress).await?;
    tokio::time::sleep(PHASE / 2).await;
    let written = load.finish().await?;
    progress.say(&format!(
        "load stopped after {} accepted writes",
        table::number(written.accepted())
    ));

    demo.slonik("4-confirm", &script::confirm()).await?;
    progress.say("every node has confirmed the last SYNC, comparing all tables and sequences");
    let proof = Proof::gather(&demo, &written, &disaster.lost).await?;
    let changes = demo.changes_applied().await?;
    let outage = written.longest_gap(before, moved);
    let closing = Closing {
        copied,
        changes,
        lag,
        outage,
        failover: written.longest_gap(disaster.killed, disaster.switching),
        back: written.longest_gap(disaster.switching, Instant::now()),
        proof: &proof,
    };
    console.document(&closing.result());
    console.line(&format!("\n{closing}"));
    if keep {
        demo.keep();
    }
    Ok(proof.holds())
}

/// Connects to a node of the demo.
async fn connect(conninfo: &str) -> Result<Session, DemoError> {
    let options = SessionOptions {
        application_name: "slonctl demo".to_owned(),
        ..SessionOptions::default()
    };
    Ok(Session::connect(conninfo, &options).await?)
}

/// The cluster's name.
fn cluster_name() -> Result<Cluster, DemoError> {
    Ok(Cluster::new(script::CLUSTER)?)
}
