//! The pid file: says which process serves, goes away with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal;
use nix::unistd::Pid;

/// How long a predecessor that is just stopping may take to remove its file.
const PREDECESSOR_GRACE: Duration = Duration::from_secs(1);

/// Why there is no pid file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another slon uses it.
    #[error(
        "pid file `{path}` belongs to process {pid}, a slon that is running; stop it, or give this slon another file"
    )]
    Busy {
        /// The file.
        path: String,
        /// Whose it is.
        pid: i32,
    },
    /// The file system says no.
    #[error("pid file `{path}` cannot be written: {source}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// A pid file of this process; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    content: String,
}

impl PidFile {
    /// Writes the file, unless it names another slon that is alive.
    pub fn create(path: &str) -> Result<Self, PidFileError> {
        let file = Path::new(path);
        let started = Instant::now();
        while let Some(pid) = living_owner(file) {
            if started.elapsed() > PREDECESSOR_GRACE {
                return Err(PidFileError::Busy {
                    path: path.to_owned(),
                    pid,
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let content = format!("{}\n", std::process::id());
        fs::write(file, &content).map_err(|source| PidFileError::Write {
            path: path.to_owned(),
            source,
        })?;
        // Absolute, so that the file is found again whatever happens to the working directory.
        let path = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        Ok(Self { path, content })
    }
}

impl PidFile {
    /// Removes the file, but only while it is still ours: a successor may have written its own already.
    pub fn remove(&self) {
        if fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The process named in the file if it lives and is a slon; pids are reused, above all in containers.
fn living_owner(file: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    if pid <= 0 || u32::try_from(pid).ok() == Some(std::process::id()) {
        return None;
    }
    match signal::kill(Pid::from_raw(pid), None) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(_) => return None,
    }
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) if name.trim() != "slon" => None,
        _ => Some(pid),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("trunkline-pid-{name}-{}", std::process::id()))
    }

    #[test]
    fn holds_the_number_and_goes_away() {
        let path = place("ours");
        let file = PidFile::create(path.to_str().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_successors_file_stays() {
        let path = place("successor");
        let file = PidFile::create(path.to_str().unwrap()).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_stale_file_is_overwritten() {
        let path = place("stale");
        fs::write(&path, "1\n").unwrap();
        // Process 1 lives, but is no slon.
        drop(PidFile::create(path.to_str().unwrap()).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let error = PidFile::create("/nonexistent/slon.pid").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("pid file `/nonexistent/slon.pid` cannot be written: "),
            "{error}"
        );
    }
}
