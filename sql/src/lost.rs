//! What only a failed node has: its log rows that no survivor saw.
//!
//! A failover leaves `tl_failover` on every survivor, with the snapshot of the newest SYNC of the failed node that any of
//! them had: exactly that is in their data. Log rows of transactions which that snapshot does not see are lost; the
//! failed node still has all of them, because its cleanup waits for confirmations that never came.

use std::collections::HashMap;

use futures_util::{Stream, TryStreamExt};
use tokio_postgres::{Client, Row};

use crate::Cluster;
use crate::equality::TableShape;

mod statement;
mod survivor;

pub use statement::{Former, SCRIPT_SETTINGS, statement};
pub use survivor::{SurvivorRow, SurvivorTable, Takeover};

/// A transaction that no survivor had.
#[derive(Debug, Clone, PartialEq)]
pub struct LostTransaction {
    /// Its id on the failed node.
    pub txid: i64,
    /// When it committed, where the server keeps that (`track_commit_timestamp`); ISO form, UTC.
    pub committed: Option<String>,
    /// Time of the newest SYNC of the failed node that does not see it.
    pub not_before: Option<String>,
    /// Time of the oldest one that does.
    pub not_after: Option<String>,
    /// Rows it wrote to the log, of the sets in question.
    pub changes: i64,
}

/// Kind of a lost change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A row was inserted.
    Insert,
    /// A row was changed.
    Update,
    /// A row was deleted.
    Delete,
    /// The table was truncated.
    Truncate,
    /// A statement of a script; it concerns no table in particular.
    Script,
}

/// Columns with values as text.
pub type Values = Vec<(String, Option<String>)>;

/// One lost change.
#[derive(Debug, Clone, PartialEq)]
pub struct LostChange {
    /// `log_actionseq`: the order in which changes were made.
    pub action: i64,
    /// What it was.
    pub kind: ChangeKind,
    /// `tab_id`; None of a script.
    pub table: Option<i32>,
    /// Its set.
    pub set: Option<i32>,
    /// Unquoted schema and name.
    pub name: (String, String),
    /// Identifying index.
    pub index: String,
    /// New values: all of an inserted row, the changed ones of an updated row. Of a script, its text.
    pub new: Values,
    /// Old key of an updated or deleted row.
    pub key: Values,
}

/// The condition that finds the lost rows: `$1` snapshot, `$2` sets.
const LOST: &str = "l.log_txid >= pg_catalog.txid_snapshot_xmin($1::text::pg_catalog.txid_snapshot)
     and not pg_catalog.txid_visible_in_snapshot(l.log_txid, $1::text::pg_catalog.txid_snapshot)
     and l.log_origin = (select last_value from @NAMESPACE@.sl_local_node_id)";

/// All lost rows of both log tables, and scripts.
fn lost_rows(columns: &str, script_columns: &str) -> String {
    let of = |table: &str| {
        format!(
            "select {columns} from @NAMESPACE@.{table} l join @NAMESPACE@.sl_table t on t.tab_id = l.log_tableid
              where {LOST} and t.tab_set = any ($2::pg_catalog.int4[])"
        )
    };
    format!(
        "{} union all {} union all select {script_columns} from @NAMESPACE@.sl_log_script l where {LOST} and l.log_cmdtype = 'S'",
        of("sl_log_1"),
        of("sl_log_2")
    )
}

/// The lost transactions, in the order of their commits where the server keeps that of all of them, else of their last
/// changes, which is about the same.
///
/// # Errors
/// Any database error.
pub async fn transactions(
    failed: &Client,
    cluster: &Cluster,
    snapshot: &str,
    sets: &[i32],
) -> Result<Vec<LostTransaction>, tokio_postgres::Error> {
    let tracked: bool = failed
        .query_one(
            "select pg_catalog.current_setting('track_commit_timestamp')::pg_catalog.bool",
            &[],
        )
        .await?
        .try_get(0)?;
    let iso = |expression: &str| {
        format!("pg_catalog.to_char({expression} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
    let committed = if tracked {
        "pg_catalog.pg_xact_commit_timestamp((x.txid % 4294967296)::pg_catalog.text::pg_catalog.xid)"
    } else {
        "null::pg_catalog.timestamptz"
    };
    let sql = cluster.sql(&format!(
        "select x.txid, {}, {}, {}, x.changes
           from (select r.txid, count(*) as changes, max(r.action) as last_action
                   from ({}) r group by 1) x
          cross join lateral (select {committed}) c (committed)
           left join lateral (
                select max(e.ev_timestamp) filter (where not v.seen) as before, min(e.ev_timestamp) filter (where v.seen) as after
                  from @NAMESPACE@.sl_event e
                 cross join lateral (select pg_catalog.txid_visible_in_snapshot(x.txid, e.ev_snapshot)) as v (seen)
                 where e.ev_type = 'SYNC' and e.ev_origin = (select last_value from @NAMESPACE@.sl_local_node_id)
                ) s on true
          order by case when pg_catalog.bool_and(c.committed is not null) over () then c.committed end, x.last_action",
        iso("c.committed"),
        iso("s.before"),
        iso("s.after"),
        lost_rows("l.log_txid as txid, l.log_actionseq as action", "l.log_txid, l.log_actionseq"),
    ));
    failed
        .query(&sql, &[&snapshot, &sets])
        .await?
        .iter()
        .map(|row| {
            Ok(LostTransaction {
                txid: row.try_get(0)?,
                committed: row.try_get(1)?,
                not_before: row.try_get(2)?,
                not_after: row.try_get(3)?,
                changes: row.try_get(4)?,
            })
        })
        .collect()
}

/// The tables that lost changes are about, as the failed node has them, by `tab_id`.
///
/// # Errors
/// Any database error.
pub async fn tables(
    failed: &Client,
    server_version: i32,
    cluster: &Cluster,
    snapshot: &str,
    sets: &[i32],
) -> Result<HashMap<i32, TableShape>, tokio_postgres::Error> {
    let sql = cluster.sql(&format!(
        "select t.tab_id, t.tab_nspname::pg_catalog.text, t.tab_relname::pg_catalog.text, t.tab_idxname::pg_catalog.text
           from @NAMESPACE@.sl_table t
          where t.tab_id in (select r.tab_id from ({}) r)",
        lost_rows("t.tab_id", "null::pg_catalog.int4")
    ));
    let mut shapes = HashMap::new();
    for row in failed.query(&sql, &[&snapshot, &sets]).await? {
        let (schema, name, index): (String, String, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        if let Some(shape) = TableShape::read(failed, server_version, &schema, &name, &index).await? {
            shapes.insert(row.try_get(0)?, shape);
        }
    }
    Ok(shapes)
}

/// The changes of lost transactions, as a stream: transaction by transaction in the order given, each with its place there, and within
/// one in the order in which they were made. The log is read once. The connection answers nothing else until the stream has ended.
///
/// # Errors
/// Any database error.
pub async fn changes(
    failed: &Client,
    cluster: &Cluster,
    snapshot: &str,
    sets: &[i32],
    transactions: &[LostTransaction],
) -> Result<impl Stream<Item = Result<(usize, LostChange), tokio_postgres::Error>> + use<>, tokio_postgres::Error> {
    let sql = cluster.sql(&format!(
        "select r.*, x.place
           from pg_catalog.unnest($3::pg_catalog.int8[]) with ordinality x (txid, place)
           join ({}) r on r.txid = x.txid
          order by x.place, r.action",
        lost_rows(
            "l.log_txid as txid, l.log_actionseq as action, l.log_cmdtype::pg_catalog.text as kind, l.log_cmdupdncols as columns,
             l.log_cmdargs as args, t.tab_id, t.tab_set, t.tab_nspname::pg_catalog.text, t.tab_relname::pg_catalog.text,
             t.tab_idxname::pg_catalog.text",
            "l.log_txid, l.log_actionseq, l.log_cmdtype::pg_catalog.text, 0, l.log_cmdargs, null::pg_catalog.int4,
             null::pg_catalog.int4, '', '', ''"
        )
    ));
    let txids: Vec<i64> = transactions.iter().map(|transaction| transaction.txid).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&snapshot, &sets, &txids];
    let rows = failed.query_raw(&sql, parameters).await?;
    Ok(rows.and_then(|row| std::future::ready(read(&row))))
}

fn read(row: &Row) -> Result<(usize, LostChange), tokio_postgres::Error> {
    let place: i64 = row.try_get(10)?;
    let kind: String = row.try_get(2)?;
    let columns: Option<i32> = row.try_get(3)?;
    let args: Vec<Option<String>> = row.try_get(4)?;
    let columns = usize::try_from(columns.unwrap_or(0)).unwrap_or(0);
    let pairs = |args: &[Option<String>]| -> Values {
        args.chunks(2)
            .map(|pair| (pair[0].clone().unwrap_or_default(), pair.get(1).cloned().flatten()))
            .collect()
    };
    let (kind, new, key) = match kind.as_str() {
        "I" => (ChangeKind::Insert, pairs(&args), Vec::new()),
        "U" => {
            let (new, key) = args.split_at((columns * 2).min(args.len()));
            (ChangeKind::Update, pairs(new), pairs(key))
        }
        "D" => (ChangeKind::Delete, Vec::new(), pairs(&args)),
        "T" => (ChangeKind::Truncate, Vec::new(), Vec::new()),
        _ => (
            ChangeKind::Script,
            vec![("statement".to_owned(), args.into_iter().next().flatten())],
            Vec::new(),
        ),
    };
    let change = LostChange {
        action: row.try_get(1)?,
        kind,
        table: row.try_get(5)?,
        set: row.try_get(6)?,
        name: (row.try_get(7)?, row.try_get(8)?),
        index: row.try_get(9)?,
        new,
        key,
    };
    // Places count from one.
    Ok((usize::try_from(place).unwrap_or(1).saturating_sub(1), change))
}

/// A sequence whose value on the failed node differs from the survivor's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostSequence {
    /// Quoted name.
    pub name: String,
    /// `seq_id`.
    pub id: i32,
    /// Its value there.
    pub failed: i64,
    /// Its value here.
    pub survivor: i64,
}
