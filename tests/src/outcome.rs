//! Lines of the table of scenarios in the manual: what a test saw, gathered by `make scenarios`.

use std::time::Duration;

/// Prints what became of a scenario. `refused`: for how long nobody accepted writes.
pub fn print_outcome(scenario: &str, happens: &str, refused: Option<Duration>, lost: &str) {
    let refused = refused.map_or_else(|| "-".to_owned(), |refused| format!("{} ms", refused.as_millis()));
    println!("OUTCOME | {scenario} | {happens} | {refused} | {lost} |");
}
