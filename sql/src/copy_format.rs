//! In which of COPY's formats a table's rows travel.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::copy::SetTable;

/// Types whose binary form is the same in all servers from 10 to 18, whatever their settings. Not `interval`: since 17 it can be infinite,
/// which older servers read as a number of years; nor `name`, which is cut by its text form only.
const PORTABLE: [Type; 21] = [
    Type::BOOL,
    Type::BYTEA,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::OID,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::NUMERIC,
    Type::TEXT,
    Type::VARCHAR,
    Type::BPCHAR,
    Type::JSON,
    Type::JSONB,
    Type::UUID,
    Type::DATE,
    Type::TIME,
    Type::TIMETZ,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::INET,
];

/// Types of a table's columns, by their names, as OIDs.
pub type ColumnTypes = BTreeMap<String, u32>;

/// Types of the columns of each of the tables, in one round trip. A table that does not exist has none.
///
/// # Errors
/// Any database error.
pub async fn column_types(client: &Client, tables: &[&SetTable]) -> Result<Vec<ColumnTypes>, tokio_postgres::Error> {
    let sql = "select w.place, a.attname::text, a.atttypid
                 from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality w (schema, name, place)
                 join pg_catalog.pg_namespace n on n.nspname = w.schema
                 join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name
                 join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let mut found = vec![ColumnTypes::new(); tables.len()];
    for row in client.query(sql, &[&schemas, &names]).await? {
        let place: i64 = row.try_get(0)?;
        let types = usize::try_from(place - 1).ok().and_then(|place| found.get_mut(place));
        if let Some(types) = types {
            types.insert(row.try_get(1)?, row.try_get(2)?);
        }
    }
    Ok(found)
}

/// Whether these columns may travel in the binary format: each has one and the same built-in type on both sides. Text is dearer,
/// but lets a column be an `int` here and a `bigint` there.
#[must_use]
pub fn travels_binary<'a>(columns: impl IntoIterator<Item = &'a str>, there: &ColumnTypes, here: &ColumnTypes) -> bool {
    columns.into_iter().all(|column| {
        there
            .get(column)
            .is_some_and(|oid| here.get(column) == Some(oid) && PORTABLE.iter().any(|portable| portable.oid() == *oid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(columns: &[(&str, Type)]) -> ColumnTypes {
        columns
            .iter()
            .map(|(name, of)| ((*name).to_owned(), of.oid()))
            .collect()
    }

    #[test]
    fn only_equal_built_in_types_travel_binary() {
        let there = types(&[("id", Type::INT4), ("name", Type::TEXT), ("path", Type::XML)]);
        let wider = types(&[("id", Type::INT8), ("name", Type::TEXT), ("path", Type::XML)]);
        assert!(travels_binary(["id", "name"], &there, &there));
        assert!(!travels_binary(["id", "name"], &there, &wider));
        assert!(travels_binary(["name"], &there, &wider));
        assert!(!travels_binary(["path"], &there, &there), "not portable");
        assert!(!travels_binary(["gone"], &there, &there));
    }
}
