//! Chunk buffers that are used again and again.
//!
//! A pool owns a fixed number of buffers, each made once. Taking one waits until one is free: that is the back-pressure
//! which bounds the memory of a transfer. A buffer goes home when it is dropped, wherever that happens.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest piece of a disk that travels in one frame.
pub const CHUNK_BYTES: usize = 1 << 20;
/// What O_DIRECT asks of addresses and lengths at most.
pub const ALIGN_BYTES: usize = 4096;

type Shelf = Arc<Mutex<Vec<Vec<u8>>>>;

#[derive(Clone, Debug)]
pub struct BufferPool {
    free: Shelf,
    permits: Arc<Semaphore>,
}

/// Bytes of one chunk: `len` of them count. From a pool (then aligned to `ALIGN_BYTES`), or free-standing
/// (`From<Vec<u8>>`).
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    home: Option<(Shelf, OwnedSemaphorePermit)>,
}

impl BufferPool {
    /// A pool of `count` buffers of `CHUNK_BYTES`.
    pub fn new(count: usize) -> Self {
        BufferPool { free: Arc::default(), permits: Arc::new(Semaphore::new(count)) }
    }

    /// Waits for a free buffer. Its content is whatever was in it before.
    pub async fn take(&self, len: usize) -> Buffer {
        assert!(len <= CHUNK_BYTES, "a buffer of {len} bytes was asked for");
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let kept = self.free.lock().expect("no panic while held").pop();
        let bytes = kept.unwrap_or_else(|| vec![0; CHUNK_BYTES + ALIGN_BYTES]);
        let start = bytes.as_ptr().align_offset(ALIGN_BYTES);
        Buffer { bytes, start, len, home: Some((self.free.clone(), permit)) }
    }
}

impl Buffer {
    /// Lets another number of its bytes count; what they hold is whatever was there before.
    pub fn set_len(&mut self, len: usize) {
        let room = self.bytes.len() - self.start;
        assert!(len <= room, "a buffer of {room} bytes was set to {len}");
        self.len = len;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((free, permit)) = self.home.take() {
            free.lock().expect("no panic while held").push(std::mem::take(&mut self.bytes));
            drop(permit);
        }
    }
}
impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer { len: bytes.len(), bytes, start: 0, home: None }
    }
}
impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}
impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pool_hands_out_no_more_than_it_has_and_takes_back() {
        let pool = BufferPool::new(2);
        let mut first = pool.take(3).await;
        first.copy_from_slice(b"abc");
        let _second = pool.take(CHUNK_BYTES).await;
        let mut third = at_once(pool.take(1));
        assert!(third.is_none(), "a third buffer came out of a pool of two");
        drop(first);
        third = Some(pool.take(1).await);
        assert_eq!(third.unwrap().len(), 1);
    }

    fn at_once<F: Future>(future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
