//! Where the parts of a guest lie on this machine. Paths come from the environment that `./x` sets, never from guesses.

use std::{env, path::PathBuf};

use super::ImageError;

/// What a guest is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingredients {
    pub kernel: PathBuf,
    /// `lib/modules/<version>` of that kernel.
    pub modules: PathBuf,
    /// Static busybox.
    pub busybox: PathBuf,
    /// Our own static program.
    pub program: PathBuf,
    pub qemu_img: PathBuf,
    /// Folders that the root disk's real content is copied from, in this order.
    pub content: Vec<PathBuf>,
}

impl Ingredients {
    /// From `WHIMBREL_KERNEL`, `WHIMBREL_MODULES`, `WHIMBREL_GUEST`, `WHIMBREL_QEMU_72` and `WHIMBREL_CONTENT`.
    pub fn from_env() -> Result<Ingredients, ImageError> {
        let ingredients = Ingredients {
            kernel: variable("WHIMBREL_KERNEL")?,
            modules: variable("WHIMBREL_MODULES")?,
            busybox: "/bin/busybox".into(),
            program: variable("WHIMBREL_GUEST")?,
            qemu_img: variable("WHIMBREL_QEMU_72")?.join("qemu-img"),
            content: env::split_paths(&variable("WHIMBREL_CONTENT")?).collect(),
        };
        ingredients.check()?;
        Ok(ingredients)
    }

    fn check(&self) -> Result<(), ImageError> {
        let parts = [
            ("the guest's kernel", &self.kernel),
            ("the folder of kernel modules", &self.modules),
            ("the static busybox", &self.busybox),
            ("the guest program", &self.program),
            ("qemu-img", &self.qemu_img),
        ];
        match parts.into_iter().find(|(_, path)| !path.exists()) {
            Some((what, path)) => Err(ImageError::Missing { what, path: path.clone() }),
            None => Ok(()),
        }
    }
}

fn variable(variable: &'static str) -> Result<PathBuf, ImageError> {
    env::var_os(variable).map(PathBuf::from).ok_or(ImageError::NotSet { variable })
}
