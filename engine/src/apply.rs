//! Applying log rows to the local tables, inside the transaction of a group of SYNCs.
//!
//! A chunk of rows is cut at TRUNCATEs and scripts. Each stretch between them is folded to its net change and applied
//! with a few statements per table; where that is not possible, or the server refuses it (a unique value passed from
//! row to row), the same stretch is applied row by row in the order of the log.

mod catalog;
mod change;
mod error;
mod pipeline;
mod prepare;
mod row_mode;
mod set_mode;

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_sql::{Cluster, Session, apply_statement};

use self::catalog::Catalog;
pub use self::catalog::Tables;
pub use self::error::ApplyError;
pub use self::prepare::Prepared;
use self::prepare::{Stretch, Work};
use crate::log_row::LogRow;
use crate::logging as log;

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

    /// What is known of the local tables now, for [`Prepared::new`].
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(self.catalog.tables())
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
    /// Applies a chunk of data rows in `log_actionseq` order. `prepared` is what was worked out for it, if anything; where
    /// the tables are not what they were then, it is worked out again.
    ///
    /// # Errors
    /// [`ApplyError`]; the transaction must be rolled back then.
    pub async fn apply(&mut self, rows: &[LogRow], prepared: Option<Prepared>) -> Result<Applied, ApplyError> {
        let prepared = match prepared.filter(|prepared| prepared.fits(rows, self.catalog.tables())) {
            None => {
                self.catalog.learn(self.session, self.cluster, rows).await?;
                Prepared::new(rows, self.catalog.tables())
            }
            fitting => fitting,
        };
        let Some(prepared) = prepared else {
            return Err(self.missing_table(rows));
        };
        let mut applied = Applied::default();
        for Stretch { rows: range, work } in prepared.stretches {
            let rows = &rows[range];
            applied.add(match work {
                Work::Truncate => self.truncate(rows).await?,
                Work::InOrder { watched } => {
                    let mut applied = self.in_order(rows).await?;
                    applied.in_order += if watched { rows.len() as u64 } else { 0 };
                    applied
                }
                Work::Unfit(error) => self.after_refusal(rows, &error).await?,
                Work::ByTable { tables, counts } => {
                    self.session.batch_execute("savepoint stretch").await?;
                    match self.by_table(rows, tables).await {
                        Ok(mut applied) => {
                            self.session.batch_execute("release savepoint stretch").await?;
                            applied.add(counts);
                            applied
                        }
                        Err(error) if error.may_depend_on_order() => {
                            self.session
                                .batch_execute("rollback to savepoint stretch; release savepoint stretch")
                                .await?;
                            self.after_refusal(rows, &error).await?
                        }
                        Err(error) => return Err(error),
                    }
                }
            });
        }
        Ok(applied)
    }

    async fn in_order(&mut self, rows: &[LogRow]) -> Result<Applied, ApplyError> {
        self.row_by_row(&rows.iter().collect::<Vec<_>>()).await
    }

    /// The server did not take the net change of a stretch: the same rows in their order.
    async fn after_refusal(&mut self, rows: &[LogRow], error: &ApplyError) -> Result<Applied, ApplyError> {
        log::debug1!("apply: {} rows again in their order: {error}", rows.len());
        // The refusal may also stem from a table altered since it was looked at.
        self.catalog.forget();
        self.catalog.learn(self.session, self.cluster, rows).await?;
        let mut applied = self.in_order(rows).await?;
        applied.fallbacks += 1;
        Ok(applied)
    }

    fn missing_table(&self, rows: &[LogRow]) -> ApplyError {
        let missing = rows.iter().find_map(|row| self.catalog.relation(row, self.node).err());
        missing.unwrap_or_else(|| ApplyError::Malformed {
            table: String::new(),
            action: rows.first().map_or(0, |row| row.action),
            what: "its table is known and yet not found",
        })
    }

    async fn truncate(&mut self, rows: &[LogRow]) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        for row in rows {
            let relation = self.catalog.relation(row, self.node)?;
            self.session
                .batch_execute(&apply_statement::truncate(&relation))
                .await
                .map_err(|source| ApplyError::Refused {
                    command: "TRUNCATE",
                    table: relation.qualified.clone(),
                    node: self.node,
                    source,
                })?;
            applied.count(row.command);
        }
        Ok(applied)
    }
}
