//! Parsing of slonik scripts: `make microbench`.

#![allow(clippy::expect_used, missing_docs)]

use std::fmt::Write as _;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use trunkline_grammar::{ParseOptions, parse_text};

fn main() {
    divan::main();
}

/// A preamble, a set, and so many tables.
fn script(tables: usize) -> String {
    let mut script = "cluster name = bench;\nnode 1 admin conninfo = 'host=one dbname=app';\n\
                      node 2 admin conninfo = 'host=two dbname=app';\ncreate set (id = 1, origin = 1, comment = 'all');\n"
        .to_owned();
    for table in 1..=tables {
        writeln!(
            script,
            "set add table (set id = 1, origin = 1, id = {table}, fully qualified name = 'public.t{table}', comment = 't');"
        )
        .expect("a String takes everything");
    }
    script
}

#[divan::bench(args = [10, 1000, 10_000])]
fn statements(bencher: Bencher<'_, '_>, tables: usize) {
    let script = script(tables);
    bencher
        .counter(ItemsCount::new(tables))
        .bench_local(|| black_box(parse_text("bench.slonik", script.clone(), &ParseOptions::default())));
}
