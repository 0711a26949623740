//! Where a connection string's gaps are filled from: variables, home directory, operating system user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// A copy of everything outside a connection string that decides about a connection.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
    user_name: Option<String>,
    user_id: u32,
    socket_directories: Vec<PathBuf>,
    system_directories: Vec<PathBuf>,
}

impl Environment {
    /// What the running process sees.
    #[must_use]
    pub fn of_process() -> Self {
        let variables: BTreeMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .filter(|(name, _)| name.starts_with("PG") || name == "HOME")
            .collect();
        let user_id = Uid::effective();
        let user = User::from_uid(user_id).ok().flatten();
        let home = match variables.get("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Some(PathBuf::from(home)),
            None => user.as_ref().map(|user| user.dir.clone()),
        };
        Self {
            home,
            user_name: user.map(|user| user.name),
            user_id: user_id.as_raw(),
            socket_directories: ["/var/run/postgresql", "/tmp"].map(PathBuf::from).to_vec(),
            // Where the packages of the systems look when PGSYSCONFDIR is not set.
            system_directories: [
                "/etc/postgresql-common",
                "/etc/sysconfig/pgsql",
                "/etc/pgsql",
                "/usr/local/etc/postgresql",
            ]
            .map(PathBuf::from)
            .to_vec(),
            variables,
        }
    }

    /// No variables, no home directory, no system-wide files; a user called `user_name`.
    #[must_use]
    pub fn bare(user_name: &str) -> Self {
        Self {
            variables: BTreeMap::new(),
            home: None,
            user_name: Some(user_name.to_owned()),
            user_id: Uid::effective().as_raw(),
            socket_directories: Vec::new(),
            system_directories: Vec::new(),
        }
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with another home directory.
    #[must_use]
    pub fn with_home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_owned());
        self
    }

    /// The same with another directory of server sockets.
    #[must_use]
    pub fn with_socket_directory(mut self, directory: &Path) -> Self {
        self.socket_directories.push(directory.to_owned());
        self
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A file below the home directory, for example `.postgresql/root.crt`.
    pub(crate) fn home_file(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(name))
    }

    pub(crate) fn user_name(&self) -> Option<&str> {
        self.user_name.as_deref()
    }

    pub(crate) fn user_id(&self) -> u32 {
        self.user_id
    }

    /// Directories where a local server may have its socket.
    pub(crate) fn socket_directories(&self) -> &[PathBuf] {
        &self.socket_directories
    }

    /// Directories of the system-wide service file.
    pub(crate) fn system_directories(&self) -> Vec<PathBuf> {
        match self.variable("PGSYSCONFDIR").filter(|directory| !directory.is_empty()) {
            Some(directory) => vec![PathBuf::from(directory)],
            None => self.system_directories.clone(),
        }
    }
}
