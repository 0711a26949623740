//! Commands that are run where the world outside the databases must follow a change of roles: a virtual address, a
//! connection pool, a power switch.
//!
//! A hook belongs to a node and an event. It runs on the machine of slonctl, as a process group of its own, with its role
//! in the environment; its output is shown with the node in front; its exit code decides; a time limit ends it and all it
//! started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use trunkline_sql::conninfo::parse;

use crate::console::Console;
use crate::duration;
use crate::view::ClusterView;

/// Where the configuration gives no limit.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Between the request to end and the order.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is waited for that something the hook left behind still holds open.
const DRAIN: Duration = Duration::from_millis(300);
/// Longest line that is shown in one piece.
const LINE: usize = 4096;
/// Most output of one hook that is shown; a program that babbles must not bury the rest.
const MOST_OUTPUT: usize = 64 * 1024;

/// When a hook runs, seen from its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HookEvent {
    /// Before the node becomes origin.
    PrePromote,
    /// After it has become origin.
    PostPromote,
    /// The promotion was given up: takes back what `pre_promote` did.
    UndoPromote,
    /// Before the node ceases to be origin; applications are led away from it.
    PreDemote,
    /// After it has become a subscriber.
    PostDemote,
    /// The demotion was given up: takes back what `pre_demote` did.
    UndoDemote,
    /// The node is given up in a failover: keeps applications, or the whole machine, from working on.
    Fence,
}

impl HookEvent {
    /// Its name in the configuration file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PrePromote => "pre_promote",
            Self::PostPromote => "post_promote",
            Self::UndoPromote => "undo_promote",
            Self::PreDemote => "pre_demote",
            Self::PostDemote => "post_demote",
            Self::UndoDemote => "undo_demote",
            Self::Fence => "fence",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::PrePromote | Self::PostPromote | Self::UndoPromote => "promoted",
            Self::PreDemote | Self::PostDemote | Self::UndoDemote => "demoted",
            Self::Fence => "failed",
        }
    }

    fn step(self) -> &'static str {
        match self {
            Self::PrePromote | Self::PreDemote => "pre",
            Self::PostPromote | Self::PostDemote => "post",
            Self::UndoPromote | Self::UndoDemote => "undo",
            Self::Fence => "fence",
        }
    }
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HookForm")]
pub(crate) struct Hook {
    program: String,
    arguments: Vec<String>,
    pub(crate) timeout: Duration,
}

/// How the configuration file writes it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a hook is a command (`\"…\"`), a program with arguments (`[\"…\", \"…\"]`), or \
                               `{ run = …, timeout = \"30s\" }`"
)]
enum HookForm {
    Plain(CommandForm),
    Detailed(HookTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookTable {
    run: CommandForm,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CommandForm {
    Shell(String),
    Program(Vec<String>),
}

impl TryFrom<HookForm> for Hook {
    type Error = String;

    fn try_from(form: HookForm) -> Result<Self, String> {
        let (command, timeout) = match form {
            HookForm::Plain(command) => (command, None),
            HookForm::Detailed(table) => (table.run, table.timeout),
        };
        let timeout = timeout.as_deref().map_or(Ok(DEFAULT_TIMEOUT), duration::parse)?;
        let (program, arguments) = match command {
            CommandForm::Shell(line) if line.trim().is_empty() => return Err("the command is empty".to_owned()),
            CommandForm::Shell(line) => ("/bin/sh".to_owned(), vec!["-c".to_owned(), line]),
            CommandForm::Program(words) => {
                let mut words = words.into_iter();
                let program = words.next().filter(|program| !program.is_empty());
                (program.ok_or("the command is empty")?, words.collect())
            }
        };
        Ok(Self {
            program,
            arguments,
            timeout,
        })
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // On one line, whatever it is.
        let shown = |text: &str| text.replace('\n', "\\n");
        match self.arguments.as_slice() {
            [flag, line] if self.program == "/bin/sh" && flag == "-c" => f.write_str(&shown(line)),
            arguments => {
                f.write_str(&self.program)?;
                arguments
                    .iter()
                    .try_for_each(|argument| write!(f, " {}", shown(argument)))
            }
        }
    }
}

/// The hooks of all nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) by_node: BTreeMap<i32, BTreeMap<HookEvent, Hook>>,
    /// Where they are run: the directory of the configuration file, so that it may name programs beside it.
    pub(crate) directory: Option<PathBuf>,
}

/// What a hook is told in its environment.
#[derive(Debug, Clone)]
pub(crate) struct Occasion {
    /// `switch` or `failover`.
    pub(crate) action: &'static str,
    pub(crate) cluster: String,
    pub(crate) sets: Vec<i32>,
    pub(crate) old_origin: i32,
    pub(crate) new_origin: i32,
    /// Conninfos of both, of which only host, port and database are told.
    pub(crate) conninfos: BTreeMap<i32, String>,
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It could not be started.
    #[error("hook {event} of node {node} cannot be started (`{command}`): {source}")]
    Start {
        event: &'static str,
        node: i32,
        command: String,
        source: std::io::Error,
    },
    /// It said no.
    #[error("hook {event} of node {node} failed ({status})")]
    Failed {
        event: &'static str,
        node: i32,
        status: ExitStatus,
    },
    /// It took too long.
    #[error("hook {event} of node {node} was ended, with all it had started: it took longer than {}", duration::show(*.limit))]
    Timeout {
        event: &'static str,
        node: i32,
        limit: Duration,
    },
}

impl Hooks {
    /// The hook of a node for an event.
    pub(crate) fn get(&self, node: i32, event: HookEvent) -> Option<&Hook> {
        self.by_node.get(&node)?.get(&event)
    }

    /// Runs the hook of `node` for `event`, if there is one; `limit` is a stricter time limit than its own.
    pub(crate) async fn run(
        &self,
        node: i32,
        event: HookEvent,
        occasion: &Occasion,
        limit: Option<Duration>,
        console: &Console,
    ) -> Result<(), HookError> {
        let Some(hook) = self.get(node, event) else {
            return Ok(());
        };
        let limit = limit.map_or(hook.timeout, |limit| limit.min(hook.timeout));
        console.event(Some(node), "hook", &format!("hook {}: {hook}", event.name()));
        let mut command = Command::new(&hook.program);
        command
            .args(&hook.arguments)
            .envs(occasion.environment(node, event))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let start_error = |source| HookError::Start {
            event: event.name(),
            node,
            command: hook.to_string(),
            source,
        };
        let mut child = command.spawn().map_err(start_error)?;
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let voice = console.clone();
        let mut shown = tokio::spawn(async move {
            tokio::join!(show(stdout, node, &voice), show(stderr, node, &voice));
        });
        let ended = tokio::time::timeout(limit, child.wait()).await;
        let outcome = if let Ok(status) = ended {
            status.map(Some)
        } else {
            group.signal(Signal::SIGTERM);
            let gave_way = tokio::time::timeout(GRACE, child.wait()).await.is_ok();
            // What it had started must go too, whether or not it went itself.
            group.signal(Signal::SIGKILL);
            if !gave_way {
                let _ = child.wait().await;
            }
            Ok(None)
        };
        group.release();
        if tokio::time::timeout(DRAIN, &mut shown).await.is_err() {
            shown.abort();
        }
        match outcome.map_err(start_error)? {
            None => Err(HookError::Timeout {
                event: event.name(),
                node,
                limit,
            }),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(HookError::Failed {
                event: event.name(),
                node,
                status,
            }),
        }
    }
}

/// The process group of a running hook; killed if slonctl turns to something else before it has ended.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Gone already is as good.
            let _ = killpg(group, signal);
        }
    }

    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

impl Occasion {
    /// A change of the sets' origin from `old` to `new`.
    pub(crate) fn of(view: &ClusterView, action: &'static str, sets: &[i32], old: i32, new: i32) -> Self {
        let conninfos = view
            .nodes
            .values()
            .filter_map(|node| Some((node.id, node.conninfo()?.to_owned())))
            .collect();
        Self {
            action,
            cluster: view.cluster.name().to_owned(),
            sets: sets.to_vec(),
            old_origin: old,
            new_origin: new,
            conninfos,
        }
    }

    fn environment(&self, node: i32, event: HookEvent) -> Vec<(String, String)> {
        let sets: Vec<String> = self.sets.iter().map(ToString::to_string).collect();
        let mut environment: Vec<(String, String)> = [
            ("CLUSTER", self.cluster.clone()),
            ("ACTION", self.action.to_owned()),
            ("SETS", sets.join(" ")),
            ("OLD_ORIGIN", self.old_origin.to_string()),
            ("NEW_ORIGIN", self.new_origin.to_string()),
            ("NODE", node.to_string()),
            ("ROLE", event.role().to_owned()),
            ("STEP", event.step().to_owned()),
        ]
        .map(|(name, value)| (format!("TRUNKLINE_{name}"), value))
        .into();
        for (prefix, id) in [("OLD", self.old_origin), ("NEW", self.new_origin), ("NODE", node)] {
            let Some(parameters) = self.conninfos.get(&id).and_then(|conninfo| parse(conninfo).ok()) else {
                continue;
            };
            for (name, keyword) in [("HOST", "host"), ("PORT", "port"), ("DBNAME", "dbname")] {
                if let Some(value) = parameters.get(keyword) {
                    environment.push((format!("TRUNKLINE_{prefix}_{name}"), value.to_owned()));
                }
            }
        }
        environment
    }
}

/// Shows what a hook says, line by line, up to a limit.
async fn show(stream: Option<impl AsyncRead + Unpin>, node: i32, console: &Console) {
    let Some(mut stream) = stream else { return };
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    let mut total = 0;
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        for byte in &buffer[..length] {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LINE {
                total += line.len();
                if total <= MOST_OUTPUT {
                    console.event(
                        Some(node),
                        "hook_output",
                        &format!("| {}", String::from_utf8_lossy(&line)),
                    );
                }
                line.clear();
            }
        }
    }
    if !line.is_empty() && total + line.len() <= MOST_OUTPUT {
        console.event(
            Some(node),
            "hook_output",
            &format!("| {}", String::from_utf8_lossy(&line)),
        );
    } else if total > MOST_OUTPUT {
        console.event(Some(node), "hook_output", "| (more output is not shown)");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;

    fn hook(text: &str) -> Result<Hook, String> {
        #[derive(Debug, Deserialize)]
        struct Wrapper {
            hook: Hook,
        }
        toml::from_str::<Wrapper>(&format!("hook = {text}"))
            .map(|wrapper| wrapper.hook)
            .map_err(|error| error.to_string())
    }

    fn occasion() -> Occasion {
        Occasion {
            action: "switch",
            cluster: "shop".into(),
            sets: vec![1, 2],
            old_origin: 1,
            new_origin: 2,
            conninfos: [(2, "host=beta port=5433 password=geheim".to_owned())].into(),
        }
    }

    async fn run(line: &str, limit: Duration) -> Result<(), HookError> {
        let hooks = Hooks {
            by_node: [(
                2,
                [(
                    HookEvent::PrePromote,
                    Hook {
                        program: "/bin/sh".into(),
                        arguments: vec!["-c".into(), line.into()],
                        timeout: limit,
                    },
                )]
                .into(),
            )]
            .into(),
            directory: None,
        };
        hooks
            .run(2, HookEvent::PrePromote, &occasion(), None, &Console::new(false))
            .await
    }

    #[test]
    fn hooks_are_written_in_three_ways() {
        let shell = hook("'ip addr del x'").unwrap();
        assert_eq!((shell.program.as_str(), shell.timeout), ("/bin/sh", DEFAULT_TIMEOUT));
        assert_eq!(shell.to_string(), "ip addr del x");
        assert_eq!(hook("['/vip', 'del']").unwrap().to_string(), "/vip del");
        assert_eq!(hook(r#""one\ntwo""#).unwrap().to_string(), r"one\ntwo");
        let detailed = hook("{ run = '/vip', timeout = '500ms' }").unwrap();
        assert_eq!(detailed.timeout, Duration::from_millis(500));
        for wrong in [
            "''",
            "[]",
            "{ timeout = '1s' }",
            "{ run = '/vip', timeout = 'soon' }",
            "5",
        ] {
            assert!(hook(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_environment_names_the_occasion_and_no_password() {
        let check = "test \"$TRUNKLINE_CLUSTER $TRUNKLINE_SETS $TRUNKLINE_OLD_ORIGIN $TRUNKLINE_NEW_ORIGIN\" = 'shop 1 2 1 2' \
                     && test \"$TRUNKLINE_ROLE $TRUNKLINE_STEP $TRUNKLINE_NODE $TRUNKLINE_ACTION\" = 'promoted pre 2 switch' \
                     && test \"$TRUNKLINE_NEW_HOST:$TRUNKLINE_NEW_PORT\" = beta:5433 && ! env | grep geheim";
        run(check, Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        assert!(matches!(
            run("exit 3", Duration::from_secs(10)).await,
            Err(HookError::Failed { .. })
        ));
    }

    #[tokio::test]
    async fn a_hook_that_takes_too_long_is_ended_with_all_it_started() {
        let start = Instant::now();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let line = format!("trap '' TERM; sleep 300 & echo $! > {}; wait; wait", file.display());
        let outcome = run(&line, Duration::from_millis(300)).await;
        assert!(matches!(outcome, Err(HookError::Timeout { .. })), "{outcome:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // A zombie still counts as there until its new parent has looked.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "process {pid} lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_hook_may_leave_something_running_without_holding_us_up() {
        let start = Instant::now();
        run("sleep 5 & exit 0", Duration::from_secs(60)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
}
