//! The emulator that libvirt starts: QEMU, with the guest's memory two pages short.
//!
//! Under emulation QEMU before 8.2.2 loses writes of a guest that migrates if the length of its memory is a multiple of 64
//! pages. Whimbrel's agent therefore gives an emulated guest two pages less; libvirt rounds memory up to a MiB, and without
//! this script the peer's guests would hang after their moves.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::lab::RAM_MB;

const SHORT_KIB: u64 = 8;

pub(super) fn write(folder: &Path, qemu: &Path) -> Result<PathBuf> {
    let path = folder.join("emulator");
    fs_err::write(&path, script(&qemu.join("qemu-system-x86_64")))?;
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Takes the memory in each of the forms in which releases of libvirt say it.
fn script(qemu: &Path) -> String {
    let whole_kib = RAM_MB << 10;
    let short_kib = whole_kib - SHORT_KIB;
    format!(
        r#"#!/bin/sh
before=
for word; do
    shift
    case "$before $word" in
        '-m {RAM_MB}') new={short_kib}k ;;
        '-m size={whole_kib}k') new=size={short_kib}k ;;
        *'"id":"pc.ram"'*) new=$(printf %s "$word" | sed 's/"size":{whole}/"size":{short}/') ;;
        *) new=$word ;;
    esac
    before=$word
    set -- "$@" "$new"
done
exec {qemu} "$@"
"#,
        whole = whole_kib << 10,
        short = short_kib << 10,
        qemu = qemu.display(),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn memory_is_short_in_every_form_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        // Prints its arguments, one a line.
        let program = folder.path().join("qemu-system-x86_64");
        fs_err::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let emulator = write(folder.path(), folder.path()).unwrap();
        let said = |words: &[&str]| {
            let output = Command::new(&emulator).args(words).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(said(&["-m", "512", "-smp", "512"]), ["-m", "524280k", "-smp", "512"]);
        assert_eq!(said(&["-m", "size=524288k"]), ["-m", "size=524280k"]);
        let object = r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":536870912}"#;
        assert_eq!(said(&["-object", object])[1], object.replace("536870912", "536862720"));
        let other = r#"{"driver":"file","size":536870912,"with":"a  space"}"#;
        assert_eq!(said(&["-blockdev", other, ""]), ["-blockdev", other, ""]);
    }
}
