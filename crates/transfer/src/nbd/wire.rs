//! The NBD protocol's bytes, both directions of a client. No I/O here.
//!
//! Names follow the protocol's own document (NBD_OPT_*, NBD_CMD_*, NBD_REPLY_TYPE_*).

pub const MAGIC_INIT: u64 = 0x4e42_444d_4147_4943; // "NBDMAGIC"
pub const MAGIC_OPTION: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
pub const MAGIC_OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
pub const MAGIC_REQUEST: u32 = 0x2560_9513;
pub const MAGIC_SIMPLE_REPLY: u32 = 0x6744_6698;
pub const MAGIC_STRUCTURED_REPLY: u32 = 0x668e_33ef;

pub const GREETING_BYTES: usize = 18;
pub const OPTION_REPLY_BYTES: usize = 20;
pub const REQUEST_BYTES: usize = 28;
pub const SIMPLE_REPLY_BYTES: usize = 16;
pub const STRUCTURED_REPLY_BYTES: usize = 20;

const FLAG_FIXED_NEWSTYLE: u16 = 1;
const FLAG_NO_ZEROES: u16 = 2;

pub const OPTION_GO: u32 = 7;
pub const OPTION_STRUCTURED_REPLY: u32 = 8;
pub const OPTION_SET_META_CONTEXT: u32 = 10;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_META_CONTEXT: u32 = 4;
const REPLY_ERROR_BIT: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

pub const TRANSMIT_READ_ONLY: u16 = 1 << 1;
pub const TRANSMIT_FLUSH: u16 = 1 << 2;
pub const TRANSMIT_TRIM: u16 = 1 << 5;
pub const TRANSMIT_WRITE_ZEROES: u16 = 1 << 6;
pub const TRANSMIT_DF: u16 = 1 << 7;
pub const TRANSMIT_MULTI_CONN: u16 = 1 << 8;

pub const COMMAND_NO_HOLE: u16 = 1 << 1;
pub const COMMAND_DF: u16 = 1 << 2;

const CHUNK_DONE: u16 = 1;
const CHUNK_ERROR_BIT: u16 = 1 << 15;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{what} begins with {found:#x}")]
    Magic { what: &'static str, found: u64 },
    #[error("the server does not speak the fixed newstyle handshake (flags {0:#06x})")]
    OldStyle(u16),
    #[error("{what} is {bytes} bytes long, which it may not be")]
    Length { what: &'static str, bytes: u64 },
    #[error("the server answered option {option} with option {found}")]
    WrongOption { option: u32, found: u32 },
    #[error("the server answered option {option} with reply {reply}, which this client does not know")]
    UnknownReply { option: u32, reply: u32 },
    #[error("the server sent a reply chunk of type {0}, which this client does not know")]
    UnknownChunk(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    WriteZeroes = 6,
    BlockStatus = 7,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub command: Command,
    pub flags: u16,
    pub cookie: u64,
    pub offset: u64,
    pub len: u32,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The server's first bytes; returns the client's flags to answer with.
pub fn decode_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<u32, WireError> {
    for (at, want) in [(0, MAGIC_INIT), (8, MAGIC_OPTION)] {
        if be64(bytes, at) != want {
            return Err(WireError::Magic { what: "the server's greeting", found: be64(bytes, at) });
        }
    }
    let flags = be16(bytes, 16);
    if flags & FLAG_FIXED_NEWSTYLE == 0 {
        return Err(WireError::OldStyle(flags));
    }
    Ok(u32::from(flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)))
}

pub fn encode_option(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend(MAGIC_OPTION.to_be_bytes());
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
}

pub fn encode_go(export: &str) -> Vec<u8> {
    let mut data = Vec::new();
    put_string(&mut data, export);
    data.extend(1u16.to_be_bytes());
    data.extend(INFO_BLOCK_SIZE.to_be_bytes());
    encode_option(OPTION_GO, &data)
}

pub fn encode_set_meta_context(export: &str, contexts: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    put_string(&mut data, export);
    data.extend((contexts.len() as u32).to_be_bytes());
    contexts.iter().for_each(|context| put_string(&mut data, context));
    encode_option(OPTION_SET_META_CONTEXT, &data)
}

/// Header of an answer to an option: its reply type and how many bytes follow.
pub fn decode_option_reply(option: u32, bytes: &[u8; OPTION_REPLY_BYTES]) -> Result<(u32, u32), WireError> {
    if be64(bytes, 0) != MAGIC_OPTION_REPLY {
        return Err(WireError::Magic { what: "an option's reply", found: be64(bytes, 0) });
    }
    if be32(bytes, 8) != option {
        return Err(WireError::WrongOption { option, found: be32(bytes, 8) });
    }
    Ok((be32(bytes, 12), be32(bytes, 16)))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionReply {
    Ack,
    Export { size: u64, flags: u16 },
    BlockSize { preferred: u32, largest: u32 },
    OtherInfo(u16),
    MetaContext { id: u32, name: String },
    Refused { code: u32, message: String },
}

pub fn decode_option_data(option: u32, reply: u32, data: &[u8]) -> Result<OptionReply, WireError> {
    let length = |what| WireError::Length { what, bytes: data.len() as u64 };
    if reply & REPLY_ERROR_BIT != 0 {
        let message = String::from_utf8_lossy(data).into_owned();
        return Ok(OptionReply::Refused { code: reply & !REPLY_ERROR_BIT, message });
    }
    match reply {
        REPLY_ACK => Ok(OptionReply::Ack),
        REPLY_INFO if data.len() < 2 => Err(length("an export's information")),
        REPLY_INFO => match (be16(data, 0), data.len()) {
            (INFO_EXPORT, 12) => Ok(OptionReply::Export { size: be64(data, 2), flags: be16(data, 10) }),
            (INFO_BLOCK_SIZE, 14) => Ok(OptionReply::BlockSize { preferred: be32(data, 6), largest: be32(data, 10) }),
            (INFO_EXPORT | INFO_BLOCK_SIZE, _) => Err(length("an export's information")),
            (other, _) => Ok(OptionReply::OtherInfo(other)),
        },
        REPLY_META_CONTEXT if data.len() < 5 => Err(length("a meta context")),
        REPLY_META_CONTEXT => {
            let name = String::from_utf8_lossy(&data[4..]).into_owned();
            Ok(OptionReply::MetaContext { id: be32(data, 0), name })
        }
        reply => Err(WireError::UnknownReply { option, reply }),
    }
}

pub fn encode_request(request: &Request) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC_REQUEST.to_be_bytes());
    bytes[4..6].copy_from_slice(&request.flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&(request.command as u16).to_be_bytes());
    bytes[8..16].copy_from_slice(&request.cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&request.offset.to_be_bytes());
    bytes[24..28].copy_from_slice(&request.len.to_be_bytes());
    bytes
}

/// A simple reply after its magic.
pub fn decode_simple_reply(rest: &[u8; SIMPLE_REPLY_BYTES - 4]) -> (u64, u32) {
    (be64(rest, 4), be32(rest, 0))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyChunk {
    pub cookie: u64,
    pub done: bool,
    pub kind: ChunkKind,
    /// Bytes of payload that follow.
    pub len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    None,
    Data,
    Hole,
    BlockStatus,
    Error,
}

/// A structured reply's chunk header after its magic.
pub fn decode_reply_chunk(rest: &[u8; STRUCTURED_REPLY_BYTES - 4]) -> Result<ReplyChunk, WireError> {
    let (flags, kind, len) = (be16(rest, 0), be16(rest, 2), be32(rest, 12));
    let (kind, good_len) = match kind {
        0 => (ChunkKind::None, len == 0),
        1 => (ChunkKind::Data, len > 8),
        2 => (ChunkKind::Hole, len == 12),
        5 => (ChunkKind::BlockStatus, len >= 12 && (len - 4).is_multiple_of(8)),
        other if other & CHUNK_ERROR_BIT != 0 => (ChunkKind::Error, len >= 6),
        other => return Err(WireError::UnknownChunk(other)),
    };
    if !good_len {
        return Err(WireError::Length { what: "a reply chunk", bytes: u64::from(len) });
    }
    Ok(ReplyChunk { cookie: be64(rest, 4), done: flags & CHUNK_DONE != 0, kind, len })
}

pub fn decode_hole(data: &[u8; 12]) -> (u64, u32) {
    (be64(data, 0), be32(data, 8))
}

/// Errno and message of an error chunk.
pub fn decode_error(data: &[u8]) -> Result<(u32, String), WireError> {
    let message_len = usize::from(be16(data, 4));
    match data.get(6..6 + message_len) {
        Some(message) => Ok((be32(data, 0), String::from_utf8_lossy(message).into_owned())),
        None => Err(WireError::Length { what: "an error's message", bytes: message_len as u64 }),
    }
}

/// Context id, and (length, flags) of each extent.
pub fn decode_block_status(data: &[u8]) -> (u32, impl Iterator<Item = (u32, u32)>) {
    let (pairs, _) = data[4..].as_chunks::<8>();
    (be32(data, 0), pairs.iter().map(|pair| (be32(pair, 0), be32(pair, 4))))
}

/// The protocol's error values, which are Linux's errno numbers.
pub fn errno_name(errno: u32) -> &'static str {
    match errno {
        1 => "EPERM",
        5 => "EIO",
        12 => "ENOMEM",
        22 => "EINVAL",
        28 => "ENOSPC",
        75 => "EOVERFLOW",
        95 => "ENOTSUP",
        108 => "ESHUTDOWN",
        _ => "an unknown errno",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_must_be_fixed_newstyle() {
        let greeting = |first: u64, second: u64, flags: u16| {
            let mut bytes = [0; GREETING_BYTES];
            bytes[..8].copy_from_slice(&first.to_be_bytes());
            bytes[8..16].copy_from_slice(&second.to_be_bytes());
            bytes[16..].copy_from_slice(&flags.to_be_bytes());
            decode_greeting(&bytes)
        };
        assert_eq!(greeting(MAGIC_INIT, MAGIC_OPTION, 3), Ok(3));
        assert_eq!(greeting(MAGIC_INIT, MAGIC_OPTION, 0xff01), Ok(1));
        assert_eq!(greeting(MAGIC_INIT, MAGIC_OPTION, 2), Err(WireError::OldStyle(2)));
        assert!(matches!(greeting(1, MAGIC_OPTION, 3), Err(WireError::Magic { found: 1, .. })));
        assert!(matches!(greeting(MAGIC_INIT, 0x0000_4202_8186_1253, 3), Err(WireError::Magic { .. })));
    }

    #[test]
    fn a_request_is_laid_out_as_the_protocol_says() {
        let request =
            Request { command: Command::WriteZeroes, flags: COMMAND_NO_HOLE, cookie: 7, offset: 1 << 40, len: 512 };
        let want = [0x25, 0x60, 0x95, 0x13, 0, 2, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0];
        assert_eq!(encode_request(&request), want);
    }

    #[test]
    fn option_replies_are_read_and_bad_ones_refused() {
        let mut export = vec![0, 0];
        export.extend(4096u64.to_be_bytes());
        export.extend(5u16.to_be_bytes());
        let check = |reply, data: &[u8], want| assert_eq!(decode_option_data(OPTION_GO, reply, data), want);
        check(1, &[], Ok(OptionReply::Ack));
        check(3, &export, Ok(OptionReply::Export { size: 4096, flags: 5 }));
        check(3, &[0, 9, 1], Ok(OptionReply::OtherInfo(9)));
        check(3, &[0, 0, 1], Err(WireError::Length { what: "an export's information", bytes: 3 }));
        check(3, &[0], Err(WireError::Length { what: "an export's information", bytes: 1 }));
        check(4, &[0, 0, 0, 3, b'x'], Ok(OptionReply::MetaContext { id: 3, name: "x".into() }));
        check(4, &[0, 0, 0, 3], Err(WireError::Length { what: "a meta context", bytes: 4 }));
        check(0x8000_0006, b"no", Ok(OptionReply::Refused { code: 6, message: "no".into() }));
        check(77, &[], Err(WireError::UnknownReply { option: OPTION_GO, reply: 77 }));
    }

    #[test]
    fn reply_chunks_are_read_and_bad_ones_refused() {
        let chunk = |flags: u16, kind: u16, len: u32| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&flags.to_be_bytes());
            bytes[2..4].copy_from_slice(&kind.to_be_bytes());
            bytes[4..12].copy_from_slice(&9u64.to_be_bytes());
            bytes[12..].copy_from_slice(&len.to_be_bytes());
            decode_reply_chunk(&bytes)
        };
        assert_eq!(chunk(1, 1, 9), Ok(ReplyChunk { cookie: 9, done: true, kind: ChunkKind::Data, len: 9 }));
        assert_eq!(chunk(0, 0x8002, 14), Ok(ReplyChunk { cookie: 9, done: false, kind: ChunkKind::Error, len: 14 }));
        for (kind, len) in [(0, 1), (1, 8), (2, 11), (5, 4), (5, 13), (0x8001, 5)] {
            assert!(matches!(chunk(1, kind, len), Err(WireError::Length { .. })), "type {kind} with {len} bytes");
        }
        assert_eq!(chunk(1, 6, 12), Err(WireError::UnknownChunk(6)));
        assert_eq!(decode_error(&[0, 0, 0, 28, 0, 2, b'n', b'o']), Ok((28, "no".into())));
        assert!(matches!(decode_error(&[0, 0, 0, 28, 0, 3, b'n', b'o']), Err(WireError::Length { .. })));
    }
}
