//! The initramfs: made in the root file system, as an administrator makes it; changed by an overlay.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{product, Image, Kind};
use crate::{
    cache::{remove, Cache},
    command,
};

/// Makes it with the node's own configuration, and unpacks it for the runtime policy.
///
/// # Errors
/// When the maker of the initramfs fails or leaves no image.
pub fn build(image: &Image, kind: Kind) -> Result<()> {
    let log = image.initrd().with_extension("log");
    let command = [kind.maker(), &["/boot/initrd.img"]].concat();
    make(&image.rootfs(), &command, &log)?;
    let boot = image.rootfs().join("boot");
    product::copy(&boot.join("initrd.img"), &image.initrd(), 0o644)?;
    let version = kernel_version(&image.rootfs())?;
    product::copy(
        &boot.join(format!("vmlinuz-{version}")),
        &image.kernel(),
        0o644,
    )?;
    unpack(&image.initrd(), &image.initramfs())
}

/// Runs `dracut -f` in the root file system, with its mounts in a namespace of their own.
///
/// # Errors
/// When dracut fails.
pub fn dracut(root: &Path, output: &str, more: &[&str], log: &Path) -> Result<()> {
    make(root, &[Kind::Usual.maker(), more, &[output]].concat(), log)
}

/// Runs a maker of initramfs, with the kernel's version as its last argument.
fn make(root: &Path, words: &[&str], log: &Path) -> Result<()> {
    const SCRIPT: &str = "for m in proc sys dev; do mount --rbind /$m \"$0/$m\" || exit 1; done; exec chroot \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", SCRIPT])
        .arg(root)
        .args(words)
        .arg(kernel_version(root)?);
    command::logged(&mut command, log)
}

/// The initramfs of the same node with another `agent.yaml`, made by dracut as the image's is.
///
/// # Errors
/// When it cannot be made.
pub fn configured(cache: &Cache, image: &Image, agent_yaml: &str) -> Result<PathBuf> {
    let file = ("etc/bootkeep/agent.yaml", agent_yaml);
    rebuilt(cache, image, Kind::Usual, "configured", &[file])
}

/// The initramfs of the same node with other files in its root file system, kept under this name.
///
/// # Errors
/// When it cannot be made.
pub fn rebuilt(
    cache: &Cache,
    image: &Image,
    kind: Kind,
    name: &str,
    files: &[(&str, &str)],
) -> Result<PathBuf> {
    let mut recipe = image.recipe()?.text(include_str!("initramfs.rs"));
    for (path, content) in files {
        recipe = recipe.text(path).text(content);
    }
    let directory = cache.once(name, &recipe, |path| {
        let root = path.join("root");
        command::output(
            Command::new("cp")
                .arg("--archive")
                .arg(image.rootfs())
                .arg(&root),
        )?;
        for (path, content) in files {
            let target = root.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(target, content)?;
        }
        let command = [kind.maker(), &["/boot/initrd.img"]].concat();
        make(&root, &command, &path.join("initrd.log"))?;
        product::copy(
            &root.join("boot/initrd.img"),
            &path.join("initrd.img"),
            0o644,
        )?;
        remove(&root)
    })?;
    Ok(directory.join("initrd.img"))
}

/// The version of the one kernel that is installed.
///
/// # Errors
/// When there is none.
pub fn kernel_version(root: &Path) -> Result<String> {
    let entry = fs::read_dir(root.join("lib/modules"))?
        .next()
        .context("the root file system has no kernel")??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

fn unpack(initrd: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let mut command = Command::new("sh");
    command
        .args(["-c", "cd \"$1\" && gzip -dc \"$0\" | cpio -idm --quiet"])
        .args([initrd, target]);
    command::output(&mut command).map(drop)
}

/// Files that replace or join those of an initramfs: path inside it, content, mode.
pub type Overlay<'a> = [(&'a str, Vec<u8>, u32)];

/// The initramfs with an overlay behind it; the kernel unpacks both, the later file wins.
///
/// # Errors
/// When it cannot be written.
pub fn overlaid(initrd: &Path, overlay: &Overlay<'_>, directory: &Path) -> Result<PathBuf> {
    let (tree, result) = (
        directory.join("overlay"),
        directory.join("initrd-overlaid.img"),
    );
    remove(&tree)?;
    for (path, content, mode) in overlay {
        let target = tree.join(path.trim_start_matches('/'));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, content)?;
        fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(*mode))?;
    }
    const SCRIPT: &str = "cd \"$1\" && { cat \"$0\"; find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 | gzip -1; } > \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).args([initrd, &tree, &result]);
    command::output(&mut command)?;
    Ok(result)
}
