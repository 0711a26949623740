//! Are the nodes equal? Checksums of replicated tables, values of replicated sequences.
//!
//! A table's checksum is a sum over its rows of a hash of the row as text, so it needs no order and no memory, and it
//! sees duplicates. Columns are those the caller names (the origin's): a subscriber may order them differently and have more.
//! Run [`SETTINGS`] on both sessions first, because text output depends on settings.

use tokio_postgres::{Client, Error};

use crate::{Cluster, quote_ident};

/// Session settings under which equal values have equal text.
pub const SETTINGS: &str = "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; \
     set extra_float_digits = 3; set bytea_output = 'hex'; set client_encoding = 'UTF8'";

/// A table of a set, as the node that was asked knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicatedTable {
    /// Its id in the cluster.
    pub id: i32,
    /// The set it is in.
    pub set: i32,
    /// Schema, not quoted.
    pub schema: String,
    /// Name, not quoted.
    pub name: String,
    /// Its columns in order, not quoted.
    pub columns: Vec<String>,
}

/// A sequence of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicatedSequence {
    /// Its id in the cluster.
    pub id: i32,
    /// The set it is in.
    pub set: i32,
    /// Schema, not quoted.
    pub schema: String,
    /// Name, not quoted.
    pub name: String,
}

/// An active subscription with its set's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveSubscription {
    /// The set.
    pub set: i32,
    /// Where the set may be written.
    pub origin: i32,
    /// The node that receives it.
    pub receiver: i32,
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChecksum {
    /// Number of rows.
    pub rows: i64,
    /// Sum of the rows' hashes, as text (it does not fit into 64 bits).
    pub sum: String,
}

/// The active subscriptions that this node knows of, by set and receiver.
pub async fn active_subscriptions(client: &Client, cluster: &Cluster) -> Result<Vec<ActiveSubscription>, Error> {
    let statement = cluster.sql(
        "select s.sub_set, t.set_origin, s.sub_receiver from @NAMESPACE@.sl_subscribe s \
         join @NAMESPACE@.sl_set t on t.set_id = s.sub_set where s.sub_active order by 1, 3",
    );
    let rows = client.query(&statement, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| ActiveSubscription {
            set: row.get(0),
            origin: row.get(1),
            receiver: row.get(2),
        })
        .collect())
}

/// The tables of all sets this node originates or receives, by id.
pub async fn replicated_tables(client: &Client, cluster: &Cluster) -> Result<Vec<ReplicatedTable>, Error> {
    let statement = cluster.sql(
        "select t.tab_id, t.tab_set, t.tab_nspname::pg_catalog.text, t.tab_relname::pg_catalog.text, \
         pg_catalog.array_agg(a.attname::pg_catalog.text order by a.attnum) \
         from @NAMESPACE@.sl_table t join pg_catalog.pg_attribute a on a.attrelid = t.tab_reloid \
         where a.attnum > 0 and not a.attisdropped group by 1, 2, 3, 4 order by 1",
    );
    let rows = client.query(&statement, &[]).await?;
    let table = |row: &tokio_postgres::Row| ReplicatedTable {
        id: row.get(0),
        set: row.get(1),
        schema: row.get(2),
        name: row.get(3),
        columns: row.get(4),
    };
    Ok(rows.iter().map(table).collect())
}

/// The sequences of all sets this node originates or receives, by id.
pub async fn replicated_sequences(client: &Client, cluster: &Cluster) -> Result<Vec<ReplicatedSequence>, Error> {
    let statement = cluster.sql(
        "select seq_id, seq_set, seq_nspname::pg_catalog.text, seq_relname::pg_catalog.text \
         from @NAMESPACE@.sl_sequence order by 1",
    );
    let rows = client.query(&statement, &[]).await?;
    let sequence = |row: &tokio_postgres::Row| ReplicatedSequence {
        id: row.get(0),
        set: row.get(1),
        schema: row.get(2),
        name: row.get(3),
    };
    Ok(rows.iter().map(sequence).collect())
}

/// The checksum of the table's columns; rows of inheritance children are not the table's.
pub async fn table_checksum(client: &Client, table: &ReplicatedTable) -> Result<TableChecksum, Error> {
    let statement = format!(
        "select pg_catalog.count(*), coalesce(pg_catalog.sum(('x' || pg_catalog.substr(pg_catalog.md5(r), 1, 15))\
         ::pg_catalog.bit(60)::pg_catalog.int8), 0)::pg_catalog.text from ({}) q(r)",
        row_texts_statement(table)
    );
    let row = client.query_one(&statement, &[]).await?;
    Ok(TableChecksum {
        rows: row.get(0),
        sum: row.get(1),
    })
}

/// Every row as one text, for showing differences.
pub async fn row_texts(client: &Client, table: &ReplicatedTable) -> Result<Vec<String>, Error> {
    let rows = client.query(&row_texts_statement(table), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The sequence's last value.
pub async fn sequence_value(client: &Client, sequence: &ReplicatedSequence) -> Result<i64, Error> {
    let statement = format!(
        "select last_value from {}.{}",
        quote_ident(&sequence.schema),
        quote_ident(&sequence.name)
    );
    Ok(client.query_one(&statement, &[]).await?.get(0))
}

/// Selects the rows as the text of an array of their columns' texts: unambiguous, and null is not the empty string.
fn row_texts_statement(table: &ReplicatedTable) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|name| format!("{}::pg_catalog.text", quote_ident(name)))
        .collect();
    format!(
        "select array[{}]::pg_catalog.text[]::pg_catalog.text from only {}.{}",
        columns.join(", "),
        quote_ident(&table.schema),
        quote_ident(&table.name)
    )
}
