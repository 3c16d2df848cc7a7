//! Lines off a socket, with a bound on their size.
//!
//! QEMU writes one JSON object per line. The largest honest reply is the schema (about 240 kB in 10.0) or the block
//! graph of a guest with long chains; the bound is far above both and keeps a broken peer from taking the
//! agent's memory.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::CloseReason;

/// The longest line accepted from QEMU, without its line end.
pub const LINE_BYTES_MAX: usize = 16 << 20;

const READ_CHUNK_BYTES: usize = 16 << 10;

pub(crate) struct LineReader<R> {
    from: R,
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no line end.
    scanned: usize,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self::with_max(from, LINE_BYTES_MAX)
    }

    fn with_max(from: R, bytes_max: usize) -> Self {
        Self { from, buffer: BytesMut::new(), scanned: 0, bytes_max }
    }

    /// The next line that is not empty. May be dropped while it waits: no byte is lost.
    pub(crate) async fn next_line(&mut self) -> Result<BytesMut, CloseReason> {
        loop {
            while let Some(line) = self.take_line()? {
                if !line.is_empty() {
                    return Ok(line);
                }
            }
            self.buffer.reserve(READ_CHUNK_BYTES);
            let read = self.from.read_buf(&mut self.buffer).await.map_err(CloseReason::Io)?;
            if read == 0 {
                return Err(match self.buffer.len() {
                    0 => CloseReason::Peer,
                    bytes => CloseReason::Truncated { bytes },
                });
            }
        }
    }

    fn take_line(&mut self) -> Result<Option<BytesMut>, CloseReason> {
        let found = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let length = found.map_or(self.buffer.len(), |at| self.scanned + at);
        // A line ends in "\r\n"; one byte over the bound may be that "\r".
        if length > self.bytes_max + 1 {
            return Err(CloseReason::Oversized { bytes_max: self.bytes_max });
        }
        if found.is_none() {
            self.scanned = length;
            return Ok(None);
        }
        let mut line = self.buffer.split_to(length + 1);
        self.scanned = 0;
        line.truncate(line.trim_ascii_end().len());
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::LineReader;

    async fn check(pieces: &[&[u8]], lines: &[&str], end: &str) {
        let mut mock = tokio_pipe(pieces).await;
        let mut got = Vec::new();
        let reason = loop {
            match mock.next_line().await {
                Ok(line) => got.push(String::from_utf8(line.to_vec()).expect("text")),
                Err(reason) => break reason,
            }
        };
        assert_eq!(got, lines);
        assert_eq!(reason.to_string(), end);
    }

    /// A reader that gets `pieces` one read at a time, then the end. Lines are bounded at 8 bytes.
    async fn tokio_pipe(pieces: &[&[u8]]) -> LineReader<impl tokio::io::AsyncRead + Unpin + use<>> {
        let mut chained: Box<dyn tokio::io::AsyncRead + Unpin + Send> = Box::new(tokio::io::empty());
        for piece in pieces.iter().rev() {
            let head = std::io::Cursor::new(piece.to_vec());
            chained = Box::new(tokio::io::AsyncReadExt::chain(head, chained));
        }
        LineReader::with_max(chained, 8)
    }

    #[tokio::test]
    async fn lines_are_cut_and_bounded() {
        const PEER: &str = "QEMU closed the connection";
        check(&[b"{}\r\n[]\n"], &["{}", "[]"], PEER).await;
        check(&[b"{", b"}\r", b"\n\r\n\n{}\n"], &["{}", "{}"], PEER).await;
        check(&[b"12345678\r\n"], &["12345678"], PEER).await;
        check(&[], &[], PEER).await;
        check(&[b"{}\r\n{\"a"], &["{}"], "the connection ended inside a line, after 3 bytes of it").await;
        let oversized = "QEMU sent a line longer than 8 bytes";
        check(&[b"{}\n1234567890\r\n{}\n"], &["{}"], oversized).await;
        check(&[b"12345", b"67890", b"12345"], &[], oversized).await;
    }
}
