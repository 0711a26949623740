//! Events of one origin on their way from the listeners to the origin's worker.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trunkline_sql::events::Event;

/// Most events waiting for a worker; listeners do not ask for more while it is full.
const CAPACITY: usize = 4096;

/// An event and the node it was fetched from.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The event.
    pub event: Event,
    /// Node whose database it was read from.
    pub provider: i32,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Queued>,
    last: i64,
}

/// A bounded queue in event order, filled by any number of listeners: the first copy of an event wins.
#[derive(Debug)]
pub struct EventQueue {
    inner: Mutex<Inner>,
    news: Notify,
    room: Notify,
}

impl EventQueue {
    /// Empty, after event number `last`.
    #[must_use]
    pub fn new(last: i64) -> Self {
        let inner = Mutex::new(Inner {
            waiting: VecDeque::new(),
            last,
        });
        Self {
            inner,
            news: Notify::new(),
            room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event number after which events are wanted; None while there is no room.
    #[must_use]
    pub fn wanted_after(&self) -> Option<i64> {
        let inner = self.lock();
        (inner.waiting.len() < CAPACITY).then_some(inner.last)
    }

    /// Adds events in order; those already known are dropped. Returns how many were new.
    pub fn offer(&self, provider: i32, events: impl IntoIterator<Item = Event>) -> usize {
        let mut inner = self.lock();
        let before = inner.waiting.len();
        for event in events {
            if event.seqno > inner.last {
                inner.last = event.seqno;
                inner.waiting.push_back(Queued { event, provider });
            }
        }
        let added = inner.waiting.len() - before;
        drop(inner);
        if added > 0 {
            self.news.notify_one();
        }
        added
    }

    /// Waits until there is an event and returns the next group: one event, or up to `most` SYNCs in a row.
    pub async fn next_group(&self, most: usize) -> Vec<Queued> {
        loop {
            let group = self.peek_group(most);
            if !group.is_empty() {
                return group;
            }
            self.news.notified().await;
        }
    }

    fn peek_group(&self, most: usize) -> Vec<Queued> {
        let inner = self.lock();
        let Some(first) = inner.waiting.front() else {
            return Vec::new();
        };
        if !first.event.is_sync() {
            return vec![first.clone()];
        }
        inner
            .waiting
            .iter()
            .take(most.max(1))
            .take_while(|queued| queued.event.is_sync())
            .cloned()
            .collect()
    }

    /// Removes events up to and including a number: they are done.
    pub fn done(&self, seqno: i64) {
        let mut inner = self.lock();
        while inner.waiting.front().is_some_and(|queued| queued.event.seqno <= seqno) {
            inner.waiting.pop_front();
        }
        let has_room = inner.waiting.len() <= CAPACITY / 2;
        drop(inner);
        if has_room {
            self.room.notify_waiters();
        }
    }

    /// Empties the queue and starts again after a number, for example after events were taken back.
    pub fn restart_after(&self, last: i64) {
        let mut inner = self.lock();
        inner.waiting.clear();
        inner.last = last;
        drop(inner);
        self.room.notify_waiters();
    }

    /// The first event that waits for the worker, and the number of the last one; None: nothing waits.
    #[must_use]
    pub fn backlog(&self) -> Option<(Event, i64)> {
        let inner = self.lock();
        let first = inner.waiting.front()?.event.clone();
        Some((first, inner.last))
    }

    /// Events waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rings when there is room again.
    pub async fn room(&self) {
        self.room.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seqno: i64, kind: &str) -> Event {
        Event {
            origin: 1,
            seqno,
            timestamp: String::new(),
            snapshot: None,
            kind: kind.to_owned(),
            data: Default::default(),
        }
    }

    #[tokio::test]
    async fn syncs_are_grouped_and_other_events_end_a_group() {
        let queue = EventQueue::new(10);
        queue.offer(
            2,
            [
                event(11, "SYNC"),
                event(12, "SYNC"),
                event(13, "STORE_SET"),
                event(14, "SYNC"),
            ],
        );
        let numbers = |group: Vec<Queued>| group.iter().map(|queued| queued.event.seqno).collect::<Vec<_>>();
        assert_eq!(numbers(queue.next_group(20).await), [11, 12]);
        assert_eq!(numbers(queue.next_group(1).await), [11], "nothing is lost by looking");
        queue.done(12);
        assert_eq!(numbers(queue.next_group(20).await), [13]);
        queue.done(13);
        assert_eq!(numbers(queue.next_group(20).await), [14]);
    }

    #[test]
    fn a_second_copy_of_an_event_is_dropped() {
        let queue = EventQueue::new(0);
        assert_eq!(queue.offer(2, [event(1, "SYNC"), event(2, "SYNC")]), 2);
        assert_eq!(
            queue.offer(3, [event(1, "SYNC"), event(2, "SYNC"), event(3, "SYNC")]),
            1
        );
        assert_eq!(queue.len(), 3);
    }

    #[test]
    fn a_full_queue_asks_for_nothing() {
        let queue = EventQueue::new(0);
        queue.offer(2, (1..=4096).map(|seqno| event(seqno, "SYNC")));
        assert_eq!(queue.wanted_after(), None);
        queue.done(3000);
        assert_eq!(queue.wanted_after(), Some(4096));
    }
}
