//! Waiting between attempts, and saying why without flooding the log.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use trunkline_sql::{Cluster, trouble};

use crate::logging as log;

/// First reminder of an unchanged trouble; each further one after twice the time.
const FIRST_REMINDER: Duration = Duration::from_secs(10);
/// Longest time between reminders.
const LAST_REMINDER: Duration = Duration::from_secs(600);

/// A growing pause between attempts, bounded above.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`, doubles up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// Something worked: start over.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The trouble of one actor: logged when it changes and at growing intervals, kept in `tl_trouble` for slonik.
#[derive(Debug)]
pub struct TroubleReport {
    actor: String,
    node: i32,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    message: String,
    since: Instant,
    attempts: u64,
    remind_at: Instant,
    interval: Duration,
}

impl TroubleReport {
    /// No trouble yet.
    #[must_use]
    pub fn new(actor: String, node: i32) -> Self {
        Self {
            actor,
            node,
            current: None,
        }
    }

    /// Whether the actor is in trouble.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Takes note of a failed attempt; returns whether it was logged.
    pub fn note(&mut self, message: &str) -> bool {
        let now = Instant::now();
        if let Some(current) = self.current.as_mut().filter(|current| current.message == message) {
            current.attempts += 1;
            if now < current.remind_at {
                return false;
            }
            let (seconds, attempts) = (current.since.elapsed().as_secs(), current.attempts);
            log::warn!(
                "{}: still after {seconds} s and {attempts} attempts: {message}",
                self.actor
            );
            current.interval = (current.interval * 2).min(LAST_REMINDER);
            current.remind_at = now + current.interval;
            return true;
        }
        log::error!("{}: {message}", self.actor);
        let (since, attempts) = self
            .current
            .as_ref()
            .map_or((now, 1), |current| (current.since, current.attempts + 1));
        self.current = Some(Current {
            message: message.to_owned(),
            since,
            attempts,
            remind_at: now + FIRST_REMINDER,
            interval: FIRST_REMINDER,
        });
        true
    }

    /// Keeps the trouble where slonik and slonctl can read it. Best effort: the log has it in any case.
    pub async fn publish(&self, local: &Client, cluster: &Cluster) {
        if let Some(current) = &self.current {
            let published = trouble::report(local, cluster, &self.actor, self.node, &current.message).await;
            if let Err(error) = published {
                log::debug1!(
                    "{}: trouble not stored: {}",
                    self.actor,
                    trunkline_sql::error_text(&error)
                );
            }
        }
    }

    /// The actor goes on.
    pub async fn clear(&mut self, local: &Client, cluster: &Cluster) {
        if let Some(current) = self.current.take() {
            let seconds = current.since.elapsed().as_secs_f64();
            log::info!(
                "{}: goes on after {} attempts in {seconds:.1} s",
                self.actor,
                current.attempts
            );
            if let Err(error) = trouble::clear(local, cluster, &self.actor).await {
                log::debug1!(
                    "{}: trouble not cleared: {}",
                    self.actor,
                    trunkline_sql::error_text(&error)
                );
            }
        }
    }
}
