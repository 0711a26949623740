//! A primary with TLS, a standby without, and a server with an old certificate, shared by all tests.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::certificates::Certificates;

/// The running servers. Both know the same roles:
///
/// * `trusted`: anything goes; `tlsonly`, `plainonly`: trusted with or without TLS only;
/// * `certonly`: by client certificate; `scrammed`, `cleared`: by password `s3cret`, SCRAM and in clear text.
#[derive(Debug)]
pub(crate) struct Servers {
    directory: PathBuf,
    pub(crate) primary: u16,
    pub(crate) standby: u16,
    /// A server whose certificate, for `old.trunkline.test`, is of version 1; its key and files are in `old/`.
    pub(crate) old: u16,
    pub(crate) certificates: Certificates,
    /// `server_version_num / 10000`.
    pub(crate) version: u32,
    /// Stops the servers and removes the directory as soon as this process is gone, however it ended.
    _guard: Child,
}

impl Servers {
    /// The directory of both servers' sockets.
    pub(crate) fn sockets(&self) -> &Path {
        &self.directory
    }

    /// `hostaddr` and `port` of the primary, without a name.
    pub(crate) fn address(&self) -> String {
        format!(
            "hostaddr=127.0.0.1 port={} dbname=postgres connect_timeout=20",
            self.primary
        )
    }

    /// The primary under the name its certificate is for.
    pub(crate) fn named(&self) -> String {
        format!("host=db.trunkline.test {}", self.address())
    }

    /// A client's file.
    pub(crate) fn file(&self, name: &str) -> String {
        self.certificates.path(name)
    }
}

/// The servers, started by the first test that asks.
pub(crate) fn shared() -> &'static Servers {
    static SERVERS: OnceLock<Option<Servers>> = OnceLock::new();
    // A failed start is not tried again by every test.
    let servers = SERVERS.get_or_init(|| std::panic::catch_unwind(start).ok());
    servers
        .as_ref()
        .expect("the servers did not start; the first failure tells why")
}

fn start() -> Servers {
    let binaries = find_binaries();
    let version = version(&binaries);
    let directory = tempfile::Builder::new()
        .prefix("trunkline-tls-")
        .tempdir()
        .unwrap()
        .keep();
    // The server may run as another user.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let primary_data = directory.join("primary");
    let standby_data = directory.join("standby");
    let old_data = directory.join("old");
    let guard = guard(&directory, &binaries, &[&primary_data, &standby_data, &old_data]);
    let certificates = Certificates::make(&directory.join("certificates"));
    let [primary, standby, old] = free_ports();
    let run = |command: &mut Command| {
        let output = command.current_dir("/").output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{command:?}: {out}{err}{}", logs(&directory));
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let initdb = [
        "-A",
        "trust",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--locale=C",
        "-D",
        &text(&primary_data),
    ]
    .map(str::to_owned);
    run(as_server_user(&binaries.join("initdb")).args(initdb));

    // Everything the server needs is put in place by its own user, who alone may read the key.
    let place = |from: &Path, to: &Path| {
        let content = std::fs::read_to_string(from).unwrap();
        let staged = directory.join("staged");
        std::fs::write(&staged, content).unwrap();
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o644)).unwrap();
        run(as_server_user(Path::new("install"))
            .args(["-m", "600"])
            .arg(&staged)
            .arg(to));
        std::fs::remove_file(&staged).unwrap();
    };
    for name in ["root.crt", "server.crt", "server.key"] {
        place(&certificates.directory.join(name), &primary_data.join(name));
    }
    let staged = directory.join("written");
    let write = |text: &str, to: &Path| {
        std::fs::write(&staged, text).unwrap();
        place(&staged, to);
    };
    write(&client_authentication(), &primary_data.join("pg_hba.conf"));
    let sockets = text(&directory);
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{sockets}'\nfsync = off\npassword_encryption = 'scram-sha-256'\n\
         ssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'root.crt'\nlog_connections = on\n\
         max_connections = 100\n"
    );
    write(&settings, &primary_data.join("extra.conf"));
    write("include 'extra.conf'\n", &primary_data.join("postgresql.conf"));
    // Roles come before the copy, so that the standby has them.
    let roles = directory.join("roles.sql");
    let mut sql = String::new();
    for role in ["trusted", "tlsonly", "plainonly", "certonly"] {
        let _ = writeln!(sql, "create role {role} login;");
    }
    for role in ["scrammed", "cleared"] {
        let _ = writeln!(sql, "create role {role} login password 's3cret';");
    }
    std::fs::write(&roles, sql).unwrap();
    let single = format!(
        "exec '{}' --single -D '{}' postgres < '{}'",
        text(&binaries.join("postgres")),
        text(&primary_data),
        text(&roles)
    );
    run(as_server_user(Path::new("/bin/sh")).args(["-c", &single]));

    for copy in [&standby_data, &old_data] {
        run(as_server_user(Path::new("cp")).arg("-a").arg(&primary_data).arg(copy));
    }
    write(include_str!("old/server.crt"), &old_data.join("server.crt"));
    write(include_str!("old/server.key"), &old_data.join("server.key"));
    if version >= 12 {
        write("", &standby_data.join("standby.signal"));
    } else {
        write("standby_mode = 'on'\n", &standby_data.join("recovery.conf"));
    }
    for (data, port, tls) in [
        (&primary_data, primary, "on"),
        (&standby_data, standby, "off"),
        (&old_data, old, "on"),
    ] {
        let options = format!("-c port={port} -c ssl={tls} -c hot_standby=on");
        let log = text(&data.with_extension("log"));
        let arguments = ["-D", &text(data), "-l", &log, "-o", &options, "-w", "-t", "60", "start"].map(str::to_owned);
        run(as_server_user(&binaries.join("pg_ctl")).args(arguments));
    }
    Servers {
        directory,
        primary,
        standby,
        old,
        certificates,
        version,
        _guard: guard,
    }
}

fn client_authentication() -> String {
    let mut rules = "local all all trust\n".to_owned();
    for (kind, role, method) in [
        ("host", "trusted", "trust"),
        ("hostssl", "tlsonly", "trust"),
        ("hostnossl", "plainonly", "trust"),
        ("hostssl", "certonly", "cert"),
        ("host", "scrammed", "scram-sha-256"),
        ("host", "cleared", "password"),
    ] {
        let _ = writeln!(rules, "{kind} all {role} 127.0.0.1/32 {method}");
    }
    rules
}

/// A shell that waits for the end of this process and then cleans up.
fn guard(directory: &Path, binaries: &Path, data: &[&Path]) -> Child {
    let mut script = "trap '' INT TERM; read line".to_owned();
    for data in data {
        let stop = as_server_user(&binaries.join("pg_ctl"));
        let words: Vec<_> = std::iter::once(stop.get_program())
            .chain(stop.get_args())
            .map(|word| word.to_str().unwrap())
            .collect();
        let _ = write!(
            script,
            "; {} -D {} -m immediate -w stop",
            words.join(" "),
            data.display()
        );
    }
    let _ = write!(script, "; rm -rf {}", directory.display());
    Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn logs(directory: &Path) -> String {
    ["primary.log", "standby.log", "old.log"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(directory.join(name)).ok())
        .collect()
}

/// Different ports nobody listens on now.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners: [_; COUNT] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A port nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// PostgreSQL refuses to run as root, so root's tests run it as user `postgres`.
fn as_server_user(program: &Path) -> Command {
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn version(binaries: &Path) -> u32 {
    let output = Command::new(binaries.join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text
        .split_whitespace()
        .find_map(|word| word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no version in `{text}`"))
}

/// `TRUNKLINE_PGBIN`, `pg_config --bindir`, the newest of the usual places.
fn find_binaries() -> PathBuf {
    let mut candidates: Vec<PathBuf> = std::env::var_os("TRUNKLINE_PGBIN")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let mut installed: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    installed.sort();
    candidates.extend(installed.into_iter().rev());
    let found = candidates.into_iter().find(|place| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| place.join(name).exists())
    });
    found.expect(
        "no PostgreSQL server programs found: install a PostgreSQL server or name its bin directory in TRUNKLINE_PGBIN",
    )
}
