//! Lost changes as SQL that can be judged and run again.

use super::{ChangeKind, LostChange, SurvivorTable, Values};
use crate::{quote_ident, quote_literal};

/// What is known of a row before a lost change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former<'a> {
    /// These were the values of the columns in question; of an insert none.
    Known(&'a Values),
    /// It is not known, or another row is there now.
    Unknown,
}

/// What a script of such statements begins with: values that are compared as text shall be written as they were read.
pub const SCRIPT_SETTINGS: &str = "set datestyle to 'ISO, YMD'; set intervalstyle to postgres; set timezone to 'UTC';\n\
     set extra_float_digits to 3; set bytea_output to hex;";

/// The statement that does a lost change again, only where the row still is what it was before. As a comment where that is not known;
/// so are scripts and truncations, which do more than to change a row. `table` says how values compare; None: with `=`.
#[must_use]
pub fn statement(change: &LostChange, table: Option<&SurvivorTable>, former: Former<'_>) -> String {
    let column = |name: &str| Column {
        as_text: table.is_some_and(|table| !table.compares(name)),
        generated: table.is_some_and(|table| table.shape().column(name).is_some_and(|column| column.generated)),
        identity_always: table.is_some_and(|table| table.is_identity_always(name)),
    };
    written(change, column, former)
}

/// What decides how a column is written.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    as_text: bool,
    generated: bool,
    identity_always: bool,
}

fn written(change: &LostChange, column: impl Fn(&str) -> Column, former: Former<'_>) -> String {
    let (schema, name) = &change.name;
    let table = format!("{}.{}", quote_ident(schema), quote_ident(name));
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "null".to_owned(), quote_literal);
    let new: Vec<&(String, Option<String>)> = change.new.iter().filter(|(name, _)| !column(name).generated).collect();
    let condition = || {
        let former: &[(String, Option<String>)] = match former {
            Former::Known(values) => values,
            Former::Unknown => &[],
        };
        let parts: Vec<String> = change
            .key
            .iter()
            .chain(
                former
                    .iter()
                    .filter(|(name, _)| !column(name).generated && !change.key.iter().any(|(key, _)| key == name)),
            )
            .map(|(name, text)| match text {
                None => format!("{} is null", quote_ident(name)),
                Some(text) => format!(
                    "{}{} = {}",
                    quote_ident(name),
                    if column(name).as_text { "::text" } else { "" },
                    quote_literal(text)
                ),
            })
            .collect();
        parts.join(" and ")
    };
    let text = match change.kind {
        ChangeKind::Insert => {
            let columns: Vec<String> = new.iter().map(|(name, _)| quote_ident(name)).collect();
            let values: Vec<String> = new.iter().map(|(_, text)| value(text)).collect();
            let overriding = if new.iter().any(|(name, _)| column(name).identity_always) {
                " overriding system value"
            } else {
                ""
            };
            format!(
                "insert into {table} ({}){overriding} values ({});",
                columns.join(", "),
                values.join(", ")
            )
        }
        ChangeKind::Update if new.is_empty() => return format!("-- update of {table} that changed nothing"),
        ChangeKind::Update => {
            let parts: Vec<String> = new
                .iter()
                .map(|(name, text)| format!("{} = {}", quote_ident(name), value(text)))
                .collect();
            format!("update only {table} set {} where {};", parts.join(", "), condition())
        }
        ChangeKind::Delete => format!("delete from only {table} where {};", condition()),
        ChangeKind::Truncate => return commented(&format!("truncate only {table};")),
        ChangeKind::Script => {
            let text = change.new.first().and_then(|(_, text)| text.as_deref());
            return commented(text.unwrap_or_default());
        }
    };
    match former {
        Former::Known(_) => text,
        Former::Unknown => commented(&text),
    }
}

/// Every line behind `--`.
fn commented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("-- {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[(&str, Option<&str>)]) -> Values {
        values
            .iter()
            .map(|(column, value)| ((*column).to_owned(), value.map(str::to_owned)))
            .collect()
    }

    fn change(kind: ChangeKind, new: &[(&str, Option<&str>)], key: &[(&str, Option<&str>)]) -> LostChange {
        LostChange {
            action: 1,
            kind,
            table: Some(1),
            set: Some(1),
            name: ("public".to_owned(), "a\"b".to_owned()),
            index: "pkey".to_owned(),
            new: values(new),
            key: values(key),
        }
    }

    fn plain(_: &str) -> Column {
        Column::default()
    }

    #[test]
    fn statements_quote_what_they_hold() {
        let insert = change(
            ChangeKind::Insert,
            &[("id", Some("1")), ("v", Some("it's \\")), ("n", None)],
            &[],
        );
        assert_eq!(
            written(&insert, plain, Former::Known(&Values::new())),
            "insert into \"public\".\"a\"\"b\" (\"id\", \"v\", \"n\") values ('1', E'it''s \\\\', null);"
        );
        let script = change(
            ChangeKind::Script,
            &[("statement", Some("drop table x;\ndrop table y;"))],
            &[],
        );
        assert_eq!(
            written(&script, plain, Former::Unknown),
            "-- drop table x;\n-- drop table y;"
        );
    }

    #[test]
    fn rows_are_changed_again_only_where_they_are_what_they_were() {
        let update = change(
            ChangeKind::Update,
            &[("id", Some("2")), ("v", None), ("j", Some("{}"))],
            &[("id", Some("1"))],
        );
        let old = values(&[("id", Some("1")), ("v", Some("was")), ("j", Some("[ ]")), ("n", None)]);
        let column = |name: &str| Column {
            as_text: name == "j",
            ..Column::default()
        };
        assert_eq!(
            written(&update, column, Former::Known(&old)),
            "update only \"public\".\"a\"\"b\" set \"id\" = '2', \"v\" = null, \"j\" = '{}' \
             where \"id\" = '1' and \"v\" = 'was' and \"j\"::text = '[ ]' and \"n\" is null;"
        );
        let delete = change(ChangeKind::Delete, &[], &[("id", Some("1"))]);
        assert_eq!(
            written(&delete, plain, Former::Unknown),
            "-- delete from only \"public\".\"a\"\"b\" where \"id\" = '1';"
        );
    }

    #[test]
    fn columns_the_server_fills_are_left_to_it() {
        let insert = change(ChangeKind::Insert, &[("id", Some("1")), ("twice", Some("2"))], &[]);
        let column = |name: &str| Column {
            generated: name == "twice",
            identity_always: name == "id",
            ..Column::default()
        };
        assert_eq!(
            written(&insert, column, Former::Known(&Values::new())),
            "insert into \"public\".\"a\"\"b\" (\"id\") overriding system value values ('1');"
        );
    }
}
