//! Comparing one table of two nodes.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use futures_util::future::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::transfer::{AS_BEFORE, BY_INDEX, TransferError, Transferred, equalize, key_texts, rows_of_keys};
use super::{BucketPlan, Checksum, Dialect, KeyDifference, KeyedHash, ServerFacts, Side, Slice, TableShape};
use super::{differing, match_rows};
use crate::{error_text, quote_ident};

/// Most keys reported of one table; a table that differs in more is better copied.
pub const MOST_KEYS: usize = 200_000;

/// Rows of both sides that are matched at once.
const ROWS_PER_PASS: i64 = 250_000;
/// Length of the naps that slow a scan down, in seconds.
const NAP: f64 = 0.005;

/// Why two tables could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum EqualityError {
    /// A node's database refused something.
    #[error("node {node}: {}", error_text(source))]
    Database {
        /// The node.
        node: i32,
        /// What it said.
        source: tokio_postgres::Error,
    },
    /// The table or its index is not there.
    #[error("table {table} or its unique index \"{index}\" does not exist on node {node}; create it there")]
    Missing {
        /// Quoted name.
        table: String,
        /// The identifying index.
        index: String,
        /// The node.
        node: i32,
    },
    /// The target lacks columns.
    #[error("table {table} has no column {} on node {node}; add it there", columns.join(", "))]
    MissingColumns {
        /// Quoted name.
        table: String,
        /// Unquoted columns.
        columns: Vec<String>,
        /// The node.
        node: i32,
    },
    /// A checksum that is no number: a server of another make?
    #[error("node {node}: `{text}` is not a checksum")]
    Checksum {
        /// The node.
        node: i32,
        /// What it sent.
        text: String,
    },
}

/// One table, its copy on two nodes, and the sessions that read them.
pub struct Comparison<'a> {
    source: Party<'a>,
    target: Party<'a>,
    dialect: Dialect,
    /// Bytes a second that each side may read; None: as fast as it can.
    max_rate: Option<u64>,
}

struct Party<'a> {
    node: i32,
    client: &'a Client,
    shape: TableShape,
}

/// What the checksums say of a table or slice.
#[derive(Debug, Clone)]
pub struct Compared {
    plan: BucketPlan,
    /// Rows on the source.
    pub source_rows: i64,
    /// Rows on the target.
    pub target_rows: i64,
    /// Buckets that differ, with their rows on both sides together.
    buckets: Vec<(i64, i64)>,
}

impl Compared {
    /// Whether no bucket differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Rows of both sides in buckets that differ: so many must be looked at to name the keys.
    #[must_use]
    pub fn rows_in_question(&self) -> i64 {
        self.buckets.iter().map(|(_, rows)| rows).sum()
    }
}

impl<'a> Comparison<'a> {
    /// Prepares the comparison of table `schema`.`name`, whose rows the index `index` identifies.
    ///
    /// Both sessions are in transactions, and have [`super::TEXT_SETTINGS`] in force. `source` and `target` are node
    /// numbers with sessions and the versions of their servers.
    ///
    /// # Errors
    /// [`EqualityError`]: a table, index or column is missing, or the database failed.
    pub async fn new(
        source: (i32, &'a Client, i32),
        target: (i32, &'a Client, i32),
        (schema, name, index): (&str, &str, &str),
        max_rate: Option<u64>,
    ) -> Result<Self, EqualityError> {
        let read = async |(node, client, version): (i32, &'a Client, i32)| {
            let wrap = |source| EqualityError::Database { node, source };
            client.batch_execute(super::SCAN_SETTINGS).await.map_err(wrap)?;
            let shape = TableShape::read(client, version, schema, name, index)
                .await
                .map_err(wrap)?;
            let facts = ServerFacts::read(client, version).await.map_err(wrap)?;
            let shape = shape
                .filter(|shape| !shape.key.is_empty())
                .ok_or_else(|| EqualityError::Missing {
                    table: format!("{}.{}", quote_ident(schema), quote_ident(name)),
                    index: index.to_owned(),
                    node,
                })?;
            Ok((Party { node, client, shape }, facts))
        };
        let ((source, source_facts), (target, target_facts)) = try_join(read(source), read(target)).await?;
        let columns: Vec<String> = source
            .shape
            .columns
            .iter()
            .filter(|column| target.shape.column(&column.name).is_none())
            .map(|column| quote_ident(&column.name))
            .collect();
        if !columns.is_empty() {
            return Err(EqualityError::MissingColumns {
                table: target.shape.qualified(),
                columns,
                node: target.node,
            });
        }
        Ok(Self {
            dialect: Dialect::agree(&source_facts, &target_facts),
            source,
            target,
            max_rate,
        })
    }

    /// The table on the source.
    #[must_use]
    pub fn source_shape(&self) -> &TableShape {
        &self.source.shape
    }

    /// The table on the target.
    #[must_use]
    pub fn target_shape(&self) -> &TableShape {
        &self.target.shape
    }

    /// Reads the checksums of all buckets of the table, or of a slice, on both sides at the same time: one scan each.
    ///
    /// # Errors
    /// [`EqualityError`].
    pub async fn checksums(&self, slice: Option<&Slice>) -> Result<Compared, EqualityError> {
        let plan = self.plan(slice).await?;
        let hash = self.dialect.row_hash(&self.source.shape, &self.target.shape);
        let read = async |party: &Party<'a>| {
            let pace = self.max_rate.and_then(|rate| pace(&party.shape, rate));
            let sql = plan.checksum_statement(&party.shape.qualified(), &hash, slice, pace.as_deref());
            let mut buckets = BTreeMap::new();
            let mut rows = 0;
            let wrap = |source| EqualityError::Database {
                node: party.node,
                source,
            };
            let stream = party.client.query_raw(&sql, no_parameters()).await.map_err(wrap)?;
            let mut stream = std::pin::pin!(stream);
            while let Some(row) = stream.try_next().await.map_err(wrap)? {
                let text: String = row.try_get(2).map_err(wrap)?;
                let sum = text.parse().map_err(|_| EqualityError::Checksum {
                    node: party.node,
                    text: text.clone(),
                })?;
                let checksum = Checksum {
                    rows: row.try_get(1).map_err(wrap)?,
                    sum,
                };
                rows += checksum.rows;
                buckets.insert(row.try_get(0).map_err(wrap)?, checksum);
            }
            Ok((buckets, rows))
        };
        let ((source, source_rows), (target, target_rows)) = try_join(read(&self.source), read(&self.target)).await?;
        Ok(Compared {
            plan,
            source_rows,
            target_rows,
            buckets: differing(&source, &target),
        })
    }

    /// The keys that differ, at most [`MOST_KEYS`]; true if there are more.
    ///
    /// # Errors
    /// [`EqualityError`].
    pub async fn keys(
        &self,
        compared: &Compared,
        slice: Option<&Slice>,
    ) -> Result<(Vec<KeyDifference>, bool), EqualityError> {
        let mut differences = Vec::new();
        let mut rest = compared.buckets.as_slice();
        while !rest.is_empty() {
            if differences.len() >= MOST_KEYS {
                differences.truncate(MOST_KEYS);
                return Ok((differences, true));
            }
            let mut rows = 0;
            let taken = rest
                .iter()
                .position(|(_, count)| {
                    rows += count;
                    rows > ROWS_PER_PASS
                })
                .map_or(rest.len(), |at| at.max(1));
            let (pass, tail) = rest.split_at(taken);
            rest = tail;
            let buckets: Vec<i64> = pass.iter().map(|(bucket, _)| *bucket).collect();
            let (source, target) = try_join(
                self.rows_in(&self.source, &compared.plan, &buckets, slice),
                self.rows_in(&self.target, &compared.plan, &buckets, slice),
            )
            .await?;
            differences.extend(match_rows(source, target));
        }
        // A row may lie in different slices where the servers' collations order its key differently.
        if slice.is_some() {
            differences = self.confirm(differences).await?;
        }
        Ok((differences, false))
    }

    /// Looks rows up by key on both sides, through the index; those that differ.
    ///
    /// # Errors
    /// [`EqualityError`].
    pub async fn look_up(&self, keys: Vec<Vec<String>>) -> Result<Vec<KeyDifference>, EqualityError> {
        let set = async |party: &Party<'a>, settings| {
            let done = party.client.batch_execute(settings).await;
            done.map_err(|source| EqualityError::Database {
                node: party.node,
                source,
            })
        };
        try_join(set(&self.source, BY_INDEX), set(&self.target, BY_INDEX)).await?;
        // Where they are is what is asked.
        let suspected = keys.into_iter().map(|key| KeyDifference { key, side: Side::Both });
        let differences = self.confirm(suspected.collect()).await?;
        try_join(set(&self.source, AS_BEFORE), set(&self.target, AS_BEFORE)).await?;
        Ok(differences)
    }

    /// Looks the keys up on both sides, as they are now in the two transactions, and keeps those that differ.
    ///
    /// # Errors
    /// [`EqualityError`].
    pub async fn confirm(&self, differences: Vec<KeyDifference>) -> Result<Vec<KeyDifference>, EqualityError> {
        let mut confirmed = Vec::with_capacity(differences.len());
        for part in differences.chunks(1000) {
            let keys: Vec<&[String]> = part.iter().map(|difference| difference.key.as_slice()).collect();
            let look = async |party: &Party<'a>| {
                let sql = format!(
                    "select {} from {}",
                    self.keyed_columns(&party.shape),
                    rows_of_keys(&party.shape, &self.source.shape, &keys),
                );
                fetch(party, &sql, &[]).await
            };
            let (source, target) = try_join(look(&self.source), look(&self.target)).await?;
            confirmed.extend(match_rows(source, target));
        }
        // Keys that are equal but written differently were asked for, and answered, twice.
        confirmed.sort_unstable();
        confirmed.dedup();
        Ok(confirmed)
    }

    /// The target's rows of the keys, each as JSON: what [`Self::equalize`] would replace.
    ///
    /// # Errors
    /// [`EqualityError`].
    pub async fn target_rows(&self, differences: &[KeyDifference]) -> Result<Vec<String>, EqualityError> {
        let party = &self.target;
        let wrap = |source| EqualityError::Database {
            node: party.node,
            source,
        };
        let keys: Vec<&[String]> = differences
            .iter()
            .filter(|difference| difference.side != Side::SourceOnly)
            .map(|difference| difference.key.as_slice())
            .collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select pg_catalog.row_to_json(t)::pg_catalog.text from {}",
            rows_of_keys(&party.shape, &self.source.shape, &keys)
        );
        let rows = party.client.query(&sql, &[]).await.map_err(wrap)?;
        rows.iter().map(|row| row.try_get(0).map_err(wrap)).collect()
    }

    /// Makes the target's rows of the keys equal to the source's, in the target's transaction.
    ///
    /// # Errors
    /// [`EqualityError::Database`].
    pub async fn equalize(&self, differences: &[KeyDifference]) -> Result<Transferred, EqualityError> {
        equalize(
            (self.source.client, &self.source.shape),
            (self.target.client, &self.target.shape),
            differences,
        )
        .await
        .map_err(|error| {
            let (node, source) = match error {
                TransferError::Source(source) => (self.source.node, source),
                TransferError::Target(source) => (self.target.node, source),
            };
            EqualityError::Database { node, source }
        })
    }

    /// Key, hash of the key and hash of the row.
    fn keyed_columns(&self, shape: &TableShape) -> String {
        format!(
            "{}, {}, {}",
            key_texts(shape, &self.source.shape),
            self.dialect.key_hash(&self.source.shape, &self.target.shape),
            self.dialect.row_hash(&self.source.shape, &self.target.shape)
        )
    }

    async fn rows_in(
        &self,
        party: &Party<'a>,
        plan: &BucketPlan,
        buckets: &[i64],
        slice: Option<&Slice>,
    ) -> Result<Vec<KeyedHash>, EqualityError> {
        let columns = self.keyed_columns(&party.shape);
        let table = party.shape.qualified();
        let filter = slice.and_then(Slice::condition).unwrap_or("true");
        match plan {
            BucketPlan::Range { column, low, width } => {
                let (mut first, mut last): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
                for bucket in buckets {
                    let (from, to) = BucketPlan::bounds(*low, *width, *bucket);
                    // Neighbours are read in one go.
                    match last.last_mut() {
                        Some(end) if end.checked_add(1) == Some(from) => *end = to,
                        _ => {
                            first.push(from);
                            last.push(to);
                        }
                    }
                }
                let sql = format!(
                    "select t.* from unnest($1::pg_catalog.int8[], $2::pg_catalog.int8[]) as r (tl_first, tl_last) \
                     cross join lateral (select {columns} from only {table} \
                     where {column} >= r.tl_first and {column} <= r.tl_last and {filter}) t"
                );
                let set = async |settings| {
                    let done = party.client.batch_execute(settings).await;
                    done.map_err(|source| EqualityError::Database {
                        node: party.node,
                        source,
                    })
                };
                set(BY_INDEX).await?;
                let rows = fetch(party, &sql, &[&first, &last]).await?;
                set(AS_BEFORE).await?;
                Ok(rows)
            }
            BucketPlan::Hash { .. } => {
                let sql = format!(
                    "select {columns} from only {table} where {filter} and ({}) in \
                     (select b.tl_bucket from pg_catalog.unnest($1::pg_catalog.int8[]) as b (tl_bucket))",
                    plan.expression()
                );
                fetch(party, &sql, &[&buckets]).await
            }
        }
    }

    async fn plan(&self, slice: Option<&Slice>) -> Result<BucketPlan, EqualityError> {
        let rows = slice
            .and_then(|_| super::rows_per_slice(&self.source.shape))
            .unwrap_or_else(|| estimated_rows(&self.source.shape).max(estimated_rows(&self.target.shape)));
        if let [position] = self.source.shape.key.as_slice() {
            let column = &self.source.shape.columns[*position];
            let whole = [20, 21, 23];
            let there = self.target.shape.column(&column.name);
            if whole.contains(&column.type_oid) && there.is_some_and(|column| whole.contains(&column.type_oid)) {
                let column = quote_ident(&column.name);
                let ends = async |party: &Party<'a>| {
                    let filter = slice.and_then(Slice::condition).unwrap_or("true");
                    let sql = format!(
                        "select pg_catalog.min({column})::pg_catalog.int8, pg_catalog.max({column})::pg_catalog.int8 \
                         from only {} where {filter}",
                        party.shape.qualified()
                    );
                    let row = one(party, &sql).await?;
                    let get = |at| {
                        row.try_get(at).map_err(|source| EqualityError::Database {
                            node: party.node,
                            source,
                        })
                    };
                    Ok::<(Option<i64>, Option<i64>), EqualityError>((get(0)?, get(1)?))
                };
                let (source, target) = try_join(ends(&self.source), ends(&self.target)).await?;
                let low = source.0.into_iter().chain(target.0).min().unwrap_or(0);
                let high = source.1.into_iter().chain(target.1).max().unwrap_or(0);
                if let Some(plan) = BucketPlan::ranges(column, low, high, rows) {
                    return Ok(plan);
                }
            }
        }
        Ok(BucketPlan::hashes(
            self.dialect.key_hash(&self.source.shape, &self.target.shape),
            rows,
        ))
    }
}

/// Rows a table seems to have.
fn estimated_rows(shape: &TableShape) -> i64 {
    #[allow(clippy::cast_possible_truncation)]
    let guess = shape.rows as i64;
    // Never analyzed, or long ago: the size says more.
    if guess > 0 { guess } else { shape.bytes / 100 }
}

/// A condition that is true and takes its time: with it a scan reads about `rate` bytes a second at most.
fn pace(shape: &TableShape, rate: u64) -> Option<String> {
    #[allow(clippy::cast_precision_loss)]
    let seconds_per_row = shape.bytes as f64 / estimated_rows(shape).max(1) as f64 / rate.max(1) as f64;
    if seconds_per_row <= 0.0 {
        return None;
    }
    // Rows so wide that each deserves more than a nap of its own get a longer one.
    let nap = NAP.max(seconds_per_row);
    Some(format!(
        "(pg_catalog.random() >= {:.12} or pg_catalog.pg_sleep({nap:.6}) is not null)",
        seconds_per_row / nap
    ))
}

fn no_parameters() -> std::iter::Empty<&'static (dyn ToSql + Sync)> {
    std::iter::empty()
}

async fn one(party: &Party<'_>, sql: &str) -> Result<Row, EqualityError> {
    party
        .client
        .query_one(sql, &[])
        .await
        .map_err(|source| EqualityError::Database {
            node: party.node,
            source,
        })
}

async fn fetch(
    party: &Party<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<KeyedHash>, EqualityError> {
    let wrap = |source| EqualityError::Database {
        node: party.node,
        source,
    };
    let stream = party
        .client
        .query_raw(sql, parameters.iter().copied())
        .await
        .map_err(wrap)?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await.map_err(wrap)? {
        rows.push(KeyedHash {
            key: row.try_get(0).map_err(wrap)?,
            key_hash: row.try_get(1).map_err(wrap)?,
            row_hash: row.try_get(2).map_err(wrap)?,
        });
    }
    Ok(rows)
}
