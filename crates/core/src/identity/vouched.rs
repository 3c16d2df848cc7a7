//! What another Keystone vouched for, and for how long its word is taken without asking again.
//!
//! Ground rules: kept by the hash of a token, never by the token; nothing is kept beyond its token's own end nor longer than the
//! site says, so a token that was revoked works on for that time at most; what has no room pushes out what ends soonest.

use std::collections::{BTreeSet, HashMap};

/// A digest of the token.
pub type TokenHash = [u8; 32];

/// Times are microseconds of a clock that only goes forward.
#[derive(Debug)]
pub struct VouchedTokens<V> {
    kept: HashMap<TokenHash, (i64, V)>,
    by_end: BTreeSet<(i64, TokenHash)>,
    entries_max: usize,
    time_max_us: i64,
}

impl<V> VouchedTokens<V> {
    pub fn new(entries_max: usize, time_max_us: i64) -> Self {
        VouchedTokens { kept: HashMap::new(), by_end: BTreeSet::new(), entries_max, time_max_us }
    }

    pub fn get(&self, hash: &TokenHash, now_us: i64) -> Option<&V> {
        self.kept.get(hash).filter(|(end_us, _)| now_us < *end_us).map(|(_, value)| value)
    }

    /// `left_us`: how long the token itself is still good.
    pub fn keep(&mut self, hash: TokenHash, value: V, left_us: i64, now_us: i64) {
        self.forget(&hash);
        let time_us = left_us.min(self.time_max_us);
        if time_us <= 0 || self.entries_max == 0 {
            return;
        }
        while let Some(&(end_us, soonest)) = self.by_end.first()
            && (end_us <= now_us || self.kept.len() >= self.entries_max)
        {
            self.forget(&soonest);
        }
        let end_us = now_us.saturating_add(time_us);
        self.by_end.insert((end_us, hash));
        self.kept.insert(hash, (end_us, value));
    }

    pub fn forget(&mut self, hash: &TokenHash) {
        if let Some((end_us, _)) = self.kept.remove(hash) {
            self.by_end.remove(&(end_us, *hash));
        }
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_MAX_US: i64 = 100;

    fn hash(byte: u8) -> TokenHash {
        [byte; 32]
    }

    #[test]
    fn a_word_is_taken_until_the_first_of_its_ends() {
        let check = |left_us: i64, last_us: Option<i64>| {
            let mut tokens = VouchedTokens::new(2, TIME_MAX_US);
            tokens.keep(hash(1), 'a', left_us, 1000);
            match last_us {
                Some(last_us) => {
                    assert_eq!(tokens.get(&hash(1), last_us), Some(&'a'), "{left_us}");
                    assert_eq!(tokens.get(&hash(1), last_us + 1), None, "{left_us}");
                }
                None => assert!(tokens.is_empty() && tokens.get(&hash(1), 1000).is_none(), "{left_us}"),
            }
        };
        check(50, Some(1049));
        check(100, Some(1099));
        check(i64::MAX, Some(1099));
        check(0, None);
        check(-5, None);
    }

    #[test]
    fn the_number_is_bounded_and_what_ends_soonest_goes() {
        let mut tokens = VouchedTokens::new(2, TIME_MAX_US);
        tokens.keep(hash(1), 'a', 80, 0);
        tokens.keep(hash(2), 'b', 20, 0);
        tokens.keep(hash(3), 'c', 90, 0);
        assert_eq!([1, 2, 3].map(|n| tokens.get(&hash(n), 1).copied()), [Some('a'), None, Some('c')]);
        // What has ended goes first, however many there are.
        tokens.keep(hash(4), 'd', 10, 85);
        assert_eq!([1, 3, 4].map(|n| tokens.get(&hash(n), 86).copied()), [None, Some('c'), Some('d')]);
        assert_eq!(tokens.len(), 2);
        // Kept anew it is one entry with the later word.
        tokens.keep(hash(4), 'e', 100, 86);
        tokens.keep(hash(4), 'f', 1, 86);
        assert_eq!((tokens.len(), tokens.get(&hash(4), 86), tokens.get(&hash(4), 87)), (2, Some(&'f'), None));
        tokens.keep(hash(3), 'g', 0, 86);
        assert_eq!(tokens.get(&hash(3), 86), None, "a token that has ended is not kept by its older word");
    }

    #[test]
    fn a_site_may_keep_nothing() {
        for (entries_max, time_max_us) in [(0, TIME_MAX_US), (5, 0)] {
            let mut tokens = VouchedTokens::new(entries_max, time_max_us);
            tokens.keep(hash(1), (), 100, 0);
            assert!(tokens.is_empty());
        }
    }
}
