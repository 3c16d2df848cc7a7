//! What all controllers of one cloud share beside the database: the CA, the first administrator's token, the content of images.
//!
//! ```text
//! shared_dir/ca.key, ca.crt     made by whoever starts first
//! shared_dir/admin.token        the same
//! shared_dir/blobs/<digest>     images and config drives
//! shared_dir/cloud              the cloud's id, as the database has it
//! ```
//!
//! Ground rules: one controller alone has all of it in its state directory. A controller that was given another directory than those
//! before it would sign by another CA and miss images: the id in the directory and in the database are compared before anything else,
//! and it does not start. What is made, is made while no other controller of the database starts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;
use whimbrel_daemon::{
    clock::Timestamp,
    durable,
    pki::{Authority, PkiError},
};
use whimbrel_store::Store;

const MARK_FILE: &str = "cloud";
const MARK_BYTES_MAX: u64 = 256;
/// Its name among the database's settings.
const SETTING: &str = "cloud";

#[derive(Debug, thiserror::Error)]
pub enum SharedDirError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "{dir} is not what the other controllers of this database share: its file `cloud` {found} (hint: set `shared_dir` to the directory that they use, mounted here)"
    )]
    Another { dir: PathBuf, found: String },
    #[error("the CA cannot be used")]
    Pki(#[from] PkiError),
}

/// The CA of the cloud to which the directory belongs. `also` makes what else is made once, before any other controller looks.
pub async fn open<T>(
    store: &Store,
    dir: &Path,
    also: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Authority, T)> {
    let mut made = None;
    let set_up = store.set_up(SETTING, |known| {
        let id = agreed(dir, known)?;
        made = Some((Authority::open(dir, Timestamp::now()).map_err(SharedDirError::from)?, also()?));
        Ok::<_, anyhow::Error>(id)
    });
    let id = set_up.await.context("cannot look at what controllers share")??;
    tracing::info!(cloud = id, dir = %dir.display(), "what controllers share is here");
    made.context("the CA was not opened")
}

/// The cloud's id, which database and directory have afterwards.
fn agreed(dir: &Path, known: Option<String>) -> Result<String, SharedDirError> {
    let path = dir.join(MARK_FILE);
    let failed = |source| SharedDirError::File { path: path.clone(), source };
    durable::make_dir(dir).map_err(failed)?;
    let found = durable::read(&path, MARK_BYTES_MAX).map_err(failed)?;
    let found = found.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let id = match (known, found) {
        (Some(known), Some(found)) if known == found => return Ok(known),
        (Some(known), Some(found)) => {
            let found = format!("says {found} and not {known}");
            return Err(SharedDirError::Another { dir: dir.to_owned(), found });
        }
        (Some(_), None) => {
            return Err(SharedDirError::Another { dir: dir.to_owned(), found: "is missing".to_owned() });
        }
        // A start that died in between left it, or the database is a new one.
        (None, Some(found)) => return Ok(found),
        (None, None) => Uuid::now_v7().to_string(),
    };
    durable::write(&path, format!("{id}\n").as_bytes()).map_err(failed)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_cloud_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let id = agreed(dir.path(), None).unwrap();
        assert_eq!(agreed(dir.path(), Some(id.clone())).unwrap(), id);
        assert_eq!(agreed(dir.path(), None).unwrap(), id, "a new database, or a start that died in between");
        let check = |dir: &Path, known: &str, want: &str| {
            let error = agreed(dir, Some(known.to_owned())).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains("hint:"), "{error}");
        };
        check(dir.path(), "another", "and not another");
        let empty = tempfile::tempdir().unwrap();
        check(empty.path(), &id, "is missing");
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "something was made where it was refused");
    }
}
