//! Files that keep what would be gone otherwise.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::RejoinError;
use crate::lost::{Form, Losses, Summary};

/// Writes the losses as SQL and as JSON lines; both are on disk when it returns. No files if nothing is lost.
pub(super) async fn save(
    losses: &Losses<'_>,
    directory: &Path,
    cluster: &str,
    node: i32,
) -> Result<(Summary, Vec<PathBuf>), RejoinError> {
    let summary = losses.write(Form::Json, &mut std::io::sink()).await?;
    if summary.transactions == 0 {
        return Ok((summary, Vec::new()));
    }
    let moment = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut saved = Vec::new();
    for (form, extension) in [(Form::Sql, "sql"), (Form::Json, "jsonl")] {
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
        let path = directory.join(format!("lost-{name}-node{node}-{moment}.{extension}"));
        let failed = |source| RejoinError::Save {
            path: path.clone(),
            source,
        };
        let file = create(&path).map_err(failed)?;
        let mut out = BufWriter::new(file);
        losses.write(form, &mut out).await?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        saved.push(path);
    }
    Ok((summary, saved))
}

/// A new file that only its owner can read: it holds users' data.
fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.flush()?;
    Ok(file)
}
