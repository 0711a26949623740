//! The closing table.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::proof::Proof;

/// What is told at the end.
pub(super) struct Closing<'a> {
    pub(super) copied: [i64; 3],
    pub(super) changes: [i64; 3],
    pub(super) lag: [Option<Duration>; 3],
    pub(super) outage: Duration,
    /// From the kill of the origin to the next accepted write.
    pub(super) failover: Duration,
    /// Refused while the set went back to the rejoined node.
    pub(super) back: Duration,
    pub(super) proof: &'a Proof,
}

/// The same for programs; times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct ClosingResult<'a> {
    kind: &'static str,
    rows_copied: [i64; 3],
    changes_replicated: [i64; 3],
    lag_median_ms: [Option<u128>; 3],
    equal: [bool; 3],
    outage_of_move_ms: u128,
    outage_of_failover_ms: u128,
    outage_of_switch_back_ms: u128,
    acknowledged: i64,
    lost_and_listed: i64,
    lost_and_not_listed: i64,
    differences: &'a [String],
    holds: bool,
}

impl Closing<'_> {
    pub(super) fn result(&self) -> ClosingResult<'_> {
        ClosingResult {
            kind: "result",
            rows_copied: self.copied,
            changes_replicated: self.changes,
            lag_median_ms: self.lag.map(|lag| lag.map(|lag| lag.as_millis())),
            equal: self.proof.equal,
            outage_of_move_ms: self.outage.as_millis(),
            outage_of_failover_ms: self.failover.as_millis(),
            outage_of_switch_back_ms: self.back.as_millis(),
            acknowledged: self.proof.acknowledged,
            lost_and_listed: self.proof.listed,
            lost_and_not_listed: self.proof.lost,
            differences: &self.proof.differences,
            holds: self.proof.holds(),
        }
    }
}

impl fmt::Display for Closing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, cells: [String; 3]| {
            writeln!(f, "{label:<26}{:>12}{:>12}{:>12}", cells[0], cells[1], cells[2])
        };
        let dash = || "-".to_owned();
        line("", ["node 1", "node 2", "node 3"].map(str::to_owned))?;
        line("role", ["subscriber", "origin", "subscriber"].map(str::to_owned))?;
        line(
            "rows copied",
            self.copied.map(|rows| if rows == 0 { dash() } else { number(rows) }),
        )?;
        line("changes replicated to it", self.changes.map(number))?;
        line("lag, median", self.lag.map(|lag| lag.map_or_else(dash, milliseconds)))?;
        line(
            "equal",
            self.proof
                .equal
                .map(|equal| if equal { "yes" } else { "NO" }.to_owned()),
        )?;
        writeln!(f)?;
        writeln!(f, "{:<26}{:>12}", "write outage of the move", milliseconds(self.outage))?;
        writeln!(
            f,
            "{:<26}{:>12}",
            "… of kill -9 and failover",
            milliseconds(self.failover)
        )?;
        writeln!(f, "{:<26}{:>12}", "… of the switch back", milliseconds(self.back))?;
        let listed = number(self.proof.listed);
        writeln!(f, "{:<26}{listed:>12}", "died with node 2, listed")?;
        let lost = format!("{} of {}", number(self.proof.lost), number(self.proof.acknowledged));
        writeln!(f, "{:<26}{lost:>12}", "lost and not listed")?;
        for difference in &self.proof.differences {
            writeln!(f, "differs: {difference}")?;
        }
        write!(
            f,
            "equal: {} ({} tables and sequences compared on 3 nodes)",
            if self.proof.holds() { "yes" } else { "NO" },
            self.proof.compared
        )
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = if value < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        let texts = [0, 7, 999, 1_000, 12_345, 1_234_567, -1_000].map(number);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567", "-1,000"]);
    }
}
