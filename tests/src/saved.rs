//! What `slonctl rejoin` has saved.

use std::collections::BTreeSet;
use std::path::Path;

/// Ids of the rows of a table that the files of lost transactions in a directory insert.
pub fn saved_inserts(directory: &Path, table: &str) -> BTreeSet<i64> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        for line in text.lines() {
            let change: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if change["change"] == "insert" && change["table"] == table {
                let id = change["new"]["id"].as_str().and_then(|id| id.parse().ok());
                ids.insert(id.unwrap_or_else(|| panic!("no id in {line}")));
            }
        }
    }
    ids
}
