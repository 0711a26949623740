//! Files that keep what would be gone otherwise.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::RejoinError;
use crate::lost::{Form, Losses, Summary};

/// How many files of one second there may be.
const NAMES: u32 = 100;

/// Writes the losses as SQL and as JSON lines; both are on disk when it returns. No files if nothing is lost.
pub(super) async fn save(
    losses: &Losses<'_>,
    directory: &Path,
    cluster: &str,
    node: i32,
) -> Result<(Summary, Vec<PathBuf>), RejoinError> {
    let summary = losses.write(&mut []).await?;
    if summary.transactions == 0 {
        return Ok((summary, Vec::new()));
    }
    let moment = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    // A cluster's name may hold anything.
    let name: String = cluster
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let stem = format!("lost-{name}-node{node}-{moment}");
    let (sql_path, sql) = create(directory, &stem, "sql")?;
    let (json_path, json) = create(directory, &stem, "jsonl")?;
    let (mut sql, mut json) = (BufWriter::new(sql), BufWriter::new(json));
    let summary = losses
        .write(&mut [(Form::Sql, &mut sql), (Form::Json, &mut json)])
        .await?;
    for (path, out) in [(&sql_path, sql), (&json_path, json)] {
        let failed = |source| RejoinError::Save {
            path: path.clone(),
            source,
        };
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
    }
    Ok((summary, vec![sql_path, json_path]))
}

/// A new file that only its owner can read: it holds users' data. Its name gets a number if there is one from the same second, left
/// by a run that was interrupted.
fn create(directory: &Path, stem: &str, extension: &str) -> Result<(PathBuf, File), RejoinError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut path = directory.join(format!("{stem}.{extension}"));
    for number in 2..=NAMES {
        match options.open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                path = directory.join(format!("{stem}-{number}.{extension}"));
            }
            Err(source) => return Err(RejoinError::Save { path, source }),
        }
    }
    let source = ErrorKind::AlreadyExists.into();
    Err(RejoinError::Save { path, source })
}

#[cfg(test)]
mod tests {
    use super::{RejoinError, create};

    #[test]
    fn a_second_run_within_the_same_second_overwrites_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        for name in ["lost.sql", "lost-2.sql", "lost-3.sql"] {
            assert_eq!(create(directory.path(), "lost", "sql")?.0, directory.path().join(name));
        }
        Ok(())
    }

    #[test]
    fn a_directory_that_is_missing_is_named() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let created = create(&directory.path().join("missing"), "lost", "sql");
        assert!(matches!(created, Err(RejoinError::Save { path, .. }) if path.ends_with("missing/lost.sql")));
        Ok(())
    }
}
