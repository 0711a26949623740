//! Decoding and folding of log rows, without a database: `make microbench`.

#![allow(clippy::unwrap_used, missing_docs)]

use bytes::{BufMut, Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use trunkline_engine::fold::{Change, Fold};
use trunkline_engine::log_row::{Decoder, LogRow};

const ROWS: i32 = 10_000;

fn main() {
    divan::main();
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap());
    out.extend_from_slice(bytes);
}

/// A tuple of the log with some pairs of column and value.
fn tuple(action: i32, command: u8, changed: i32, pairs: &[(&str, &str)]) -> Bytes {
    let mut array = BytesMut::new();
    for word in [1, 0, 25, i32::try_from(pairs.len()).unwrap() * 2, 1] {
        array.put_i32(word);
    }
    for (name, value) in pairs {
        put(&mut array, name.as_bytes());
        put(&mut array, value.as_bytes());
    }
    let mut out = BytesMut::new();
    out.put_i16(9);
    put(&mut out, &1i32.to_be_bytes());
    put(&mut out, &700i64.to_be_bytes());
    put(&mut out, &7i32.to_be_bytes());
    put(&mut out, &i64::from(action).to_be_bytes());
    put(&mut out, b"public");
    put(&mut out, b"rows");
    put(&mut out, &[command]);
    put(&mut out, &changed.to_be_bytes());
    put(&mut out, &array);
    out.freeze()
}

/// COPY data as a server sends them: one message per tuple.
fn messages() -> Vec<Bytes> {
    let mut header = BytesMut::new();
    header.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    let mut messages = vec![header.freeze()];
    for row in 0..ROWS {
        let (id, a) = (row.to_string(), (row % 1000).to_string());
        let text = "c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862c";
        messages.push(tuple(
            row,
            b'I',
            0,
            &[
                ("id", &id),
                ("a", &a),
                ("b", text),
                ("ts", "2026-01-01 00:00:00.123456+00"),
            ],
        ));
    }
    messages
}

fn rows() -> Vec<LogRow> {
    let (mut decoder, mut rows) = (Decoder::default(), Vec::new());
    for message in messages() {
        decoder.push(message, &mut rows).unwrap();
    }
    rows
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let messages = messages();
    bencher
        .counter(ItemsCount::new(usize::try_from(ROWS).unwrap()))
        .bench_local(|| {
            let (mut decoder, mut rows) = (Decoder::default(), Vec::new());
            for message in &messages {
                decoder.push(message.clone(), &mut rows).unwrap();
            }
            black_box(rows)
        });
}

/// Each row inserted once, or so many updates of each of fewer rows.
#[divan::bench(args = [1, 10, 1000])]
fn fold(bencher: Bencher<'_, '_>, changes_per_row: usize) {
    let rows = rows();
    let values: Vec<Vec<Option<&[u8]>>> = rows
        .iter()
        .map(|row| row.arguments().skip(1).step_by(2).collect())
        .collect();
    bencher.counter(ItemsCount::new(rows.len())).bench_local(|| {
        let mut fold = Fold::new(1, 256);
        for (index, new) in values.iter().enumerate() {
            let key = [values[index % (values.len() / changes_per_row)][0].unwrap()];
            let change = if changes_per_row == 1 {
                Change::Insert {
                    key: &key,
                    columns: &[0, 1, 2, 3],
                    values: new,
                }
            } else {
                Change::Update {
                    key: &key,
                    moved_to: None,
                    columns: &[1, 2],
                    values: &new[1..3],
                }
            };
            fold.push(change).unwrap();
        }
        black_box(fold.finish())
    });
}
