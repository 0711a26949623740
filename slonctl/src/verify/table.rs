//! Comparing and repairing the tables of one subscriber.

use std::time::{Duration, Instant};

use trunkline_sql::copy::{self, SetTable};
use trunkline_sql::equality::{Comparison, KeyDifference, Slice, TEXT_SETTINGS, rows_per_slice};

use super::point::{Pair, Point, Purpose};
use super::report::{KeyReport, SequenceReport, SubscriptionReport, TableReport};
use super::{Manner, VerifyArguments, VerifyError};
use crate::console::{Console, milliseconds};
use crate::saved_file::ReplacedRows;

/// How long a pair of snapshots is used: an old one keeps the servers from cleaning up.
const POINT_AGE: Duration = Duration::from_secs(30);
/// Rows that are read to be saved, at once.
const SAVED_AT_ONCE: usize = 500;
/// How often a table is compared again because it differed in more keys than are held at once.
const REPAIR_ROUNDS: usize = 50;

/// Compares everything between the two nodes of the pair.
pub(super) async fn compare_all(
    pair: &Pair,
    arguments: &VerifyArguments,
    console: &Console,
) -> Result<SubscriptionReport, VerifyError> {
    let point = pair.point(Purpose::Compare).await?;
    let mut report = SubscriptionReport {
        origin: pair.origin,
        receiver: pair.receiver,
        sets: pair.sets.clone(),
        tables: Vec::new(),
        sequences: Vec::new(),
    };
    if arguments.table.is_empty() {
        report.sequences = differing_sequences(&point);
    }
    let mut tables = tables(pair).await?;
    tables.retain(|(_, table)| {
        let plain = format!("{}.{}", table.schema, table.name);
        arguments.table.is_empty() || arguments.table.contains(&plain) || arguments.table.contains(&table.qualified())
    });
    let manner = Manner {
        max_rate: arguments.max_rate,
        show: arguments.show,
    };
    let mut saved = arguments
        .save
        .as_ref()
        .map(|directory| ReplacedRows::new(directory, pair.cluster.name(), pair.receiver));
    let mut walk = Walk::new(pair, manner, point);
    for (set, table) in &tables {
        let mut compared = walk.table(*set, table).await?;
        let mut all = compared.1;
        let mut done = TableReport { ..compared.0 };
        if arguments.repair && !all.is_empty() {
            walk.close().await?;
            let mut repaired = repair(pair, table, &all, console, saved.as_mut()).await?;
            let mut rounds = 0;
            while done.more && rounds < REPAIR_ROUNDS {
                compared = walk.table(*set, table).await?;
                all = compared.1;
                done.more = compared.0.more;
                done.differing += all.len();
                walk.close().await?;
                repaired += repair(pair, table, &all, console, saved.as_mut()).await?;
                rounds += 1;
            }
            done.repaired = repaired;
        }
        report.tables.push(done);
    }
    walk.close().await?;
    if let Some(path) = saved.as_mut().map(ReplacedRows::sync).transpose()?.flatten() {
        let text = format!("rows that were replaced are saved in {}", path.display());
        console.step(Some(pair.receiver), &text);
    }
    if arguments.repair && !report.sequences.is_empty() {
        repair_sequences(pair, &mut report.sequences).await?;
    }
    Ok(report)
}

/// The tables of the pair's sets, with their sets.
pub(super) async fn tables(pair: &Pair) -> Result<Vec<(i32, SetTable)>, VerifyError> {
    let mut tables = Vec::new();
    for set in &pair.sets {
        let found = copy::tables(&pair.source, &pair.cluster, pair.source.server_version(), *set)
            .await
            .map_err(VerifyError::database(pair.origin, "reading `sl_table`"))?;
        tables.extend(found.into_iter().map(|table| (*set, table)));
    }
    Ok(tables)
}

/// Goes through the tables, from one point to the next.
pub(super) struct Walk<'a> {
    pair: &'a Pair,
    manner: Manner,
    point: Option<Point>,
}

impl<'a> Walk<'a> {
    /// Begins at an open point.
    pub(super) fn new(pair: &'a Pair, manner: Manner, point: Point) -> Self {
        Self {
            pair,
            manner,
            point: Some(point),
        }
    }

    /// A point that is young enough: the SYNC.
    async fn sync(&mut self) -> Result<i64, VerifyError> {
        if let Some(point) = &self.point {
            if point.opened.elapsed() < POINT_AGE {
                return Ok(point.sync);
            }
            self.close().await?;
        }
        let point = self.pair.point(Purpose::Compare).await?;
        let sync = point.sync;
        self.point = Some(point);
        Ok(sync)
    }

    /// Ends the transactions of the point that is open.
    pub(super) async fn close(&mut self) -> Result<(), VerifyError> {
        if self.point.take().is_some() {
            self.pair.leave().await?;
        }
        Ok(())
    }

    /// Compares a table slice by slice.
    pub(super) async fn table(
        &mut self,
        set: i32,
        table: &SetTable,
    ) -> Result<(TableReport, Vec<KeyDifference>), VerifyError> {
        let pair = self.pair;
        let started = Instant::now();
        let first = self.sync().await?;
        let mut report = TableReport {
            set,
            id: table.id,
            name: table.qualified(),
            key: Vec::new(),
            syncs: (first, first),
            origin_rows: 0,
            receiver_rows: 0,
            differing: 0,
            more: false,
            keys: Vec::new(),
            repaired: 0,
            seconds: 0.0,
        };
        let mut differences: Vec<KeyDifference> = Vec::new();
        let mut after: Option<Vec<String>> = None;
        loop {
            report.syncs.1 = self.sync().await?;
            let comparison = comparison(pair, table, self.manner.max_rate).await?;
            if report.key.is_empty() {
                report.key = comparison.source_shape().key_names().map(str::to_owned).collect();
            }
            let mut up_to: Option<Vec<String>> = None;
            if let Some(rows) = rows_per_slice(comparison.source_shape()) {
                let bound = comparison.source_shape().next_bound_statement(after.as_deref(), rows);
                let found = pair.source.query_opt(&bound, &[]).await;
                let found = found.map_err(VerifyError::database(pair.origin, "finding the next slice"))?;
                up_to = found
                    .map(|row| row.try_get(0))
                    .transpose()
                    .map_err(VerifyError::database(pair.origin, "finding the next slice"))?;
            }
            let slice = (after.is_some() || up_to.is_some())
                .then(|| Slice::between(comparison.source_shape(), after.as_deref(), up_to.as_deref()));
            let compared = comparison.checksums(slice.as_ref()).await?;
            report.origin_rows += compared.source_rows;
            report.receiver_rows += compared.target_rows;
            if !compared.is_equal() && !report.more {
                let (keys, more) = comparison.keys(&compared, slice.as_ref()).await?;
                differences.extend(keys);
                report.more = more || differences.len() > trunkline_sql::equality::MOST_KEYS;
            }
            let Some(next) = up_to else { break };
            after = Some(next);
        }
        differences.sort_unstable();
        differences.dedup();
        report.differing = differences.len();
        report.keys = differences.iter().take(self.manner.show).map(KeyReport::from).collect();
        report.seconds = milliseconds(started.elapsed());
        Ok((report, differences))
    }
}

/// The comparison of a table within the point that is open.
async fn comparison<'a>(
    pair: &'a Pair,
    table: &SetTable,
    max_rate: Option<u64>,
) -> Result<Comparison<'a>, VerifyError> {
    for (node, session) in [(pair.origin, &pair.source), (pair.receiver, &pair.target)] {
        session
            .batch_execute(TEXT_SETTINGS)
            .await
            .map_err(VerifyError::database(node, "preparing a comparison"))?;
    }
    Ok(Comparison::new(
        (pair.origin, &pair.source, pair.source.server_version()),
        (pair.receiver, &pair.target, pair.target.server_version()),
        (&table.schema, &table.name, &table.index),
        max_rate,
    )
    .await?)
}

/// Makes the keys equal, at a new point at which the table is locked against slon. Returns how many were not equal.
async fn repair(
    pair: &Pair,
    table: &SetTable,
    differences: &[KeyDifference],
    console: &Console,
    saved: Option<&mut ReplacedRows>,
) -> Result<usize, VerifyError> {
    if differences.is_empty() {
        return Ok(0);
    }
    let name = table.qualified();
    pair.point(Purpose::Repair(std::slice::from_ref(&name))).await?;
    let outcome = async {
        let comparison = comparison(pair, table, None).await?;
        // The stream may have changed some of them meanwhile; what is equal by now is left alone.
        let still = comparison.confirm(differences.to_vec()).await?;
        if let Some(saved) = saved {
            for part in still.chunks(SAVED_AT_ONCE) {
                saved.add(&name, &comparison.target_rows(part).await?)?;
            }
            saved.sync()?;
        }
        let transferred = comparison.equalize(&still).await?;
        pair.target
            .batch_execute("commit")
            .await
            .map_err(VerifyError::database(pair.receiver, "committing the repair"))?;
        Ok::<_, VerifyError>((still.len(), transferred))
    }
    .await;
    let left = pair.leave().await;
    let (count, transferred) = outcome?;
    left?;
    console.step(
        Some(pair.receiver),
        &format!(
            "{name}: {count} rows repaired ({} deleted, {} copied from node {})",
            transferred.deleted, transferred.inserted, pair.origin
        ),
    );
    Ok(differences.len())
}

/// The sequences that are not the same at the point.
pub(super) fn differing_sequences(point: &Point) -> Vec<SequenceReport> {
    point
        .sequences
        .iter()
        .filter(|pair| pair.at_origin != pair.at_receiver)
        .map(|pair| SequenceReport {
            set: pair.set,
            id: pair.sequence.id,
            name: pair.sequence.qualified(),
            at_origin: pair.at_origin,
            at_receiver: pair.at_receiver,
            repaired: false,
        })
        .collect()
}

/// Sets the sequences to the origin's values.
async fn repair_sequences(pair: &Pair, sequences: &mut [SequenceReport]) -> Result<(), VerifyError> {
    let point = pair.point(Purpose::RepairSequences).await?;
    for report in sequences {
        report.repaired = point.sequences.iter().any(|now| now.sequence.id == report.id);
    }
    pair.leave().await
}
