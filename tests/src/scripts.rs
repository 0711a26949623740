//! Spelling things for slonik scripts.

use trunkline_sql::quote_ident;

/// A slonik string literal.
#[must_use]
pub fn slonik_string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Schema and name, each in double quotes, as `fully qualified name` takes them.
#[must_use]
pub fn full_name(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}
