//! Lines of the table of scenarios in the manual: what a test saw, gathered by `make scenarios`.

use std::time::Duration;

/// Prints what became of a scenario. `refused`: for how long nobody accepted writes.
pub fn print_outcome(scenario: &str, happens: &str, refused: Option<Duration>, lost: &str) {
    let refused = match refused {
        None => "-".to_owned(),
        Some(time) if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
    };
    println!("OUTCOME | {scenario} | {happens} | {refused} | {lost} |");
}
