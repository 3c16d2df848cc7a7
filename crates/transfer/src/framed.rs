//! Frames on a stream: reading and writing whole ones, with errors that say where the stream broke.

use std::{io::IoSlice, sync::Arc};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    error::TransferError,
    frame::{HEADER_BYTES, Header, Kind},
};

pub(crate) struct FrameReader<R> {
    io: R,
    /// Which of the migration's streams it is, for errors.
    pub(crate) stream: usize,
    read_bytes: u64,
}

pub(crate) struct FrameWriter<W> {
    io: W,
    stream: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(io: R, stream: usize) -> Self {
        FrameReader { io, stream, read_bytes: 0 }
    }

    /// The next header; its payload, if any, must be read before the next call.
    pub(crate) async fn header(&mut self) -> Result<Header, TransferError> {
        let mut bytes = [0; HEADER_BYTES];
        self.fill(&mut bytes, || "the frames".to_owned()).await?;
        Header::decode(&bytes).map_err(|source| TransferError::BadFrame { stream: self.stream, source })
    }

    /// Reads `header`'s payload. Its digest is not checked here.
    pub(crate) async fn payload(&mut self, header: &Header, buffer: &mut [u8]) -> Result<(), TransferError> {
        self.fill(buffer, || format!("a {:?} frame of disk {} at offset {}", header.kind, header.disk, header.offset))
            .await
    }

    /// Reads a payload and checks it. For small frames.
    pub(crate) async fn checked_payload(&mut self, header: &Header) -> Result<Vec<u8>, TransferError> {
        let mut bytes = vec![0; header.payload as usize];
        self.payload(header, &mut bytes).await?;
        header.check_payload(&bytes).map_err(|source| TransferError::BadFrame { stream: self.stream, source })?;
        Ok(bytes)
    }

    async fn fill(&mut self, buffer: &mut [u8], what: impl Fn() -> String) -> Result<(), TransferError> {
        let stream = self.stream;
        let mut filled = 0;
        while filled < buffer.len() {
            let failed = |error| TransferError::Stream { stream, doing: "reading", source: Arc::new(error) };
            match self.io.read(&mut buffer[filled..]).await {
                Ok(0) => return Err(TransferError::Truncated { stream, what: what(), after_bytes: self.read_bytes }),
                Ok(len) => (filled, self.read_bytes) = (filled + len, self.read_bytes + len as u64),
                // A TLS peer that dies says no goodbye: the same as an end of the bytes.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(TransferError::Truncated { stream, what: what(), after_bytes: self.read_bytes });
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(io: W, stream: usize) -> Self {
        FrameWriter { io, stream }
    }

    pub(crate) async fn write(&mut self, header: &Header, payload: &[u8]) -> Result<(), TransferError> {
        let bytes = header.encode();
        let mut parts = [IoSlice::new(&bytes), IoSlice::new(payload)];
        let written = write_all_vectored(&mut self.io, &mut parts).await;
        written.map_err(|error| self.failed(error))
    }

    /// Pushes out what TLS holds back.
    pub(crate) async fn flush(&mut self) -> Result<(), TransferError> {
        let flushed = self.io.flush().await;
        flushed.map_err(|error| self.failed(error))
    }

    /// Says that nothing more will come and closes this direction.
    pub(crate) async fn end(&mut self) -> Result<(), TransferError> {
        self.write(&Header::new(Kind::End, 0, 0, 0, 0, &[]), &[]).await?;
        self.flush().await?;
        let closed = self.io.shutdown().await;
        closed.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> TransferError {
        TransferError::Stream { stream: self.stream, doing: "writing", source: Arc::new(error) }
    }
}

/// Header and payload in one go, so that a small header is no packet (and no TLS record) of its own.
pub(crate) async fn write_all_vectored(
    io: &mut (impl AsyncWrite + Unpin),
    mut parts: &mut [IoSlice<'_>],
) -> std::io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let wrote = io.write_vectored(parts).await?;
        if wrote == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut parts, wrote);
    }
    Ok(())
}
