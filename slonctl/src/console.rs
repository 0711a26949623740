//! What slonctl says, to people or as JSON, and never failing because nobody listens.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

/// Where slonctl's words go. With `--json` standard output holds JSON only: one document of a command that reports, one
/// object per line of a command that acts.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    json: bool,
    started: Arc<Instant>,
}

/// A line of a command that acts, as JSON.
#[derive(Debug, Serialize)]
struct StepLine<'a> {
    /// When.
    at: String,
    /// Seconds since the command began.
    elapsed: f64,
    /// Node it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<i32>,
    /// What kind of line this is.
    kind: &'a str,
    /// In words.
    text: &'a str,
}

impl Console {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            started: Arc::new(Instant::now()),
        }
    }

    /// Whether the reader is a program.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Time since the command began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Text for people, with its line feeds; dropped where the reader is a program.
    pub(crate) fn text(&self, text: &str) {
        if !self.json {
            deliver(std::io::stdout().lock(), text);
        }
    }

    /// A line for people; dropped where the reader is a program.
    pub(crate) fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// A line on standard error, for people and programs.
    pub(crate) fn complain(text: &str) {
        deliver(std::io::stderr().lock(), &format!("slonctl: {text}\n"));
    }

    /// Something that happened, with its time and node.
    pub(crate) fn step(&self, node: Option<i32>, text: &str) {
        self.event(node, "step", text);
    }

    /// Like [`Self::step`], with a kind that programs look at.
    pub(crate) fn event(&self, node: Option<i32>, kind: &str, text: &str) {
        if self.json {
            self.document(&StepLine {
                at: Timestamp::now().to_string(),
                elapsed: milliseconds(self.elapsed()),
                node,
                kind,
                text,
            });
            return;
        }
        let now = jiff::Zoned::now().strftime("%H:%M:%S%.3f").to_string();
        let place = node.map_or_else(String::new, |node| format!("node {node}"));
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        self.line(&format!("{now}  {place:<8}  {first}"));
        for line in lines {
            self.line(&format!("{:12}  {:<8}  {line}", "", ""));
        }
    }

    /// A longer text that stands for itself: without time and node for people, as an event for programs.
    pub(crate) fn passage(&self, kind: &str, text: &str) {
        if self.json {
            self.event(None, kind, text);
        } else {
            self.line(&format!("{text}\n"));
        }
    }

    /// One JSON document, on one line; dropped where the reader is a person.
    pub(crate) fn document(&self, document: &impl Serialize) {
        if !self.json {
            return;
        }
        match serde_json::to_string(document) {
            Ok(text) => deliver(std::io::stdout().lock(), &format!("{text}\n")),
            // Cannot happen with our own types, but must not pass in silence.
            Err(error) => Self::complain(&format!("the answer cannot be written as JSON: {error}")),
        }
    }
}

/// Long messages that were shown already: what several nodes say in the same words is shown once.
#[derive(Debug, Default)]
pub(crate) struct Said(Vec<String>);

impl Said {
    /// The text, or `as above` in the place of a long message that was shown before.
    pub(crate) fn once(&mut self, text: &str) -> String {
        const LONG: usize = 60;
        if text.len() < LONG {
            return text.to_owned();
        }
        let shown = self
            .0
            .iter()
            .find(|known| known.ends_with(text) || text.ends_with(known.as_str()));
        if let Some(known) = shown {
            return format!("{}as above", &text[..text.len().saturating_sub(known.len())]);
        }
        self.0.push(text.to_owned());
        text.to_owned()
    }
}

/// Seconds, exact to the millisecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Writes and flushes. A reader that went away must not stop a switch half-way, so that error is dropped.
fn deliver(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`.
pub(crate) fn age(seconds: f64) -> String {
    // A clock that lags behind the origin's makes young things look unborn.
    let seconds = seconds.max(0.0);
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |time| time.as_secs());
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        7200..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_shown_once() {
        let reason =
            "cannot connect to beta:5432/app as postgres: connection to 10.0.0.2:5432 failed: Connection refused";
        let mut said = Said::default();
        assert_eq!(said.once("refused"), "refused");
        assert_eq!(said.once("refused"), "refused");
        assert_eq!(said.once(reason), reason);
        assert_eq!(said.once(&format!("node 2: {reason}")), "node 2: as above");
        assert_eq!(said.once(&reason[5..]), "as above");
        assert_eq!(said.once(&reason[..70]), &reason[..70]);
    }

    #[test]
    fn ages_are_readable() {
        let texts = [-1.0, 0.04, 9.96, 119.0, 185.0, 7800.0, 200_000.0].map(age);
        assert_eq!(
            texts,
            ["0.0 s", "0.0 s", "9 s", "119 s", "3 min 5 s", "2 h 10 min", "2 d 7 h"]
        );
    }
}
