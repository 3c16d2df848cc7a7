//! Waits until something is so. The only place of the lab that sleeps, and never without a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if began.elapsed() > deadline {
            bail!("{what}: not so within {} s", deadline.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The same for looks that are asynchronous.
pub async fn until_async<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = look().await? {
            return Ok(value);
        }
        if began.elapsed() > deadline {
            bail!("{what}: not so within {} s", deadline.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
