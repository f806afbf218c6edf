//! The Debian root file system that everything starts from: packages only, nothing of ours.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::Kind;
use crate::{
    cache::{Cache, Recipe},
    command,
    progress::Progress,
};

/// The release that is booted.
const SUITE: &str = "bookworm";

/// A cloud server as its owner would order it: kernel, systemd, dracut, LUKS, cloud-init, TPM libraries, strongSwan.
/// Other kinds of machine have other packages, see [`Kind::packages`].
pub(super) const PACKAGES: &[&str] = &[
    "ca-certificates",
    "charon-systemd",
    "cloud-init",
    "cryptsetup-bin",
    "dbus",
    "dmsetup",
    "dracut",
    "dracut-network",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "libstrongswan-standard-plugins",
    "libtss2-esys-3.0.2-0",
    "libtss2-mu0",
    "libtss2-tcti-device0",
    "libtss2-tctildr0",
    "linux-image-cloud-amd64",
    "netbase",
    "procps",
    "python3",
    "strongswan-swanctl",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// The root file system as a tar archive.
///
/// # Errors
/// When mmdebstrap fails; its log is beside the archive.
pub fn build(cache: &Cache, progress: Progress) -> Result<PathBuf> {
    build_with(cache, "base", &[], progress)
}

/// The same with more packages, kept under another name.
///
/// # Errors
/// As [`build`].
pub fn build_with(cache: &Cache, name: &str, more: &[&str], progress: Progress) -> Result<PathBuf> {
    build_of(cache, name, &[PACKAGES, more].concat(), progress)
}

/// That of another kind of machine.
///
/// # Errors
/// As [`build`].
pub fn build_kind(cache: &Cache, kind: Kind, progress: Progress) -> Result<PathBuf> {
    build_of(cache, &kind.named("base"), &kind.packages(), progress)
}

fn build_of(cache: &Cache, name: &str, packages: &[&str], progress: Progress) -> Result<PathBuf> {
    let debs = cache.folder("debs")?;
    let packages = packages.join(",");
    let directory = cache.once(name, &recipe().text(&packages), |path| {
        progress.step("Debian root file system (packages)", || {
            mmdebstrap(path, &packages, &debs)
        })
    })?;
    Ok(directory.join("base.tar"))
}

/// What it depends on.
#[must_use]
pub fn recipe() -> Recipe {
    Recipe::default().text(SUITE).text(&PACKAGES.join(","))
}

/// The root file system unpacked, without kernel modules: for programs of it that run without a virtual machine.
///
/// # Errors
/// As [`build`], and when it cannot be unpacked.
pub fn unpacked(cache: &Cache, progress: Progress) -> Result<PathBuf> {
    let archive = build(cache, progress)?;
    cache.once("base-root", &recipe(), |path| {
        let mut tar = Command::new("tar");
        tar.args([
            "--extract",
            "--exclude=./usr/lib/modules",
            "--exclude=./dev/*",
        ])
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(path);
        command::output(&mut tar).map(drop)
    })
}

fn mmdebstrap(directory: &Path, packages: &str, debs: &Path) -> Result<()> {
    let debs = debs.display();
    let mut command = Command::new("mmdebstrap");
    command
        // No initramfs by the kernel package: the image makes its own once Bootkeep is in it.
        .env("INITRD", "No")
        .args(["--variant=minbase", "--mode=root", "--skip=download/empty,essential/unlink,cleanup/apt/cache"])
        .arg(format!("--include={packages}"))
        // Packages that were fetched once are not fetched again.
        .arg(format!(
            "--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives; cp -n {debs}/*.deb \"$1\"/var/cache/apt/archives/ 2>/dev/null || true"
        ))
        .arg(format!(
            "--customize-hook=cp -n \"$1\"/var/cache/apt/archives/*.deb {debs}/; rm -f \"$1\"/var/cache/apt/archives/*.deb \"$1\"/var/cache/apt/*.bin"
        ))
        .arg(SUITE)
        .arg(directory.join("base.tar"));
    command::logged(&mut command, &directory.join("mmdebstrap.log"))
}
