//! What an image file is, by its content: never by its name or by what its sender said.
//!
//! Ground rules: a file that names another file (backing file, external data file) is refused, since whoever made it would
//! choose which file of this host the guest reads; so is every format but qcow2 and raw.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use tokio::process::Command;
use whimbrel_core::{
    disk::DiskFormat,
    failure::{Failure, FailureCode},
};

use crate::hypervisor::Hypervisor;

pub const PROBE_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    pub format: DiskFormat,
    pub virtual_bytes: u64,
    /// Held by the file on this host's disk.
    pub allocated_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    actual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    dirty_flag: bool,
    #[serde(default)]
    format_specific: Option<FormatSpecific>,
}

#[derive(Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: Specific,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Specific {
    data_file: Option<String>,
    #[serde(default)]
    corrupt: bool,
}

/// Of an image that came from elsewhere.
pub async fn probe(hypervisor: &Hypervisor, path: &Path) -> Result<Probed, Failure> {
    let mut command = Command::new(&hypervisor.img);
    command.args(["info", "--output=json", "--force-share"]).arg(path);
    let output = hypervisor.run(command, PROBE_TIME_MAX).await.map_err(|failure| {
        let detail = format!("{} is no image that qemu-img can read: {}", path.display(), failure.detail);
        Failure::new(FailureCode::BadImage, detail).hint("upload it again as a complete qcow2 or raw image")
    })?;
    judge(path, &output)
}

fn judge(path: &Path, output: &[u8]) -> Result<Probed, Failure> {
    let file = path.display();
    let bad = |detail: String, hint: &str| Err(Failure::new(FailureCode::BadImage, detail).hint(hint));
    let info: Info = match serde_json::from_slice(output) {
        Ok(info) => info,
        Err(error) => {
            return bad(format!("qemu-img says of {file} what cannot be read: {error}"), "check the QEMU package");
        }
    };
    let specific = info.format_specific.map(|specific| specific.data).unwrap_or_default();
    let format = match info.format.as_str() {
        "qcow2" => DiskFormat::Qcow2,
        "raw" => DiskFormat::Raw,
        other => {
            return bad(
                format!("{file} is a {other} image; only qcow2 and raw are taken"),
                "convert it with `qemu-img convert -O qcow2`",
            );
        }
    };
    if let Some(backing) = info.backing_filename {
        return bad(format!("{file} lies on another file, {backing}"), "flatten it with `qemu-img convert -O qcow2`");
    }
    if let Some(data_file) = specific.data_file {
        return bad(
            format!("{file} keeps its data in another file, {data_file}"),
            "flatten it with `qemu-img convert -O qcow2`",
        );
    }
    if specific.corrupt || info.dirty_flag {
        return bad(
            format!("{file} is marked as corrupt"),
            "repair it with `qemu-img check -r all` and upload it again",
        );
    }
    Ok(Probed { format, virtual_bytes: info.virtual_size, allocated_bytes: info.actual_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_stand_alone_are_taken() {
        let check =
            |output: &str, want: Result<DiskFormat, &str>| match (judge(Path::new("/x"), output.as_bytes()), want) {
                (Ok(probed), Ok(format)) => assert_eq!(probed, Probed { format, virtual_bytes: 5, allocated_bytes: 3 }),
                (Err(failure), Err(part)) => {
                    assert!(
                        failure.code == FailureCode::BadImage
                            && failure.detail.contains(part)
                            && failure.hint.is_some(),
                        "{failure:?}"
                    )
                }
                (got, want) => panic!("{output}: {got:?} where {want:?} was due"),
            };
        let info = |more: &str| format!(r#"{{"virtual-size": 5, "actual-size": 3, "format": {more}}}"#);
        check(&info(r#""raw""#), Ok(DiskFormat::Raw));
        check(
            &info(r#""qcow2", "format-specific": {"type": "qcow2", "data": {"corrupt": false}}"#),
            Ok(DiskFormat::Qcow2),
        );
        check(&info(r#""vmdk""#), Err("vmdk"));
        check(&info(r#""qcow2", "backing-filename": "/etc/shadow""#), Err("/etc/shadow"));
        check(&info(r#""qcow2", "format-specific": {"data": {"data-file": "/etc/passwd"}}"#), Err("/etc/passwd"));
        check(&info(r#""qcow2", "format-specific": {"data": {"corrupt": true}}"#), Err("corrupt"));
        check("no json", Err("cannot be read"));
    }
}
