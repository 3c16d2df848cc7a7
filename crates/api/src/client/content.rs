//! Bulk content: image files up and down, streamed, never whole in memory.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use reqwest::{Method, header::CONTENT_LENGTH};
use tokio::{
    fs,
    io::{AsyncWriteExt, BufWriter},
    time::timeout,
};
use tokio_util::io::ReaderStream;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::ImageDigest,
};

use super::transport::{CONTENT_STALL_MAX, Transport};

const READ_BYTES: usize = 256 << 10;
/// What comes in is in pieces of a frame; each write to a file is a call on another thread.
const WRITE_BYTES: usize = 1 << 20;
static NEXT_PART: AtomicU64 = AtomicU64::new(0);

/// Sends the file at `file`, answers with the body of the server's answer.
pub(super) async fn upload(transport: &Transport, path: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(FailureCode::BadRequest, format!("cannot read {}: {error}", file.display()))
            .hint("name a file that exists and that this user may read")
    };
    let opened = fs::File::open(file).await.map_err(unreadable)?;
    let metadata = opened.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")));
    }
    let moved = Arc::new(AtomicU64::new(0));
    let counted = moved.clone();
    let stream = ReaderStream::with_capacity(opened, READ_BYTES).inspect_ok(move |chunk| {
        counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    let request = transport
        .request(Method::PUT, path)
        .header(CONTENT_LENGTH, metadata.len())
        .body(reqwest::Body::wrap_stream(stream));
    let answered = async {
        let response = transport.send(request).await?;
        transport.body_of(response, &Method::PUT, path).await
    };
    tokio::select! {
        answer = answered => answer,
        () = stall(&moved) => Err(transport.stalled(&format!("upload of {}", file.display()))),
    }
}

/// Ends when `moved` stands still.
async fn stall(moved: &AtomicU64) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(CONTENT_STALL_MAX).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Brings a blob to `to`: written beside, compared with its digest, fsynced and renamed. Returns its size.
pub(super) async fn download(
    transport: &Transport,
    path: &str,
    digest: &ImageDigest,
    to: &Path,
) -> Result<u64, Failure> {
    let part = Part::of(to);
    let bytes = fetch(transport, path, digest, &part.path).await?;
    place(&part.path, to).await.map_err(|error| unwritable(to, &error))?;
    Ok(bytes)
}

/// The body of an answer, piece by piece; a body that stalls or breaks ends with its failure.
pub(super) async fn stream(
    transport: &Transport,
    path: &str,
) -> Result<impl Stream<Item = Result<Bytes, Failure>> + use<>, Failure> {
    let what = format!("download of {path}");
    let sent = timeout(CONTENT_STALL_MAX, transport.send(transport.request(Method::GET, path)));
    let response = sent.await.map_err(|_| transport.stalled(&what))??;
    if !response.status().is_success() {
        transport.body_of(response, &Method::GET, path).await?;
        return Err(Failure::new(FailureCode::Internal, format!("{what}: there is no content")));
    }
    let transport = transport.clone();
    Ok(futures_util::stream::try_unfold(response, move |mut response| {
        let (transport, what) = (transport.clone(), what.clone());
        async move {
            let chunk = timeout(CONTENT_STALL_MAX, response.chunk()).await.map_err(|_| transport.stalled(&what))?;
            let chunk = chunk.map_err(|error| transport.broken(&error))?;
            Ok(chunk.map(|chunk| (chunk, response)))
        }
    }))
}

/// A file beside the one that it shall become; gone when nobody brings it there, also since nobody waits any more.
struct Part {
    path: PathBuf,
}

impl Part {
    fn of(to: &Path) -> Part {
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".part-{}-{}", std::process::id(), NEXT_PART.fetch_add(1, Ordering::Relaxed)));
        Part { path: PathBuf::from(name) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What cannot be removed is left to the owner of the folder, who sweeps it at its start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn fetch(transport: &Transport, path: &str, digest: &ImageDigest, part: &Path) -> Result<u64, Failure> {
    let what = format!("download of {digest}");
    let sent = timeout(CONTENT_STALL_MAX, transport.send(transport.request(Method::GET, path)));
    let mut response = sent.await.map_err(|_| transport.stalled(&what))??;
    if !response.status().is_success() {
        return transport.body_of(response, &Method::GET, path).await.map(|_| 0);
    }
    // Made here and not on another thread, which would make it after the future was dropped.
    let file = std::fs::File::create_new(part).map_err(|error| unwritable(part, &error))?;
    let file = fs::File::from_std(file);
    let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    loop {
        let chunk = timeout(CONTENT_STALL_MAX, response.chunk()).await.map_err(|_| transport.stalled(&what))?;
        let Some(chunk) = chunk.map_err(|error| transport.broken(&error))? else { break };
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
        file.write_all(&chunk).await.map_err(|error| unwritable(part, &error))?;
    }
    file.flush().await.map_err(|error| unwritable(part, &error))?;
    file.get_ref().sync_all().await.map_err(|error| unwritable(part, &error))?;
    let found = hasher.finalize().to_hex();
    if found.as_str() != digest.as_str() {
        let detail = format!("{} sent for image {digest} content with digest {found}", transport.peer());
        return Err(Failure::new(FailureCode::Corrupt, detail).hint("try again; if it stays so, upload the image anew"));
    }
    Ok(bytes)
}

async fn place(part: &Path, to: &Path) -> io::Result<()> {
    fs::rename(part, to).await?;
    match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => fs::File::open(dir).await?.sync_all().await,
        Some(_) | None => Ok(()),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(FailureCode::Internal, format!("cannot write {}: {error}", path.display()))
        .hint("is there room, and may this user write there?")
}
