//! How much an initramfs grows: without Bootkeep, with it, and with clevis's modules instead.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{base, initramfs, unpack, Image};
use crate::{cache::Cache, command, progress::Progress};

/// The same omissions as in the image, and Bootkeep itself.
const OMIT: &str = "bootkeep plymouth nfs lvm mdraid multipath btrfs iscsi ifcfg nvdimm overlay-root resume virtiofs lunmask";
/// What both need and the baseline has: unlocking and a network, on systemd.
const COMMON: &str = "dracut-systemd crypt systemd-networkd";
/// Clevis with all its pins that work without a person.
const CLEVIS: &str = "clevis clevis-pin-tang clevis-pin-tpm2 clevis-pin-sss";
/// Its packages.
const CLEVIS_PACKAGES: &[&str] = &[
    "clevis-dracut",
    "clevis-luks",
    "clevis-systemd",
    "clevis-tpm2",
];

/// One initramfs.
#[derive(Clone, Debug)]
pub struct Size {
    /// What is in it.
    pub name: &'static str,
    /// Compressed with gzip (bytes).
    pub gz: u64,
    /// Unpacked cpio (bytes).
    pub raw: u64,
}

/// Makes and weighs all three.
///
/// # Errors
/// When one cannot be made.
pub fn measure(cache: &Cache, image: &Image, progress: Progress) -> Result<Vec<Size>> {
    let directory = cache.folder("sizes")?;
    let without = progress.step("initramfs without Bootkeep", || {
        make(
            &image.rootfs(),
            COMMON,
            &directory.join("without.img"),
            "crypt, systemd, networkd",
        )
    })?;
    let with = weigh("the same with Bootkeep", &image.initrd())?;
    let clevis = with_clevis(cache, &directory, progress)?;
    Ok(vec![without, with, clevis])
}

fn with_clevis(cache: &Cache, directory: &Path, progress: Progress) -> Result<Size> {
    let tar = base::build_with(cache, "base-clevis", CLEVIS_PACKAGES, progress)?;
    let root = directory.join("clevis");
    crate::cache::remove(&root)?;
    unpack(&tar, &root)?;
    let modules = format!("{COMMON} {CLEVIS}");
    progress.step("initramfs with clevis", || {
        make(
            &root,
            &modules,
            &directory.join("clevis.img"),
            "the same with clevis (tang, tpm2, sss)",
        )
    })
}

fn make(root: &Path, modules: &str, target: &Path, name: &'static str) -> Result<Size> {
    let more = [
        "--conf",
        "/dev/null",
        "--confdir",
        "/var/tmp",
        "--add",
        modules,
        "--omit",
        OMIT,
    ];
    initramfs::dracut(
        root,
        "/boot/weighed.img",
        &more,
        &target.with_extension("log"),
    )?;
    let made = root.join("boot/weighed.img");
    fs::copy(&made, target)?;
    fs::remove_file(&made)?;
    weigh(name, target)
}

fn weigh(name: &'static str, initrd: &Path) -> Result<Size> {
    let mut command = Command::new("sh");
    command.args(["-c", "gzip -dc \"$0\" | wc -c"]).arg(initrd);
    let raw = command::output(&mut command)?
        .trim()
        .parse()
        .context("wc")?;
    Ok(Size {
        name,
        gz: initrd.metadata()?.len(),
        raw,
    })
}
