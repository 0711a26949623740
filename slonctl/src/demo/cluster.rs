//! The three nodes of the demo, their slons and the scripts that work on them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use trunkline_sql::statistics;

use super::{DemoError, Progress, cluster_name, connect, script};
use crate::throwaway::{Server, ServerOptions, Throwaway, signal};

/// pgbench's scale: so many times 100,000 accounts.
const SCALE: i32 = 2;
const DATABASE: &str = "demo";

/// The tables of pgbench, with a key for its history, and one for the clients of the demo.
const TABLES: &str = "\
    create extension if not exists hstore;\
    create table pgbench_branches (bid int primary key, bbalance int, filler char(88)) with (fillfactor = 80);\
    create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84)) with (fillfactor = 80);\
    create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84)) with (fillfactor = 90);\
    create table pgbench_history (id bigserial primary key, tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));\
    create table client_write (client int, number int8, aid int, delta int, primary key (client, number))";

/// The demo's nodes.
pub(super) struct DemoCluster {
    // Before the servers, which are dropped after it.
    slons: Mutex<Vec<Child>>,
    servers: Vec<Server>,
    throwaway: Throwaway,
    slonik: PathBuf,
    slon: PathBuf,
    progress: Progress,
}

impl DemoCluster {
    /// Starts the servers.
    pub(super) fn start(
        throwaway: Throwaway,
        slonik: PathBuf,
        slon: PathBuf,
        progress: Progress,
    ) -> Result<Self, DemoError> {
        let options = ServerOptions {
            // A server beside the load, the demo and two others: leave most of the machine to them.
            settings: vec![
                ("max_wal_size".into(), "512MB".into()),
                ("max_connections".into(), "60".into()),
            ],
            ..ServerOptions::default()
        };
        let servers = (1..=3)
            .map(|node| throwaway.server(&format!("node{node}"), &options))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            slons: Mutex::default(),
            servers,
            throwaway,
            slonik,
            slon,
            progress,
        })
    }

    /// Where everything lies.
    pub(super) fn directory(&self) -> &Path {
        self.throwaway.path()
    }

    /// The server of node `node`, counted from 1.
    pub(super) fn server(&self, node: usize) -> &Server {
        &self.servers[node - 1]
    }

    /// How to reach node `node`.
    pub(super) fn conninfo(&self, node: usize) -> String {
        self.server(node).conninfo(DATABASE)
    }

    /// Makes the databases and tables, fills those of node 1 and returns how many rows that are.
    pub(super) async fn fill(&self) -> Result<i64, DemoError> {
        for server in &self.servers {
            let session = connect(&server.conninfo("postgres")).await?;
            let created = session.batch_execute(&format!("create database {DATABASE}")).await;
            created.map_err(DemoError::statement("creating the database"))?;
            let session = connect(&server.conninfo(DATABASE)).await?;
            session
                .batch_execute(TABLES)
                .await
                .map_err(DemoError::statement("creating the tables"))?;
        }
        let session = connect(&self.conninfo(1)).await?;
        let fill = format!(
            "insert into pgbench_branches select i, 0, '' from generate_series(1, {SCALE}) i;\
             insert into pgbench_tellers select i, (i - 1) / 10 + 1, 0, '' from generate_series(1, {SCALE} * 10) i;\
             insert into pgbench_accounts select i, (i - 1) / 100000 + 1, 0, '' from generate_series(1, {SCALE} * 100000) i;\
             vacuum analyze pgbench_branches; vacuum analyze pgbench_tellers; vacuum analyze pgbench_accounts"
        );
        // One by one: VACUUM cannot share a transaction.
        for statement in fill.split(';') {
            session
                .batch_execute(statement)
                .await
                .map_err(DemoError::statement("filling the tables of node 1"))?;
        }
        Ok(i64::from(SCALE) * (100_000 + 10 + 1))
    }

    /// Number of accounts.
    pub(super) fn accounts() -> i32 {
        SCALE * 100_000
    }

    /// Starts a slon for each node.
    pub(super) fn start_slons(&self) -> Result<(), DemoError> {
        for node in 1..=3 {
            let child = self.start_slon(node)?;
            self.slons.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        }
        Ok(())
    }

    fn start_slon(&self, node: usize) -> Result<Child, DemoError> {
        let file_error = |source| DemoError::Run {
            program: self.slon.clone(),
            source,
        };
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.slon_log(node))
            .map_err(file_error)?;
        let pid_file = self.directory().join(format!("slon{node}.pid"));
        let child = Command::new(&self.slon)
            .arg("-p")
            .arg(pid_file)
            .args([script::CLUSTER, &self.conninfo(node)])
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(file_error)?)
            .stderr(output)
            .spawn()
            .map_err(file_error)?;
        self.throwaway.note_process(&format!("slon{node}"), child.id())?;
        Ok(child)
    }

    /// `kill -9` of a node's server and of its slon.
    pub(super) fn kill(&mut self, node: usize) {
        self.servers[node - 1].kill();
        let mut slons = self.slons.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended already, with its server.
        let _ = slons[node - 1].kill();
        let _ = slons[node - 1].wait();
    }

    /// Starts the server of a killed node again.
    pub(super) fn revive(&mut self, node: usize) -> Result<(), DemoError> {
        Ok(self.servers[node - 1].start()?)
    }

    /// Starts the node's slon whenever it has ended, as a service manager does; never returns.
    pub(super) async fn keep_slon_running(&self, node: usize) -> Result<(), DemoError> {
        loop {
            let ended = {
                let mut slons = self.slons.lock().unwrap_or_else(PoisonError::into_inner);
                !matches!(slons[node - 1].try_wait(), Ok(None))
            };
            if ended {
                let child = self.start_slon(node)?;
                self.slons.lock().unwrap_or_else(PoisonError::into_inner)[node - 1] = child;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }

    /// Runs slonctl, which is told how to reach `nodes`, shows what it says and returns its exit code.
    pub(super) async fn slonctl(&self, nodes: &[usize], arguments: &[&str]) -> Result<i32, DemoError> {
        let program = super::programs::beside_us("slonctl")?;
        let run_error = |source| DemoError::Run {
            program: program.clone(),
            source,
        };
        self.progress.say(&format!("slonctl {}", arguments.join(" ")));
        let mut command = tokio::process::Command::new(&program);
        command.args(["--cluster", script::CLUSTER]);
        for node in nodes {
            command.args(["--conninfo", &self.conninfo(*node)]);
        }
        let mut child = command
            .args(arguments)
            .env_remove("SLONCTL_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(run_error)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (status, (), ()) = tokio::join!(child.wait(), self.show(out), self.show(err));
        Ok(status.map_err(run_error)?.code().unwrap_or(-1))
    }

    fn slon_log(&self, node: usize) -> PathBuf {
        self.directory().join(format!("slon{node}.log"))
    }

    /// Writes the script to a file, shows it, and feeds it to slonik's standard input.
    pub(super) async fn slonik(&self, name: &str, body: &str) -> Result<(), DemoError> {
        let script = self.directory().join(format!("{name}.slonik"));
        let run_error = |source| DemoError::Run {
            program: self.slonik.clone(),
            source,
        };
        let text = format!("{}{body}", script::preamble(self));
        File::create(&script)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(run_error)?;
        self.progress.say(&format!("slonik < {}", script.display()));
        for line in shortened(body) {
            self.progress.detail(&line);
        }
        let mut child = tokio::process::Command::new(&self.slonik)
            .stdin(File::open(&script).map_err(run_error)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(run_error)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (status, (), ()) = tokio::join!(child.wait(), self.show(out), self.show(err));
        let status = status.map_err(run_error)?;
        if status.success() {
            Ok(())
        } else {
            Err(DemoError::Script {
                script,
                status,
                logs: self.last_words(),
            })
        }
    }

    /// Shows what slonik says as it says it.
    async fn show(&self, stream: Option<impl AsyncRead + Unpin>) {
        const SHOWN: usize = 20;
        const LAST: usize = 8;
        let Some(stream) = stream else { return };
        let mut lines = BufReader::new(stream).lines();
        let mut count = 0;
        let mut last: VecDeque<String> = VecDeque::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let short: String = line.chars().take(150).collect();
            count += 1;
            if count <= SHOWN {
                self.progress.say(&format!("  {short}"));
                continue;
            }
            last.push_back(short);
            if last.len() > LAST {
                last.pop_front();
            }
        }
        if count > SHOWN + last.len() {
            self.progress
                .say(&format!("  … {} lines more …", count - SHOWN - last.len()));
        }
        for line in last {
            self.progress.say(&format!("  {line}"));
        }
    }

    /// The ends of the slons' logs.
    fn last_words(&self) -> String {
        let mut text = "the slons say last:".to_owned();
        for node in 1..=3 {
            let log = std::fs::read_to_string(self.slon_log(node)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(5)..] {
                let _ = write!(text, "\n  slon {node}: {line}");
            }
        }
        text
    }

    /// Rows each node got by the first copy: what it has and did not insert while applying. One snapshot per node.
    pub(super) async fn rows_copied(&self) -> Result<[i64; 3], DemoError> {
        let mut copied = [0; 3];
        for node in [2, 3] {
            let read_error = DemoError::statement("counting the copied rows");
            let mut session = connect(&self.conninfo(node)).await?;
            let transaction = session
                .client_mut()
                .build_transaction()
                .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
                .start()
                .await
                .map_err(&read_error)?;
            for table in script::TABLES {
                let count = transaction
                    .query_one(&format!("select count(*) from {table}"), &[])
                    .await;
                copied[node - 1] += count.map_err(&read_error)?.get::<_, i64>(0);
            }
            let applied = statistics::applied_changes(&transaction, &cluster_name()?)
                .await
                .map_err(&read_error)?;
            copied[node - 1] -= applied.inserts;
        }
        Ok(copied)
    }

    /// Row changes each node has applied.
    pub(super) async fn changes_applied(&self) -> Result<[i64; 3], DemoError> {
        let mut changes = [0; 3];
        for (index, total) in changes.iter_mut().enumerate() {
            let session = connect(&self.conninfo(index + 1)).await?;
            let applied = statistics::applied_changes(&*session, &cluster_name()?).await;
            *total = applied
                .map_err(DemoError::statement("reading `sl_apply_stats`"))?
                .total();
        }
        Ok(changes)
    }

    /// Leaves servers and slons running and says how to use and end them.
    pub(super) fn keep(mut self) {
        let stop = self.throwaway.keep();
        let console = &self.progress.0;
        let mut text = format!("The cluster goes on running in {}\n", self.directory().display());
        for node in 1..=3 {
            let log = self.slon_log(node);
            let _ = writeln!(
                text,
                "  node {node}: psql '{}'    log of its slon: {}",
                self.conninfo(node),
                log.display()
            );
        }
        let _ = write!(text, "  stop it and remove everything: sh {}", stop.display());
        if console.is_json() {
            console.event(None, "kept", &text);
        } else {
            console.line(&format!("\n{text}"));
        }
        std::mem::take(self.slons.get_mut().unwrap_or_else(PoisonError::into_inner));
        for server in self.servers.drain(..) {
            server.leave_running();
        }
    }
}

impl Drop for DemoCluster {
    fn drop(&mut self) {
        for slon in self.slons.get_mut().unwrap_or_else(PoisonError::into_inner) {
            signal(slon.id(), Signal::SIGTERM);
        }
    }
}

/// A long script without its middle.
fn shortened(body: &str) -> Vec<String> {
    const SHOWN: usize = 9;
    let lines: Vec<&str> = body.lines().collect();
    let show = |line: &&str| -> String {
        // Conninfos are long and say nothing here.
        line.chars().take(110).collect()
    };
    if lines.len() <= SHOWN + 1 {
        return lines.iter().map(show).collect();
    }
    let (head, tail) = (&lines[..SHOWN / 2], &lines[lines.len() - SHOWN / 2..]);
    let mut shown: Vec<String> = head.iter().map(show).collect();
    shown.push(format!("… {} statements more …", lines.len() - head.len() - tail.len()));
    shown.extend(tail.iter().map(show));
    shown
}
