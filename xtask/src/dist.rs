//! What is installed on nodes and at the owner's, as archives to unpack at `/`.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use bootkeep_vm_tests::{cache, command, image::product, progress::Progress};

use crate::{compile, setup, workspace::Workspace};

/// The owner's programs.
const OWNER: [&str; 4] = [
    "bootkeep",
    "bootkeep-registrar",
    "bootkeep-verifier",
    "bootkeep-ca",
];

/// `cargo xtask dist`.
pub(crate) fn pack(workspace: &Workspace, progress: Progress) -> Result<()> {
    setup::run(progress)?;
    compile::release(workspace, progress)?;
    let dist = workspace.target.join("dist");
    cache::remove(&dist)?;
    let (node, owner) = (dist.join("node"), dist.join("owner"));
    product::install_package(&workspace.tree, &workspace.programs().node, &node)?;
    for program in OWNER {
        let built = workspace.target.join("release").join(program);
        product::copy(&built, &owner.join("usr/bin").join(program), 0o755)?;
    }
    for service in ["registrar", "verifier", "ca"] {
        product::copy_tree(&workspace.tree.join(service).join("files"), &owner)?;
    }
    for (folder, name) in [
        (&node, "bootkeep-node.tar.gz"),
        (&owner, "bootkeep-owner.tar.gz"),
    ] {
        archive(folder, &dist.join(name))?;
        progress.say(&dist.join(name).display().to_string());
    }
    Ok(())
}

fn archive(folder: &Path, target: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--file",
    ]);
    command::output(tar.arg(target).arg("--directory").arg(folder).arg("."))?;
    Ok(fs::remove_dir_all(folder)?)
}
