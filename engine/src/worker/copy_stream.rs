//! Tables streamed from the provider into this node, over one pair of sessions.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::Statement;
use trunkline_sql::copy::{self, SetTable};
use trunkline_sql::copy_format::{self, ColumnTypes};
use trunkline_sql::copy_indexes::{self, IndexSetAside};
use trunkline_sql::{Session, error_text, quote_ident};

use super::WorkerError;
use super::copy_progress::CopyProgress;
use crate::apply::ApplyError;
use crate::logging as log;
use crate::provider::{Provider, ProviderError};

/// Tables whose statements are prepared in one go, and that are analyzed in one go.
const PREPARED: usize = 50;

/// Up to this size a table is emptied by DELETE: a TRUNCATE makes new files, which costs more.
const DELETED: i64 = 65_536;

/// From this size on, in bytes on the provider's disk, secondary indexes are built after the data.
const INDEXES_LATER: i64 = 8 << 20;

/// Rows are handed on in pieces of at least this size, in bytes.
const PIECE: usize = 65_536;

/// A table to be copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) table: &'a SetTable,
    /// Columns that this node computes itself.
    pub(super) computed: &'a [String],
}

impl Job<'_> {
    /// Names of the columns that are copied.
    fn columns(&self) -> impl Iterator<Item = &str> {
        let columns = self
            .table
            .columns
            .iter()
            .filter(|column| !self.computed.contains(column));
        columns.map(String::as_str)
    }
}

/// A table with the words of its COPY statements.
struct Transfer<'a> {
    job: &'a Job<'a>,
    /// The columns, quoted.
    columns: String,
    binary: bool,
}

impl<'a> Transfer<'a> {
    fn new(job: &'a Job<'a>, there: &ColumnTypes, here: &ColumnTypes) -> Self {
        let columns: Vec<String> = job.columns().map(quote_ident).collect();
        Self {
            job,
            columns: columns.join(", "),
            binary: copy_format::travels_binary(job.columns(), there, here),
        }
    }

    /// `copy … to stdout`, `copy … from stdin`.
    fn statement(&self, direction: &str) -> String {
        let Self { job, columns, binary } = self;
        let format = if *binary { " (format binary)" } else { "" };
        format!("copy {} ({columns}) {direction}{format}", job.table.qualified())
    }
}

/// A pair of sessions: the provider's reads in the copy's snapshot, ours has a transaction open.
pub(super) struct CopyStream<'a> {
    pub(super) actor: &'a str,
    pub(super) node: i32,
    pub(super) local: &'a Session,
    pub(super) provider: &'a Provider,
    pub(super) progress: &'a CopyProgress<'a>,
}

impl CopyStream<'_> {
    /// Replaces the content of the tables, which the caller has locked, by the provider's.
    pub(super) async fn copy(&self, jobs: &[Job<'_>]) -> Result<(), WorkerError> {
        for part in jobs.chunks(PREPARED) {
            self.empty(part).await?;
            let part = self.transfers(part).await?;
            let mut indexes = Vec::with_capacity(part.len());
            for transfer in &part {
                indexes.push(self.set_indexes_aside(transfer.job.table).await?);
            }
            // All requests go out before the first answer is read, so a thousand small tables are not two thousand round trips.
            let (out, into) = tokio::try_join!(
                async {
                    let statements = part.iter().map(|transfer| {
                        let sql = transfer.statement("to stdout");
                        async move { self.provider.session.prepare(&sql).await }
                    });
                    try_join_all(statements).await.map_err(|error| self.of_provider(error))
                },
                async {
                    let statements = part.iter().map(|transfer| {
                        let sql = transfer.statement("from stdin");
                        async move { self.local.prepare(&sql).await }
                    });
                    Ok::<_, WorkerError>(try_join_all(statements).await?)
                }
            )?;
            for (((transfer, out), into), indexes) in part.iter().zip(&out).zip(&into).zip(&indexes) {
                self.stream(transfer, out, into).await?;
                self.build_indexes(transfer.job.table, indexes).await?;
            }
            let names: Vec<String> = part.iter().map(|one| one.job.table.qualified()).collect();
            self.analyze(&names).await?;
        }
        Ok(())
    }

    /// How the tables travel. Without columns there is nothing to send, and COPY does not know an empty list: rows cannot exist then.
    async fn transfers<'b>(&self, jobs: &'b [Job<'b>]) -> Result<Vec<Transfer<'b>>, WorkerError> {
        let tables: Vec<&SetTable> = jobs.iter().map(|job| job.table).collect();
        let (there, here) = tokio::try_join!(
            async {
                let types = copy_format::column_types(&self.provider.session, &tables).await;
                types.map_err(|error| self.of_provider(error))
            },
            async { Ok(copy_format::column_types(self.local, &tables).await?) }
        )?;
        let all = jobs.iter().zip(there.iter().zip(&here));
        Ok(all
            .map(|(job, (there, here))| Transfer::new(job, there, here))
            .filter(|transfer| !transfer.columns.is_empty())
            .collect())
    }

    /// Indexes of a large table that nobody needs before the data are there.
    async fn set_indexes_aside(&self, table: &SetTable) -> Result<Vec<IndexSetAside>, WorkerError> {
        if table.bytes < INDEXES_LATER {
            return Ok(Vec::new());
        }
        Ok(copy_indexes::set_aside(self.local, table).await?)
    }

    /// Statistics are no part of the copy: autovacuum makes them as well, later.
    async fn analyze(&self, tables: &[String]) -> Result<(), WorkerError> {
        if copy_indexes::analyze(self.local, tables).await?.is_ok() {
            return Ok(());
        }
        for table in tables {
            if let Err(error) = copy_indexes::analyze(self.local, std::slice::from_ref(table)).await? {
                log::warn!(
                    "{}: table {table} is copied but has no statistics yet, ANALYZE failed: {}",
                    self.actor,
                    error_text(&error)
                );
            }
        }
        Ok(())
    }

    async fn build_indexes(&self, table: &SetTable, indexes: &[IndexSetAside]) -> Result<(), WorkerError> {
        for index in indexes {
            log::config!(
                "{}: Begin index {} of table {}",
                self.actor,
                index.name(),
                table.qualified()
            );
            let started = Instant::now();
            let Err(source) = copy_indexes::build(self.local, index).await? else {
                let seconds = started.elapsed().as_secs_f64();
                log::config!("{}: {seconds:.3} seconds to build index {}", self.actor, index.name());
                continue;
            };
            let node = self.progress.node();
            if !node.ours {
                return Err(WorkerError::Apply(ApplyError::Refused {
                    command: "an index",
                    table: table.qualified(),
                    node: self.node,
                    source,
                }));
            }
            // Copying it all again would end in the same way, and replication needs no index but the key's.
            let reason = error_text(&source);
            copy_indexes::note_missing(self.local, &node.cluster, &table.qualified(), index, &reason).await?;
            log::error!(
                "{}: index {} of table {} cannot be built after the copy: {reason}; the table is replicated without it. Mend that \
                 and run `{}`; `slonctl status` names it until it is there",
                self.actor,
                index.name(),
                table.qualified(),
                index.definition()
            );
        }
        Ok(())
    }

    async fn empty(&self, jobs: &[Job<'_>]) -> Result<(), WorkerError> {
        let tables: Vec<SetTable> = jobs.iter().map(|job| job.table.clone()).collect();
        let sizes = copy::local_bytes(self.local, &tables).await?;
        let mut deletes = Vec::new();
        for (table, bytes) in tables.iter().zip(sizes) {
            let name = table.qualified();
            if bytes > DELETED {
                truncate(self.local, &name).await?;
            } else if bytes > 0 {
                deletes.push(format!("delete from only {name}"));
            }
        }
        if !deletes.is_empty() {
            self.local.batch_execute(&deletes.join("; ")).await?;
        }
        Ok(())
    }

    async fn stream(&self, transfer: &Transfer<'_>, out: &Statement, into: &Statement) -> Result<(), WorkerError> {
        let table = transfer.job.table;
        let name = table.qualified();
        log::config!("{}: Begin COPY of table {name}", self.actor);
        let started = Instant::now();
        let refused = |source: tokio_postgres::Error| {
            WorkerError::Apply(ApplyError::Refused {
                command: "the copy",
                table: name.clone(),
                node: self.node,
                source,
            })
        };
        self.progress.begin(table);
        let (out, sink) = tokio::try_join!(
            async {
                let out = self.provider.session.copy_out(out).await;
                out.map_err(|error| self.of_provider(error))
            },
            async { self.local.copy_in::<_, Bytes>(into).await.map_err(refused) }
        )?;
        let mut out = std::pin::pin!(out);
        let mut sink = std::pin::pin!(sink);
        let mut piece = BytesMut::with_capacity(PIECE + 8192);
        let mut rows = 0;
        let mut total = 0;
        // The server sends one message for each row; in the binary format one more for the end.
        while let Some(row) = out.try_next().await.map_err(|error| self.of_provider(error))? {
            rows += 1;
            piece.extend_from_slice(&row);
            if piece.len() >= PIECE {
                total += piece.len();
                self.progress.add(table, rows, piece.len() as u64);
                rows = 0;
                sink.send(piece.split().freeze()).await.map_err(refused)?;
            }
        }
        total += piece.len();
        let end = u64::from(transfer.binary);
        self.progress.add(table, rows.saturating_sub(end), piece.len() as u64);
        if !piece.is_empty() {
            sink.send(piece.freeze()).await.map_err(refused)?;
        }
        sink.finish().await.map_err(refused)?;
        self.progress.end(table);
        let seconds = started.elapsed().as_secs_f64();
        log::config!("{}: {total} bytes copied for table {name}", self.actor);
        log::config!("{}: {seconds:.3} seconds to copy table {name}", self.actor);
        Ok(())
    }

    fn of_provider(&self, source: tokio_postgres::Error) -> WorkerError {
        WorkerError::Provider(ProviderError::Database {
            node: self.provider.id,
            source,
        })
    }
}

/// Empties a table; by DELETE where a foreign key forbids TRUNCATE.
async fn truncate(local: &Session, name: &str) -> Result<(), WorkerError> {
    local.batch_execute("savepoint empty_table").await?;
    if local.batch_execute(&format!("truncate only {name}")).await.is_err() {
        local
            .batch_execute(&format!("rollback to savepoint empty_table; delete from only {name}"))
            .await?;
    }
    Ok(local.batch_execute("release savepoint empty_table").await?)
}
