//! What is written is read back by programs of others: libarchive for both trees of names, blkid for the label. Linux itself
//! mounts a drive in the lab's tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use whimbrel_api::openstack::config_drive::{self, ConfigDrive, InjectedFile, RANDOM_SEED_BYTES};

use super::*;

const USER_DATA_BYTES: u32 = 49_150;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; hint: run ./x deps"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every file below a folder, by its path from there on.
fn below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs_err::read(&path).unwrap());
            }
        }
    }
    found
}

fn drive() -> ConfigDrive {
    ConfigDrive {
        name: "web".into(),
        user_data: Some((0..USER_DATA_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 17) as u8).collect()),
        injected: vec![
            InjectedFile { path: "/a".into(), content: Vec::new() },
            InjectedFile { path: "/b".into(), content: b"x".repeat(SECTOR_BYTES) },
            InjectedFile { path: "/c".into(), content: b"y".repeat(SECTOR_BYTES + 1) },
        ],
        network: Some(Vec::new()),
        ..ConfigDrive::default()
    }
}

#[test]
fn others_read_the_same_files_under_the_same_names() {
    let files = config_drive::files(&drive(), &[7; RANDOM_SEED_BYTES]);
    let expected: BTreeMap<String, Vec<u8>> =
        files.iter().map(|file| (file.path.clone(), file.content.clone())).collect();
    assert!(expected.contains_key("openstack/2018-08-27/network_data.json"), "no long names to find");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.iso");
    fs_err::write(&path, image(files, config_drive::LABEL).unwrap()).unwrap();
    assert_eq!(fs_err::metadata(&path).unwrap().len() % SECTOR_BYTES as u64, 0);

    // Rock Ridge's names, then Joliet's.
    for (names, options) in [("rockridge", "iso9660:!joliet"), ("joliet", "iso9660:!rockridge")] {
        let out = dir.path().join(names);
        fs_err::create_dir(&out).unwrap();
        run(Command::new("bsdtar").arg("-xf").arg(&path).arg("-C").arg(&out).args(["--options", options]));
        let found = below(&out);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{names}");
        assert!(found == expected, "{names}: other content");
    }
    let facts = run(Command::new("blkid").args(["-p", "-o", "export"]).arg(&path));
    for fact in ["LABEL=config-2", "TYPE=iso9660"] {
        assert!(facts.lines().any(|line| line == fact), "{facts}");
    }
}
