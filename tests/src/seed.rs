//! Randomness that can be replayed.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Environment variable that replays a seed.
const SEED_VARIABLE: &str = "TRUNKLINE_TEST_SEED";

/// The seed of one test run.
#[derive(Debug, Clone, Copy)]
pub struct Seed(u64);

impl Seed {
    /// The generator number `stream` of this seed; the same numbers give the same sequence.
    #[must_use]
    pub fn generator(self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream))
    }
}

/// Takes the seed from `TRUNKLINE_TEST_SEED` or makes one, and prints it (the test runner shows it when the test fails).
#[must_use]
pub fn test_seed(test: &str) -> Seed {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{SEED_VARIABLE}=`{value}` is not a number")),
        Err(_) => u64::from(rand::random::<u32>()),
    };
    println!("{test}: replay with {SEED_VARIABLE}={seed}");
    Seed(seed)
}
