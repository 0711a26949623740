//! The first copy of a table that is nearly right already: only what differs is transferred.
//!
//! A node that was failed over and comes back has almost everything. For sets named in `tl_keep_rows` the copy compares
//! each table with the provider's inside the transactions of the copy (the provider's snapshot, the locked local table).
//!
//! Where the logs of both nodes still name all rows that were changed since the failover, only these are looked at, and the time depends
//! on their number, not on the size of the table. Else every row is compared, and what comes of it is exactly what a full copy would
//! have left.

use std::time::Instant;

use trunkline_sql::Session;
use trunkline_sql::copy::SetTable;
use trunkline_sql::equality::{Comparison, EqualityError, TEXT_SETTINGS};
use trunkline_sql::named_rows::{NamedRows, NamedRowsError};

use super::copy_set::Source;
use super::{Worker, WorkerError};
use crate::logging as log;
use crate::provider::{Provider, ProviderError};

/// Tables with fewer rows to look into are never worth the question whether a full copy is cheaper.
const FEW_ROWS: i64 = 100_000;

impl Worker {
    /// What the logs of both nodes say of rows that may differ; None: every row is to be compared.
    pub(super) async fn named_rows(
        &self,
        local: &Session,
        set: i32,
        source: &Source,
    ) -> Result<Option<NamedRows>, WorkerError> {
        let provider = &source.provider;
        let named = NamedRows::read(
            (self.node.id, local),
            &provider.session,
            &self.node.cluster,
            (set, &source.tables),
        );
        let named = named.await.map_err(|error| match error {
            NamedRowsError::Local(source) => WorkerError::Local(source),
            NamedRowsError::Provider(source) => WorkerError::Provider(ProviderError::Database {
                node: provider.id,
                source,
            }),
        })?;
        log::info!(
            "{}: set {set}: {}",
            self.actor,
            if named.is_some() {
                "the logs of both nodes name the rows that may differ; the others are not looked at"
            } else {
                "the logs do not tell which rows may differ; every row is compared"
            }
        );
        Ok(named)
    }

    /// Makes the local table equal to the provider's. False: it differs in so much that copying it is cheaper.
    pub(super) async fn copy_differences(
        &self,
        local: &Session,
        provider: &Provider,
        table: &SetTable,
        named: Option<&NamedRows>,
    ) -> Result<bool, WorkerError> {
        let started = Instant::now();
        let name = table.qualified();
        let node = self.node.id;
        let wrap = |error: EqualityError| match error {
            EqualityError::Database { node, source } if node == provider.id => {
                WorkerError::Provider(ProviderError::Database { node, source })
            }
            EqualityError::Database { source, .. } => WorkerError::Local(source),
            other => WorkerError::Waiting(other.to_string()),
        };
        let database = |source| EqualityError::Database {
            node: provider.id,
            source,
        };
        local.batch_execute(TEXT_SETTINGS).await?;
        let settings = provider.session.batch_execute(TEXT_SETTINGS).await;
        settings.map_err(database).map_err(wrap)?;
        let comparison = Comparison::new(
            (provider.id, &provider.session, provider.session.server_version()),
            (node, local, local.server_version()),
            (&table.schema, &table.name, &table.index),
            None,
        )
        .await
        .map_err(wrap)?;
        if let Some(keys) = named.and_then(|named| named.of(table.id, comparison.source_shape())) {
            let named = keys.len();
            let differences = comparison.look_up(keys).await.map_err(wrap)?;
            let transferred = comparison.equalize(&differences).await.map_err(wrap)?;
            log::info!(
                "{}: table {name}: {} of {named} rows that the logs name differed; {} deleted, {} copied ({} bytes) in {:.3} seconds",
                self.actor,
                differences.len(),
                transferred.deleted,
                transferred.inserted,
                transferred.bytes,
                started.elapsed().as_secs_f64()
            );
            return Ok(true);
        }
        let compared = comparison.checksums(None).await.map_err(wrap)?;
        let scanned = started.elapsed();
        let in_question = compared.rows_in_question();
        if in_question > FEW_ROWS && in_question > compared.source_rows.max(compared.target_rows) {
            log::info!(
                "{}: table {name} differs nearly everywhere ({in_question} rows of both sides to be looked at); copying all of it",
                self.actor
            );
            return Ok(false);
        }
        let (differences, more) = comparison.keys(&compared, None).await.map_err(wrap)?;
        if more {
            log::info!(
                "{}: table {name} differs in more than {} keys; copying all of it",
                self.actor,
                differences.len()
            );
            return Ok(false);
        }
        let found = started.elapsed();
        let transferred = comparison.equalize(&differences).await.map_err(wrap)?;
        log::info!(
            "{}: table {name}: {} of {} rows differed, found among {in_question} of both sides; {} deleted, {} copied ({} bytes) \
             in {:.3} seconds ({:.3} to read both sides, {:.3} to find the rows)",
            self.actor,
            differences.len(),
            compared.source_rows,
            transferred.deleted,
            transferred.inserted,
            transferred.bytes,
            started.elapsed().as_secs_f64(),
            scanned.as_secs_f64(),
            found.saturating_sub(scanned).as_secs_f64()
        );
        Ok(true)
    }
}
