//! What is known of the files of the next boot.

use bootkeep_evidence::pe::{PeError, PeImage};
use sha2::{Digest, Sha256};

use super::{uki::UkiContents, Rename};
use crate::digest::Digest32;

/// What changes before the next boot. What is not named stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextBoot {
    /// Versions of the kernel in the names of its files.
    pub rename: Option<Rename>,
    /// shim, GRUB, systemd-boot.
    pub loaders: Vec<NewLoader>,
    /// The kernel, where it is a file of its own.
    pub kernel: Option<NewKernel>,
    /// SHA-256 of the initramfs, where it is a file of its own.
    pub initrd: Option<Digest32>,
    /// A unified kernel image.
    pub uki: Option<NewUki>,
    /// GRUB's configuration.
    pub config: Option<NewConfig>,
    /// The kernel's parameters, without the kernel's path.
    pub command_line: Option<String>,
}

impl NextBoot {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A new boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLoader {
    /// Name of its file: finds the old one's event.
    pub name: String,
    /// Authenticode SHA-256.
    pub authenticode: Digest32,
}

impl NewLoader {
    /// Of a file.
    ///
    /// # Errors
    /// [`PeError`].
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, PeError> {
        Ok(Self {
            name: name.to_owned(),
            authenticode: PeImage::parse(bytes)?.authenticode().into(),
        })
    }
}

/// A new kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKernel {
    /// SHA-256 of the file: what GRUB measures.
    pub sha256: Digest32,
    /// Authenticode SHA-256: what firmware and shim measure. A kernel that is no PE image has none.
    pub authenticode: Option<Digest32>,
    /// The same of the kernel as QEMU hands it to the firmware ([`super::as_qemu_hands_over`]).
    pub from_qemu: Option<Digest32>,
}

impl NewKernel {
    /// Of a file.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let image = PeImage::parse(bytes).ok();
        Self {
            sha256: sha256(bytes),
            authenticode: image.map(|image| image.authenticode().into()),
            from_qemu: None,
        }
    }
}

/// A new unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUki {
    /// Authenticode SHA-256.
    pub authenticode: Digest32,
    /// What systemd-stub measures of it; not known when there are only digests.
    pub contents: Option<UkiContents>,
}

/// A new `grub.cfg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConfig {
    /// SHA-256 of the file.
    pub sha256: Digest32,
    /// Its text; not known when there are only digests.
    pub text: Option<String>,
}

impl NewConfig {
    /// Of a file.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        Self {
            sha256: sha256(bytes),
            text: String::from_utf8(bytes.to_vec()).ok(),
        }
    }
}

/// SHA-256 of a file.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest32 {
    Digest32(Sha256::digest(bytes).into())
}
