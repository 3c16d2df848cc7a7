//! Finds the `whimbrel` binary, which the lab starts as a user would.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

const NAME: &str = "whimbrel";

/// `WHIMBREL_BIN`, else this program if it is `whimbrel`, else the one that was built beside this test.
pub fn path() -> Result<PathBuf> {
    if let Some(path) = env::var_os("WHIMBREL_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("cannot tell which program this is")?;
    if own.file_name().is_some_and(|name| name == NAME) {
        return Ok(own);
    }
    let beside = own.parent().and_then(|deps| deps.parent()).map(|folder| folder.join(NAME));
    match beside {
        Some(path) if path.exists() => Ok(path),
        Some(_) | None => {
            bail!("there is no `whimbrel` beside {}; hint: ./x build, or set WHIMBREL_BIN", own.display())
        }
    }
}
