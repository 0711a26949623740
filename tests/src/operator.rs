//! The real `slonctl`.

use std::fmt::Write as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_slonctl::throwaway::signal;

use crate::{Cluster, PATIENCE, program, wait_until};

/// Longest run; what hangs longer is killed and reported.
const SLONCTL_TIME: Duration = Duration::from_secs(120);

/// What became of a run of `slonctl`.
#[derive(Debug)]
pub struct SlonctlRun {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
    /// How long it took.
    pub elapsed: Duration,
}

impl SlonctlRun {
    /// Panics with everything that was said unless it ended with `code`.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "exit code\n{}", self.transcript());
        self
    }

    /// Panics unless `text` was said, on either stream.
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "slonctl did not say `{text}`\n{}",
            self.transcript()
        );
        self
    }

    /// Panics if `text` was said, on either stream.
    pub fn keeps_quiet_about(self, text: &str) -> Self {
        assert!(
            !self.stdout.contains(text) && !self.stderr.contains(text),
            "slonctl said `{text}`\n{}",
            self.transcript()
        );
        self
    }

    /// Standard output read as one JSON document per line.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`\n{}", self.transcript()))
            })
            .collect()
    }

    /// Everything about the run, for messages.
    #[must_use]
    pub fn transcript(&self) -> String {
        format!(
            "--- slonctl {}\n--- stdout\n{}--- stderr\n{}--- {} after {:.1} s",
            self.arguments.join(" "),
            self.stdout,
            self.stderr,
            self.status,
            self.elapsed.as_secs_f64()
        )
    }
}

/// A running `slonctl`; killed when dropped.
#[derive(Debug)]
pub struct Slonctl {
    child: tokio::process::Child,
    arguments: Vec<String>,
    started: Instant,
}

impl Slonctl {
    /// Starts it with these arguments and an empty standard input.
    pub fn start(arguments: &[&str]) -> Self {
        let child = tokio::process::Command::new(program("slonctl"))
            .args(arguments)
            .env_remove("SLONCTL_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start slonctl: {error}"));
        Self {
            child,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            started: Instant::now(),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, wanted: Signal) {
        let pid = self.child.id().expect("slonctl has not been waited for yet");
        signal(pid, wanted);
    }

    /// Sends a signal, unless it has ended already.
    pub fn signal_if_running(&self, wanted: Signal) {
        if let Some(pid) = self.child.id() {
            signal(pid, wanted);
        }
    }

    /// Waits for its end; panics if it hangs.
    pub async fn finish(self) -> SlonctlRun {
        let output = tokio::time::timeout(SLONCTL_TIME, self.child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("slonctl {} hangs", self.arguments.join(" ")))
            .expect("slonctl can be waited for");
        SlonctlRun {
            arguments: self.arguments,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status,
            elapsed: self.started.elapsed(),
        }
    }
}

/// Runs `slonctl` with these arguments and an empty standard input.
pub async fn run_slonctl(arguments: &[&str]) -> SlonctlRun {
    Slonctl::start(arguments).finish().await
}

impl Cluster {
    /// Runs `slonctl` on this cluster, which it finds from node `id`.
    pub async fn slonctl_from(&self, id: i32, arguments: &[&str]) -> SlonctlRun {
        self.slonctl_of(&[id], arguments).await
    }

    /// The same, told how to reach these nodes: those that were given up are not found from the others.
    pub async fn slonctl_of(&self, ids: &[i32], arguments: &[&str]) -> SlonctlRun {
        let mut all = vec!["--cluster", self.name().name()];
        for id in ids {
            all.extend(["--conninfo", &self.node(*id).conninfo]);
        }
        all.extend(arguments);
        run_slonctl(&all).await
    }

    /// Starts the slon of a node that is taken back once it has the cluster's configuration: takes `origin` for the origin of all sets.
    pub async fn start_slon_when_returned(&self, id: i32, origin: i32) {
        let node = self.connect(id).await;
        let sql = self.sql("select coalesce(array_agg(distinct set_origin), '{}') from @NAMESPACE@.sl_set");
        let what = format!("node {id} takes node {origin} for the origin of all sets");
        wait_until(&what, PATIENCE, async || {
            let origins: Vec<i32> = node.value(&sql).await;
            if origins == [origin] {
                Ok(())
            } else {
                Err(format!("it takes nodes {origins:?}"))
            }
        })
        .await;
        self.start_slon(id);
    }

    /// A configuration file for `slonctl` with all nodes, and hooks given as (node, event, command).
    pub fn slonctl_file(&self, hooks: &[(i32, &str, &str)]) -> tempfile::TempPath {
        let mut text = format!("cluster = {:?}\n", self.name().name());
        for node in self.nodes() {
            let _ = writeln!(text, "[node.{}]\nconninfo = {:?}", node.id, self.admin(node));
            for (_, event, command) in hooks.iter().filter(|(id, ..)| *id == node.id) {
                let _ = writeln!(text, "hooks.{event} = {command:?}");
            }
        }
        let file = tempfile::Builder::new()
            .suffix(".toml")
            .tempfile()
            .expect("a file can be made")
            .into_temp_path();
        std::fs::write(&file, text).expect("the file can be written");
        file
    }
}
