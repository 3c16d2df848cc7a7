//! The NBD client against real servers, and against none.

use anyhow::Result;
use tokio::{io::AsyncWriteExt, net::UnixListener};
use whimbrel_transfer::{
    Buffer, NbdPool,
    extent::{ALLOCATION_ZERO, CONTEXT_ALLOCATION, CONTEXT_DEPTH, Extent},
    nbd::Fault,
};

use crate::{
    pair::{DISK_BYTES, Images, KIB, MIB, content, serve},
    qemu::{VERSIONS, Version},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_writes_and_extents_tell_the_truth() -> Result<()> {
    for version in VERSIONS {
        let mut images = Images::new(version)?;
        let daemon = serve(version, &images.image("source"), true).await?;
        let pool = daemon.pool(3, &[CONTEXT_ALLOCATION]).await?;
        assert_eq!((pool.size(), pool.read_only(), pool.export()), (DISK_BYTES, false, "disk"));

        // Many more than fit into the connections at once, of odd sizes and places.
        let mut reads = tokio::task::JoinSet::new();
        for index in 0..200u64 {
            let offset = index * 197 * KIB + index * 512;
            let len = (DISK_BYTES - offset).min(1 + index * 5003);
            let pool = pool.clone();
            reads.spawn(async move {
                let (sparse, data) = (Buffer::from(vec![9; len as usize]), Buffer::from(vec![9; len as usize]));
                (offset, pool.read(offset, sparse).await, pool.read_data(offset, data).await)
            });
        }
        while let Some(read) = reads.join_next().await {
            let (offset, sparse, data) = read?;
            let (sparse, data) = (sparse?, data?);
            assert!(sparse[..] == images.model[offset as usize..][..sparse.len()], "{version:?}: read at {offset}");
            assert!(sparse[..] == data[..], "{version:?}: both kinds of read at {offset}");
        }

        let bytes = content(5, 0, 700 * KIB + 512);
        pool.write(11 * MIB + 512, Buffer::from(bytes.clone())).await?;
        images.put(11 * MIB + 512, &bytes);
        // More than one request may cover.
        pool.write_zeroes(MIB, 35 * MIB, false).await?;
        images.put(MIB, &vec![0; 35 << 20]);
        pool.flush().await?;
        let mut walk = pool.extents(CONTEXT_ALLOCATION);
        let mut end = 0;
        while let Some(batch) = walk.next().await? {
            for extent in batch {
                assert_eq!(extent.offset, end, "{version:?}: extents follow each other");
                end = extent.end();
                let zero = images.model[extent.offset as usize..end as usize].iter().all(|byte| *byte == 0);
                assert!(zero || extent.flags & ALLOCATION_ZERO == 0, "{version:?}: {extent:?} holds data");
            }
        }
        assert_eq!(end, DISK_BYTES);
        let holes = pool.list_extents(CONTEXT_ALLOCATION, |extent| extent.flags & ALLOCATION_ZERO != 0).await?;
        assert!(
            holes.iter().any(|hole: &Extent| hole.offset <= MIB && hole.end() >= 36 * MIB),
            "{version:?}: {holes:?}"
        );
        pool.disconnect().await;
        daemon.quit().await?;
        images.check(version, "source")?;
    }
    Ok(())
}

async fn fault(result: Result<impl Sized, whimbrel_transfer::nbd::NbdError>) -> Fault {
    result.err().expect("it must fail").fault
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_apart() -> Result<()> {
    let version = Version::V72;
    let images = Images::new(version)?;
    let daemon = serve(version, &images.image("source"), false).await?;
    let socket = daemon.socket.clone();
    let connect = async |export: &str, contexts: &[&str]| NbdPool::connect(&socket, export, 2, contexts).await;
    assert!(matches!(fault(connect("nothing", &[]).await).await, Fault::Refused { code: 6, .. }));
    assert_eq!(
        fault(connect("disk", &["qemu:dirty-bitmap:b0"]).await).await,
        Fault::NoContext("qemu:dirty-bitmap:b0".into())
    );

    let pool = connect("disk", &[CONTEXT_ALLOCATION, CONTEXT_DEPTH]).await?;
    assert!(pool.read_only() && pool.has_context(CONTEXT_DEPTH));
    let depths = pool.block_status(CONTEXT_DEPTH, 0, MIB).await?;
    assert_eq!(depths, [Extent { offset: 0, len: MIB, flags: 1 }]);
    let error = pool.write(0, Buffer::from(vec![1; 512])).await.expect_err("it is read-only");
    assert!(matches!(error.fault, Fault::Failed { errno: 1 | 22, .. }), "{error}");
    for (offset, len) in [(DISK_BYTES, 512), (DISK_BYTES - 1, 2), (u64::MAX, 2), (0, 0)] {
        let read = pool.read(offset, Buffer::from(vec![0; len])).await;
        assert!(matches!(fault(read).await, Fault::OutOfRange { .. }), "{len} bytes at {offset}");
    }
    assert!(matches!(fault(pool.read(0, Buffer::from(vec![0; 33 << 20])).await).await, Fault::Protocol(_)));

    // All that wait are told, and so is whoever comes later.
    drop(daemon);
    assert!(matches!(fault(pool.read(0, Buffer::from(vec![0; 512])).await).await, Fault::Lost(_)));
    assert!(matches!(fault(pool.flush().await).await, Fault::Lost(_)));
    assert!(matches!(fault(connect("disk", &[]).await).await, Fault::Connect(_)));
    Ok(())
}

#[tokio::test]
async fn what_is_no_nbd_server_is_found_out() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (index, greeting) in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"NBDMAGIC", b""].into_iter().enumerate() {
        let socket = dir.path().join(index.to_string());
        let listener = UnixListener::bind(&socket)?;
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(greeting).await?;
            anyhow::Ok(())
        };
        let (pool, served) = tokio::join!(NbdPool::connect(&socket, "disk", 1, &[]), server);
        served?;
        let error = pool.expect_err("that is no NBD server");
        assert!(matches!(error.fault, Fault::Wire(_) | Fault::Lost(_)), "{error}");
        assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");
    }
    Ok(())
}
