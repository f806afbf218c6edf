//! One file: size, SHA-256, and for PE images the Authenticode digest.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use bootkeep_evidence::pe::PeImage;
use bootkeep_protocol::boot_files::{BootFile, BootFileRole, MAX_BOOT_PATH};
use sha2::{Digest, Sha256};

use super::{at, under, BootFilesError};

/// Largest file (bytes): unified kernel images and initramfs of big systems are some hundred MiB.
const MAX_FILE: u64 = 1024 * 1024 * 1024;
/// Read at once (bytes).
const PIECE: usize = 1024 * 1024;

/// Reads a file.
pub(super) fn file(
    root: &Path,
    role: BootFileRole,
    path: &Path,
) -> Result<BootFile, BootFilesError> {
    let unusable = |problem: String| BootFilesError::Unusable {
        path: path.into(),
        problem,
    };
    let name = path
        .to_str()
        .filter(|name| name.len() <= MAX_BOOT_PATH)
        .ok_or_else(|| {
            unusable(format!(
                "the path must be UTF-8 and at most {MAX_BOOT_PATH} bytes"
            ))
        })?;
    let opened = File::open(under(root, path)).map_err(at(path))?;
    let metadata = opened.metadata().map_err(at(path))?;
    if !metadata.is_file() {
        return Err(unusable("not a regular file".into()));
    }
    if metadata.len() > MAX_FILE {
        return Err(unusable(format!("larger than {MAX_FILE} bytes")));
    }
    let (size, sha256, authenticode) = read(opened, role).map_err(at(path))?;
    if role == BootFileRole::Uki && authenticode.is_none() {
        return Err(unusable(
            "not a PE image, so no unified kernel image".into(),
        ));
    }
    Ok(BootFile {
        role,
        path: name.to_owned(),
        size,
        sha256: hex::encode(sha256),
        authenticode: authenticode.map(hex::encode),
    })
}

/// Only what starts like a PE image is held in memory: an initramfs is not.
fn read(file: File, role: BootFileRole) -> io::Result<(u64, [u8; 32], Option<[u8; 32]>)> {
    let mut file = file.take(MAX_FILE);
    let mut hash = Sha256::new();
    let (mut size, mut image) = (0, None::<Vec<u8>>);
    let mut piece = vec![0; PIECE];
    loop {
        let length = file.read(&mut piece)?;
        let read = piece.get(..length).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        if size == 0 && read.starts_with(b"MZ") && may_be_pe(role) {
            image = Some(Vec::new());
        }
        if let Some(image) = &mut image {
            image.extend_from_slice(read);
        }
        hash.update(read);
        size += length as u64;
    }
    // A kernel without an EFI stub may start with the same two letters.
    let image = image
        .as_deref()
        .and_then(|bytes| PeImage::parse(bytes).ok());
    let authenticode = image.map(|image| image.authenticode());
    Ok((size, hash.finalize().into(), authenticode))
}

fn may_be_pe(role: BootFileRole) -> bool {
    matches!(
        role,
        BootFileRole::Loader | BootFileRole::Kernel | BootFileRole::Uki
    )
}
