//! What Bootkeep puts on a node: the one list of files that packages, the quick start and the test image share.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache::Recipe, command};

/// The node's programs, all under `/usr/lib/bootkeep`.
pub const PROGRAMS: [&str; 3] = [
    "bootkeep-initrd-agent",
    "bootkeep-agent",
    "bootkeep-cloud-init",
];
/// The owner's services that can run on a node: their programs are in the image, their keys come in the envelope.
pub const SERVICES: [&str; 2] = ["registrar", "ca"];
/// Their units that are enabled.
const UNITS: [&str; 1] = ["bootkeep-agent.service"];

/// Where the parts of a node come from.
#[derive(Clone, Debug)]
pub struct Product {
    /// The work tree.
    pub tree: PathBuf,
    /// The folder of the built programs.
    pub programs: PathBuf,
    /// The folder of the owner's programs.
    pub services: PathBuf,
    /// `node/` as `bootkeep init` wrote it: agent.yaml and public keys.
    pub node: PathBuf,
}

impl Product {
    /// What an image with these parts depends on.
    ///
    /// # Errors
    /// When a part is missing.
    pub fn recipe(&self) -> Result<Recipe> {
        let mut recipe = Recipe::default();
        for program in PROGRAMS {
            recipe = recipe.path(&self.programs.join(program))?;
        }
        for service in SERVICES {
            recipe = recipe
                .path(&self.services.join(format!("bootkeep-{service}")))?
                .path(&self.tree.join(service).join("files"))?;
        }
        for part in [
            "boot-hooks",
            "dracut-module",
            "initramfs-tools",
            "runtime-agent/files",
            "cloud-init-handler/files",
        ] {
            recipe = recipe.path(&self.tree.join(part))?;
        }
        recipe.path(&self.node)
    }

    /// Puts them under `root` as an administrator does: the package, the owner's configuration, the unit enabled.
    ///
    /// # Errors
    /// When something is missing or cannot be written.
    pub fn install(&self, root: &Path) -> Result<()> {
        install_package(&self.tree, &self.programs, root)?;
        copy_tree(&self.node, &root.join("etc/bootkeep"))?;
        UNITS.iter().try_for_each(|unit| enable(root, unit))?;
        self.install_services(root)
    }

    /// Puts the services there as an administrator does: programs, units and users, nothing enabled.
    fn install_services(&self, root: &Path) -> Result<()> {
        for service in SERVICES {
            let program = format!("bootkeep-{service}");
            let target = root.join("usr/bin").join(&program);
            copy(&self.services.join(program), &target, 0o755)?;
            copy_tree(&self.tree.join(service).join("files"), root)?;
        }
        command::output(Command::new("systemd-sysusers").arg("--root").arg(root)).map(drop)
    }
}

/// Puts what a package of the node would have under `root`: programs, what makers of initramfs take, units, cloud-init's
/// parts.
///
/// # Errors
/// When something is missing or cannot be written.
pub fn install_package(tree: &Path, programs: &Path, root: &Path) -> Result<()> {
    for program in PROGRAMS {
        let target = root.join("usr/lib/bootkeep").join(program);
        copy(&programs.join(program), &target, 0o755)?;
    }
    let module = tree.join("dracut-module");
    copy_tree(
        &module.join("50bootkeep"),
        &root.join("usr/lib/dracut/modules.d/50bootkeep"),
    )?;
    let configuration = root.join("etc/dracut.conf.d/50-bootkeep.conf");
    copy(&module.join("50-bootkeep.conf"), &configuration, 0o644)?;
    let tools = tree.join("initramfs-tools");
    copy_tree(&tools.join("lib"), &root.join("usr/lib/bootkeep"))?;
    for part in ["hooks", "scripts"] {
        let target = root.join("usr/share/initramfs-tools").join(part);
        copy_tree(&tools.join(part), &target)?;
    }
    copy_tree(&tree.join("boot-hooks"), root)?;
    for files in ["runtime-agent/files", "cloud-init-handler/files"] {
        copy_tree(&tree.join(files), root)?;
    }
    Ok(())
}
/// Enables a unit under `root`.
///
/// # Errors
/// When systemctl refuses it.
pub fn enable(root: &Path, unit: &str) -> Result<()> {
    command::output(
        Command::new("systemctl")
            .arg("--root")
            .arg(root)
            .args(["--quiet", "enable", unit]),
    )
    .map(drop)
}

/// Copies one file, making the folders on the way.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Copies all files of a folder over another; executable ones get mode 0755, others 0644.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            let executable = source.metadata()?.permissions().mode() & 0o111 != 0;
            copy(&source, &target, if executable { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}
