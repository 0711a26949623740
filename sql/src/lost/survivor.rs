//! What a survivor has in the place of a lost change, and whether that is still what the failed node had.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::{LostChange, Values};
use crate::equality::{ShapeColumn, TableShape};
use crate::quote_ident;

/// Where a survivor's own changes begin: noted by `failoverSet_int` while nobody could write to the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// Transactions from this number on came later; with epoch.
    pub next_xid: i64,
    /// Transactions and subtransactions below it that were open; without epoch.
    pub open_xids: Vec<i64>,
}

impl Takeover {
    /// Whether a row with this `xmin` was there before the takeover. `next_now` is the next transaction's number, with epoch.
    ///
    /// An `xmin` has no epoch: the newest transaction it can mean is assumed, so a mistake could only be to take an old row for a
    /// new one.
    #[must_use]
    fn precedes(&self, xmin: i64, next_now: i64) -> bool {
        const EPOCH: i64 = 1 << 32;
        let this_epoch = (next_now / EPOCH) * EPOCH + xmin;
        let xid = if this_epoch < next_now {
            this_epoch
        } else {
            this_epoch - EPOCH
        };
        xid < self.next_xid && !self.open_xids.contains(&xmin)
    }
}

/// A row as a survivor has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurvivorRow {
    /// Columns that both nodes have.
    pub values: Values,
    /// Not written since the takeover, so this is what the failed node had before its lost changes; None: not known.
    pub unchanged: Option<bool>,
}

/// A survivor's copy of a table that lost changes are about.
#[derive(Debug)]
pub struct SurvivorTable {
    shape: TableShape,
    /// Columns that both nodes have.
    columns: Vec<String>,
    /// No column of the failed node is missing here.
    complete: bool,
    /// Columns that cannot be compared with `=`, or not exactly.
    compared_as_text: Vec<String>,
    /// Columns that take a given value only if it overrides the system's.
    identity_always: Vec<String>,
    row: Statement,
    /// Writes a key as this session would; None: everybody writes it in the same way.
    key_text: Option<Statement>,
}

impl SurvivorTable {
    /// Reads what is needed to find rows; None: the survivor has no such table, or not the key. `failed` is the table as the failed
    /// node has it: only columns of both say anything.
    ///
    /// # Errors
    /// Any database error.
    pub async fn read(
        survivor: &Client,
        server_version: i32,
        change: &LostChange,
        failed: Option<&TableShape>,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let (schema, name) = &change.name;
        let Some(shape) = TableShape::read(survivor, server_version, schema, name, &change.index).await? else {
            return Ok(None);
        };
        if shape.key.is_empty() {
            return Ok(None);
        }
        let columns: Vec<String> = shape
            .columns
            .iter()
            .filter(|column| failed.is_none_or(|failed| failed.column(&column.name).is_some()))
            .map(|column| column.name.clone())
            .collect();
        let complete = failed.is_none_or(|failed| failed.columns.len() == columns.len());
        let texts: Vec<String> = columns
            .iter()
            .map(|name| {
                let name = quote_ident(name);
                format!("case when t.{name} is distinct from null then pg_catalog.concat(t.{name}) end")
            })
            .collect();
        let keys: Vec<&ShapeColumn> = shape.key.iter().map(|position| &shape.columns[*position]).collect();
        let value = |place: usize, column: &ShapeColumn| {
            format!("($1::pg_catalog.text[])[{}]::{}", place + 1, column.type_name)
        };
        let conditions: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(place, column)| {
                format!(
                    "t.{} {} {}",
                    quote_ident(&column.name),
                    column.equals.as_deref().unwrap_or("operator(pg_catalog.=)"),
                    value(place, column)
                )
            })
            .collect();
        let row = survivor
            .prepare(&format!(
                "select array[{}]::pg_catalog.text[], t.xmin::pg_catalog.text::pg_catalog.int8,
                        pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())
                   from only {} t where {}",
                texts.join(", "),
                shape.qualified(),
                conditions.join(" and ")
            ))
            .await?;
        let key_text = if keys.iter().all(|column| written_alike(column.type_oid)) {
            None
        } else {
            let texts: Vec<String> = keys
                .iter()
                .enumerate()
                .map(|(place, column)| format!("pg_catalog.concat({})", value(place, column)))
                .collect();
            let sql = format!("select array[{}]::pg_catalog.text[]", texts.join(", "));
            Some(survivor.prepare(&sql).await?)
        };
        let (compared_as_text, identity_always) = oddities(survivor, schema, name).await?;
        Ok(Some(Self {
            shape,
            columns,
            complete,
            compared_as_text,
            identity_always,
            row,
            key_text,
        }))
    }

    /// The table's shape on the survivor.
    #[must_use]
    pub fn shape(&self) -> &TableShape {
        &self.shape
    }

    /// Bytes of a row on the average, as the planner sees it.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        #[allow(clippy::cast_possible_truncation)]
        let rows = (self.shape.rows as i64).max(1);
        usize::try_from(self.shape.bytes / rows).unwrap_or(usize::MAX)
    }

    /// Whether the survivor has every column of the failed node.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether `=` says for this column that a value is the same.
    #[must_use]
    pub fn compares(&self, column: &str) -> bool {
        !self.compared_as_text.iter().any(|name| name == column)
    }

    /// Whether this column is `generated always as identity`.
    #[must_use]
    pub fn is_identity_always(&self, column: &str) -> bool {
        self.identity_always.iter().any(|name| name == column)
    }

    /// The key's values out of `values`, in the order of the index; None if one is missing.
    #[must_use]
    pub fn key_of(&self, values: &Values) -> Option<Vec<String>> {
        self.shape
            .key_names()
            .map(|name| {
                let (_, value) = values.iter().find(|(column, _)| column == name)?;
                value.clone()
            })
            .collect()
    }

    /// The key as text that is the same for the same key, whichever session has written it.
    ///
    /// # Errors
    /// Any database error.
    pub async fn key_text(&self, survivor: &Client, key: Vec<String>) -> Result<Vec<String>, tokio_postgres::Error> {
        match &self.key_text {
            None => Ok(key),
            Some(statement) => survivor.query_one(statement, &[&key]).await?.try_get(0),
        }
    }

    /// The survivor's row with this key.
    ///
    /// # Errors
    /// Any database error.
    pub async fn row(
        &self,
        survivor: &Client,
        key: &[String],
        takeover: Option<&Takeover>,
    ) -> Result<Option<SurvivorRow>, tokio_postgres::Error> {
        let parameters: [&(dyn ToSql + Sync); 1] = [&key];
        let Some(row) = survivor.query_opt(&self.row, &parameters).await? else {
            return Ok(None);
        };
        let texts: Vec<Option<String>> = row.try_get(0)?;
        let xmin: i64 = row.try_get(1)?;
        let next_now: i64 = row.try_get(2)?;
        Ok(Some(SurvivorRow {
            values: self.columns.iter().cloned().zip(texts).collect(),
            unchanged: takeover.map(|takeover| takeover.precedes(xmin, next_now)),
        }))
    }
}

/// Types of which every session writes a value in the same way, in a log and under [`crate::equality::TEXT_SETTINGS`].
fn written_alike(type_oid: u32) -> bool {
    use tokio_postgres::types::Type;
    [
        Type::BOOL,
        Type::BYTEA,
        Type::CHAR,
        Type::NAME,
        Type::INT8,
        Type::INT2,
        Type::INT4,
        Type::TEXT,
        Type::OID,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::CIDR,
        Type::INET,
        Type::BPCHAR,
        Type::VARCHAR,
        Type::DATE,
        Type::TIMESTAMP,
        Type::NUMERIC,
        Type::UUID,
    ]
    .iter()
    .any(|known| known.oid() == type_oid)
}

/// Names of columns whose type has no order of its own, and so perhaps no `=`, or one that says less (areas of boxes); and of those that
/// are `generated always as identity`.
async fn oddities(
    survivor: &Client,
    schema: &str,
    name: &str,
) -> Result<(Vec<String>, Vec<String>), tokio_postgres::Error> {
    let rows = survivor
        .query(
            "select a.attname::pg_catalog.text,
                    not exists (
                        select from pg_catalog.pg_opclass oc
                          join pg_catalog.pg_am am on am.oid = oc.opcmethod and am.amname = 'btree'
                         where oc.opcdefault
                           and (oc.opcintype = t.oid
                                or oc.opcintype = 'pg_catalog.anyenum'::pg_catalog.regtype and t.typtype = 'e'
                                or exists (select from pg_catalog.pg_cast c
                                            where c.castsource = t.oid and c.casttarget = oc.opcintype
                                              and c.castmethod = 'b' and c.castcontext = 'i'))),
                    a.attidentity = 'a'
               from pg_catalog.pg_class r
               join pg_catalog.pg_namespace n on n.oid = r.relnamespace
               join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
               join pg_catalog.pg_type t on t.oid = a.atttypid
              where n.nspname = $1 and r.relname = $2",
            &[&schema, &name],
        )
        .await?;
    let mut as_text = Vec::new();
    let mut identity = Vec::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        if row.try_get(1)? {
            as_text.push(name.clone());
        }
        if row.try_get(2)? {
            identity.push(name);
        }
    }
    Ok((as_text, identity))
}

#[cfg(test)]
mod tests {
    use super::Takeover;

    #[test]
    fn rows_are_placed_before_or_after_a_takeover_across_epochs() {
        let epoch: i64 = 1 << 32;
        let takeover = Takeover {
            next_xid: 3 * epoch + 100,
            open_xids: vec![90, 95],
        };
        let now = 3 * epoch + 200;
        assert!(takeover.precedes(99, now));
        assert!(!takeover.precedes(100, now), "a later transaction");
        assert!(!takeover.precedes(95, now), "one that was open");
        assert!(takeover.precedes(2, now), "frozen");
        assert!(takeover.precedes(4_000_000_000, now), "of the epoch before");
        let next_epoch = 4 * epoch + 50;
        assert!(!takeover.precedes(10, next_epoch), "of the epoch after");
        assert!(!takeover.precedes(4_000_000_000, next_epoch));
        assert!(takeover.precedes(99, next_epoch));
    }
}
