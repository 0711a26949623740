//! A throwaway PostgreSQL server for one test binary.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A running server that listens on a socket of its own only.
pub(crate) struct Server {
    directory: PathBuf,
    /// A shell that stops the server and removes its directory as soon as this process is gone, however it ended.
    _guard: Child,
}

impl Server {
    /// Connection string without a database.
    pub(crate) fn conninfo(&self) -> String {
        format!("host={} user=postgres", self.directory.display())
    }
}

/// The server all tests of this binary share; started by the first that asks.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Server {
    let binaries = find_binaries();
    let directory = tempfile::Builder::new()
        .prefix("trunkline-sql-")
        .tempdir()
        .unwrap()
        .keep();
    // the server may run as another user
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let data = directory.join("data");
    let run = |program: &str, arguments: &[&str]| {
        let output = as_server_user(&binaries.join(program))
            .args(arguments)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let data_text = data.to_str().unwrap();
    run(
        "initdb",
        &[
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
            data_text,
        ],
    );
    let options = format!(
        "-c listen_addresses='' -c unix_socket_directories={} -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
         -c max_connections=200 -c max_locks_per_transaction=512",
        directory.display()
    );
    let log = directory.join("log");
    run(
        "pg_ctl",
        &[
            "-D",
            data_text,
            "-l",
            log.to_str().unwrap(),
            "-o",
            &options,
            "-w",
            "start",
        ],
    );
    let stop = as_server_user(&binaries.join("pg_ctl"));
    let mut words: Vec<String> = vec![stop.get_program().to_str().unwrap().to_owned()];
    words.extend(stop.get_args().map(|word| word.to_str().unwrap().to_owned()));
    let guard = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!(
            "trap '' INT TERM; read line; {} -D {data_text} -m immediate stop; rm -rf {}",
            words.join(" "),
            directory.display()
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Server {
        directory,
        _guard: guard,
    }
}

/// PostgreSQL refuses to run as root, so root's tests run it as user `postgres`.
fn as_server_user(program: &Path) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// `TRUNKLINE_PGBIN`, `pg_config --bindir`, the newest of the usual places.
pub(crate) fn find_binaries() -> PathBuf {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Some(named) = std::env::var_os("TRUNKLINE_PGBIN") {
        candidates.push(named.into());
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let mut versions: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    candidates.extend(versions.into_iter().rev());
    candidates
        .into_iter()
        .find(|place| place.join("initdb").exists() && place.join("pg_ctl").exists())
        .expect("no PostgreSQL server programs; install them or name their directory in TRUNKLINE_PGBIN")
}
