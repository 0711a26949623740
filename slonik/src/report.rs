//! What slonik says: `file:line: text`, on the right stream, and never failing because nobody listens.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::error::{DbError, Severity};
use trunkline_sql::session::NoticeSink;

/// Where slonik's lines go.
pub trait Output: Send + Sync {
    /// A text for standard output, with its line feeds.
    fn out(&self, text: &str);
    /// A text for standard error, with its line feeds.
    fn err(&self, text: &str);
}

/// The process's own standard output and error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal;

impl Output for Terminal {
    fn out(&self, text: &str) {
        deliver(std::io::stdout().lock(), text);
    }

    fn err(&self, text: &str) {
        deliver(std::io::stderr().lock(), text);
    }
}

/// Writes and flushes. A reader that went away must not stop a script half-way, so that error is dropped.
fn deliver(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// The voice of one running script: knows the statement that is being executed.
#[derive(Clone)]
pub(crate) struct Report {
    inner: Arc<Inner>,
}

struct Inner {
    output: Arc<dyn Output>,
    /// Lines kept instead of printed, while a script is only planned.
    kept: Option<Mutex<Vec<String>>>,
    place: Mutex<String>,
    quiet: AtomicBool,
}

impl Report {
    pub(crate) fn new(output: Arc<dyn Output>) -> Self {
        Self {
            inner: Arc::new(Inner {
                output,
                kept: None,
                place: Mutex::default(),
                quiet: AtomicBool::new(false),
            }),
        }
    }

    /// A voice that prints nothing: what it hears is kept.
    pub(crate) fn keeping() -> Self {
        Self {
            inner: Arc::new(Inner {
                output: Arc::new(Terminal),
                kept: Some(Mutex::default()),
                place: Mutex::default(),
                quiet: AtomicBool::new(false),
            }),
        }
    }

    /// Takes the lines that were kept.
    pub(crate) fn take(&self) -> Vec<String> {
        let kept = self.inner.kept.as_ref();
        kept.map_or_else(Vec::new, |kept| {
            std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Keeps a line, if lines are kept.
    fn keep(&self, text: &str) -> bool {
        let Some(kept) = &self.inner.kept else { return false };
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.to_owned());
        true
    }

    /// Names the statement that the following lines belong to.
    pub(crate) fn set_place(&self, place: String) {
        *self.inner.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// `file:line` of the statement that is being executed.
    pub(crate) fn place(&self) -> String {
        self.inner.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A line on standard output.
    pub(crate) fn say(&self, text: &str) {
        if self.keep(text) {
            return;
        }
        self.inner.output.out(&format!("{}: {text}\n", self.place()));
    }

    /// A line on standard error.
    pub(crate) fn complain(&self, text: &str) {
        if self.keep(text) {
            return;
        }
        self.inner.output.err(&format!("{}: {text}\n", self.place()));
    }

    /// A line on standard error without a place in front.
    pub(crate) fn complain_bare(&self, text: &str) {
        if self.keep(text) {
            return;
        }
        self.inner.output.err(&format!("{text}\n"));
    }

    /// Until called with false, NOTICEs of servers are dropped; warnings are not.
    pub(crate) fn quiet(&self, quiet: bool) {
        self.inner.quiet.store(quiet, Ordering::Relaxed);
    }

    /// Receives the messages that servers send beside their answers.
    pub(crate) fn notice_sink(&self) -> NoticeSink {
        let report = self.clone();
        Arc::new(move |message: &DbError| {
            let warning = message.parsed_severity() == Some(Severity::Warning);
            if warning || !report.inner.quiet.load(Ordering::Relaxed) {
                report.complain(&notice_text(message));
            }
        })
    }
}

/// Most lines of DETAIL that are shown: `drop … cascade` lists a hundred.
const DETAIL_LINES: usize = 10;

fn notice_text(message: &DbError) -> String {
    let mut text = format!("{}:  {}", message.severity(), message.message());
    if let Some(detail) = message.detail() {
        let mut lines: Vec<&str> = detail.lines().take(DETAIL_LINES).collect();
        if detail.lines().nth(DETAIL_LINES).is_some() {
            lines.push("…");
        }
        text.push_str("\nDETAIL:  ");
        text.push_str(&lines.join("\n"));
    }
    if let Some(hint) = message.hint() {
        text.push_str("\nHINT:  ");
        text.push_str(hint);
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Keeps what was said.
    #[derive(Default)]
    pub(crate) struct Kept {
        pub(crate) out: Mutex<String>,
        pub(crate) err: Mutex<String>,
    }

    impl Output for Kept {
        fn out(&self, text: &str) {
            self.out.lock().unwrap().push_str(text);
        }

        fn err(&self, text: &str) {
            self.err.lock().unwrap().push_str(text);
        }
    }

    #[test]
    fn every_line_names_the_statement() {
        let kept = Arc::new(Kept::default());
        let report = Report::new(kept.clone());
        report.set_place("a.sk:7".into());
        report.say("hello");
        report.complain("alas");
        assert_eq!(*kept.out.lock().unwrap(), "a.sk:7: hello\n");
        assert_eq!(*kept.err.lock().unwrap(), "a.sk:7: alas\n");
    }
}
