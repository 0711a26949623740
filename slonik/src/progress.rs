//! The rhythm of waits: look often at first, speak rarely.

use std::time::{Duration, Instant};

/// Pauses between two looks: short at first, never long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pause: Duration,
}

impl Pace {
    const SHORTEST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_millis(250);

    pub(crate) fn new() -> Self {
        Self { pause: Self::SHORTEST }
    }

    /// The next pause, half as long again as the one before.
    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 3 / 2).min(Self::LONGEST);
        pause
    }

    /// Pauses, but not beyond `deadline`.
    pub(crate) async fn pause(&mut self, deadline: Option<Instant>) {
        let mut pause = self.next();
        if let Some(deadline) = deadline {
            pause = pause.min(deadline.saturating_duration_since(Instant::now()));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Seconds between the lines of a wait: the first one comes after two seconds, later ones ever more rarely.
const INTERVALS: [u64; 6] = [2, 4, 8, 15, 30, 60];

/// Says when a wait should say something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcements {
    started: Instant,
    due: Instant,
    made: usize,
}

impl Announcements {
    pub(crate) fn new() -> Self {
        let started = Instant::now();
        Self {
            started,
            due: started + Duration::from_secs(INTERVALS[0]),
            made: 0,
        }
    }

    /// How long the wait lasts already, if it is time for a line.
    pub(crate) fn due(&mut self) -> Option<Duration> {
        self.due_at(Instant::now())
    }

    fn due_at(&mut self, now: Instant) -> Option<Duration> {
        if now < self.due {
            return None;
        }
        self.made += 1;
        self.due = now + Duration::from_secs(INTERVALS[self.made.min(INTERVALS.len() - 1)]);
        Some(now.duration_since(self.started))
    }

    /// When the next line is due.
    pub(crate) fn next(&self) -> Instant {
        self.due
    }

    /// Whether the wait has said anything yet.
    pub(crate) fn any(&self) -> bool {
        self.made > 0
    }

    /// How long the wait lasts already.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// `12 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer_but_stay_frequent() {
        let mut pace = Pace::new();
        let pauses: Vec<u128> = (0..10).map(|_| pace.next().as_millis()).collect();
        assert_eq!(pauses, [20, 30, 45, 67, 101, 151, 227, 250, 250, 250]);
    }

    #[test]
    fn lines_come_at_growing_intervals() {
        let mut announcements = Announcements::new();
        let started = announcements.started;
        let spoken: Vec<u64> = (0..200)
            .filter(|s| announcements.due_at(started + Duration::from_secs(*s)).is_some())
            .collect();
        assert_eq!(spoken, [2, 6, 14, 29, 59, 119, 179]);
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration_text(Duration::from_secs(59)), "59 s");
        assert_eq!(duration_text(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(duration_text(Duration::from_secs(7800)), "2 h 10 min");
    }
}
