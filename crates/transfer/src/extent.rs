//! A range of a disk with what is known of it: the coin in which disks, bitmaps and rounds are counted.

/// `base:allocation`: a hole, nothing allocated.
pub const ALLOCATION_HOLE: u32 = 1;
/// `base:allocation`: reads as zeros.
pub const ALLOCATION_ZERO: u32 = 2;
/// `qemu:dirty-bitmap:*`: written since the bitmap was armed.
pub const BITMAP_DIRTY: u32 = 1;
/// `qemu:allocation-depth`: allocated in the top layer itself, not in a backing file.
pub const DEPTH_TOP: u32 = 1;

/// NBD meta contexts.
pub const CONTEXT_ALLOCATION: &str = "base:allocation";
pub const CONTEXT_DEPTH: &str = "qemu:allocation-depth";
const CONTEXT_BITMAP_PREFIX: &str = "qemu:dirty-bitmap:";

/// Name of the meta context that shows the dirty bitmap `bitmap`.
pub fn bitmap_context(bitmap: &str) -> String {
    format!("{CONTEXT_BITMAP_PREFIX}{bitmap}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub len: u64,
    /// As the meta context defines them; 0 where there is none.
    pub flags: u32,
}

impl Extent {
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// Appends `next` to `list`, as one with the last extent where they touch and agree.
pub fn push_merged(list: &mut Vec<Extent>, next: Extent) {
    if next.len == 0 {
        return;
    }
    match list.last_mut() {
        Some(last) if last.end() == next.offset && last.flags == next.flags => last.len += next.len,
        Some(_) | None => list.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_extents_of_one_kind_become_one() {
        let mut list = Vec::new();
        for (offset, len, flags) in [(0, 4, 1), (4, 4, 1), (8, 0, 0), (8, 4, 0), (16, 4, 0)] {
            push_merged(&mut list, Extent { offset, len, flags });
        }
        let want = [(0, 8, 1), (8, 4, 0), (16, 4, 0)].map(|(offset, len, flags)| Extent { offset, len, flags });
        assert_eq!(list, want);
    }
}
