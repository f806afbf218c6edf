//! What a node says about the files its next boot will use, so that their measurements can be signed before it reboots.

use serde::{Deserialize, Serialize};

/// Files of one report.
pub const MAX_BOOT_FILES: usize = 32;
/// Longest path (bytes).
pub const MAX_BOOT_PATH: usize = 512;

/// A report. A node says it; nobody has proved it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootFiles {
    /// When it was made, milliseconds since 1970 (UTC), by the node's clock.
    pub at_ms: u64,
    /// Version of the kernel that was installed or changed (`uname -r`), when the hook was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// At most [`MAX_BOOT_FILES`].
    pub files: Vec<BootFile>,
}

/// What a file is to the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFileRole {
    /// shim, GRUB, systemd-boot.
    Loader,
    /// A kernel image.
    Kernel,
    /// An initramfs.
    Initrd,
    /// A unified kernel image.
    Uki,
    /// A loader's configuration: `grub.cfg`, an entry of systemd-boot.
    Config,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootFile {
    /// What it is.
    pub role: BootFileRole,
    /// Absolute, on the node.
    pub path: String,
    /// Its size (bytes).
    pub size: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// For PE files: SHA-256 Authenticode digest, lower-case hex; what firmware and shim measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticode: Option<String>,
}
