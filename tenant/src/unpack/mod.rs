//! Packed things, read within bounds: compressions, archives of the initramfs.

mod cpio;
mod initramfs;
mod packing;

pub(crate) use initramfs::initramfs;
pub(crate) use packing::unpacked;

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::Error;

/// What is told of each regular file: its path as the kernel will write it, and the SHA-256 of its content.
pub(crate) type Found<'a> = dyn FnMut(&str, [u8; 32]) -> Result<(), Error> + 'a;

/// Why something packed was not read to its end.
#[derive(Debug)]
pub(crate) enum Unpack {
    /// It is damaged, too large, or of a form that is not known here.
    Input(io::Error),
    /// What was found was not taken.
    Taken(Error),
}

impl From<io::Error> for Unpack {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

impl Unpack {
    /// The error, with the name of what was read.
    pub(crate) fn of(self, name: &str) -> Error {
        match self {
            Self::Input(error) => Error::Usage(format!("{name}: {error}")),
            Self::Taken(error) => error,
        }
    }
}

/// A form that is not as it should be.
pub(crate) fn bad(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// SHA-256 of what is left to read.
///
/// # Errors
/// Errors of the reader.
pub(crate) fn sha256(reader: &mut dyn Read) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// The path of an archive's member, as the kernel writes it once the archive is unpacked at `/`. `None` for the root
/// itself, for a name that leaves it and for one that is not UTF-8: entries with such names are never accepted.
pub(crate) fn member_path(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    // The kernel writes `_` for a space (ima_write_template_field_data).
    Some(format!("/{}", parts.join("/")).replace(' ', "_"))
}

#[cfg(test)]
mod tests {
    use super::member_path;

    #[test]
    fn members_have_paths_below_the_root() {
        for (name, path) in [
            ("./usr/bin/a", Some("/usr/bin/a")),
            ("/etc//b c", Some("/etc/b_c")),
            ("init", Some("/init")),
            (".", None),
            ("", None),
            ("a/../../b", None),
        ] {
            assert_eq!(member_path(name.as_bytes()).as_deref(), path, "{name}");
        }
        assert_eq!(member_path(b"a\xff"), None);
    }
}
