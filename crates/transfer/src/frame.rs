//! Frames on a data stream: a fixed header, then at most one chunk of payload. No I/O here.
//!
//! ```text
//!   0  magic    u32  "WHBF"
//!   4  version  u8
//!   5  kind     u8
//!   6  disk     u16
//!   8  round    u32
//!  12  offset   u64
//!  20  len      u32   bytes of the disk that the frame speaks of
//!  24  payload  u32   bytes that follow the header
//!  28  digest   [32]  BLAKE3(payload, then header[0..28]); of an image's chunk BLAKE3(header[0..28])
//! ```
//!
//! All numbers are big endian. The digest covers the header too: a chunk whose offset was hit by a bit flip must not be
//! written to the wrong place before the round's totals find out. It does not cover an image's chunk: the image's name is the
//! digest of all of it, against which the target holds what came.

use crate::buffer::CHUNK_BYTES;

const MAGIC: u32 = u32::from_be_bytes(*b"WHBF");
const VERSION: u8 = 1;
/// The part of the header that the digest covers.
const COVERED_BYTES: usize = 28;

pub const HEADER_BYTES: usize = 60;
pub const PAYLOAD_BYTES_MAX: usize = CHUNK_BYTES;
/// A zero frame carries no payload and may speak of more than a chunk.
pub const ZERO_BYTES_MAX: u32 = 256 << 20;
/// Block of the finer comparisons, and how much of a disk one digest question or one list of sums may span.
pub const BLOCK_BYTES: u32 = 64 << 10;
pub const DIGEST_SPAN_BYTES: u32 = 4 << 20;
pub const VERIFY_SPAN_BYTES: u32 = 64 << 20;
pub type Digest = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The payload is the content of the range.
    Data = 1,
    /// The range reads as zeros.
    Zero = 2,
    /// Source to target: say the digests of the range's blocks.
    DigestAsk = 3,
    /// Target to source: the digests of the range's blocks.
    DigestAnswer = 4,
    /// Verification, frozen source to target: digests of consecutive chunks.
    VerifySums = 5,
    /// Verification, target to source: these ranges differ, say the digests of their blocks.
    VerifyAsk = 6,
    /// Verification, source to target: digests of a range's blocks.
    VerifyBlocks = 7,
    /// Verification, target to source: the result of one disk, as JSON.
    VerifyReport = 8,
    /// Nothing more will come on this stream.
    End = 9,
    /// The payload is a chunk of an image's file.
    Image = 10,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub disk: u16,
    pub round: u32,
    pub offset: u64,
    pub len: u32,
    pub payload: u32,
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("begins with {0:#010x}, not with a frame's magic")]
    Magic(u32),
    #[error("frame version {0} is not known")]
    Version(u8),
    #[error("frame kind {0} is not known")]
    Kind(u8),
    #[error("a header of {0} bytes, where {HEADER_BYTES} are needed")]
    Short(usize),
    #[error("{kind:?} frame of disk {disk} at offset {offset}: {what} {bytes} is above the limit of {limit}")]
    Oversized { kind: Kind, disk: u16, offset: u64, what: &'static str, bytes: u64, limit: u64 },
    #[error("{kind:?} frame of disk {disk} at offset {offset}: {payload} bytes of payload for {len} bytes of disk")]
    Mismatched { kind: Kind, disk: u16, offset: u64, len: u32, payload: u32 },
    #[error("{kind:?} frame of disk {disk} at offset {offset}, which is no multiple of {CHUNK_BYTES}")]
    Unaligned { kind: Kind, disk: u16, offset: u64 },
    #[error("{kind:?} frame of disk {disk} at offset {offset}: its digest does not fit its {payload} bytes of payload")]
    Digest { kind: Kind, disk: u16, offset: u64, payload: u32 },
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Data,
        Kind::Zero,
        Kind::DigestAsk,
        Kind::DigestAnswer,
        Kind::VerifySums,
        Kind::VerifyAsk,
        Kind::VerifyBlocks,
        Kind::VerifyReport,
        Kind::End,
        Kind::Image,
    ];

    fn of(byte: u8) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// How many bytes of the disk one frame may speak of.
    fn len_max(self) -> u32 {
        match self {
            Kind::Data | Kind::Image => PAYLOAD_BYTES_MAX as u32,
            Kind::Zero => ZERO_BYTES_MAX,
            Kind::DigestAsk | Kind::DigestAnswer => DIGEST_SPAN_BYTES,
            Kind::VerifySums => VERIFY_SPAN_BYTES,
            Kind::VerifyAsk | Kind::VerifyBlocks => CHUNK_BYTES as u32,
            Kind::VerifyReport | Kind::End => 0,
        }
    }

    fn payload_fits(self, len: u32, payload: u32) -> bool {
        let digests = |block: u32| u64::from(len.div_ceil(block)) * size_of::<Digest>() as u64;
        match self {
            Kind::Data | Kind::Image => len > 0 && payload == len,
            Kind::Zero | Kind::DigestAsk | Kind::VerifyAsk => len > 0 && payload == 0,
            Kind::DigestAnswer | Kind::VerifyBlocks => len > 0 && u64::from(payload) == digests(BLOCK_BYTES),
            Kind::VerifySums => len > 0 && u64::from(payload) == digests(CHUNK_BYTES as u32),
            Kind::VerifyReport => len == 0 && payload > 0,
            Kind::End => len == 0 && payload == 0,
        }
    }
}

impl Header {
    /// A header for `payload`, its digest included.
    pub fn new(kind: Kind, disk: u16, round: u32, offset: u64, len: u32, payload: &[u8]) -> Header {
        let payload_len = u32::try_from(payload.len()).expect("a payload is at most a chunk");
        let mut header = Header { kind, disk, round, offset, len, payload: payload_len, digest: [0; 32] };
        header.digest = header.digest_of(payload);
        header
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..COVERED_BYTES].copy_from_slice(&self.covered());
        bytes[COVERED_BYTES..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads a header and checks all that can be checked without the payload.
    pub fn decode(bytes: &[u8]) -> Result<Header, FrameError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Short(bytes.len()));
        };
        let be32 = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if be32(0) != MAGIC {
            return Err(FrameError::Magic(be32(0)));
        }
        if bytes[4] != VERSION {
            return Err(FrameError::Version(bytes[4]));
        }
        let kind = Kind::of(bytes[5]).ok_or(FrameError::Kind(bytes[5]))?;
        let header = Header {
            kind,
            disk: u16::from_be_bytes([bytes[6], bytes[7]]),
            round: be32(8),
            offset: u64::from_be_bytes(bytes[12..20].try_into().expect("eight bytes")),
            len: be32(20),
            payload: be32(24),
            digest: bytes[COVERED_BYTES..].try_into().expect("the rest is the digest"),
        };
        header.check_sizes()?;
        Ok(header)
    }

    fn check_sizes(&self) -> Result<(), FrameError> {
        let Header { kind, disk, offset, len, payload, .. } = *self;
        for (what, bytes, limit) in [("payload", payload, PAYLOAD_BYTES_MAX as u32), ("length", len, kind.len_max())] {
            if bytes > limit {
                let (bytes, limit) = (u64::from(bytes), u64::from(limit));
                return Err(FrameError::Oversized { kind, disk, offset, what, bytes, limit });
            }
        }
        if !kind.payload_fits(len, payload) {
            return Err(FrameError::Mismatched { kind, disk, offset, len, payload });
        }
        // Elsewhere than there a chunk has no leaf.
        if kind == Kind::Image && !offset.is_multiple_of(CHUNK_BYTES as u64) {
            return Err(FrameError::Unaligned { kind, disk, offset });
        }
        Ok(())
    }

    /// Whether the digest fits this header and `payload`.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FrameError> {
        if self.digest_of(payload) == self.digest {
            return Ok(());
        }
        let Header { kind, disk, offset, payload, .. } = *self;
        Err(FrameError::Digest { kind, disk, offset, payload })
    }

    /// All of the header before the digest.
    pub(crate) fn covered(&self) -> [u8; COVERED_BYTES] {
        let mut bytes = [0; COVERED_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[6..8].copy_from_slice(&self.disk.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.round.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.offset.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.len.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.payload.to_be_bytes());
        bytes
    }

    fn digest_of(&self, payload: &[u8]) -> Digest {
        let payload = if self.kind == Kind::Image { &[] } else { payload };
        // The payload goes first: hashing is fastest where its blocks are aligned with BLAKE3's.
        *blake3::Hasher::new().update(payload).update(&self.covered()).finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_wire() {
        let digests = vec![7; 3 * 32];
        for (kind, len, payload) in [
            (Kind::Data, 3, &b"abc"[..]),
            (Kind::Zero, ZERO_BYTES_MAX, b""),
            (Kind::DigestAsk, DIGEST_SPAN_BYTES, b""),
            (Kind::DigestAnswer, 2 * BLOCK_BYTES + 512, &digests),
            (Kind::VerifySums, 3 * CHUNK_BYTES as u32, &digests),
            (Kind::VerifyAsk, CHUNK_BYTES as u32, b""),
            (Kind::VerifyBlocks, 3 * BLOCK_BYTES, &digests),
            (Kind::VerifyReport, 0, b"{}"),
            (Kind::End, 0, b""),
            (Kind::Image, 3, b"abc"),
        ] {
            let header = Header::new(kind, 2, 9, 1 << 40, len, payload);
            let decoded = Header::decode(&header.encode());
            assert_eq!(decoded, Ok(header));
            assert_eq!(decoded.unwrap().check_payload(payload), Ok(()));
        }
    }

    #[test]
    fn a_flip_of_any_bit_is_seen() {
        let payload = vec![5; 300];
        for (kind, offset) in [(Kind::Data, 4096), (Kind::Image, CHUNK_BYTES as u64)] {
            let header = Header::new(kind, 1, 2, offset, 300, &payload);
            let whole = [&header.encode()[..], &payload].concat();
            let covered = if kind == Kind::Image { HEADER_BYTES } else { whole.len() };
            for bit in 0..covered * 8 {
                let mut bent = whole.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                let seen = Header::decode(&bent).and_then(|header| header.check_payload(&bent[HEADER_BYTES..]));
                assert!(seen.is_err(), "bit {bit} of a {kind:?} frame was flipped unseen");
            }
        }
    }

    #[test]
    fn a_bad_header_says_what_is_wrong() {
        let good = Header::new(Kind::Data, 1, 2, 4096, 3, b"abc");
        let check = |bend: &dyn Fn(&mut Vec<u8>), want: &str| {
            let mut bytes = good.encode().to_vec();
            bend(&mut bytes);
            let said = Header::decode(&bytes).expect_err(want).to_string();
            assert!(said.contains(want), "'{said}' does not say '{want}'");
        };
        check(&|bytes| bytes[0] = b'X', "not with a frame's magic");
        check(&|bytes| bytes[4] = 9, "version 9");
        check(&|bytes| bytes[5] = 99, "kind 99");
        check(&|bytes| bytes.truncate(59), "59 bytes");
        check(&|bytes| bytes[24] = 0x7f, "payload 2130706435 is above the limit of 1048576");
        check(&|bytes| bytes[20] = 0x7f, "Data frame of disk 1 at offset 4096: length");
        check(&|bytes| bytes[5] = Kind::Image as u8, "Image frame of disk 1 at offset 4096, which is no multiple");
        check(&|bytes| bytes[23] = 4, "3 bytes of payload for 4 bytes of disk");
    }
}
