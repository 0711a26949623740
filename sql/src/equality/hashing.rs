//! How a row becomes a number that is the same on both servers.

use std::fmt::Write as _;

use tokio_postgres::Client;

use super::{ShapeColumn, TableShape};
use crate::{quote_ident, quote_literal};

/// What decides whether two servers hash alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: i32,
    /// Encoding of the database.
    pub encoding: String,
    /// The hash of a known text; None before version 11, which has no such function.
    pub probe: Option<i64>,
}

impl ServerFacts {
    /// Asks the server.
    ///
    /// # Errors
    /// Any database error.
    pub async fn read(client: &Client, version: i32) -> Result<Self, tokio_postgres::Error> {
        let probe = if version >= 110_000 {
            "pg_catalog.hashtextextended('trunkline'::pg_catalog.text collate pg_catalog.\"C\", 11)"
        } else {
            "null::pg_catalog.int8"
        };
        let sql = format!("select pg_catalog.current_setting('server_encoding'), {probe}");
        let row = client.query_one(&sql, &[]).await?;
        Ok(Self {
            version,
            encoding: row.try_get(0)?,
            probe: row.try_get(1)?,
        })
    }
}

/// The way two servers hash, agreed between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// The servers' own 64-bit hash functions, chained from column to column; else MD5 of the whole row's text.
    chained: bool,
    /// The databases have different encodings: texts are converted to UTF-8 first.
    convert: bool,
    /// One server writes floats in the shortest exact form (12 and later), the other does not: their bits are hashed.
    float_bits: bool,
    /// Stands for null; random, so that no value can be equal to it.
    null: String,
}

/// How the value of a column enters the hash.
enum Entry {
    /// By its bits: the type's own hash function takes it. None of the values is null where `nullable` is false.
    Bits { kind: Bits, nullable: bool },
    /// As text, never null.
    Text(String),
}

/// Types whose values are few bits.
#[derive(Clone, Copy)]
enum Bits {
    Int4,
    Int8,
    Uuid,
}

impl Bits {
    /// Something that stands in the place of null, beside a mark that it is null.
    fn nothing(self) -> &'static str {
        match self {
            Self::Int4 | Self::Int8 => "0",
            Self::Uuid => "'00000000-0000-0000-0000-000000000000'::pg_catalog.uuid",
        }
    }
}

impl Dialect {
    /// Finds the fastest way that is the same on both servers.
    #[must_use]
    pub fn agree(source: &ServerFacts, target: &ServerFacts) -> Self {
        Self {
            chained: source.probe.is_some() && source.probe == target.probe,
            convert: source.encoding != target.encoding,
            float_bits: (source.version >= 120_000) != (target.version >= 120_000),
            null: format!("null {:032x}", rand::random::<u128>()),
        }
    }

    /// An expression of the row's hash over the columns that both sides have, of type bigint and never null.
    #[must_use]
    pub(super) fn row_hash(&self, source: &TableShape, target: &TableShape) -> String {
        let columns: Vec<&ShapeColumn> = source.columns.iter().collect();
        self.hash(&columns, target, 0)
    }

    /// The same over the columns of the key.
    #[must_use]
    pub(super) fn key_hash(&self, source: &TableShape, target: &TableShape) -> String {
        let columns: Vec<&ShapeColumn> = source.key.iter().map(|position| &source.columns[*position]).collect();
        self.hash(&columns, target, 7)
    }

    fn hash(&self, columns: &[&ShapeColumn], target: &TableShape, seed: i64) -> String {
        if self.chained {
            return self.chain(columns, target, seed);
        }
        let mut row = String::new();
        for column in columns {
            let _ = write!(row, ", {}", self.text(column, target.column(&column.name)));
        }
        format!(
            "('x' operator(pg_catalog.||) pg_catalog.substr(pg_catalog.md5(pg_catalog.convert_to(\
             row({seed}{row})::pg_catalog.text, 'UTF8')), 1, 16))::pg_catalog.bit(64)::pg_catalog.int8"
        )
    }

    /// The hash of each column is the seed of the next one's: nothing cancels out, and no text of the row is built.
    fn chain(&self, columns: &[&ShapeColumn], target: &TableShape, seed: i64) -> String {
        let mut chain = format!("{seed}::pg_catalog.int8");
        for column in columns {
            chain = match self.entry(column, target.column(&column.name)) {
                Entry::Bits { kind, nullable } => {
                    let name = quote_ident(&column.name);
                    let (value, seed) = if nullable {
                        let mark = format!("pg_catalog.hashint4extended(({name} is null)::pg_catalog.int4, {chain})");
                        (format!("coalesce({name}, {})", kind.nothing()), mark)
                    } else {
                        (name, chain)
                    };
                    match kind {
                        Bits::Int4 => format!("pg_catalog.hashint4extended({value}::pg_catalog.int4, {seed})"),
                        // The server folds the halves of a bigint into 32 bits; with the upper half beside it nothing is lost.
                        Bits::Int8 => format!(
                            "pg_catalog.hashint4extended(({value}::pg_catalog.int8 operator(pg_catalog.>>) 32)::pg_catalog.int4, \
                             pg_catalog.hashint8extended({value}::pg_catalog.int8, {seed}))"
                        ),
                        Bits::Uuid => format!("pg_catalog.uuid_hash_extended({value}, {seed})"),
                    }
                }
                Entry::Text(text) => {
                    let text = if self.convert {
                        format!("pg_catalog.encode(pg_catalog.convert_to({text}, 'UTF8'), 'hex')")
                    } else {
                        text
                    };
                    format!("pg_catalog.hashtextextended(({text}) collate pg_catalog.\"C\", {chain})")
                }
            };
        }
        chain
    }

    fn entry(&self, column: &ShapeColumn, there: Option<&ShapeColumn>) -> Entry {
        const INT2: u32 = 21;
        const INT4: u32 = 23;
        const INT8: u32 = 20;
        const UUID: u32 = 2950;
        let types = Types::of(column, there);
        let kind = if types.are(&[INT2, INT4]) {
            Bits::Int4
        } else if types.are(&[INT2, INT4, INT8]) {
            Bits::Int8
        } else if types.are(&[UUID]) {
            Bits::Uuid
        } else {
            return Entry::Text(self.text(column, there));
        };
        Entry::Bits {
            kind,
            nullable: is_nullable(column, there),
        }
    }

    /// The value as text, an expression that is never null.
    fn text(&self, column: &ShapeColumn, there: Option<&ShapeColumn>) -> String {
        const TEXT: u32 = 25;
        const VARCHAR: u32 = 1043;
        const TIMESTAMP: u32 = 1114;
        const TIMESTAMPTZ: u32 = 1184;
        let name = quote_ident(&column.name);
        let null = quote_literal(&self.null);
        let types = Types::of(column, there);
        let nullable = is_nullable(column, there);
        // Their output is slow; their bits are 64 on every server, whatever zone the session is in.
        let plain = if types.are(&[TEXT, VARCHAR]) {
            Some(format!("{name}::pg_catalog.text"))
        } else if types.are(&[TIMESTAMP]) {
            Some(format!("pg_catalog.encode(pg_catalog.timestamp_send({name}), 'hex')"))
        } else if types.are(&[TIMESTAMPTZ]) {
            Some(format!("pg_catalog.encode(pg_catalog.timestamptz_send({name}), 'hex')"))
        } else {
            None
        };
        if let Some(text) = plain {
            return if nullable {
                format!("coalesce({text}, {null})")
            } else {
                text
            };
        }
        // concat() writes a value by its type's output function, a cast to text may do otherwise (`char(n)`, `inet`).
        let text = if self.float_bits {
            float_bits(&name, column.type_oid)
        } else {
            None
        };
        let text = text.unwrap_or_else(|| format!("pg_catalog.concat({name})"));
        if !nullable {
            return text;
        }
        // A composite of nulls `is null`, but is distinct from null.
        format!("case when {name} is not distinct from null then {null} else {text} end")
    }
}

/// The types a column has on both sides.
struct Types([u32; 2]);

impl Types {
    fn of(column: &ShapeColumn, there: Option<&ShapeColumn>) -> Self {
        Self([column.type_oid, there.map_or(0, |column| column.type_oid)])
    }

    /// Whether both are among these.
    fn are(&self, among: &[u32]) -> bool {
        self.0.iter().all(|oid| among.contains(oid))
    }
}

/// Whether either side may have nulls in the column.
fn is_nullable(column: &ShapeColumn, there: Option<&ShapeColumn>) -> bool {
    !(column.not_null && there.is_some_and(|column| column.not_null))
}

/// Text of the bits of floats and arrays of floats; None for other types.
fn float_bits(name: &str, type_oid: u32) -> Option<String> {
    match type_oid {
        700 | 701 => Some(format!(
            "pg_catalog.encode(pg_catalog.float8send({name}::pg_catalog.float8), 'hex')"
        )),
        1021 | 1022 => Some(format!(
            "pg_catalog.concat(pg_catalog.array_dims({name}), (select pg_catalog.string_agg(coalesce(pg_catalog.encode(\
             pg_catalog.float8send(e.v::pg_catalog.float8), 'hex'), 'null'), ',' order by e.n) \
             from pg_catalog.unnest({name}) with ordinality as e (v, n)))"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: i32, encoding: &str, probe: Option<i64>) -> ServerFacts {
        ServerFacts {
            version,
            encoding: encoding.to_owned(),
            probe,
        }
    }

    #[test]
    fn servers_that_hash_differently_agree_on_md5() {
        let new = facts(150_000, "UTF8", Some(1));
        assert!(Dialect::agree(&new, &new).chained);
        assert!(!Dialect::agree(&new, &facts(100_000, "UTF8", None)).chained);
        assert!(!Dialect::agree(&new, &facts(150_000, "UTF8", Some(2))).chained);
        assert!(Dialect::agree(&new, &facts(150_000, "LATIN1", Some(1))).convert);
        assert!(Dialect::agree(&new, &facts(110_000, "UTF8", Some(1))).float_bits);
        assert!(!Dialect::agree(&new, &facts(180_000, "UTF8", Some(1))).float_bits);
    }
}
