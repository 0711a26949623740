//! Scripts of the corpus, damaged at random: nothing panics, nothing hangs. The long form of this is the fuzz target.

use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::corpus;
use crate::endure::endure;

/// Damaged scripts of one run.
const RUNS: usize = 1500;
/// Far more than any of them takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bits that matter to the language.
const BITS: &[&str] = &[
    "'",
    "''",
    ";",
    "(",
    ")",
    ",",
    "{",
    "}",
    "@",
    "@main",
    "#",
    "<",
    ">",
    "=",
    "\n",
    "\0",
    "\u{feff}",
    "é",
    "define x ",
    "define main ",
    "include <",
    "cluster name = shop;",
    "node 1 admin conninfo = 'x';",
    "try {",
    "on error {",
    "exit 1;",
    "exit -",
    "99999999999",
    "trigger",
    "serial",
    "wait for event",
    "fully qualified name = ",
];

/// The seed of `TRUNKLINE_TEST_SEED`, or a new one.
fn seed() -> u64 {
    std::env::var("TRUNKLINE_TEST_SEED").map_or_else(
        |_| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.map_or(1, |since| since.as_secs() ^ u64::from(since.subsec_nanos()))
        },
        |seed| seed.parse().expect("TRUNKLINE_TEST_SEED is a number"),
    )
}

fn damage(text: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    let at = random.random_range(0..=text.len());
    let end = random.random_range(at..=text.len().min(at + 40));
    match random.random_range(0..6) {
        0 => {
            text.drain(at..end);
        }
        1 => {
            let piece = text.get(at..end).unwrap_or_default().to_vec();
            text.splice(at..at, piece);
        }
        2 => {
            let bit = BITS.choose(random).copied().unwrap_or_default();
            text.splice(at..at, bit.bytes());
        }
        3 => {
            if let Some(byte) = text.get_mut(at) {
                *byte = random.random();
            }
        }
        4 => {
            let from = random.random_range(0..=other.len());
            let to = random.random_range(from..=other.len());
            text.splice(at..end, other.get(from..to).unwrap_or_default().to_vec());
        }
        _ => text.truncate(at),
    }
}

#[test]
fn damaged_scripts_are_read_to_their_end() {
    let seed = seed();
    println!("TRUNKLINE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let scripts: Vec<Vec<u8>> = ["plain", "odd", "old", "broken", "strict"]
        .iter()
        .flat_map(|verdict| corpus::scripts(verdict))
        .map(|(_, text)| text)
        .collect();
    for text in &scripts {
        endure(text);
    }
    for _ in 0..RUNS {
        let (Some(text), Some(other)) = (scripts.choose(&mut random), scripts.choose(&mut random)) else {
            panic!("the corpus is empty");
        };
        let mut text = text.clone();
        for _ in 0..random.random_range(1..6) {
            damage(&mut text, other, &mut random);
        }
        let begin = Instant::now();
        endure(&text);
        assert!(
            begin.elapsed() < PATIENCE,
            "took {:?}: {}",
            begin.elapsed(),
            String::from_utf8_lossy(&text)
        );
    }
}
