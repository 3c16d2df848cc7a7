//! Durable files: whole or not at all.

use std::{fs, io, os::unix::fs::PermissionsExt};

use whimbrel_daemon::durable;

#[test]
fn a_file_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/owner.json");
    assert!(durable::write(&path, b"1").is_err(), "no such directory");
    durable::make_dir(path.parent().unwrap()).unwrap();
    durable::make_dir(path.parent().unwrap()).unwrap();
    assert_eq!(durable::read(&path, 10).unwrap(), None);
    // What a crash in the middle of a write leaves; it must neither be read nor lend its mode.
    let stale = path.with_file_name(".owner.json.new");
    fs::write(&stale, b"half").unwrap();
    durable::write_private(&path, b"first").unwrap();
    assert!(!stale.exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    durable::write(&path, b"second").unwrap();
    assert_eq!(durable::read(&path, 6).unwrap().as_deref(), Some(&b"second"[..]));
    let error = durable::read(&path, 5).unwrap_err();
    assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains("owner.json"), "{error}");

    let retired = dir.path().join("owner.json.retired");
    durable::rename(&path, &retired).unwrap();
    assert_eq!(durable::read(&path, 10).unwrap(), None);
    assert!(durable::remove(&retired).unwrap() && !durable::remove(&retired).unwrap());
    let error = durable::write(dir.path().join("x/y").as_path(), b"").unwrap_err();
    assert!(error.to_string().contains("x/"), "an error names the path: {error}");
}
