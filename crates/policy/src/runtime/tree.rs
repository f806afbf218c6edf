//! Files of a directory tree, with the names the kernel will write.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::PolicyError;

/// A tree of files and where the node sees it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The root of the tree here.
    pub directory: PathBuf,
    /// Put before each path: empty for a root file system.
    pub prefix: String,
}

impl Tree {
    /// A root file system, or an unpacked initramfs.
    #[must_use]
    pub fn root(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            prefix: String::new(),
        }
    }

    /// Calls `found` with path and SHA-256 of each regular file. Names that are not UTF-8 are left out: an entry with
    /// such a name is never accepted.
    pub(super) fn visit(
        &self,
        found: &mut impl FnMut(&str, [u8; 32]) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let mut open = vec![(self.directory.clone(), self.prefix.clone())];
        while let Some((directory, name)) = open.pop() {
            let at = |source| PolicyError::File {
                path: directory.clone(),
                source,
            };
            for entry in fs::read_dir(&directory).map_err(at)? {
                let entry = entry.map_err(at)?;
                let Some(file_name) = entry.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                let path = entry.path();
                let kind = entry.file_type().map_err(at)?;
                let full = format!("{name}/{file_name}");
                if kind.is_dir() {
                    open.push((path, full));
                } else if kind.is_file() {
                    let digest =
                        digest_of(&path).map_err(|source| PolicyError::File { path, source })?;
                    // The kernel writes `_` for a space (ima_write_template_field_data).
                    found(&full.replace(' ', "_"), digest)?;
                }
            }
        }
        Ok(())
    }
}

fn digest_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}
