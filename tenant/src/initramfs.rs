//! Initramfs images: what files they hold.

use std::path::Path;

use bootkeep_policy::RuntimePolicy;

use crate::Error;

/// Accepts every regular file of an image.
///
/// # Errors
/// [`Error::Usage`] when it cannot be read as an image.
pub(crate) fn accept_files(image: &Path, _policy: &mut RuntimePolicy) -> Result<(), Error> {
    Err(Error::Usage(format!(
        "{} is not a folder; unpack the image first (lsinitrd --unpack, unmkinitramfs)",
        image.display()
    )))
}
