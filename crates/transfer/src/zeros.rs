//! Finding zeros, so that they need not travel.

/// Zero runs are found at this grain: qcow2's cluster, and the least that is worth a frame of its own.
pub const ZERO_BLOCK_BYTES: usize = 64 << 10;
const STRIDE_BYTES: usize = 256;

/// Whether every byte is zero. Ends at the first stride that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (strides, rest) = bytes.as_chunks::<STRIDE_BYTES>();
    // An OR over a fixed stride compiles to wide vector instructions; a byte-wise `all` does not.
    strides.iter().all(|stride| stride.iter().fold(0, |seen, byte| seen | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

/// A run of a chunk that is all data or all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub start: usize,
    pub len: usize,
    pub zero: bool,
}

/// Splits a chunk into runs of data and zeros at `ZERO_BLOCK_BYTES`, in order, none empty, neighbours differing.
pub fn runs(chunk: &[u8]) -> impl Iterator<Item = Run> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == chunk.len() {
            return None;
        }
        let block_zero = |at: usize| is_zero(&chunk[at..chunk.len().min(at + ZERO_BLOCK_BYTES)]);
        let (first, zero) = (start, block_zero(start));
        let mut end = chunk.len().min(first + ZERO_BLOCK_BYTES);
        while end < chunk.len() && block_zero(end) == zero {
            end = chunk.len().min(end + ZERO_BLOCK_BYTES);
        }
        start = end;
        Some(Run { start: first, len: end - first, zero })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        for len in [0, 1, 255, 256, 257, 1000, 65536] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes), "{len} zeros");
            for at in [0, len / 2, len.saturating_sub(1)] {
                if at < len {
                    bytes[at] = 1;
                    assert!(!is_zero(&bytes), "{len} bytes with one at {at}");
                    bytes[at] = 0;
                }
            }
        }
    }

    #[test]
    fn runs_cover_a_chunk_and_split_at_blocks() {
        let block = ZERO_BLOCK_BYTES;
        let run = |start, len, zero| Run { start, len, zero };
        let check = |len: usize, ones: &[usize], want: &[Run]| {
            let mut chunk = vec![0; len];
            for &at in ones {
                chunk[at] = 1;
            }
            assert_eq!(runs(&chunk).collect::<Vec<_>>(), want, "{len} bytes, ones at {ones:?}");
        };
        check(0, &[], &[]);
        check(4 * block, &[], &[run(0, 4 * block, true)]);
        check(4 * block, &[block], &[run(0, block, true), run(block, block, false), run(2 * block, 2 * block, true)]);
        check(block + 512, &[0, block + 511], &[run(0, block + 512, false)]);
        check(block + 512, &[block - 1], &[run(0, block, false), run(block, 512, true)]);
    }
}
