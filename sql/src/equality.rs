//! Where do two nodes' copies of a table differ, and making one equal to the other.
//!
//! Both sides are read in snapshots that the caller has opened at one and the same moment of the data. First each side
//! computes, in one scan, a checksum per bucket of rows (neighbouring keys where the key is an integer, else keys with
//! the same hash), which is little to transfer and needs no order, so collations may differ. Only in buckets that differ
//! the rows' keys and hashes are fetched and matched. Memory is bounded by the number of buckets and by passes over them.
//!
//! A row's hash covers the exact text of every value under [`TEXT_SETTINGS`] (or the value's bits where that is faster):
//! `1.0` and `1.00`, null and the empty string, `0` and `-0` are different, as they are in the log. It has 64 bits; a
//! bucket's checksum is the exact sum of the hashes and the number of rows.
//!
//! `verify` (slonctl) and the copy by differences (slon) both work with this.

mod buckets;
mod driver;
mod hashing;
mod keys;
mod shape;
mod slices;
mod transfer;

pub use buckets::{BucketPlan, Checksum, differing};
pub use driver::{Compared, Comparison, EqualityError, MOST_KEYS};
pub use hashing::{Dialect, ServerFacts};
pub use keys::{KeyDifference, KeyedHash, Side, match_rows};
pub use shape::{ShapeColumn, TableShape};
pub use slices::{Slice, rows_per_slice};
pub use transfer::Transferred;

/// Settings for the rest of the transaction under which equal values have equal text, and names mean the same everywhere.
pub const TEXT_SETTINGS: &str = "set local datestyle to 'ISO, YMD'; set local intervalstyle to postgres; \
     set local timezone to 'UTC'; set local extra_float_digits to 3; set local bytea_output to hex; \
     set local lc_monetary to 'C'; set local client_encoding to 'UTF8'; set local search_path to pg_catalog; \
     set local standard_conforming_strings to on; set local row_security to off; set local xmlbinary to base64";

/// Settings for the rest of the transaction under which whole tables are hashed and grouped quickly.
///
/// The hash table of the most buckets there may be fits into memory (16 bytes of values, some 240 with their sums). Workers, as
/// many as the server's own settings allow, are taken whenever the table is not tiny. Compiling costs more than it saves; version 10 has no `jit`.
const SCAN_SETTINGS: &str = "set local work_mem to '96MB'; set local parallel_setup_cost to 0; set local parallel_tuple_cost to 0; \
     select pg_catalog.set_config(s.name, 'off', true) from pg_catalog.pg_settings s where s.name = 'jit'";
