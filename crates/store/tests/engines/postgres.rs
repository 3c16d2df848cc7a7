//! A PostgreSQL of Debian's package for the time of one test: temporary directory, unix socket only, ends with the test.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

const START_TIME_MAX: Duration = Duration::from_secs(60);
/// PostgreSQL refuses to run as root; the package makes this user.
const USER: &str = "postgres";
const REMEDY: &str = "run `./x test`, which installs what is missing";

pub struct Postgres {
    server: Child,
    bin: PathBuf,
    dir: TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let bin = newest_bin();
        let dir = tempfile::Builder::new().prefix("whimbrel-pg-").tempdir().unwrap();
        let data = dir.path().join("data");
        if is_root() {
            let owner = Command::new("chown").arg(USER).arg(dir.path()).status().unwrap();
            assert!(owner.success(), "no user {USER}: {REMEDY}");
        }
        let made = as_user(&bin.join("initdb"))
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", USER, "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", said(&made));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let server = as_user(&bin.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut postgres = Postgres { server, bin, dir };
        postgres.wait_until_ready();
        postgres
    }

    fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        loop {
            let ready = Command::new(self.bin.join("pg_isready")).arg("-q").arg("-h").arg(self.dir.path()).status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            let ended = self.server.try_wait().unwrap();
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "PostgreSQL ended: {}", log());
            assert!(begun.elapsed() < START_TIME_MAX, "PostgreSQL is not ready after {START_TIME_MAX:?}: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The URL of a new, empty database.
    pub fn database(&self, name: &str) -> String {
        let made = Command::new(self.bin.join("createdb"))
            .arg("-h")
            .arg(self.dir.path())
            .args(["-U", USER, name])
            .output()
            .unwrap();
        assert!(made.status.success(), "createdb {name}: {}", said(&made));
        self.url(name)
    }

    /// Of a database that was made before.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://{USER}@localhost/{name}?host={}", self.dir.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stopped = as_user(&self.bin.join("pg_ctl"))
            .args(["stop", "-w", "-m", "immediate", "-D"])
            .arg(self.dir.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

/// Ends with this process, however that ends (`--pdeathsig`).
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program).current_dir("/").env("LC_ALL", "C");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn newest_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(version)
        .map(|path| path.join("bin"))
        .unwrap_or_else(|| panic!("PostgreSQL is not installed: {REMEDY}"))
}
