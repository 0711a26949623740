//! Applying log rows to the local tables, inside the transaction of a group of SYNCs.
//!
//! A chunk of rows is cut at TRUNCATEs and scripts. Each stretch between them is folded to its net change and applied
//! with a few statements per table; where that is not possible, or the server refuses it (a unique value passed from
//! row to row), the same stretch is applied row by row in the order of the log.

mod catalog;
mod change;
mod error;
mod pipeline;
mod row_mode;
mod set_mode;

use std::collections::BTreeMap;

use trunkline_sql::{Cluster, Session, apply_statement};

use self::catalog::Catalog;
pub use self::error::ApplyError;
use crate::log_row::LogRow;
use crate::logging as log;

/// Up to so many rows one by one are as quick as a net change.
const FEW_ROWS: usize = 12;

/// What applying did, for the log and `sl_apply_stats`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Inserts in the log.
    pub inserts: u64,
    /// Updates in the log.
    pub updates: u64,
    /// Deletes in the log.
    pub deletes: u64,
    /// Truncates in the log.
    pub truncates: u64,
    /// Script statements in the log.
    pub scripts: u64,
    /// Rows of tables whose changes could not be folded.
    pub in_order: u64,
    /// Stretches that had to be applied again in order.
    pub fallbacks: u64,
    /// Rows to change or delete that are not here, by table: the subscriber differs from the origin.
    pub missing: BTreeMap<String, u64>,
}

impl Applied {
    fn count(&mut self, command: u8) {
        match command {
            b'I' => self.inserts += 1,
            b'U' => self.updates += 1,
            b'D' => self.deletes += 1,
            b'T' => self.truncates += 1,
            _ => self.scripts += 1,
        }
    }

    fn missing(&mut self, table: &str, rows: u64) {
        *self.missing.entry(table.to_owned()).or_default() += rows;
    }

    /// Adds all figures of another stretch.
    pub fn add(&mut self, other: Self) {
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.truncates += other.truncates;
        self.scripts += other.scripts;
        self.in_order += other.in_order;
        self.add_effects(other);
    }

    /// Adds what happened to rows that are counted already.
    fn add_effects(&mut self, other: Self) {
        self.fallbacks += other.fallbacks;
        for (table, rows) in other.missing {
            self.missing(&table, rows);
        }
    }

    /// Log rows in all.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.inserts + self.updates + self.deletes + self.truncates + self.scripts
    }
}

/// Applies changes through one session; keeps what it learned about tables from one group to the next.
#[derive(Debug)]
pub struct ApplyState {
    catalog: Catalog,
}

impl ApplyState {
    /// Nothing known yet; keeps at most `statements` prepared statements.
    #[must_use]
    pub fn new(statements: usize) -> Self {
        Self {
            catalog: Catalog::new(statements),
        }
    }

    /// Forgets tables and statements: the configuration or a table may have changed.
    pub fn forget(&mut self) {
        self.catalog.forget();
    }

    /// Has tables looked at again: a trigger may have been enabled on the replica since.
    pub fn doubt(&mut self) {
        self.catalog.doubt();
    }

    /// Ready to apply through `session`, whose transaction is running with the replica role.
    pub fn applier<'a>(&'a mut self, session: &'a Session, cluster: &'a Cluster, node: i32) -> Applier<'a> {
        Applier {
            catalog: &mut self.catalog,
            session,
            cluster,
            node,
        }
    }
}

/// Applies chunks of the log within the running transaction.
#[derive(Debug)]
pub struct Applier<'a> {
    catalog: &'a mut Catalog,
    session: &'a Session,
    cluster: &'a Cluster,
    node: i32,
}

impl Applier<'_> {
    /// Applies a chunk of data rows in `log_actionseq` order.
    ///
    /// # Errors
    /// [`ApplyError`]; the transaction must be rolled back then.
    pub async fn apply(&mut self, rows: &[LogRow]) -> Result<Applied, ApplyError> {
        self.catalog.learn(self.session, self.cluster, rows).await?;
        let mut applied = Applied::default();
        let mut rest = rows;
        while !rest.is_empty() {
            let end = rest.iter().position(|row| row.command == b'T').unwrap_or(rest.len());
            let (stretch, tail) = rest.split_at(end);
            applied.add(self.stretch(stretch).await?);
            let truncates = tail.iter().take_while(|row| row.command == b'T').count();
            let (barrier, tail) = tail.split_at(truncates);
            for row in barrier {
                self.truncate(row).await?;
                applied.count(b'T');
            }
            rest = tail;
        }
        Ok(applied)
    }

    async fn stretch(&mut self, rows: &[LogRow]) -> Result<Applied, ApplyError> {
        if rows.is_empty() {
            return Ok(Applied::default());
        }
        let mut watched = false;
        let mut last = None;
        for row in rows {
            if last != row.table {
                watched |= self.catalog.relation(row, self.node)?.fires_triggers;
                last = row.table;
            }
        }
        if watched || rows.len() <= FEW_ROWS {
            let mut applied = self.row_by_row(&rows.iter().collect::<Vec<_>>()).await?;
            applied.in_order += if watched { rows.len() as u64 } else { 0 };
            return Ok(applied);
        }
        self.session.batch_execute("savepoint stretch").await?;
        match self.set_based(rows).await {
            Ok(applied) => {
                self.session.batch_execute("release savepoint stretch").await?;
                Ok(applied)
            }
            Err(error) if error.may_depend_on_order() => {
                log::debug1!("apply: {} rows again in their order: {error}", rows.len());
                self.session
                    .batch_execute("rollback to savepoint stretch; release savepoint stretch")
                    .await?;
                // The refusal may also stem from a table altered since it was looked at.
                self.catalog.forget();
                self.catalog.learn(self.session, self.cluster, rows).await?;
                let mut applied = self.row_by_row(&rows.iter().collect::<Vec<_>>()).await?;
                applied.fallbacks += 1;
                Ok(applied)
            }
            Err(error) => Err(error),
        }
    }

    async fn truncate(&mut self, row: &LogRow) -> Result<(), ApplyError> {
        let relation = self.catalog.relation(row, self.node)?;
        self.session
            .batch_execute(&apply_statement::truncate(&relation))
            .await
            .map_err(|source| ApplyError::Refused {
                command: "TRUNCATE",
                table: relation.qualified.clone(),
                node: self.node,
                source,
            })
    }
}
