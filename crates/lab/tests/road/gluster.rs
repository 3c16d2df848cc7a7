//! A GlusterFS of Debian's packages for one test: two bricks, mounted twice by FUSE, in a network namespace of its own.
//!
//! Ground rules: nothing of the machine's own GlusterFS is touched (own working and run directories, own socket, own network);
//! every process lives in the namespace and ends by its id when this is dropped.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use whimbrel_lab::{process, wait};

const ADDRESS: &str = "10.77.0.1";
const VOLUME: &str = "instances";
const UP_TIME_MAX: Duration = Duration::from_secs(60);
/// What Debian's `groups/virt` sets and what matters here: no cache on a client may hold what another host has written, and
/// O_DIRECT reaches the bricks.
const OPTIONS: [(&str, &str); 9] = [
    ("performance.quick-read", "off"),
    ("performance.read-ahead", "off"),
    ("performance.io-cache", "off"),
    ("performance.stat-prefetch", "off"),
    ("performance.low-prio-threads", "32"),
    ("network.remote-dio", "disable"),
    ("performance.strict-o-direct", "on"),
    ("cluster.eager-lock", "enable"),
    ("nfs.disable", "on"),
];

pub struct Gluster {
    dir: PathBuf,
    namespace: String,
    mounts: [PathBuf; 2],
    children: Vec<Child>,
}

impl Gluster {
    pub fn start(base: &Path) -> Gluster {
        let id = std::process::id();
        let dir = base.join(format!("gluster-{id}"));
        let mounts = ["h1", "h2"].map(|host| dir.join("mount").join(host));
        let mut gluster = Gluster { namespace: format!("wbg-{id}"), mounts, children: Vec::new(), dir };
        gluster.lay();
        gluster.serve();
        gluster.make_volume();
        gluster.mount();
        gluster
    }

    /// The same files under two names, each with a client of its own.
    pub fn mounts(&self) -> [&Path; 2] {
        self.mounts.each_ref().map(PathBuf::as_path)
    }

    fn lay(&self) {
        for dir in ["work", "run", "log", "brick1", "brick2"].map(|name| self.dir.join(name)).iter().chain(&self.mounts)
        {
            std::fs::create_dir_all(dir).unwrap();
        }
        run("ip", &["netns", "add", &self.namespace]);
        run("ip", &["-n", &self.namespace, "link", "set", "lo", "up"]);
        run("ip", &["-n", &self.namespace, "addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
    }

    fn serve(&mut self) {
        let file = "volume management\n type mgmt/glusterd\n option transport-type socket\n option ping-timeout 0\nend-volume\n";
        let volume = self.dir.join("glusterd.vol");
        std::fs::write(&volume, file).unwrap();
        let option = |name: &str, value: &Path| format!("--xlator-option=management.{name}={}", value.display());
        let words = [
            "glusterd".to_owned(),
            "--no-daemon".to_owned(),
            format!("--volfile={}", volume.display()),
            format!("--pid-file={}", self.dir.join("glusterd.pid").display()),
            format!("--log-file={}", self.dir.join("log/glusterd.log").display()),
            option("working-directory", &self.dir.join("work")),
            option("run-directory", &self.dir.join("run")),
            option("glusterd-sockfile", &self.socket()),
        ];
        self.spawn(&words);
        let answers = || Ok(self.gluster(&["pool", "list"]).is_ok().then_some(()));
        wait::until("glusterd's answer", UP_TIME_MAX, answers)
            .unwrap_or_else(|error| panic!("{error:#}: {}", self.log()));
    }

    fn make_volume(&self) {
        let brick = |name: &str| format!("{ADDRESS}:{}", self.dir.join(name).display());
        self.must(&["volume", "create", VOLUME, "transport", "tcp", &brick("brick1"), &brick("brick2"), "force"]);
        for (name, value) in OPTIONS {
            self.must(&["volume", "set", VOLUME, name, value]);
        }
        self.must(&["volume", "start", VOLUME]);
    }

    fn mount(&mut self) {
        for mount in self.mounts.clone() {
            let log = self.dir.join("log").join(mount.file_name().unwrap()).with_extension("log");
            self.spawn(&[
                "glusterfs".to_owned(),
                "--no-daemon".to_owned(),
                format!("--volfile-server={ADDRESS}"),
                format!("--volfile-id={VOLUME}"),
                format!("--log-file={}", log.display()),
                mount.display().to_string(),
            ]);
        }
        let mounted = || {
            let all = std::fs::read_to_string("/proc/self/mountinfo")?;
            let is_fuse = |mount: &PathBuf| {
                all.lines().any(|line| line.contains(&*mount.to_string_lossy()) && line.contains("fuse.glusterfs"))
            };
            // A brick that is not connected yet answers "Transport endpoint is not connected".
            Ok((self.mounts.iter().all(is_fuse) && self.mounts.iter().all(|mount| std::fs::read_dir(mount).is_ok()))
                .then_some(()))
        };
        wait::until("both mounts", UP_TIME_MAX, mounted).unwrap_or_else(|error| panic!("{error:#}: {}", self.log()));
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("run/gd.sock")
    }

    fn gluster(&self, words: &[&str]) -> Result<String, String> {
        let socket = format!("--glusterd-sock={}", self.socket().display());
        let mut command = self.inside("gluster");
        let said = command.args(["--mode=script", &socket]).args(words).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        if said.status.success() { Ok(text) } else { Err(text) }
    }

    fn must(&self, words: &[&str]) {
        self.gluster(words).unwrap_or_else(|said| panic!("gluster {words:?}: {said}{}", self.log()));
    }

    /// Only the network is another: `ip netns exec` would hide the mounts.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program).stdin(Stdio::null());
        command
    }

    fn spawn(&mut self, words: &[String]) {
        let mut command = self.inside(&words[0]);
        self.children.push(command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log/glusterd.log")).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(12).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Gluster {
    fn drop(&mut self) {
        for mount in &self.mounts {
            let _ = Command::new("umount").arg("--lazy").arg(mount).stderr(Stdio::null()).status();
        }
        // A process may be starting another meanwhile.
        for _ in 0..3 {
            for process in process::within(&self.namespace).unwrap_or_default() {
                // The one thing of a brick that has its place outside, as its words tell.
                let socket = process.words().into_iter().skip_while(|word| word != "-S").nth(1);
                let _ = process.end();
                let _ = socket.map(std::fs::remove_file);
            }
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        run("ip", &["netns", "del", &self.namespace]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap();
    assert!(status.success(), "{program} {words:?}: {status}");
}
