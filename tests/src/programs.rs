//! The real programs: `slonik` runs and `slon` daemons.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use trunkline_slonctl::throwaway;

use crate::shared_throwaway;

/// Longest run of a script; what hangs longer is killed and reported with what it had said.
const SLONIK_TIME: Duration = Duration::from_secs(180);

/// One of our programs, from the directory the test binary was built into.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    // …/debug/deps/e2e-1234 -> …/debug
    let directory = test
        .parent()
        .and_then(Path::parent)
        .expect("the test binary lies in a target directory");
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "`{}` is not built; run `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

/// What became of a script.
#[derive(Debug)]
pub struct SlonikRun {
    /// The script as given.
    pub script: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
    /// How long it took.
    pub elapsed: Duration,
}

impl SlonikRun {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Panics with everything that was said unless the script ended with 0.
    pub fn succeeds(self) -> Self {
        assert!(self.status.success(), "slonik failed\n{}", self.transcript());
        self
    }

    /// Panics unless the script ended with 255, the only failure.
    pub fn fails(self) -> Self {
        assert_eq!(
            self.code(),
            Some(255),
            "slonik should have failed with 255\n{}",
            self.transcript()
        );
        self
    }

    /// Panics unless `text` was said, on either stream.
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "slonik did not say `{text}`\n{}",
            self.transcript()
        );
        self
    }

    /// Everything about the run, for messages.
    #[must_use]
    pub fn transcript(&self) -> String {
        format!(
            "--- script\n{}\n--- stdout\n{}--- stderr\n{}--- {} after {:.1} s",
            self.script,
            self.stdout,
            self.stderr,
            self.status,
            self.elapsed.as_secs_f64()
        )
    }
}

/// Feeds `script`, complete with its preamble, to the `slonik` at `program` on standard input.
pub async fn run_slonik(program: &Path, arguments: &[&str], script: &str) -> SlonikRun {
    run_slonik_until(program, arguments, script, None).await
}

/// As [`run_slonik`], ended with `kill -9` after `lifetime` unless it has ended before.
pub async fn run_slonik_until(
    program: &Path,
    arguments: &[&str],
    script: &str,
    lifetime: Option<Duration>,
) -> SlonikRun {
    let start = Instant::now();
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{}`: {error}", program.display()));
    let pid = child.id();
    let mut input = child.stdin.take().expect("piped");
    let text = script.to_owned();
    tokio::spawn(async move {
        // A script with an early `exit` may end before it has read everything.
        let _ = input.write_all(text.as_bytes()).await;
    });
    // Ended with SIGTERM, it still leaves its output to be read.
    let watchdog = tokio::spawn(async move {
        tokio::time::sleep(lifetime.unwrap_or(SLONIK_TIME)).await;
        if let Some(pid) = pid {
            let signal = if lifetime.is_some() {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            };
            throwaway::signal(pid, signal);
        }
    });
    let output = child.wait_with_output().await.expect("slonik can be waited for");
    watchdog.abort();
    SlonikRun {
        script: script.to_owned(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status,
        elapsed: start.elapsed(),
    }
}

/// A running `slon`; killed when dropped.
#[derive(Debug)]
pub struct Slon {
    child: Child,
    label: String,
    log: PathBuf,
}

impl Slon {
    /// Starts `program` with `arguments`; output goes to a file named after `label`.
    #[must_use]
    pub fn start(program: &Path, label: &str, arguments: &[String]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let throwaway = shared_throwaway();
        let log = throwaway.path().join(format!("{label}-{number}.log"));
        let output = File::create(&log).expect("the log file can be made");
        let child = Command::new(program)
            // The pid file makes the command line name the directory, so that the guard may end the daemon.
            .arg("-p")
            .arg(throwaway.path().join(format!("{label}-{number}.pid")))
            .args(arguments)
            .stdin(Stdio::null())
            // A group of its own: Slony's slon leaves the work to a child, which outlives a parent that is killed.
            .process_group(0)
            .stdout(output.try_clone().expect("the log file can be shared"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{}`: {error}", program.display()));
        throwaway
            .note_process(&format!("slon-{number}"), child.id())
            .expect("the process can be noted");
        Self {
            child,
            label: label.to_owned(),
            log,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("slon can be waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        throwaway::signal(self.child.id(), signal);
    }

    /// SIGTERM, and how it ended; panics after ten seconds.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(10))
    }

    /// Waits for its end.
    pub fn wait(&mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {time:?}\n{}",
                self.label,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`, of its children as well.
    pub fn kill(&mut self) {
        // Once it has been waited for, its number may be another process's.
        if self.ended().is_none()
            && let Ok(pid) = i32::try_from(self.pid())
        {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }

    /// The end of its log with a heading, for failed tests.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- {} (pid {}), end of its log\n{end}\n", self.label, self.pid())
    }
}

impl Drop for Slon {
    fn drop(&mut self) {
        self.kill();
    }
}
