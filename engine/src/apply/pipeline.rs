//! Statements sent without waiting for each other's answers, in a strict order.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

/// Most statements without an answer.
const DEPTH: usize = 256;

/// A queue of running statements; `T` says what each was.
pub(super) struct Pipeline<'a, T> {
    running: VecDeque<(T, Answer<'a>)>,
    /// Statements that changed no row, by what they were.
    pub(super) without_effect: Vec<T>,
    /// A statement that changed more than one row.
    pub(super) ambiguous: Option<T>,
    affected: u64,
}

impl<'a, T> Pipeline<'a, T> {
    pub(super) fn new() -> Self {
        Self {
            running: VecDeque::new(),
            without_effect: Vec::new(),
            ambiguous: None,
            affected: 0,
        }
    }

    /// Sends a statement. An error is that of an earlier statement or its own.
    pub(super) async fn send(
        &mut self,
        what: T,
        statement: impl Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a,
    ) -> Result<(), (T, tokio_postgres::Error)> {
        let mut answer: Answer<'a> = Box::pin(statement);
        // A statement of tokio-postgres is sent when its future is polled first: this poll fixes the order.
        match futures_util::poll!(&mut answer) {
            Poll::Ready(Ok(rows)) => self.count(what, rows),
            Poll::Ready(Err(error)) => return Err((what, error)),
            Poll::Pending => self.running.push_back((what, answer)),
        }
        while self.running.len() >= DEPTH {
            self.receive().await?;
        }
        Ok(())
    }

    /// Waits for all answers; returns how many rows were changed in all.
    pub(super) async fn drain(&mut self) -> Result<u64, (T, tokio_postgres::Error)> {
        while !self.running.is_empty() {
            self.receive().await?;
        }
        Ok(self.affected)
    }

    async fn receive(&mut self) -> Result<(), (T, tokio_postgres::Error)> {
        if let Some((what, answer)) = self.running.pop_front() {
            match answer.await {
                Ok(rows) => self.count(what, rows),
                Err(error) => return Err((what, error)),
            }
        }
        Ok(())
    }

    fn count(&mut self, what: T, rows: u64) {
        self.affected += rows;
        if rows == 0 {
            self.without_effect.push(what);
        } else if rows > 1 {
            self.ambiguous = Some(what);
        }
    }
}
