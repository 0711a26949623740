//! The statements that change a subscriber's tables, built from what the catalog says about them.

use std::fmt::Write as _;

use crate::quote_ident;
use crate::relation::{Column, Relation, Transport};

/// Parameter type of a bulk column.
fn bulk_type(column: &Column) -> &str {
    match column.transport {
        Transport::Int2 => "pg_catalog.int2[]",
        Transport::Int4 => "pg_catalog.int4[]",
        Transport::Int8 => "pg_catalog.int8[]",
        Transport::Text | Transport::Cast => "pg_catalog.text[]",
        Transport::Literal => column.array_type.as_deref().unwrap_or("pg_catalog.text[]"),
    }
}

/// `unnest($1::t[], …) as v (c1, …)` for the columns.
fn unnest(columns: &[&Column]) -> String {
    let mut parameters = String::new();
    let mut names = String::new();
    for (index, column) in columns.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let number = index + 1;
        let _ = write!(parameters, "{separator}${number}::{}", bulk_type(column));
        let _ = write!(names, "{separator}c{number}");
    }
    format!("unnest({parameters}) as v ({names})")
}

/// The value of bulk column `index` (from 0), cast where its transport asks for it.
fn value(column: &Column, index: usize) -> String {
    if column.transport == Transport::Cast {
        format!("v.c{}::{}", index + 1, column.type_name)
    } else {
        format!("v.c{}", index + 1)
    }
}

fn key_condition(relation: &Relation, first: usize) -> String {
    let mut condition = String::new();
    for (offset, position) in relation.key.iter().enumerate() {
        let column = &relation.columns[*position];
        let separator = if offset == 0 { "" } else { " and " };
        let equals = column.equals.as_deref().unwrap_or("operator(pg_catalog.=)");
        let _ = write!(
            condition,
            "{separator}t.{} {equals} {}",
            quote_ident(&column.name),
            value(column, first + offset)
        );
    }
    condition
}

/// Bulk delete: one array parameter per key column.
#[must_use]
pub fn bulk_delete(relation: &Relation) -> String {
    let columns: Vec<&Column> = relation
        .key
        .iter()
        .map(|position| &relation.columns[*position])
        .collect();
    format!(
        "delete from only {} t using {} where {}",
        relation.qualified,
        unnest(&columns),
        key_condition(relation, 0)
    )
}

/// Bulk update of the columns at `set`: one array parameter per changed column, then one per key column.
#[must_use]
pub fn bulk_update(relation: &Relation, set: &[usize]) -> String {
    let columns: Vec<&Column> = set
        .iter()
        .chain(&relation.key)
        .map(|position| &relation.columns[*position])
        .collect();
    let mut assignments = String::new();
    for (index, column) in columns.iter().take(set.len()).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(
            assignments,
            "{separator}{} = {}",
            quote_ident(&column.name),
            value(column, index)
        );
    }
    format!(
        "update only {} t set {assignments} from {} where {}",
        relation.qualified,
        unnest(&columns),
        key_condition(relation, set.len())
    )
}

/// Bulk insert of the columns at `set`: one array parameter per column.
#[must_use]
pub fn bulk_insert(relation: &Relation, set: &[usize]) -> String {
    let columns: Vec<&Column> = set.iter().map(|position| &relation.columns[*position]).collect();
    let values: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| value(column, index))
        .collect();
    format!(
        "insert into {} ({}) overriding system value select {} from {}",
        relation.qualified,
        names(&columns),
        values.join(", "),
        unnest(&columns)
    )
}

/// `COPY … FROM STDIN` (text) of the columns at `set`.
#[must_use]
pub fn copy_in(relation: &Relation, set: &[usize]) -> String {
    let columns: Vec<&Column> = set.iter().map(|position| &relation.columns[*position]).collect();
    format!("copy {} ({}) from stdin", relation.qualified, names(&columns))
}

fn names(columns: &[&Column]) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| quote_ident(&column.name)).collect();
    quoted.join(", ")
}

/// Insert of one row: one parameter per column at `set`, typed by the server.
#[must_use]
pub fn insert_row(relation: &Relation, set: &[usize]) -> String {
    if set.is_empty() {
        return format!("insert into {} default values", relation.qualified);
    }
    let columns: Vec<&Column> = set.iter().map(|position| &relation.columns[*position]).collect();
    let parameters: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    format!(
        "insert into {} ({}) overriding system value values ({})",
        relation.qualified,
        names(&columns),
        parameters.join(", ")
    )
}

/// Update of one row: one parameter per column at `set`, then one per column at `key`.
#[must_use]
pub fn update_row(relation: &Relation, set: &[usize], key: &[usize]) -> String {
    let mut assignments = String::new();
    for (index, position) in set.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(
            assignments,
            "{separator}{} = ${}",
            quote_ident(&relation.columns[*position].name),
            index + 1
        );
    }
    format!(
        "update only {} set {assignments} where {}",
        relation.qualified,
        row_condition(relation, key, set.len())
    )
}

/// Delete of one row: one parameter per column at `key`.
#[must_use]
pub fn delete_row(relation: &Relation, key: &[usize]) -> String {
    format!(
        "delete from only {} where {}",
        relation.qualified,
        row_condition(relation, key, 0)
    )
}

fn row_condition(relation: &Relation, key: &[usize], first: usize) -> String {
    let mut condition = String::new();
    for (offset, position) in key.iter().enumerate() {
        let column = &relation.columns[*position];
        let separator = if offset == 0 { "" } else { " and " };
        let equals = column.equals.as_deref().unwrap_or("operator(pg_catalog.=)");
        let _ = write!(
            condition,
            "{separator}{} {equals} ${}",
            quote_ident(&column.name),
            first + offset + 1
        );
    }
    condition
}

/// What a logged TRUNCATE does on a subscriber.
#[must_use]
pub fn truncate(relation: &Relation) -> String {
    format!("truncate only {} cascade", relation.qualified)
}

/// Replacement of one row, for changes of an `identity always` column, which UPDATE refuses: one parameter per column at
/// `set`, then one per column at `key`.
#[must_use]
pub fn replace_row(relation: &Relation, set: &[usize], key: &[usize]) -> String {
    let written: Vec<usize> = (0..relation.columns.len())
        .filter(|position| !relation.columns[*position].generated)
        .collect();
    let columns: Vec<&Column> = written.iter().map(|position| &relation.columns[*position]).collect();
    let values: Vec<String> = written
        .iter()
        .map(|position| match set.iter().position(|changed| changed == position) {
            Some(index) => format!("${}::{}", index + 1, relation.columns[*position].type_name),
            None => format!("g.{}", quote_ident(&relation.columns[*position].name)),
        })
        .collect();
    format!(
        "with g as (delete from only {0} where {1} returning *) \
         insert into {0} ({2}) overriding system value select {3} from g",
        relation.qualified,
        row_condition(relation, key, set.len()),
        names(&columns),
        values.join(", ")
    )
}
