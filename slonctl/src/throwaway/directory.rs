//! The temporary directory and its guard.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::account::Account;
use super::{Server, ServerBinaries, ServerOptions, ThrowawayError};

/// Stops what runs in the directory it lies in, and removes the directory. Only processes that were written down are
/// touched, and only while their command line still names the directory (a number may have been given to another).
const STOP_SCRIPT: &str = r#"#!/bin/sh
# Stops the throwaway servers and daemons of this directory and removes it.
root=$(cd "$(dirname "$0")" && pwd) || exit 1
cd / || exit 1
ours() {
    if [ -r "/proc/$1/cmdline" ]; then
        tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF "$root"
    else
        ps -p "$1" -o args= 2>/dev/null | grep -qF "$root"
    fi
}
# stop SIGNAL SECONDS FILE...: the first line of each file is a process id
stop() {
    signal=$1; tries=$(($2 * 10)); shift 2; pids=
    for file in "$@"; do
        [ -f "$file" ] || continue
        read -r pid <"$file"
        if ours "$pid"; then
            kill -CONT "$pid" 2>/dev/null
            kill "-$signal" "$pid" 2>/dev/null && pids="$pids $pid"
        fi
    done
    for pid in $pids; do
        while ours "$pid" && kill -0 "$pid" 2>/dev/null; do
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || { kill -KILL "$pid" 2>/dev/null; break; }
            sleep 0.1
        done
    done
}
stop TERM 5 "$root"/pids/*
stop QUIT 10 "$root"/*/data/postmaster.pid
rm -rf "$root"
"#;

/// Waits for the end of its owner (end of file on standard input), then runs the stop script. `keep` dismisses it.
const GUARD_SCRIPT: &str = r#"trap '' INT TERM HUP QUIT
while read -r word; do [ "$word" = keep ] && exit 0; done
exec sh "$0/stop.sh" >/dev/null 2>&1"#;

/// How long dropping waits for the guard to finish its work.
const CLEAN_UP_TIME: Duration = Duration::from_secs(30);

/// `/.s.PGSQL.65535` behind the directory must fit into 104 bytes (108 on Linux, fewer elsewhere).
const MAX_PATH_BYTES: usize = 85;

/// A temporary directory of servers; dropping the last clone stops everything in it and removes it.
#[derive(Debug, Clone)]
pub struct Throwaway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    binaries: ServerBinaries,
    account: Account,
    guard: Mutex<Option<(Child, ChildStdin)>>,
    /// The data directory that `initdb` made, copied for each server.
    template: Mutex<Option<PathBuf>>,
}

impl Throwaway {
    /// A new directory `trunkline-NAME-…` under the system's temporary directory.
    pub fn new(name: &str, binaries: ServerBinaries) -> Result<Self, ThrowawayError> {
        let account = Account::choose()?;
        let prefix = format!("trunkline-{name}-");
        let make = |parent: &Path| {
            tempfile::Builder::new()
                .prefix(&prefix)
                .tempdir_in(parent)
                .map_err(|source| ThrowawayError::File {
                    action: "create a directory in",
                    path: parent.to_owned(),
                    source,
                })
        };
        let mut directory = make(&std::env::temp_dir())?;
        if directory.path().as_os_str().len() > MAX_PATH_BYTES {
            directory = make(Path::new("/tmp"))?;
        }
        if directory.path().as_os_str().len() > MAX_PATH_BYTES {
            return Err(ThrowawayError::LongPath(directory.path().to_owned()));
        }
        let path = directory.path().to_owned();
        let file_error = |action| {
            let path = path.clone();
            move |source| ThrowawayError::File { action, path, source }
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(file_error("protect"))?;
        account.own(&path)?;
        std::fs::create_dir(path.join("pids")).map_err(file_error("create `pids` in"))?;
        std::fs::write(path.join("stop.sh"), STOP_SCRIPT).map_err(file_error("write `stop.sh` in"))?;
        let guard = start_guard(&path)?;
        let path = directory.keep();
        let guard = Mutex::new(Some(guard));
        Ok(Self(Arc::new(Inner {
            path,
            binaries,
            account,
            guard,
            template: Mutex::new(None),
        })))
    }

    /// The directory; unix sockets lie in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The server programs in use.
    #[must_use]
    pub fn binaries(&self) -> &ServerBinaries {
        &self.0.binaries
    }

    /// Starts a new server called `name` (a directory of that name is made).
    pub fn server(&self, name: &str, options: &ServerOptions) -> Result<Server, ThrowawayError> {
        Server::create(self.clone(), self.binaries().clone(), name, options)
    }

    /// As [`Self::server`] with the programs of another PostgreSQL version.
    pub fn server_of(
        &self,
        binaries: ServerBinaries,
        name: &str,
        options: &ServerOptions,
    ) -> Result<Server, ThrowawayError> {
        Server::create(self.clone(), binaries, name, options)
    }

    /// Notes a process so that the guard ends it with SIGTERM. Its command line must name the directory.
    pub fn note_process(&self, name: &str, pid: u32) -> Result<(), ThrowawayError> {
        let path = self.path().join("pids").join(name);
        std::fs::write(&path, format!("{pid}\n")).map_err(|source| ThrowawayError::File {
            action: "write",
            path,
            source,
        })
    }

    /// Dismisses the guard: what runs goes on running, until somebody runs the script whose path is returned.
    #[must_use]
    pub fn keep(&self) -> PathBuf {
        if let Some((mut guard, mut pipe)) = lock(&self.0.guard).take() {
            // A guard that is gone already keeps its hands off as well.
            if pipe.write_all(b"keep\n").is_ok() {
                drop(pipe);
                wait_for_guard(&mut guard);
            }
        }
        self.path().join("stop.sh")
    }

    pub(super) fn account(&self) -> Account {
        self.0.account
    }

    /// A fresh data directory at `target`: a copy of the one that `initdb` made first.
    pub(super) fn data_directory(&self, binaries: &ServerBinaries, target: &Path) -> Result<(), ThrowawayError> {
        if binaries.directory() != self.binaries().directory() {
            return self.initdb(binaries, target);
        }
        let mut template = lock(&self.0.template);
        let source = if let Some(path) = &*template {
            path.clone()
        } else {
            let path = self.path().join("template");
            self.initdb(binaries, &path)?;
            template.insert(path).clone()
        };
        let mut copy = Command::new("cp");
        copy.arg("-Rp").arg(&source).arg(target);
        self.run_as_account(copy, "cp of the template data directory")
    }

    fn initdb(&self, binaries: &ServerBinaries, target: &Path) -> Result<(), ThrowawayError> {
        let mut initdb = Command::new(binaries.program("initdb"));
        initdb
            .arg("-D")
            .arg(target)
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]);
        self.run_as_account(initdb, "initdb")
    }

    fn run_as_account(&self, mut command: Command, what: &str) -> Result<(), ThrowawayError> {
        self.account().apply(&mut command);
        let output = command
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ThrowawayError::Spawn {
                program: command.get_program().to_owned().into(),
                source,
            })?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Err(ThrowawayError::Failed {
            program: what.to_owned(),
            status: output.status,
            output: last_lines(&said, 10),
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((mut guard, pipe)) = lock(&self.guard).take() {
            drop(pipe);
            wait_for_guard(&mut guard);
        }
    }
}

fn start_guard(path: &Path) -> Result<(Child, ChildStdin), ThrowawayError> {
    let spawned = Command::new("sh")
        .args(["-c", GUARD_SCRIPT])
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // Ctrl-C at the terminal must not reach it
        .spawn();
    let spawn_error = |source| ThrowawayError::Spawn {
        program: "sh".into(),
        source,
    };
    let mut guard = spawned.map_err(spawn_error)?;
    let pipe = guard
        .stdin
        .take()
        .ok_or_else(|| spawn_error(std::io::Error::other("no pipe to it")))?;
    Ok((guard, pipe))
}

/// Waits for the guard's end, within bounds: it works on without us if it needs longer.
fn wait_for_guard(guard: &mut Child) {
    let deadline = Instant::now() + CLEAN_UP_TIME;
    while Instant::now() < deadline && matches!(guard.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last `count` lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
