//! Rows that a returning node need look at: those it changed alone, and those the new origin has changed since it took over.
//!
//! Both logs name them (`tl_noteOwnChanges()`, `tl_changesSinceTakeover()` in `schema/rejoin.sql`). What was written past the log, with
//! triggers disabled or in the replica role, is not among them; `slonctl rejoin` compares every row when the node has joined.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use crate::Cluster;
use crate::copy::SetTable;
use crate::equality::TableShape;

/// Most log rows of a log table that are read for it. With more, comparing every row is as quick.
pub const MOST_LOGGED: i32 = 100_000;

/// Which node could not be asked.
#[derive(Debug)]
pub enum NamedRowsError {
    /// The returning node.
    Local(tokio_postgres::Error),
    /// The node its rows come from.
    Provider(tokio_postgres::Error),
}

/// The rows of a set's tables that either log names.
#[derive(Debug, Default)]
pub struct NamedRows {
    /// Keys by `tab_id`, their values in the order of the column names; None, or no entry: all rows of the table.
    tables: HashMap<i32, Option<Vec<Vec<String>>>>,
}

impl NamedRows {
    /// Asks both nodes, in their open transactions, about `tables` of set `set`; `local` is node `node`. None: the logs say nothing for
    /// certain, every row must be compared.
    ///
    /// # Errors
    /// [`NamedRowsError`]: any database error.
    pub async fn read(
        (node, local): (i32, &Client),
        provider: &Client,
        cluster: &Cluster,
        (set, tables): (i32, &[SetTable]),
    ) -> Result<Option<Self>, NamedRowsError> {
        let function = cluster.sql("@NAMESPACE@.tl_changesSinceTakeover(integer, integer, bigint, text, integer)");
        let known = "select pg_catalog.to_regprocedure($1::pg_catalog.text) is not null";
        for (client, wrap) in [
            (local, NamedRowsError::Local as fn(_) -> _),
            (provider, NamedRowsError::Provider),
        ] {
            let row = client.query_one(known, &[&function]).await.map_err(wrap)?;
            if !row.try_get::<_, bool>(0).map_err(wrap)? {
                return Ok(None);
            }
        }
        // A table that was dropped and made anew is not the one of which something was noted.
        let noted = cluster.sql(
            "select o.oc_tab_id, o.oc_seqno, o.oc_snapshot
               from @NAMESPACE@.tl_own_changes o
               join unnest($1::pg_catalog.int4[], $2::pg_catalog.text[]) as t (id, name)
                 on t.id = o.oc_tab_id and o.oc_reloid = pg_catalog.to_regclass(t.name)",
        );
        let ids: Vec<i32> = tables.iter().map(|table| table.id).collect();
        let names: Vec<String> = tables.iter().map(SetTable::qualified).collect();
        let noted = local.query(&noted, &[&ids, &names]).await;
        let noted = noted.map_err(NamedRowsError::Local)?;
        let Some(failover) = noted.first() else { return Ok(None) };
        let seqno: i64 = failover.try_get(1).map_err(NamedRowsError::Local)?;
        let snapshot: String = failover.try_get(2).map_err(NamedRowsError::Local)?;

        let mut rows = Self::default();
        for row in &noted {
            let table = row.try_get(0).map_err(NamedRowsError::Local)?;
            rows.tables.insert(table, Some(Vec::new()));
        }
        let since =
            cluster.sql("select lk_tab_id, lk_key from @NAMESPACE@.tl_changesSinceTakeover($1, $2, $3, $4, $5)");
        let since = provider
            .query(&since, &[&set, &node, &seqno, &snapshot, &MOST_LOGGED])
            .await;
        let own = cluster.sql("select ow_tab_id, ow_key from @NAMESPACE@.tl_own_change where ow_tab_id = any ($1)");
        let own = local.query(&own, &[&ids]).await;
        let certain = rows
            .add(&since.map_err(NamedRowsError::Provider)?)
            .map_err(NamedRowsError::Provider)?
            && rows
                .add(&own.map_err(NamedRowsError::Local)?)
                .map_err(NamedRowsError::Local)?;
        Ok(certain.then_some(rows))
    }

    /// False: a row says that nothing is certain.
    fn add(&mut self, rows: &[Row]) -> Result<bool, tokio_postgres::Error> {
        for row in rows {
            let (table, key): (Option<i32>, Option<Vec<String>>) = (row.try_get(0)?, row.try_get(1)?);
            let Some(table) = table else { return Ok(false) };
            self.name(table, key);
        }
        Ok(true)
    }

    /// A table of which this node has noted nothing stays unknown.
    fn name(&mut self, table: i32, key: Option<Vec<String>>) {
        let Some(keys) = self.tables.get_mut(&table) else {
            return;
        };
        match (keys.as_mut(), key) {
            (Some(keys), Some(key)) => keys.push(key),
            _ => *keys = None,
        }
    }

    /// Keys of the table's rows, values in the order of its index; None: all rows.
    #[must_use]
    pub fn of(&self, table: i32, shape: &TableShape) -> Option<Vec<Vec<String>>> {
        let logged = self.tables.get(&table)?.as_ref()?;
        let names: Vec<&str> = shape.key_names().collect();
        // Databases of different encodings do not put other letters in the same order.
        if names.len() > 1 && !names.iter().all(|name| name.is_ascii()) {
            return None;
        }
        let mut sorted = names.clone();
        sorted.sort_unstable();
        let places: Vec<usize> = names
            .iter()
            .filter_map(|name| sorted.iter().position(|other| other == name))
            .collect();
        let mut keys = logged
            .iter()
            .map(|key| places.iter().map(|place| key.get(*place).cloned()).collect())
            .collect::<Option<Vec<Vec<String>>>>()?;
        keys.sort_unstable();
        keys.dedup();
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::equality::ShapeColumn;

    fn shape(columns: &[&str], key: &[usize]) -> TableShape {
        TableShape {
            schema: "public".to_owned(),
            name: "t".to_owned(),
            columns: columns
                .iter()
                .map(|name| ShapeColumn {
                    name: (*name).to_owned(),
                    type_oid: 25,
                    type_name: "pg_catalog.text".to_owned(),
                    not_null: true,
                    generated: false,
                    equals: None,
                })
                .collect(),
            key: key.to_vec(),
            walkable: true,
            rows: 1.0,
            bytes: 1,
            correlation: None,
        }
    }

    fn noted(tables: &[i32]) -> NamedRows {
        NamedRows {
            tables: tables.iter().map(|table| (*table, Some(Vec::new()))).collect(),
        }
    }

    fn key(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn values_of_a_key_come_in_the_order_of_the_index() {
        let mut rows = noted(&[7, 8]);
        // In the order of the names: area, number.
        rows.name(7, Some(key(&["north", "12"])));
        rows.name(7, Some(key(&["north", "12"])));
        rows.name(7, Some(key(&["south", "3"])));
        let shape = shape(&["number", "text", "area"], &[0, 2]);
        assert_eq!(
            rows.of(7, &shape),
            Some(vec![key(&["12", "north"]), key(&["3", "south"])])
        );
        assert_eq!(rows.of(8, &shape), Some(Vec::new()));
        rows.name(9, Some(key(&["1", "2"])));
        assert_eq!(rows.of(9, &shape), None);
    }

    #[test]
    fn all_rows_are_meant_where_a_key_is_not_known_or_not_to_be_sorted() {
        let mut rows = noted(&[7, 8, 9]);
        rows.name(7, Some(key(&["1"])));
        rows.name(7, None);
        rows.name(7, Some(key(&["2"])));
        assert_eq!(rows.of(7, &shape(&["id"], &[0])), None);
        rows.name(8, Some(key(&["1", "2"])));
        assert_eq!(rows.of(8, &shape(&["größe", "id"], &[0, 1])), None);
        // Fewer values than the key has columns.
        rows.name(9, Some(key(&["1"])));
        assert_eq!(rows.of(9, &shape(&["a", "b"], &[0, 1])), None);
    }
}
