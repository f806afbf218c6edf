//! Bytes that a digest vouches for, and digests of what is not in the log.

use sha2::{Digest, Sha256};

use super::{device_path::device_path_text, kind, tag, Event};
use crate::reader::Reader;

/// Bytes whose SHA-256 is the digest of their event. Only this module makes them, so what reads a `Covered` reads
/// nothing that a node could have made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered<'a>(&'a [u8]);

impl<'a> Covered<'a> {
    /// All of the event's data, if the digest is theirs.
    pub(super) fn whole(event: &'a Event) -> Option<Self> {
        Self::part(event, &event.data)
    }

    /// A part of the data, or what it stands for, if the digest is that part's.
    pub(super) fn part(event: &Event, part: &'a [u8]) -> Option<Self> {
        (Sha256::digest(part).as_slice() == event.digest).then_some(Self(part))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// The digest of something that is not in the log: an image, a file, an initramfs.
///
/// Only the digest counts. The data beside it is what the node *says* it measured: a hint for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opaque<'a>(&'a Event);

impl<'a> Opaque<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        Self(event)
    }

    /// What was extended. Of a PE image (`EV_EFI_BOOT_SERVICES_APPLICATION`) the Authenticode digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }

    /// What the node says it is: not vouched for by anything.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.0.event_type {
            kind::EV_EFI_BOOT_SERVICES_APPLICATION
            | kind::EV_EFI_BOOT_SERVICES_DRIVER
            | kind::EV_EFI_RUNTIME_SERVICES_DRIVER => image_path(&self.0.data).unwrap_or_default(),
            kind::EV_EFI_PLATFORM_FIRMWARE_BLOB2 => {
                blob_description(&self.0.data).unwrap_or_default()
            }
            kind::EV_EVENT_TAG => tag::hint(&self.0.data).unwrap_or_default(),
            _ => self.0.text(),
        }
    }

    /// Whether the node says it is the initramfs, measured by the kernel's EFI stub or by GRUB.
    #[must_use]
    pub fn says_initrd(&self) -> bool {
        match self.0.event_type {
            kind::EV_EVENT_TAG => tag::is_initrd(&self.0.data),
            _ => {
                let name = self.hint();
                name.contains("initrd") || name.contains("initramfs")
            }
        }
    }

    /// Whether the node says it is the kernel's command line, measured by the kernel's EFI stub.
    #[must_use]
    pub fn says_load_options(&self) -> bool {
        self.0.event_type == kind::EV_EVENT_TAG && tag::is_load_options(&self.0.data)
    }
}

/// `UEFI_IMAGE_LOAD_EVENT` (§10.2.3): address, length, link address, length of the device path, device path.
fn image_path(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    reader.take(24).ok()?;
    let length = usize::try_from(reader.u64_le().ok()?).ok()?;
    Some(device_path_text(reader.take(length).ok()?))
}

/// `UEFI_PLATFORM_FIRMWARE_BLOB2` (§10.2.5): length of the description (u8), description, base, length.
fn blob_description(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let length = reader.u8().ok()?;
    let text = reader.take(length.into()).ok()?;
    Some(super::text::shown(text))
}
