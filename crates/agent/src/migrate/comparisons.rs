//! Comparisons of moved disks that run in the background, after a migration let go of its instance.
//!
//! Ground rules: a comparison holds exports of the running guest and opens the retained copy, which the next move needs: that
//! move ends it and waits until both are let go, for the way of a guest never waits for a comparison.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use whimbrel_core::id::InstanceId;

/// Those of this host, at most one running per side of an instance's last move.
#[derive(Debug, Default)]
pub struct Comparisons(Mutex<BTreeMap<InstanceId, Running>>);

#[derive(Debug, Default)]
struct Running {
    end: CancellationToken,
    tracker: TaskTracker,
}

/// Held for as long as anything of the comparison is in use.
#[derive(Debug)]
pub struct Comparison {
    end: CancellationToken,
    _counted: TaskTrackerToken,
}

impl Comparisons {
    pub fn begin(&self, instance: InstanceId) -> Comparison {
        let mut all = self.lock();
        all.retain(|_, running| !running.tracker.is_empty());
        let running = all.entry(instance).or_default();
        Comparison { end: running.end.clone(), _counted: running.tracker.token() }
    }

    /// Returns when no comparison of this instance holds anything any more.
    pub async fn end(&self, instance: InstanceId) {
        let Some(running) = self.lock().remove(&instance) else { return };
        running.end.cancel();
        running.tracker.close();
        running.tracker.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comparison {
    /// `None` if the next move ended it first. What `work` holds must let go when it is dropped, or be let go after this.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.end.cancelled() => None,
            done = work => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_move_waits_until_the_comparison_let_go() {
        let comparisons = Comparisons::default();
        let (one, other) = (InstanceId(Uuid::from_u128(1)), InstanceId(Uuid::from_u128(2)));
        comparisons.end(one).await;
        let (mine, neighbour) = (comparisons.begin(one), comparisons.begin(other));
        let let_go = Arc::new(AtomicBool::new(false));
        let done = let_go.clone();
        let task = tokio::spawn(async move {
            assert_eq!(mine.unless_ended(std::future::pending::<()>()).await, None);
            tokio::task::yield_now().await;
            done.store(true, Ordering::SeqCst);
            drop(mine);
        });
        comparisons.end(one).await;
        assert!(let_go.load(Ordering::SeqCst), "the move went on while the comparison held its exports");
        task.await.unwrap();
        assert_eq!(neighbour.unless_ended(async { 7 }).await, Some(7), "another server's comparison was ended");
        let next = comparisons.begin(one);
        assert_eq!(next.unless_ended(async { 8 }).await, Some(8), "an end reaches into the future");
    }
}
