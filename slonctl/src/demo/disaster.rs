//! The demo's last act: the origin is killed under load, another node takes over, the killed one comes back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::DemoCluster;
use super::{DemoError, Progress};
use crate::exit::Exit;

/// How long the load runs on the new origin before the old one comes back.
const ALONE: Duration = Duration::from_secs(3);

/// What happened.
pub(super) struct Disaster {
    /// When the origin was killed.
    pub(super) killed: Instant,
    /// When the way back began.
    pub(super) switching: Instant,
    /// Writes that only the killed origin had: client and number.
    pub(super) lost: BTreeSet<(i32, i64)>,
}

/// Kills node 2, the origin, and leads the cluster back to where it was.
pub(super) async fn strike(demo: &mut DemoCluster, progress: &Progress) -> Result<Disaster, DemoError> {
    let killed = Instant::now();
    demo.kill(2);
    progress.say("kill -9 of node 2, the origin: its server and its slon");
    must_end_well(demo, &[1, 3], &["failover", "--failed", "2", "--to", "1", "--yes"]).await?;
    tokio::time::sleep(ALONE).await;
    demo.revive(2)?;
    progress.say("the server of node 2 is back; what did it have that nobody else has?");
    let code = demo.slonctl(&[1, 2, 3], &["lost", "--node", "2"]).await?;
    // Nothing is lost if every write was in a SYNC that had arrived.
    if code != i32::from(Exit::Done.code()) && code != i32::from(Exit::Unproved.code()) {
        return Err(DemoError::Slonctl {
            command: "lost --node 2".to_owned(),
            code,
        });
    }
    let directory = demo.directory().to_owned();
    let save = directory.display().to_string();
    let rejoin = ["rejoin", "--node", "2", "--save", &save];
    tokio::select! {
        outcome = must_end_well(demo, &[1, 2, 3], &rejoin) => outcome?,
        outcome = demo.keep_slon_running(2) => outcome?,
    }
    let lost = read_lost(&directory).map_err(|source| DemoError::Lost {
        path: directory.clone(),
        source,
    })?;
    must_end_well(demo, &[1], &["verify", "--node", "2"]).await?;
    let switching = Instant::now();
    must_end_well(demo, &[1], &["switch", "--to", "2", "--yes"]).await?;
    Ok(Disaster {
        killed,
        switching,
        lost,
    })
}

async fn must_end_well(demo: &DemoCluster, nodes: &[usize], arguments: &[&str]) -> Result<(), DemoError> {
    match demo.slonctl(nodes, arguments).await? {
        0 => Ok(()),
        code => Err(DemoError::Slonctl {
            command: arguments.join(" "),
            code,
        }),
    }
}

/// The clients' writes in the files that `rejoin` saved.
fn read_lost(directory: &Path) -> std::io::Result<BTreeSet<(i32, i64)>> {
    let mut lost = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(&path)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            if line["change"] != "insert" || line["table"] != "public.client_write" {
                continue;
            }
            let number = |column: &str| line["new"][column].as_str().and_then(|text| text.parse::<i64>().ok());
            if let (Some(client), Some(number)) = (number("client"), number("number")) {
                lost.insert((i32::try_from(client).unwrap_or(-1), number));
            }
        }
    }
    Ok(lost)
}
