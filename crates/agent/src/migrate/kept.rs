//! What becomes of a step that the journal refuses: its event is kept and comes again, at a pace that spins nobody.
//!
//! Ground rules: no event is dropped; the pause between two tries doubles up to a bound and starts small again after the
//! first write that succeeds; a write that failed may be on disk all the same, so both records count until one is sure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::again::Again;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// What a move says of itself while a step waits for its record.
pub const WAITS_FOR_JOURNAL: &str = "waits for the journal, which cannot be written";

/// Events whose step was not taken.
#[derive(Debug)]
pub struct Kept<E> {
    events: VecDeque<E>,
    again: Again,
    due: Instant,
    /// What the move said of itself before it waited.
    said: Option<String>,
}

impl<E> Default for Kept<E> {
    fn default() -> Self {
        Kept { events: VecDeque::new(), again: Again::new(RETRY_FIRST, RETRY_MAX), due: Instant::now(), said: None }
    }
}

impl<E: Clone + PartialEq> Kept<E> {
    pub fn keep(&mut self, event: &E) {
        if !self.events.contains(event) {
            self.events.push_back(event.clone());
        }
        let now = Instant::now();
        if self.due <= now {
            self.due = now + self.again.pause();
        }
    }

    /// `said`: what the move says of itself until now.
    pub fn waits(&mut self, said: String) {
        if !said.starts_with(WAITS_FOR_JOURNAL) {
            self.said = Some(said);
        }
    }

    /// The journal takes writes again. What the move is to say again, if it said that it waits.
    pub fn hurry(&mut self) -> Option<String> {
        self.again.done();
        self.due = Instant::now();
        self.said.take()
    }

    /// The next event to try again, when it is time. Cancel safe.
    pub async fn next(&mut self) -> E {
        if !self.events.is_empty() {
            tokio::time::sleep_until(self.due).await;
        }
        match self.events.pop_front() {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

/// What the journal has of one side: one record, or several of which nobody knows which after writes that failed.
#[derive(Debug)]
pub struct Held<R> {
    records: Vec<R>,
}

impl<R: PartialEq> Held<R> {
    pub fn new(record: Option<R>) -> Self {
        Held { records: record.into_iter().collect() }
    }

    /// It is surely this: written, or read.
    pub fn is(&mut self, record: R) {
        self.records = vec![record];
    }

    /// A write of it failed, perhaps after the file had its name.
    pub fn may_be(&mut self, record: R) {
        if !self.records.contains(&record) {
            self.records.push(record);
        }
    }

    /// After a write of `record` failed: whether the step may be taken all the same, since a restart from whatever is on disk
    /// would take it too (`leads`). `on_disk` reads the file: a write that failed may have left its record, then only the file
    /// can tell.
    pub async fn goes_on_without(
        &mut self,
        record: R,
        leads: impl Fn(&R) -> bool,
        on_disk: impl Future<Output = Option<R>>,
    ) -> bool {
        if !self.surely(&leads)
            && let Some(found) = on_disk.await
        {
            self.is(found);
        }
        let goes_on = self.surely(leads);
        self.may_be(record);
        goes_on
    }

    /// Whatever it is, it is so of it; never where there may be nothing.
    pub fn surely(&self, so: impl Fn(&R) -> bool) -> bool {
        !self.records.is_empty() && self.records.iter().all(so)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver that tries what it kept against a journal that refuses for `broken`: the moments of the tries.
    async fn tries(broken: Duration, events: &[u8]) -> (Vec<Duration>, Vec<u8>) {
        let (begun, mut kept) = (Instant::now(), Kept::default());
        events.iter().for_each(|event| kept.keep(event));
        let (mut at, mut taken) = (Vec::new(), Vec::new());
        while taken.len() < events.len() {
            let event = kept.next().await;
            at.push(begun.elapsed());
            if begun.elapsed() < broken {
                kept.keep(&event);
            } else {
                taken.push(event);
                kept.hurry();
            }
        }
        (at, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_step_comes_again_ever_more_slowly_and_is_never_lost() {
        let (at, mut taken) = tries(Duration::from_secs(60), &[1, 2, 3]).await;
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
        assert!(at.len() < 30, "{} tries in a minute: {at:?}", at.len());
        assert!(at.windows(2).all(|two| two[1] - two[0] <= RETRY_MAX + Duration::from_millis(1)), "{at:?}");
        assert!(at[0] >= RETRY_FIRST, "{at:?}");
        // All that was kept follows at once when the first succeeds.
        let [.., first, _, last] = at[..] else { panic!("{at:?}") };
        assert!(last - first < RETRY_FIRST, "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_kept_once() {
        let mut kept = Kept::default();
        for _ in 0..3 {
            kept.keep(&7);
        }
        assert_eq!(kept.next().await, 7);
        assert!(tokio::time::timeout(RETRY_MAX * 10, kept.next()).await.is_err(), "it came twice");
    }

    #[test]
    fn what_a_failed_write_left_counts_until_it_is_sure() {
        let mut held = Held::new(None);
        assert!(!held.surely(|_: &u8| true), "nothing is known");
        held.is(1);
        assert!(held.surely(|record| *record == 1));
        held.may_be(2);
        assert!(!held.surely(|record| *record == 1));
        held.is(1);
        assert!(held.surely(|record| *record == 1));
    }
}
