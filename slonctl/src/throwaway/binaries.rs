//! Where the PostgreSQL server programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::install::{self, InstallError};

/// Environment variable naming the directory of `initdb` and `postgres`; nothing else is looked at when it is set.
pub const PGBIN_VARIABLE: &str = "TRUNKLINE_PGBIN";

/// Oldest and newest major version that we know to work.
const KNOWN_MAJORS: std::ops::RangeInclusive<u32> = 10..=18;

/// Why there are no server programs.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// The variable points to the wrong place.
    #[error("{PGBIN_VARIABLE}=`{}`: {problem}", directory.display())]
    Variable {
        /// Its value.
        directory: PathBuf,
        /// What is wrong there.
        problem: String,
    },
    /// Nothing found and nothing could be installed.
    #[error(
        "no PostgreSQL server with contrib found{looked_at}; {install} or set {PGBIN_VARIABLE} to the directory that holds `initdb` and `postgres`"
    )]
    NotFound {
        /// Places where something unusable was, or empty.
        looked_at: String,
        /// What to install, or why installing failed.
        install: InstallError,
    },
}

/// A directory with `initdb`, `postgres` and the contrib extension `hstore`.
#[derive(Debug, Clone)]
pub struct ServerBinaries {
    directory: PathBuf,
    version: String,
    major: u32,
}

impl ServerBinaries {
    /// Looks at `TRUNKLINE_PGBIN`, `pg_config`, the usual places (newest version first) and `PATH`; when there is nothing,
    /// installs PostgreSQL with the system's package manager if that needs no question, telling `report` so.
    pub fn find_or_install(report: &dyn Fn(&str)) -> Result<Self, BinariesError> {
        let looked_at = match Self::find()? {
            Ok(found) => return Ok(found),
            Err(looked_at) => looked_at,
        };
        install::postgresql(report).map_err(|install| BinariesError::NotFound {
            looked_at: looked_at.clone(),
            install,
        })?;
        Self::find()?.map_err(|looked_at| BinariesError::NotFound {
            looked_at,
            install: InstallError::StillMissing,
        })
    }

    /// What is installed now; the inner error tells which candidates were unusable and why.
    fn find() -> Result<Result<Self, String>, BinariesError> {
        if let Some(directory) = std::env::var_os(PGBIN_VARIABLE).map(PathBuf::from) {
            return match Self::at(&directory) {
                Ok(binaries) => Ok(Ok(binaries)),
                Err(problem) => Err(BinariesError::Variable { directory, problem }),
            };
        }
        let mut refused = String::new();
        let mut usable = Vec::new();
        for directory in candidates() {
            match Self::at(&directory) {
                Ok(binaries) => usable.push(binaries),
                Err(problem) => refused = format!("{refused} (`{}`: {problem})", directory.display()),
            }
        }
        // Known versions first, then newest; the sort is stable, so `pg_config` wins among equals.
        usable.sort_by_key(|found| std::cmp::Reverse((KNOWN_MAJORS.contains(&found.major), found.major)));
        Ok(usable.into_iter().next().ok_or(refused))
    }

    /// The programs in `directory`, or what is missing there.
    pub fn at(directory: &Path) -> Result<Self, String> {
        for program in ["initdb", "postgres"] {
            if !directory.join(program).is_file() {
                return Err(format!("no `{program}` there"));
            }
        }
        let text = output_of(&directory.join("postgres"), "--version")
            .ok_or_else(|| "`postgres --version` does not run".to_owned())?;
        let (version, major) =
            parse_version(&text).ok_or_else(|| format!("`postgres --version` says `{}`", text.trim()))?;
        if major < *KNOWN_MAJORS.start() {
            return Err(format!("version {version} is older than {}", KNOWN_MAJORS.start()));
        }
        if has_contrib(directory) == Some(false) {
            return Err("the contrib extension `hstore` is not installed".to_owned());
        }
        Ok(Self {
            directory: directory.to_owned(),
            version,
            major,
        })
    }

    /// Full path of one of the programs; it need not exist.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `program` if this installation has it.
    #[must_use]
    pub fn optional_program(&self, name: &str) -> Option<PathBuf> {
        Some(self.program(name)).filter(|path| path.is_file())
    }

    /// The directory of the programs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The version as printed, for example `15.20`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version, for example 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }
}

/// Places to look at, without duplicates.
fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |directory: PathBuf| {
        let directory = directory.canonicalize().unwrap_or(directory);
        if directory.join("postgres").is_file() && !found.contains(&directory) {
            found.push(directory);
        }
    };
    if let Some(directory) = output_of(Path::new("pg_config"), "--bindir") {
        add(PathBuf::from(directory.trim()));
    }
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/usr/libexec", "postgresql", ""),
    ] {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                add(entry.path().join(suffix));
            }
        }
    }
    if let Some(path) = std::env::var_os("PATH") {
        // On PATH there are often only links (`/usr/bin/initdb`); the link's target has the rest of the installation.
        for directory in std::env::split_paths(&path) {
            if let Ok(target) = directory.join("postgres").canonicalize()
                && let Some(parent) = target.parent()
            {
                add(parent.to_owned());
            }
        }
    }
    found
}

/// Is `hstore` there? `None` when the layout is unknown: then the server itself will tell.
fn has_contrib(directory: &Path) -> Option<bool> {
    let mut shares = vec![directory.join("../share/postgresql"), directory.join("../share")];
    let own_config = directory.join("pg_config");
    let version_directory = directory.parent().and_then(Path::file_name);
    if let Some(version) = version_directory {
        shares.push(Path::new("/usr/share/postgresql").join(version));
    }
    if own_config.is_file()
        && let Some(share) = output_of(&own_config, "--sharedir")
    {
        shares.push(PathBuf::from(share.trim()));
    }
    let extensions: Vec<_> = shares
        .into_iter()
        .map(|share| share.join("extension"))
        .filter(|e| e.is_dir())
        .collect();
    if extensions.is_empty() {
        return None;
    }
    Some(
        extensions
            .iter()
            .any(|extension| extension.join("hstore.control").is_file()),
    )
}

fn output_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `postgres (PostgreSQL) 15.20 (Debian …)` -> (`15.20`, 15).
fn parse_version(text: &str) -> Option<(String, u32)> {
    let (_, rest) = text.split_once(") ")?;
    let version = rest.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_shapes_are_read() {
        let read = |text: &str| parse_version(text).map(|(version, major)| format!("{version} {major}"));
        assert_eq!(
            read("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n").as_deref(),
            Some("15.20 15")
        );
        assert_eq!(read("postgres (PostgreSQL) 19beta1").as_deref(), Some("19beta1 19"));
        assert_eq!(read("something else"), None);
    }

    #[test]
    fn a_directory_without_a_server_is_refused_with_what_is_missing() {
        let empty = std::env::temp_dir();
        assert_eq!(
            ServerBinaries::at(&empty).map(|_| ()),
            Err("no `initdb` there".to_owned())
        );
    }
}
