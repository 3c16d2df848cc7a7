//! Which storage a host's instances lie on, through mounts that come and go.

use std::path::Path;

use whimbrel_core::{failure::Failure, id::HostName};

use super::shared::place;
use crate::paths::Paths;

struct Hosts {
    dir: tempfile::TempDir,
}

impl Hosts {
    fn new() -> Self {
        let hosts = Hosts { dir: tempfile::tempdir().unwrap() };
        for dir in ["storage", "other", "s/h1", "s/h2", "r"] {
            fs_err::create_dir_all(hosts.dir.path().join(dir)).unwrap();
        }
        hosts
    }

    fn place(&self, host: &str, dir: Option<&str>) -> Result<Paths, Failure> {
        let at = |name: &str| self.dir.path().join(name);
        let paths = Paths::new(&at("s").join(host), &at("r"), None).unwrap();
        let dir = dir.map(|name| if name.is_empty() { Path::new("relative").to_owned() } else { at(name) });
        place(paths, dir.as_deref(), &host.parse::<HostName>().unwrap())
    }

    fn refused(&self, host: &str, dir: Option<&str>, part: &str) {
        let failure = self.place(host, dir).expect_err(part);
        assert!(failure.detail.contains(part) && failure.hint.is_some(), "{failure:?} lacks {part}");
    }
}

#[test]
fn hosts_know_the_same_storage_by_its_mark_and_no_other() {
    let hosts = Hosts::new();
    let id = |host, dir| hosts.place(host, Some(dir)).unwrap().shared().unwrap().id;
    let storage = id("h1", "storage");
    assert_eq!(id("h2", "storage"), storage);
    assert_eq!(id("h1", "storage"), storage, "again");
    let left: Vec<_> =
        fs_err::read_dir(hosts.dir.path().join("storage")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["storage.json"]);

    // Nothing is mounted there, or something else.
    hosts.refused("h1", Some("other"), "is no storage of Whimbrel");
    assert!(!hosts.dir.path().join("other/storage.json").exists(), "a mark was made where a mount was missing");
    fs_err::write(hosts.dir.path().join("other/storage.json"), r#"{"id":"00000000-0000-0000-0000-000000000001"}"#)
        .unwrap();
    hosts.refused("h1", Some("other"), "is storage 00000000-0000-0000-0000-000000000001");
    hosts.refused("h1", None, "shared_dir is not set");
    assert_eq!(id("h1", "storage"), storage, "a refusal changed something");
}

#[test]
fn what_cannot_be_a_shared_directory_is_refused() {
    let hosts = Hosts::new();
    hosts.refused("h1", Some(""), "not an absolute path");
    hosts.refused("h1", Some("nowhere"), "is no directory");
    let instance = hosts.dir.path().join("s/h1/instances/00000000-0000-7000-8000-000000000001");
    fs_err::create_dir_all(&instance).unwrap();
    hosts.refused("h1", Some("storage"), "1 instances lie in");
    assert!(hosts.place("h1", None).unwrap().shared().is_none());
    fs_err::remove_dir(&instance).unwrap();
    assert!(hosts.place("h1", Some("storage")).unwrap().shared().is_some());
}

#[test]
fn what_is_shared_and_what_is_a_hosts_own_lie_on_one_file_system() {
    let hosts = Hosts::new();
    let [h1, h2] = ["h1", "h2"].map(|host| hosts.place(host, Some("storage")).unwrap());
    assert_eq!((h1.instances(), h1.images()), (h2.instances(), h2.images()));
    assert_ne!(h1.retired_all(), h2.retired_all());
    assert!(h1.retired_all().starts_with(hosts.dir.path().join("storage")));
    assert!(h1.journal().starts_with(h1.state_dir()), "a journal is nobody else's business");
    h1.make().unwrap();
    h2.make().unwrap();
}
