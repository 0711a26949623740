//! `execute script`.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use trunkline_grammar::{Id, ScriptSource};
use trunkline_sql::admin::{self, LockLimits};

use super::ddl_refusal::SqlText;
use super::ddl_text::{Piece, fill_in, split};
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::Announcements;

impl Interpreter<'_> {
    /// Captures and runs each statement on the event node, all in its transaction. The change travels with the next SYNC.
    pub(super) async fn execute_script(
        &mut self,
        source: &ScriptSource,
        event_node: Id,
        only_on: &[Id],
    ) -> Result<(), Failure> {
        let (file, text) = match source {
            ScriptSource::Sql(text) => (None, text.clone()),
            ScriptSource::File(name) => {
                let text =
                    std::fs::read_to_string(name).map_err(|error| Failure::Plain(format!("{name} - {error}")))?;
                (Some(name.as_str()), text)
            }
        };
        let text = fill_in(&text, &self.cluster);
        let text = SqlText { file, text: &text };
        let statements = split(text.text);
        if let Some(refusal) = text.refusal_of(&statements) {
            return Err(Failure::Plain(refusal));
        }
        let nodes: Vec<String> = only_on.iter().map(ToString::to_string).collect();
        let nodes = (!nodes.is_empty()).then(|| nodes.join(","));
        self.must_be_itself(event_node).await?;
        if self.block.in_try() || self.connections.rehearses() {
            // What a `try` block has done so far cannot be done again: the statements wait where they are.
            self.begin(event_node).await?;
            return self
                .run_script(event_node, text, &statements, nodes.as_deref(), None)
                .await;
        }
        let session = self.connections.session(event_node).await?;
        let limits = admin::lock_limits(session)
            .await
            .map_err(Failure::of_query("lock_timeout and deadlock_timeout"))?;
        let mut patience = Patience::new(limits);
        loop {
            self.begin(event_node).await?;
            let outcome = self
                .run_script(event_node, text, &statements, nodes.as_deref(), Some(&mut patience))
                .await;
            match outcome {
                Err(Failure::Script { locked_out: true, .. }) if !patience.is_over() => {
                    self.connections.rollback_all().await;
                    patience.pause().await;
                }
                outcome => return outcome,
            }
        }
    }

    /// One attempt, in a transaction that has begun.
    async fn run_script(
        &mut self,
        node: Id,
        text: SqlText<'_>,
        statements: &[Piece<'_>],
        nodes: Option<&str>,
        mut patience: Option<&mut Patience>,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let mut no_wait = Announcements::new();
        let mut limit = patience.as_ref().map_or(0, |patience| patience.session_limit());
        for (number, statement) in (1..).zip(statements) {
            if let Some(patience) = patience.as_deref_mut() {
                let next = patience.limit(started.elapsed());
                let call = admin::lock_patience(limit, next);
                if self.connections.run(node, &call).await?.is_some() {
                    limit = next;
                }
            }
            let call = admin::ddl_capture(&self.cluster, statement.text, nodes);
            let wait = patience
                .as_deref_mut()
                .map_or(&mut no_wait, |patience| &mut patience.wait);
            match self.connections.run_in_wait(node, &call, wait).await {
                Ok(_) => {}
                Err(Failure::Sql(error)) => {
                    let inside = error.place_in(statement.text);
                    let at = inside.map_or(statement.begins, |inside| statement.offset + inside);
                    return Err(Failure::Script {
                        place: Some(text.statement(number, at)),
                        statement: statement.text.to_owned(),
                        answer: error.answer(),
                        locked_out: error.code().is_some_and(locked_out),
                    });
                }
                Err(other) => return Err(other),
            }
        }
        let call = admin::ddl_script_complete(&self.cluster, nodes);
        let attempts = patience.is_some();
        let wait = patience.map_or(&mut no_wait, |patience| &mut patience.wait);
        match self.connections.run_in_wait(node, &call, wait).await {
            Ok(_) => {}
            // A daemon that works on the configuration holds the config lock for a moment.
            Err(Failure::Sql(error)) if attempts && error.code().is_some_and(locked_out) => {
                return Err(Failure::Script {
                    place: None,
                    statement: "ddlScript_complete".to_owned(),
                    answer: error.answer(),
                    locked_out: true,
                });
            }
            Err(other) => return Err(other),
        }
        // What the script has set is not for the statements that follow.
        self.connections.reset_settings(node).await
    }
}

/// Whether an attempt failed for want of a lock.
fn locked_out(code: &SqlState) -> bool {
    *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
}

/// How long the statements of a script wait for locks.
///
/// Applications write to several tables in an order of their own: who meets the script half way would be in a deadlock with
/// it, and after `deadlock_timeout` one of both fails. So an attempt gives up before that, lets go of everything and is made
/// anew, a little more patient; applications never queue behind it for long. A script that has worked for a while may wait
/// as long again, so that a long one is not thrown away for a short wait.
struct Patience {
    limits: LockLimits,
    next: Duration,
    wait: Announcements,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(50);

    fn new(limits: LockLimits) -> Self {
        let mut patience = Self {
            limits,
            next: Self::FIRST,
            wait: Announcements::new(),
        };
        patience.next = patience.next.min(patience.most());
        patience
    }

    /// Well before the server looks for deadlocks.
    fn most(&self) -> Duration {
        (self.limits.deadlock_timeout * 8 / 10).max(Duration::from_millis(1))
    }

    /// The session's own limit in milliseconds, as `pg_settings` shows it.
    fn session_limit(&self) -> u128 {
        self.limits.lock_timeout.unwrap_or_default().as_millis()
    }

    /// Milliseconds for the next statement of an attempt that runs that long already.
    fn limit(&self, worked: Duration) -> u128 {
        self.next.max(worked).as_millis()
    }

    /// Whether the session's own `lock_timeout` has passed since the first attempt.
    fn is_over(&self) -> bool {
        self.limits
            .lock_timeout
            .is_some_and(|limit| self.wait.elapsed() >= limit)
    }

    /// Lets others go first, not in step with an application that tries again as well.
    async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(10 + rand::random_range(0..40))).await;
        self.next = (self.next * 2).min(self.most());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_but_stays_short_of_a_deadlock() {
        let mut patience = Patience::new(LockLimits {
            lock_timeout: None,
            deadlock_timeout: Duration::from_secs(1),
        });
        assert_eq!(patience.limit(Duration::ZERO), 50);
        assert_eq!(
            patience.limit(Duration::from_secs(90)),
            90_000,
            "work is not thrown away for a short wait"
        );
        for _ in 0..10 {
            patience.next = (patience.next * 2).min(patience.most());
        }
        assert_eq!(patience.limit(Duration::ZERO), 800);
        assert!(!patience.is_over());
    }
}
