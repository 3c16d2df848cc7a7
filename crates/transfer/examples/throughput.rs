//! How fast a disk moves: qcow2 to qcow2 through two storage daemons and N TLS streams over loopback TCP.
//!
//! Wants WHIMBREL_QEMU_72 and WHIMBREL_QEMU_100 as the tests do. `cargo run --release --example throughput -- --help`
//! lists what can be varied.

#[path = "../tests/transfer/qemu.rs"]
#[allow(dead_code)]
mod qemu;

use std::{
    collections::HashMap,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
};
use whimbrel_core::disk::DiskName;
use whimbrel_transfer::{
    extent::CONTEXT_ALLOCATION,
    link::Stream,
    receive::{Receiver, Sink, TargetDisk},
    send::{DiskRound, Due, Origin, Sender, Zeros},
};

use crate::qemu::{Daemon, Version, text};

const OPTIONS: [(&str, &str, &str); 16] = [
    ("dir", "", "where the images go (default: a temporary directory)"),
    ("data-mib", "1126", "bytes of data on the source disk"),
    ("disk-gib", "10", "size of the disk"),
    ("streams", "4", "streams between the sides"),
    ("source-connections", "4", "NBD connections to the source"),
    ("target-connections", "4", "NBD connections to the target"),
    ("tls", "on", "on or off"),
    ("read-buffer-kib", "128", "buffer between TCP and TLS on reads; 0 for none"),
    ("tls-buffer-kib", "0", "TLS's own write buffer; 0 for its default"),
    ("suite", "", "part of the cipher suite's name, e.g. AES_128"),
    ("source-file", "cache.direct=on,aio=native", "blockdev options of the source's file"),
    ("target-file", "cache.direct=on,aio=native", "blockdev options of the target's file"),
    ("target-format", "driver=qcow2", "blockdev options of the target's format"),
    ("create", "", "options of the target's image, e.g. cluster_size=128k"),
    ("qemu", "7.2", "7.2 or 10.0"),
    ("repeat", "3", "how many times"),
];

struct Options(HashMap<String, String>);

impl Options {
    fn parse() -> Result<Self> {
        let mut known: HashMap<String, String> =
            OPTIONS.iter().map(|(name, value, _)| (name.to_string(), value.to_string())).collect();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let name = arg.trim_start_matches("--").to_owned();
            if name == "help" || !known.contains_key(&name) {
                OPTIONS.iter().for_each(|(name, value, what)| println!("--{name} [{value}]  {what}"));
                bail!("{arg}: one of the above is needed");
            }
            known.insert(name, args.next().context("a value is missing")?);
        }
        Ok(Options(known))
    }
    fn text(&self, name: &str) -> &str {
        &self.0[name]
    }
    fn number(&self, name: &str) -> Result<usize> {
        self.text(name).parse().with_context(|| format!("--{name}"))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse()?;
    let version = match options.text("qemu") {
        "7.2" => Version::V72,
        "10.0" => Version::V100,
        other => bail!("--qemu {other}: 7.2 or 10.0"),
    };
    let temporary = tempfile::tempdir()?;
    let dir = match options.text("dir") {
        "" => temporary.path().to_owned(),
        dir => PathBuf::from(dir),
    };
    let source = dir.join("source.qcow2");
    if !source.exists() {
        make_source(version, &source, options.number("disk-gib")? as u64, options.number("data-mib")?)?;
    }
    for _ in 0..options.number("repeat")? {
        run_once(&options, version, &source, &dir.join("target.qcow2")).await?;
    }
    Ok(())
}

/// Data in eight places, nothing between.
fn make_source(version: Version, image: &Path, disk_gib: u64, data_mib: usize) -> Result<()> {
    let raw = image.with_extension("raw");
    let mut file = std::fs::File::create(&raw)?;
    file.set_len(disk_gib << 30)?;
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut chunk = vec![0; 1 << 20];
    for part in 0..8 {
        file.seek(SeekFrom::Start((disk_gib << 30) / 8 * part))?;
        for _ in 0..data_mib / 8 {
            noise.fill(&mut chunk);
            file.write_all(&chunk)?;
        }
    }
    file.sync_all()?;
    version.img(&["convert", "-O", "qcow2", text(&raw), text(image)])?;
    std::fs::remove_file(raw)?;
    Ok(())
}

async fn run_once(options: &Options, version: Version, source: &Path, target: &Path) -> Result<()> {
    let _ = std::fs::remove_file(target);
    let size = format!("{}G", options.text("disk-gib"));
    let create = match options.text("create") {
        "" => "lazy_refcounts=off",
        create => create,
    };
    version.img(&["create", "-q", "-f", "qcow2", "-o", create, text(target), &size])?;
    let from = Daemon::start(version, source, false, options.text("source-file"), "driver=qcow2").await?;
    let to = Daemon::start(version, target, true, options.text("target-file"), options.text("target-format")).await?;
    let (near, far) = streams(options).await?;
    let name: DiskName = "root".parse()?;
    let cpu_before = (cpu_s(std::process::id())?, cpu_s(from.pid())?, cpu_s(to.pid())?);
    let start = Instant::now();

    let pool = from.pool(options.number("source-connections")?, &[CONTEXT_ALLOCATION]).await?;
    let target_pool = to.pool(options.number("target-connections")?, &[]).await?;
    let receiver = Receiver::start(far, vec![TargetDisk { name: name.clone(), sink: Sink::Export(target_pool) }]);
    let mut sender = Sender::start(near, vec![name]);
    let part = DiskRound { disk: 0, origin: Origin::Export(pool), due: Due::Allocated, zeros: Zeros::Skip };
    let totals = sender.round(0, vec![part]).await?;
    let shipped = start.elapsed();
    receiver.await_round(0, &totals, Duration::from_secs(30)).await?;
    let written = start.elapsed();
    let (sent, received) = (sender.counters().snapshot(), receiver.counters().snapshot());
    let (finished, flushed) = tokio::join!(sender.finish(), receiver.finish());
    finished?;
    flushed?;
    let flushed = start.elapsed();
    let cpu = (cpu_s(std::process::id())?, cpu_s(from.pid())?, cpu_s(to.pid())?);
    to.quit().await?;
    let quit = start.elapsed();
    from.quit().await?;
    let mb = totals[0].bytes as f64 / 1e6;
    println!(
        "{mb:.0} MB: shipped {:.2} written {:.2} flushed {:.2} quit {:.2} s = {:.0} MB/s; cpu: transfer {:.2} source \
         {:.2} target {:.2} s; source streams starved {:.2} blocked {:.2}, target starved {:.2} blocked {:.2} s",
        shipped.as_secs_f64(),
        written.as_secs_f64(),
        flushed.as_secs_f64(),
        quit.as_secs_f64(),
        mb / quit.as_secs_f64(),
        cpu.0 - cpu_before.0,
        cpu.1 - cpu_before.1,
        cpu.2 - cpu_before.2,
        sent.starved_us as f64 / 1e6,
        sent.blocked_us as f64 / 1e6,
        received.starved_us as f64 / 1e6,
        received.blocked_us as f64 / 1e6,
    );
    Ok(())
}

fn cpu_s(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().context("a stat line")?.split(' ').collect();
    // utime and stime, in the kernel's fixed 1/100 s.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

async fn streams(options: &Options) -> Result<(Vec<Stream>, Vec<Stream>)> {
    let tls = match options.text("tls") {
        "on" => Some(tls(options.text("suite"))?),
        _ => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (mut near, mut far): (Vec<Stream>, Vec<Stream>) = (Vec::new(), Vec::new());
    let read_buffer = options.number("read-buffer-kib")? << 10;
    let tls_buffer = Some(options.number("tls-buffer-kib")? << 10).filter(|bytes| *bytes > 0);
    for _ in 0..options.number("streams")? {
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
        let (one, other) = (one?, other?.0);
        one.set_nodelay(true)?;
        other.set_nodelay(true)?;
        let Some((connector, acceptor)) = &tls else {
            near.push(Box::new(one));
            far.push(Box::new(other));
            continue;
        };
        let name = ServerName::try_from("localhost")?;
        let accept = acceptor.accept(BufReader::with_capacity(read_buffer.max(1), other));
        let (one, other) = tokio::join!(connector.connect(name, one), accept);
        let (mut one, other) = (one?, other?);
        if tls_buffer.is_some() {
            one.get_mut().1.set_buffer_limit(tls_buffer);
        }
        near.push(Box::new(one));
        far.push(Box::new(other));
    }
    Ok((near, far))
}

fn tls(suite: &str) -> Result<(tokio_rustls::TlsConnector, tokio_rustls::TlsAcceptor)> {
    let cert = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(cert.signing_key.serialize_der().into());
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|known| format!("{:?}", known.suite()).contains(suite));
    let provider = Arc::new(provider);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.cert.der().clone())?;
    let client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![cert.cert.der().clone()], key)?;
    Ok((Arc::new(client).into(), Arc::new(server).into()))
}
