//! Files that keep what would be gone otherwise: new ones, that only their owner can read.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// How many files of one second there may be.
const NAMES: u32 = 100;

/// A file could not be made or written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot save to `{}`; give `--save` a directory that is there and can be written to",
    path.display()
)]
pub(crate) struct SaveError {
    /// Where.
    pub(crate) path: PathBuf,
    /// Why not.
    pub(crate) source: std::io::Error,
}

/// `WHAT-CLUSTER-nodeN-TIME`.
pub(crate) fn stem(what: &str, cluster: &str, node: i32) -> String {
    let moment = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
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
    format!("{what}-{name}-node{node}-{moment}")
}

/// A new file that only its owner can read: it holds users' data. Its name gets a number if there is one from the same second, left
/// by a run that was interrupted.
pub(crate) fn create(directory: &Path, stem: &str, extension: &str) -> Result<(PathBuf, File), SaveError> {
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
            Err(source) => return Err(SaveError { path, source }),
        }
    }
    let source = ErrorKind::AlreadyExists.into();
    Err(SaveError { path, source })
}

/// Rows of a node that are about to be replaced, as lines of JSON. There is no file as long as there are no rows.
pub(crate) struct ReplacedRows {
    directory: PathBuf,
    stem: String,
    open: Option<(PathBuf, BufWriter<File>)>,
}

impl ReplacedRows {
    pub(crate) fn new(directory: &Path, cluster: &str, node: i32) -> Self {
        Self {
            directory: directory.to_owned(),
            stem: stem("replaced", cluster, node),
            open: None,
        }
    }

    /// Adds rows, which are JSON themselves, of the table with this quoted name.
    pub(crate) fn add(&mut self, table: &str, rows: &[String]) -> Result<(), SaveError> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.open.is_none() {
            let (path, file) = create(&self.directory, &self.stem, "jsonl")?;
            self.open = Some((path, BufWriter::new(file)));
        }
        let Some((path, out)) = &mut self.open else {
            return Ok(());
        };
        let table = serde_json::Value::from(table);
        for row in rows {
            writeln!(out, "{{\"table\":{table},\"row\":{row}}}").map_err(|source| SaveError {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Has everything on disk; the file, if there is one.
    pub(crate) fn sync(&mut self) -> Result<Option<&Path>, SaveError> {
        let Some((path, out)) = &mut self.open else {
            return Ok(None);
        };
        out.flush()
            .and_then(|()| out.get_ref().sync_all())
            .map_err(|source| SaveError {
                path: path.clone(),
                source,
            })?;
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplacedRows, SaveError, create};

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
        assert!(matches!(created, Err(SaveError { path, .. }) if path.ends_with("missing/lost.sql")));
        Ok(())
    }

    #[test]
    fn rows_are_lines_of_json_and_no_rows_no_file() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let mut rows = ReplacedRows::new(directory.path(), "my cluster", 3);
        rows.add("t", &[])?;
        assert_eq!(rows.sync()?, None);
        rows.add(r#""public"."t""#, &[r#"{"id":1}"#.to_owned(), r#"{"id":2}"#.to_owned()])?;
        let path = rows.sync()?.ok_or("no file")?.to_owned();
        let text = std::fs::read_to_string(path)?;
        let ids: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(ids.len(), 2);
        assert_eq!(
            (&ids[1]["table"], &ids[1]["row"]["id"]),
            (&r#""public"."t""#.into(), &2.into())
        );
        Ok(())
    }
}
