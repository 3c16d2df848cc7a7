//! The initramfs: busybox, our program, the virtio modules and `/init`. Not compressed: unpacking it under emulation would
//! take longer than reading its few megabytes.

use std::path::{Path, PathBuf};

use super::{ImageError, Ingredients, cpio::Archive, modules};

/// Major and minor number of `/dev/console`.
const CONSOLE: (u32, u32) = (5, 1);

const APPLETS: [&str; 6] = ["sh", "mount", "insmod", "cat", "ip", "mkdir"];

pub(super) fn build(work: &Path, from: &Ingredients) -> Result<PathBuf, ImageError> {
    let bytes = archive(from)?;
    let key = blake3::hash(&bytes).to_hex();
    let initrd = work.join(format!("initrd-{}.cpio", &key[..16]));
    if !initrd.exists() {
        let partial = work.join(format!("initrd-{}.{}.partial", &key[..16], std::process::id()));
        let failed = |action| {
            let path = partial.clone();
            move |source| ImageError::File { action, path, source }
        };
        fs_err::write(&partial, &bytes).map_err(failed("write"))?;
        fs_err::rename(&partial, &initrd).map_err(failed("rename"))?;
    }
    Ok(initrd)
}

fn archive(from: &Ingredients) -> Result<Vec<u8>, ImageError> {
    let read = |path: &Path| {
        fs_err::read(path).map_err(|source| ImageError::File { action: "read", path: path.to_owned(), source })
    };
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "root", "mnt", "modules"] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", CONSOLE.0, CONSOLE.1);
    archive.program("init", include_bytes!("init"));
    archive.program("bin/busybox", &read(&from.busybox)?);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.program("bin/whimbrel-guest", &read(&from.program)?);
    let mut order = String::new();
    for (name, module) in modules::in_order(&from.modules)? {
        archive.program(&format!("modules/{name}.ko"), &module);
        order.push_str(&name);
        order.push('\n');
    }
    archive.program("modules/order", order.as_bytes());
    Ok(archive.finish())
}
