//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use bootkeep_vm_tests::stage::Programs;

/// The work tree and its target folder.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The work tree.
    pub(crate) tree: PathBuf,
    /// `target`, wherever cargo has it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace that this program belongs to.
    pub(crate) fn find() -> Result<Self> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not in a workspace")?
            .to_owned();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree.join("target"), PathBuf::from);
        Ok(Self { tree, target })
    }

    /// cargo, in the work tree.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.tree);
        command
    }

    /// What the scenarios run.
    pub(crate) fn programs(&self) -> Programs {
        Programs {
            tree: self.tree.clone(),
            cache: self.target.join("vm"),
            host: self.target.join("debug"),
            node: self.target.join("release-small"),
        }
    }
}
