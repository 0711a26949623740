//! What only the returning node has, in files.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::RejoinError;
use crate::lost::{Form, Losses, Summary};
use crate::saved_file::{SaveError, create, stem};

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
    let stem = stem("lost", cluster, node);
    let (sql_path, sql) = create(directory, &stem, "sql")?;
    let (json_path, json) = create(directory, &stem, "jsonl")?;
    let (mut sql, mut json) = (BufWriter::new(sql), BufWriter::new(json));
    let summary = losses
        .write(&mut [(Form::Sql, &mut sql), (Form::Json, &mut json)])
        .await?;
    for (path, out) in [(&sql_path, sql), (&json_path, json)] {
        let failed = |source| SaveError {
            path: path.clone(),
            source,
        };
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
    }
    Ok((summary, vec![sql_path, json_path]))
}
