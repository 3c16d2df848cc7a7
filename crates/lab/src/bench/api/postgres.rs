//! A PostgreSQL of Debian's package for one measurement: as it comes, but on a unix socket alone; it ends with this process.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{process::ProcessId, wait};

/// PostgreSQL refuses to run as root; the package makes this user.
const USER: &str = "postgres";
const START_TIME_MAX: Duration = Duration::from_secs(60);
const DATABASE: &str = "postgres";
/// Of `/proc/<pid>/stat` after the program's name in brackets.
const STAT_PARENT: usize = 1;

pub(super) struct Postgres {
    server: Child,
    dir: tempfile::TempDir,
}

impl Postgres {
    pub(super) fn start() -> Result<Postgres> {
        let bin = newest()?;
        // Where its user may look, which is not so below every folder of a lab.
        let dir = tempfile::Builder::new().prefix("whimbrel-pg-").tempdir()?;
        fs_err::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        if is_root()? {
            run(Command::new("chown").arg(USER).arg(dir.path()))?;
        }
        let data = dir.path().join("data");
        let made = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", USER, "-D"];
        run(as_user(&bin.join("initdb"))?.args(made).arg(&data))?;
        let log = fs_err::File::create(dir.path().join("log"))?.into_parts().0;
        let server = as_user(&bin.join("postgres"))?
            .args(["-c", "listen_addresses=", "-k"])
            .arg(dir.path())
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let postgres = Postgres { server, dir };
        wait::until("PostgreSQL's answer", START_TIME_MAX, || {
            let ready = Command::new(bin.join("pg_isready")).arg("-q").arg("-h").arg(postgres.dir.path()).status()?;
            Ok(ready.success().then_some(()))
        })?;
        Ok(postgres)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://{USER}@localhost/{DATABASE}?host={}", self.dir.path().display())
    }

    /// Feeds a file of statements.
    pub(super) fn feed(&self, file: &Path) -> Result<()> {
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(self.dir.path());
        run(psql.args(["-U", USER, "-q", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-f"]).arg(file))
    }

    /// Of all its processes.
    pub(super) fn cpu_s(&self) -> Option<f64> {
        let postmaster = self.server.id().to_string();
        let pids = std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_its = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            rest.split_whitespace().nth(STAT_PARENT) == Some(&postmaster)
        };
        Some(pids.filter(is_its).filter_map(|pid| ProcessId::of(pid)?.cpu_s()).sum())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn newest() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let bins = versions.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists());
    let newest = bins.max_by_key(version).context("PostgreSQL is not installed; hint: ./x deps")?;
    Ok(newest.join("bin"))
}

fn is_root() -> Result<bool> {
    Ok(fs_err::metadata("/proc/self")?.uid() == 0)
}

fn as_user(program: &Path) -> Result<Command> {
    let mut command = Command::new("setpriv");
    if is_root()? {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    Ok(command)
}

pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
