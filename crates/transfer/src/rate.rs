//! A token bucket: keeps a flow of bytes below a rate.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// No more than this may be saved up, so that a pause is not followed by a flood.
const BURST: Duration = Duration::from_millis(50);

/// Bytes per second; 0 means no limit. Shared by all streams of one flow.
#[derive(Debug)]
pub struct RateLimit {
    bps: AtomicU64,
    /// When the bytes granted so far will have been paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub fn new(bps: Option<u64>) -> Self {
        RateLimit { bps: AtomicU64::new(bps.unwrap_or(0)), paid_at: Mutex::new(None) }
    }

    pub fn set(&self, bps: Option<u64>) {
        self.bps.store(bps.unwrap_or(0), Relaxed);
    }

    /// Waits until `bytes` more may go.
    pub async fn take(&self, bytes: u64) {
        let bps = self.bps.load(Relaxed);
        if bps == 0 {
            return;
        }
        let now = Instant::now();
        let go_at = {
            let mut paid_at = self.paid_at.lock().expect("no panic while held");
            let start = paid_at.map_or(now, |at| at.max(now.checked_sub(BURST).unwrap_or(now)));
            *paid_at = Some(start + Duration::from_secs_f64(bytes as f64 / bps as f64));
            start
        };
        tokio::time::sleep_until(go_at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flow_takes_the_time_that_its_rate_says() {
        for (bps, chunks, least_ms, most_ms) in [(None, 100, 0, 0), (Some(10 << 20), 100, 9_800, 10_000)] {
            let limit = RateLimit::new(bps);
            let start = Instant::now();
            for _ in 0..chunks {
                limit.take(1 << 20).await;
            }
            let took = start.elapsed().as_millis();
            assert!((least_ms..=most_ms).contains(&took), "{bps:?}: {took} ms");
        }
    }
}
