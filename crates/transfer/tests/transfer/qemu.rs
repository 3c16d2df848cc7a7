//! Real storage daemons and images to move disks between.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};
use whimbrel_transfer::NbdPool;

const READY_DEADLINE: Duration = Duration::from_secs(20);
const READY_POLL: Duration = Duration::from_millis(5);

/// Which QEMU's tools: the directory in the variable, set by `./x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V72,
    V100,
}

pub const VERSIONS: [Version; 2] = [Version::V72, Version::V100];

impl Version {
    pub fn tool(self, name: &str) -> PathBuf {
        let variable = match self {
            Version::V72 => "WHIMBREL_QEMU_72",
            Version::V100 => "WHIMBREL_QEMU_100",
        };
        let Some(directory) = std::env::var_os(variable) else {
            panic!("{variable} is not set: it names the directory with {name}; run these tests through ./x test");
        };
        let tool = Path::new(&directory).join(name);
        assert!(tool.exists(), "{variable}: there is no {}", tool.display());
        tool
    }

    pub fn img(self, args: &[&str]) -> Result<String> {
        let output = Command::new(self.tool("qemu-img")).args(args).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "qemu-img {}: {}: {said}", args.join(" "), output.status);
        Ok(said)
    }

    /// Fails unless both images hold the same.
    pub fn compare(self, one: &Path, other: &Path) -> Result<()> {
        self.img(&["compare", text(one), text(other)]).map(|_| ())
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain")
}

/// A storage daemon that serves one image as export `disk`. Ends with its value.
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
    monitor: PathBuf,
}

impl Daemon {
    /// `image` is served from `file_options` (e.g. `cache.direct=on,aio=native`) and `format_options` (e.g. `driver=qcow2`).
    pub async fn start(
        version: Version,
        image: &Path,
        writable: bool,
        file_options: &str,
        format_options: &str,
    ) -> Result<Daemon> {
        let socket = image.with_extension("nbd");
        let monitor = image.with_extension("qmp");
        let _ = std::fs::remove_file(&socket);
        let read_only = if writable { "off" } else { "on" };
        let export = format!("type=nbd,id=e,node-name=disk,name=disk,writable={}", if writable { "on" } else { "off" });
        let child = Command::new(version.tool("qemu-storage-daemon"))
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=file,filename={},read-only={read_only},{file_options}", text(image)))
            .arg("--blockdev")
            .arg(format!("node-name=disk,file=file,read-only={read_only},discard=unmap,{format_options}"))
            .arg("--nbd-server")
            .arg(format!("addr.type=unix,addr.path={},max-connections=0", text(&socket)))
            .arg("--export")
            .arg(if writable { export } else { export + ",allocation-depth=on" })
            .arg("--chardev")
            .arg(format!("socket,id=m,path={},server=on,wait=off", text(&monitor)))
            .args(["--monitor", "chardev=m"])
            .stdin(Stdio::null())
            .spawn()
            .context("starting qemu-storage-daemon")?;
        let mut daemon = Daemon { child, socket, monitor };
        daemon.wait_ready().await?;
        Ok(daemon)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        let mut poll = tokio::time::interval(READY_POLL);
        while self.pool(1, &[]).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("qemu-storage-daemon ended: {status}");
            }
            ensure!(Instant::now() < deadline, "no export on {} after {READY_DEADLINE:?}", self.socket.display());
            poll.tick().await;
        }
        Ok(())
    }

    pub async fn pool(&self, connections: usize, contexts: &[&str]) -> Result<NbdPool> {
        Ok(NbdPool::connect(&self.socket, "disk", connections, contexts).await?)
    }

    pub async fn pool_of(&self, export: &str, connections: usize, contexts: &[&str]) -> Result<NbdPool> {
        Ok(NbdPool::connect(&self.socket, export, connections, contexts).await?)
    }

    /// For the example, which measures the daemon's CPU time.
    #[allow(dead_code)]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs QMP commands, each given as JSON text.
    pub async fn qmp(&self, commands: &[String]) -> Result<()> {
        let mut stream = BufReader::new(UnixStream::connect(&self.monitor).await?);
        let capabilities = r#"{"execute": "qmp_capabilities"}"#.to_owned();
        for command in [&capabilities].into_iter().chain(commands) {
            stream.write_all(command.as_bytes()).await?;
            let mut line = String::new();
            while !line.contains("\"return\"") {
                line.clear();
                ensure!(stream.read_line(&mut line).await? > 0, "the monitor was closed after {command}");
                ensure!(!line.contains("\"error\""), "{command}: {line}");
            }
        }
        Ok(())
    }

    /// Ends it in order, so that the image is whole.
    pub async fn quit(mut self) -> Result<()> {
        self.qmp(&[r#"{"execute": "quit"}"#.to_owned()]).await?;
        let status = tokio::task::block_in_place(|| self.child.wait())?;
        ensure!(status.success(), "qemu-storage-daemon ended: {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
