//! Installing PostgreSQL with the system's package manager, where that needs no question.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Uid;

/// Set it to `never` to keep the programs from installing anything.
pub const INSTALL_VARIABLE: &str = "TRUNKLINE_INSTALL";

/// Why nothing was installed. Reads as advice: the caller puts it into its message.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Installing is possible but not allowed to us.
    #[error("install it with `{command}`")]
    NotAllowed {
        /// The command to type.
        command: String,
    },
    /// No package manager we know.
    #[error("install the PostgreSQL server and its contrib extensions")]
    UnknownSystem,
    /// The package manager failed.
    #[error("`{command}` failed ({status}), see its messages above: mend that")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The package manager could not be run.
    #[error("`{command}` could not be run ({source}): mend that")]
    Spawn {
        /// What was tried.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Installed, yet not where we look.
    #[error("the packages were installed, but the server is in none of the usual places: find it")]
    StillMissing,
}

/// A package manager and what it has to be told.
struct Manager {
    program: &'static str,
    steps: &'static [&'static [&'static str]],
    needs_root: bool,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        steps: &[
            &["update", "-qq"],
            &[
                "install",
                "-y",
                "-qq",
                "--no-install-recommends",
                "postgresql",
                "postgresql-contrib",
            ],
        ],
        needs_root: true,
    },
    Manager {
        program: "dnf",
        steps: &[&["install", "-y", "-q", "postgresql-server", "postgresql-contrib"]],
        needs_root: true,
    },
    Manager {
        program: "apk",
        steps: &[&["add", "--quiet", "postgresql", "postgresql-contrib"]],
        needs_root: true,
    },
    Manager {
        program: "brew",
        steps: &[&["install", "postgresql@17"]],
        needs_root: false,
    },
];

/// Installs the server and contrib, or says what to type.
pub(super) fn postgresql(report: &dyn Fn(&str)) -> Result<(), InstallError> {
    let manager = MANAGERS
        .iter()
        .find(|manager| on_path(manager.program))
        .ok_or(InstallError::UnknownSystem)?;
    let prefix: &[&str] = match (manager.needs_root, Uid::effective().is_root()) {
        (true, false) => &["sudo", "-n"],
        _ => &[],
    };
    let line = |step: &[&str]| [prefix, &[manager.program], step].concat().join(" ");
    let forbidden = std::env::var(INSTALL_VARIABLE).is_ok_and(|value| value == "never");
    if forbidden || (!prefix.is_empty() && !sudo_without_password()) {
        let typed = manager.steps.iter().map(|step| line(step).replace("sudo -n", "sudo"));
        return Err(InstallError::NotAllowed {
            command: typed.collect::<Vec<_>>().join(" && "),
        });
    }
    for step in manager.steps {
        let command = line(step);
        report(&format!("no PostgreSQL server here, running `{command}`"));
        let mut words = command.split(' ');
        let status = Command::new(words.next().unwrap_or_default())
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .status()
            .map_err(|source| InstallError::Spawn {
                command: command.clone(),
                source,
            })?;
        if !status.success() {
            return Err(InstallError::Failed { command, status });
        }
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory: std::path::PathBuf| Path::new(&directory).join(program).is_file())
}

fn sudo_without_password() -> bool {
    Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
