//! What must be done sooner or later is tried again, ever more slowly.

use std::time::Duration;

/// Pauses between tries: each twice as long as the one before, up to a bound.
#[derive(Debug)]
pub struct Again {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Again {
    /// For work that nothing waits for but an operator.
    pub const UNTIL_DONE: Again = Again::new(Duration::from_millis(250), Duration::from_secs(30));

    pub const fn new(first: Duration, max: Duration) -> Self {
        Again { first, max, next: first }
    }

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.max);
        now
    }

    /// It went well: the next failure is a first one.
    pub fn done(&mut self) {
        self.next = self.first;
    }
}
