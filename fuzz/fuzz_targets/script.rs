//! Any bytes at all as a slonik script.
#![no_main]

#[path = "../../grammar/tests/grammar/endure.rs"]
mod endure;

libfuzzer_sys::fuzz_target!(|text: &[u8]| endure::endure(text));
