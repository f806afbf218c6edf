//! System packages.

use std::process::Command;

use anyhow::{bail, Context, Result};
use bootkeep_vm_tests::{command, progress::Progress};

/// What is needed, and what for.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "building: C parts of the crypto library and SQLite"),
    ("cmake", "building: the crypto library"),
    ("pkg-config", "building: finding the TPM library"),
    ("libtss2-dev", "building: the TPM library (tss-esapi)"),
    ("swtpm", "tests: software TPM"),
    ("swtpm-tools", "tests: software TPM"),
    ("gnutls-bin", "tests: the software TPM's certificates"),
    ("tpm2-tools", "tests: an independent view of the TPM"),
    ("postgresql", "tests: the services on PostgreSQL"),
    ("charon-systemd", "tests: strongSwan's IKE daemon"),
    ("strongswan-swanctl", "tests: an independent view of it"),
    (
        "libcharon-extra-plugins",
        "tests: ESP where the kernel has none (kernel-libipsec)",
    ),
    (
        "libstrongswan-standard-plugins",
        "tests: strongSwan's AES-GCM",
    ),
    (
        "libstrongswan-extra-plugins",
        "tests: strongSwan fetches revocation lists (curl)",
    ),
    ("iputils-ping", "tests: traffic between nodes"),
    ("shellcheck", "tests: shell scripts"),
    ("rpm", "tests: packages of RPM repositories"),
    ("gnupg", "tests: signatures of repositories"),
    ("gpgv", "signatures of repositories"),
    ("xz-utils", "tests: packed images"),
    ("zstd", "tests: packed images"),
    ("lz4", "tests: packed images"),
    ("mmdebstrap", "image: Debian root file system"),
    ("debian-archive-keyring", "image: keys of Debian's packages"),
    ("e2fsprogs", "image: file system"),
    ("cryptsetup-bin", "image: LUKS"),
    ("cpio", "image: initramfs"),
    (
        "dosfstools",
        "virtual machine: a disk that a cloud attaches",
    ),
    ("mtools", "virtual machine: a disk that a cloud attaches"),
    ("qemu-system-x86", "virtual machine"),
    ("seabios", "virtual machine: firmware for speed"),
    ("ovmf", "virtual machine: firmware that measures"),
    ("iproute2", "virtual machine: network namespace"),
];

/// Installs what is missing, after saying what.
pub(crate) fn run(progress: Progress) -> Result<()> {
    let missing: Vec<&(&str, &str)> = PACKAGES
        .iter()
        .filter(|(name, _)| !is_installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are missing and will be installed:");
    missing
        .iter()
        .for_each(|(name, why)| println!("  {name:<24}{why}"));
    require_root()?;
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    progress.step("apt-get update", || apt(&["update"]))?;
    progress.step("apt-get install", || {
        apt(&[
            &["install", "--yes", "--no-install-recommends"],
            names.as_slice(),
        ]
        .concat())
    })
}

fn is_installed(name: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", name])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

fn apt(arguments: &[&str]) -> Result<()> {
    command::output(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--quiet")
            .args(arguments),
    )
    .context("apt-get; on a system that is not Debian, install the programs by its own means")
    .map(drop)
}

/// Root file systems, chroots and namespaces need it.
pub(crate) fn require_root() -> Result<()> {
    let id = command::output(Command::new("id").arg("-u"))?;
    if id.trim() != "0" {
        bail!("this needs root (packages, root file system, chroot, network namespace): run it again with sudo");
    }
    Ok(())
}
