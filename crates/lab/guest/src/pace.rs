//! Keeps a worker at its rate: so many units per second, evenly, and without a burst that makes up for a long stall.

use std::{
    thread,
    time::{Duration, Instant},
};

/// A worker that fell behind by more than this forgets the rest.
const BEHIND_MAX: Duration = Duration::from_millis(100);
/// How soon a change of the rate takes effect.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub struct Pace {
    due: Instant,
}

impl Pace {
    pub fn new() -> Pace {
        Pace { due: Instant::now() }
    }

    /// Waits until the next unit is due at the rate that `per_second` says; looks again and again meanwhile.
    pub fn wait(&mut self, per_second: impl Fn() -> f64) {
        loop {
            let rate = per_second();
            let now = Instant::now();
            if rate <= 0.0 {
                self.due = now;
                thread::sleep(LOOK_EVERY);
                continue;
            }
            let every = Duration::from_secs_f64(1.0 / rate);
            self.due = next_due(self.due, now, every);
            if self.due <= now {
                self.due += every;
                return;
            }
            thread::sleep((self.due - now).min(LOOK_EVERY));
        }
    }
}

/// Never further in the past than allowed, never further ahead than one unit of the rate as it is now.
fn next_due(due: Instant, now: Instant, every: Duration) -> Instant {
    let earliest = now.checked_sub(BEHIND_MAX).unwrap_or(now);
    due.clamp(earliest, now + every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_not_made_up_for_and_a_new_rate_counts_at_once() {
        let now = Instant::now() + Duration::from_secs(10);
        let ms = Duration::from_millis;
        assert_eq!(next_due(now - ms(5_000), now, ms(1)), now - BEHIND_MAX);
        assert_eq!(next_due(now - ms(50), now, ms(1)), now - ms(50));
        assert_eq!(next_due(now + ms(5_000), now, ms(10)), now + ms(10));
        assert_eq!(next_due(now + ms(3), now, ms(10)), now + ms(3));
    }
}
