//! The hooks that are shipped: a virtual address, PgBouncer, ssh.

use std::fmt::Write as _;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use trunkline_tests::{Cluster, Connection, PATIENCE, run_slonctl, wait_until};

/// A hook from the directory `hooks`.
fn hook(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hooks").join(name);
    let path = path
        .canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path.display().to_string()
}

/// A test left out must not look like one that passed, so this is no `println`.
fn left_out(test: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("{test}: LEFT OUT, {reason}\n").as_bytes());
}

/// On servers of its own, because `lock set` waits for every older transaction of a server.
async fn pair(test: &str) -> Cluster {
    let cluster = Cluster::on_own_servers(test, 2).await;
    cluster
        .run_on_all("create table item (id int primary key, v int); create table aside (id int)")
        .await;
    cluster.run(1, "insert into item values (1, 0)").await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."item""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.caught_up().await;
    cluster
}

/// The virtual address; from a range for documentation.
const ADDRESS: &str = "198.51.100.90";

/// A network namespace, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Result<Self, String> {
        let made = Self(format!("tl{}{name}", std::process::id()));
        run("ip", &["netns", "add", &made.0])?;
        run("ip", &["-n", &made.0, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    fn has(&self, address: &str) -> bool {
        run("ip", &["-n", &self.0, "-o", "addr", "show", "dev", "lo", "to", address])
            .is_ok_and(|shown| shown.contains(address))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("`{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "`{program} {}`: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_address_goes_along_with_the_set_and_comes_back_when_it_is_put_back() {
    let (first, second) = match (Namespace::new("a"), Namespace::new("b")) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(reason), _) | (_, Err(reason)) => {
            left_out("a_virtual_address_goes_along_with_the_set", &reason);
            return;
        }
    };
    let cluster = pair("hook_address").await;
    let script = hook("virtual-address");
    let act = |action: &str, namespace: &Namespace| {
        format!("{script} {action} {ADDRESS}/32 lo -- ip netns exec {}", namespace.0)
    };
    run("sh", &["-c", &act("add", &first)]).unwrap();
    let [del_first, add_first] = ["del", "add"].map(|action| act(action, &first));
    let [del_second, add_second] = ["del", "add"].map(|action| act(action, &second));
    let file = cluster.slonctl_file(&[
        (1, "pre_demote", &del_first),
        (1, "undo_demote", &add_first),
        (1, "post_promote", &add_first),
        (2, "pre_demote", &del_second),
        (2, "undo_demote", &add_second),
        (2, "post_promote", &add_second),
    ]);
    let config = file.to_str().expect("UTF-8");

    let writer = cluster.connect(1).await;
    writer.run("begin; insert into aside values (1)").await;
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "2s"])
        .await
        .exits(5)
        .says(&format!("{ADDRESS} removed from lo"))
        .says(&format!("{ADDRESS} added to lo"));
    writer.run("rollback").await;
    assert!(first.has(ADDRESS) && !second.has(ADDRESS));

    for (to, here, there) in [("2", &second, &first), ("1", &first, &second)] {
        run_slonctl(&["--config", config, "switch", "--to", to, "-f", "--max-outage", "20s"])
            .await
            .exits(0);
        assert!(here.has(ADDRESS) && !there.has(ADDRESS));
    }
    // To take away what is not there is no error.
    run("sh", &["-c", &del_second]).unwrap();
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

/// A running PgBouncer; killed when dropped.
struct Bouncer {
    child: std::process::Child,
    port: u16,
    /// The file with the line of the database.
    databases: PathBuf,
}

impl Bouncer {
    fn start(directory: &Path, target: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port();
        let at = |name: &str| directory.join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(at(name), text).expect("the file can be written");
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(0o644)).expect("its mode can be set");
        };
        write("app.ini", &format!("[databases]\napp = {target}\n"));
        write("users", "\"postgres\" \"\"\n");
        let mut text = String::from("[pgbouncer]\n");
        let _ = writeln!(
            text,
            "listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             admin_users = postgres\npool_mode = transaction\nserver_check_delay = 0\n%include {}",
            at("users").display(),
            at("app.ini").display()
        );
        write("pgbouncer.ini", &text);
        // Its user, whoever that is, reads the directory.
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("its mode can be set");
        let log = std::fs::File::create(at("log")).expect("the log can be made");
        let mut command = Command::new("pgbouncer");
        if nix::unistd::Uid::effective().is_root() {
            command.args(["-u", "postgres"]);
        }
        let child = command
            .arg(at("pgbouncer.ini"))
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .spawn()
            .expect("pgbouncer can be started");
        Self {
            child,
            port,
            databases: at("app.ini"),
        }
    }

    fn conninfo(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database} user=postgres", self.port)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_pgbouncer_see_a_pause_and_no_error() {
    const TEST: &str = "clients_of_pgbouncer_see_a_pause_and_no_error";
    for program in ["pgbouncer", "psql"] {
        if let Err(reason) = run(program, &["--version"]) {
            left_out(
                TEST,
                &format!("{reason}; install the packages pgbouncer and postgresql-client"),
            );
            return;
        }
    }
    let cluster = pair("hook_bouncer").await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bouncer = Bouncer::start(directory.path(), &cluster.node(1).conninfo);
    wait_until("PgBouncer answers", PATIENCE, async || {
        let connection = Connection::try_open(&bouncer.conninfo("app")).await;
        connection.map(|_| ()).map_err(|error| {
            let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            format!("{error:?}\n{log}")
        })
    })
    .await;
    let script = hook("pgbouncer");
    let act = |action: &str, rest: &str| format!("{script} {action} '{}' app {rest}", bouncer.conninfo("pgbouncer"));
    let pause = act("pause", "");
    let resume = act("resume", "");
    let move_there = act("move", &format!("{} user=postgres", bouncer.databases.display()));
    let hooks: Vec<(i32, &str, &str)> = [1, 2]
        .into_iter()
        .flat_map(|node| {
            [
                (node, "pre_demote", pause.as_str()),
                (node, "undo_demote", resume.as_str()),
                (node, "post_promote", move_there.as_str()),
            ]
        })
        .collect();
    let file = cluster.slonctl_file(&hooks);
    let config = file.to_str().expect("UTF-8");

    // A client that writes all the time; every error ends it.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let conninfo = bouncer.conninfo("app");
    let client = tokio::spawn(async move {
        let connection = Connection::open(&conninfo).await;
        let (mut writes, mut longest) = (0, Duration::ZERO);
        while !*stopped.borrow() {
            let start = Instant::now();
            connection
                .try_run("update item set v = v + 1 where id = 1")
                .await
                .map_err(|error| format!("after {writes} writes: {error}"))?;
            writes += 1;
            longest = longest.max(start.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<_, String>((writes, longest))
    });

    // Put back: the clients go on where they were.
    let holder = cluster.connect(1).await;
    holder.run("begin; insert into aside values (1)").await;
    run_slonctl(&["--config", config, "switch", "--to", "2", "-f", "--max-outage", "1s"])
        .await
        .exits(5)
        .says("clients of app wait")
        .says("clients of app go on");
    holder.run("rollback").await;
    for to in ["2", "1", "2"] {
        run_slonctl(&["--config", config, "switch", "--to", to, "-f"])
            .await
            .exits(0)
            .says(&format!("clients of app go on at node {to}"));
    }
    stop.send(true).expect("the client is there");
    let (writes, longest) = client
        .await
        .expect("the client ends")
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{writes} writes through PgBouncer over three switches, the longest pause {longest:?}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    let value: i32 = cluster.connect(2).await.value("select v from item").await;
    assert_eq!(value, writes, "acknowledged writes are there, once");
    cluster.caught_up().await;
    cluster.assert_all_equal().await;
}

#[test]
fn over_ssh_takes_words_and_environment_along_unchanged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // What ssh does with its arguments: options, target, and the rest joined for the remote shell.
    let ssh = directory.path().join("ssh");
    std::fs::write(
        &ssh,
        "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do if [ \"$1\" = -o ]; then shift; fi; shift; done\n\
         echo \"target $1\"; shift\nexec env -u TRUNKLINE_SETS sh -c \"$*\"\n",
    )
    .expect("the file can be written");
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).expect("its mode can be set");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(hook("over-ssh"))
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("TRUNKLINE_SETS", "1 2 it's")
        .args([
            "root@alpha",
            "sh",
            "-c",
            "printf '%s|' \"$TRUNKLINE_SETS\" \"$@\"; exit 7",
            "sh",
            "a b",
            "it's $HOME",
            "",
        ])
        .output()
        .expect("the script can be run");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "target root@alpha\n1 2 it's|a b|it's $HOME||"
    );
    assert_eq!(output.status.code(), Some(7));
}
