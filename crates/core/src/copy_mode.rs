//! How a disk gets to the target: by what changed, by what differs, or whole.

use crate::{disk::CopyMode, id::Epoch};

/// `changed_since`: the hand-over since which the source's bitmap holds every change. `kept`: the hand-over at which the
/// target gave its copy away, if it has one. A bitmap and a copy fit only when both are of the source's own epoch: then the
/// copy is the disk as the source took it over, and the bitmap all that happened since.
pub fn choose(source_epoch: Epoch, changed_since: Option<Epoch>, kept: Option<Epoch>) -> CopyMode {
    match kept {
        None => CopyMode::Full,
        Some(kept) if kept == source_epoch && changed_since == Some(source_epoch) => CopyMode::Delta,
        Some(_) => CopyMode::Digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bitmap_and_a_copy_of_one_hand_over_make_a_delta() {
        let check = |changed_since: Option<u64>, kept: Option<u64>, want| {
            assert_eq!(choose(Epoch(7), changed_since.map(Epoch), kept.map(Epoch)), want, "{changed_since:?} {kept:?}");
        };
        check(Some(7), Some(7), CopyMode::Delta);
        check(None, Some(7), CopyMode::Digest);
        check(Some(7), Some(6), CopyMode::Digest);
        check(Some(6), Some(6), CopyMode::Digest);
        check(Some(7), None, CopyMode::Full);
        check(None, None, CopyMode::Full);
    }
}
