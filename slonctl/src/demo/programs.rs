//! Our own programs.

use std::path::PathBuf;

use super::DemoError;

/// `name` in the directory of the running slonctl.
pub(super) fn beside_us(name: &str) -> Result<PathBuf, DemoError> {
    let own = std::env::current_exe().map_err(|source| DemoError::Run {
        program: PathBuf::from("slonctl"),
        source,
    })?;
    let path = own.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(DemoError::ProgramMissing(path))
    }
}
