//! Finds kernel modules and the order to insert them in. The unpacked package has no `modules.dep` (depmod makes that at
//! installation), so the order comes from the `depends=` field that each module carries itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::ImageError;

/// What a guest of the lab needs to see its disks, the files of its config drive, and its network.
pub(super) const WANTED: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_net", "isofs"];

const DEPENDS: &[u8] = b"\0depends=";

/// The wanted modules and all that they need, each after what it needs.
pub(super) fn in_order(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, ImageError> {
    let mut files = BTreeMap::new();
    find(&folder.join("kernel"), &mut files)?;
    let mut ordered = Vec::new();
    for name in WANTED {
        insert(name, folder, &files, &mut ordered)?;
    }
    Ok(ordered)
}

fn insert(
    name: &str,
    folder: &Path,
    files: &BTreeMap<String, PathBuf>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), ImageError> {
    if ordered.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let missing = || ImageError::NoModule { name: name.to_owned(), path: folder.to_owned() };
    let path = files.get(name).ok_or_else(missing)?;
    let module =
        fs_err::read(path).map_err(|source| ImageError::File { action: "read", path: path.clone(), source })?;
    // Modules never depend on each other in a circle: the kernel's own build refuses that.
    for needed in depends(&module) {
        insert(&needed, folder, files, ordered)?;
    }
    ordered.push((name.to_owned(), module));
    Ok(())
}

/// Names in the `depends=` field of a module's information section.
fn depends(module: &[u8]) -> Vec<String> {
    let Some(at) = module.windows(DEPENDS.len()).position(|window| window == DEPENDS) else {
        return Vec::new();
    };
    let field = module[at + DEPENDS.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(field).split(',').filter(|name| !name.is_empty()).map(plain_name).collect()
}

/// Module names say `_` where their files may say `-`.
fn plain_name(name: &str) -> String {
    name.replace('-', "_")
}

fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ImageError> {
    let failed = |source| ImageError::File { action: "list", path: folder.to_owned(), source };
    for entry in fs_err::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
            files.insert(plain_name(name), path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(modules: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("kernel/drivers")).unwrap();
        for (name, depends) in modules {
            let content = format!("\x7fELF junk\0license=GPL\0depends={depends}\0retpoline=Y\0");
            fs_err::write(folder.path().join(format!("kernel/drivers/{name}.ko")), content).unwrap();
        }
        let names: Vec<String> = in_order(folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_once() {
        check(
            &[
                ("virtio_pci", "virtio,virtio-ring"),
                ("virtio-ring", ""),
                ("virtio", "virtio_ring"),
                ("virtio_blk", "virtio_ring"),
                ("virtio_net", "net_failover"),
                ("net_failover", "failover"),
                ("failover", ""),
                ("isofs", ""),
                ("unwanted", ""),
            ],
            &["virtio_ring", "virtio", "virtio_pci", "virtio_blk", "failover", "net_failover", "virtio_net", "isofs"],
        );
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("kernel")).unwrap();
        fs_err::write(folder.path().join("kernel/virtio_pci.ko"), "\0depends=virtio\0").unwrap();
        let error = in_order(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("kernel module virtio is not below"), "{error}");
    }
}
