//! One throwaway server.

use std::fmt::Write as _;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::directory::last_lines;
use super::processes::{signal, signal_tree};
use super::{ServerBinaries, Throwaway, ThrowawayError};

/// Ports are taken below the ranges from which systems serve outgoing connections, so that a server that is started
/// again finds its port free.
const PORTS: std::ops::Range<u16> = 21_000..32_000;
const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(60);
/// Starts tried when a port was taken or the remains of a killed server are still going away.
const START_ATTEMPTS: u32 = 20;
const START_PAUSE: Duration = Duration::from_millis(250);

/// What a server is to be like.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Also listen on 127.0.0.1.
    pub tcp: bool,
    /// Wait for the disk at commit. Off, a server survives `kill -9` but no power cut, which is enough here.
    pub fsync: bool,
    /// More lines for `postgresql.conf`; later ones win.
    pub settings: Vec<(String, String)>,
}

/// A running (or stopped) PostgreSQL server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    name: String,
    throwaway: Throwaway,
    binaries: ServerBinaries,
    directory: PathBuf,
    port: u16,
    tcp: bool,
    postmaster: Option<Child>,
}

impl Server {
    pub(super) fn create(
        throwaway: Throwaway,
        binaries: ServerBinaries,
        name: &str,
        options: &ServerOptions,
    ) -> Result<Self, ThrowawayError> {
        let directory = throwaway.path().join(name);
        std::fs::create_dir(&directory).map_err(|source| ThrowawayError::File {
            action: "create",
            path: directory.clone(),
            source,
        })?;
        throwaway.account().own(&directory)?;
        let mut server = Self {
            name: name.to_owned(),
            throwaway,
            binaries,
            directory,
            port: 0,
            tcp: options.tcp,
            postmaster: None,
        };
        server
            .throwaway
            .data_directory(&server.binaries, &server.data_directory())?;
        server.configure(options)?;
        server.port = free_port()?;
        server.start()?;
        Ok(server)
    }

    fn configure(&self, options: &ServerOptions) -> Result<(), ThrowawayError> {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut settings: Vec<(String, String)> = [
            (
                "listen_addresses",
                if options.tcp { "127.0.0.1" } else { "" }.to_owned(),
            ),
            ("unix_socket_directories", self.socket_directory().display().to_string()),
            ("fsync", on_off(options.fsync)),
            ("full_page_writes", on_off(options.fsync)),
            ("shared_buffers", "64MB".to_owned()),
            ("max_connections", "200".to_owned()),
            ("max_locks_per_transaction", "512".to_owned()),
            ("max_wal_size", "1GB".to_owned()),
            ("checkpoint_timeout", "15min".to_owned()),
            ("wal_level", "minimal".to_owned()),
            ("max_wal_senders", "0".to_owned()),
            // Not /dev/shm: it is 64 MB in many containers, and a killed server leaves its segments there.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            ("log_line_prefix", "%m [%p] %q%d %a ".to_owned()),
            ("timezone", "UTC".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        settings.extend(options.settings.iter().cloned());
        let mut text = String::from("\n# throwaway server\n");
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        let path = self.data_directory().join("postgresql.conf");
        let append = || -> std::io::Result<()> {
            use std::io::Write;
            File::options().append(true).open(&path)?.write_all(text.as_bytes())
        };
        append().map_err(|source| ThrowawayError::File {
            action: "append to",
            path: path.clone(),
            source,
        })
    }

    /// Starts a stopped server again, on the port it had.
    pub fn start(&mut self) -> Result<(), ThrowawayError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.start_once() {
                Ok(()) => return Ok(()),
                // A killed server's last processes may still hold port or memory; they end by themselves.
                Err(ThrowawayError::NotReady { log, .. })
                    if attempt < START_ATTEMPTS && (log.contains("already in use") || log.contains("still in use")) =>
                {
                    std::thread::sleep(START_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn start_once(&mut self) -> Result<(), ThrowawayError> {
        let log_path = self.log_path();
        let log_start = std::fs::metadata(&log_path).map_or(0, |meta| meta.len());
        let open_log = || File::options().create(true).append(true).open(&log_path);
        let file_error = |source| ThrowawayError::File {
            action: "open",
            path: log_path.clone(),
            source,
        };
        let (log, log_too) = (open_log().map_err(file_error)?, open_log().map_err(file_error)?);
        let program = self.binaries.program("postgres");
        let mut command = Command::new(&program);
        command
            .arg("-D")
            .arg(self.data_directory())
            .args(["-p", &self.port.to_string()]);
        self.throwaway.account().apply(&mut command);
        let mut child = command
            .current_dir(self.throwaway.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0)
            .spawn()
            .map_err(|source| ThrowawayError::Spawn { program, source })?;
        let deadline = Instant::now() + START_TIME;
        let not_ready = |reason: String| {
            let log = std::fs::read(&log_path).unwrap_or_default();
            let since_start = usize::try_from(log_start).unwrap_or(0).min(log.len());
            let log = last_lines(&String::from_utf8_lossy(&log[since_start..]), 15);
            ThrowawayError::NotReady {
                name: self.name.clone(),
                reason,
                log,
            }
        };
        loop {
            if self.is_ready(child.id()) {
                self.postmaster = Some(child);
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(not_ready(format!("`postgres` ended ({status})")));
            }
            if Instant::now() > deadline {
                signal(child.id(), Signal::SIGQUIT);
                let _ = child.wait();
                return Err(not_ready(format!("not ready within {} s", START_TIME.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `postmaster.pid` is written by this postmaster and its eighth line says that connections are accepted.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(text) = std::fs::read_to_string(self.data_directory().join("postmaster.pid")) else {
            return false;
        };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    /// Stops the server, disconnecting clients (fast shutdown); harsher after a minute.
    pub fn stop(&mut self) {
        for wanted in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
            let Some(child) = &mut self.postmaster else { return };
            signal(child.id(), wanted);
            let deadline = Instant::now() + STOP_TIME;
            while Instant::now() < deadline {
                if !matches!(child.try_wait(), Ok(None)) {
                    self.postmaster = None;
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Stops and starts.
    pub fn restart(&mut self) -> Result<(), ThrowawayError> {
        self.stop();
        self.start()
    }

    /// `kill -9` of the postmaster and of every backend, as a crash of the machine would end them.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.postmaster.take() {
            // Frozen first, so that no child is born between the look and the signal.
            signal(child.id(), Signal::SIGSTOP);
            signal_tree(child.id(), Signal::SIGKILL);
            let _ = child.wait();
        }
    }

    /// SIGQUIT to the postmaster: it ends its backends at once and does not tidy up (immediate shutdown).
    pub fn quit(&mut self) {
        if let Some(mut child) = self.postmaster.take() {
            signal(child.id(), Signal::SIGQUIT);
            let _ = child.wait();
        }
    }

    /// Stops all processes of the server with SIGSTOP: connections stay open and nobody answers.
    pub fn freeze(&self) {
        if let Some(child) = &self.postmaster {
            signal_tree(child.id(), Signal::SIGSTOP);
        }
    }

    /// The opposite of [`Self::freeze`].
    pub fn thaw(&self) {
        if let Some(child) = &self.postmaster {
            signal_tree(child.id(), Signal::SIGCONT);
        }
    }

    /// Lets the server run on when this value is dropped; the directory's stop script ends it.
    pub fn leave_running(mut self) {
        self.postmaster = None;
    }

    /// Process id of the postmaster while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Child::id)
    }

    /// How to connect as superuser: over TCP if the server has it, else over the unix socket.
    #[must_use]
    pub fn conninfo(&self, database: &str) -> String {
        if self.tcp {
            format!("host=127.0.0.1 port={} dbname={database} user=postgres", self.port)
        } else {
            self.socket_conninfo(database)
        }
    }

    /// How to connect over the unix socket.
    #[must_use]
    pub fn socket_conninfo(&self, database: &str) -> String {
        format!(
            "host={} port={} dbname={database} user=postgres",
            self.socket_directory().display(),
            self.port
        )
    }

    /// The port, of TCP and in the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the unix socket lies.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        self.throwaway.path()
    }

    /// The data directory.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The server's log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The server programs it runs with.
    #[must_use]
    pub fn binaries(&self) -> &ServerBinaries {
        &self.binaries
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.postmaster.take() {
            signal_tree(child.id(), Signal::SIGCONT);
            signal(child.id(), Signal::SIGQUIT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    signal_tree(child.id(), Signal::SIGKILL);
                    let _ = child.wait();
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// A port nobody listens on now, from a place in the range that differs from process to process and call to call.
fn free_port() -> Result<u16, ThrowawayError> {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let length = PORTS.end - PORTS.start;
    let random = RandomState::new().build_hasher().finish() % u64::from(length);
    let first = u16::try_from(random).unwrap_or(0);
    (0..length)
        .map(|step| PORTS.start + (first + step) % length)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or(ThrowawayError::NoPort {
            from: PORTS.start,
            to: PORTS.end,
        })
}
