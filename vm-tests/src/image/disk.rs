//! The disk, made without loop devices and without the kernel's dm-crypt.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::Result;

use super::{Image, LUKS_KEY, VOLUME_UUID};
use crate::command;

/// Size of the file system.
const FILE_SYSTEM: &str = "800M";
/// The same with room for the LUKS header, which takes 32 MiB while the volume is being encrypted.
const DISK: u64 = 832 * 1024 * 1024;

/// Makes the file system from the folder, then encrypts it in place.
///
/// # Errors
/// When mke2fs or cryptsetup fails.
pub fn build(image: &Image) -> Result<()> {
    let (disk, key) = (image.disk(), image.luks_key());
    fs::write(&key, LUKS_KEY)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    fs::File::create(&disk)?.set_len(DISK)?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-L", "root", "-d"]);
    command::output(mke2fs.arg(image.rootfs()).arg(&disk).arg(FILE_SYSTEM))?;
    let mut cryptsetup = Command::new("cryptsetup");
    // A weak key derivation: the key is random in use, and argon2id takes minutes under emulation.
    cryptsetup
        .args([
            "reencrypt",
            "--encrypt",
            "--type",
            "luks2",
            "--reduce-device-size",
            "32M",
            "--batch-mode",
        ])
        .args([
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "--uuid",
            VOLUME_UUID,
        ])
        .arg("--key-file")
        .arg(&key)
        .arg(&disk);
    command::output(&mut cryptsetup).map(drop)
}
