//! An initramfs image as the boot loader gives it to the kernel: archives one after the other, packed or not, with
//! zeros between them. The first ones may hold microcode.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use super::{bad, cpio, unpacked, Found, Unpack};
use crate::{files, Error};

/// Largest image (bytes).
const MAX_IMAGE: u64 = 1024 * 1024 * 1024;

/// Tells of each regular file of an image.
///
/// # Errors
/// [`Error::Usage`] naming what cannot be read; errors of `found`.
pub(crate) fn initramfs(path: &Path, found: &mut Found<'_>) -> Result<(), Error> {
    let file = File::open(path).map_err(files::file_error(path))?;
    let mut image = BufReader::new(file.take(MAX_IMAGE + 1));
    segments(&mut image, found).map_err(|error| error.of(&path.display().to_string()))?;
    if image.into_inner().limit() == 0 {
        return Err(Error::Usage(format!(
            "{} is larger than {MAX_IMAGE} bytes",
            path.display()
        )));
    }
    Ok(())
}

fn segments(image: &mut impl BufRead, found: &mut Found<'_>) -> Result<(), Unpack> {
    let mut any = false;
    while at_data(image)? {
        any = true;
        if image.fill_buf()?.starts_with(b"07070") {
            cpio::archive(image, found)?;
        } else {
            let mut inner = BufReader::new(unpacked(&mut *image)?);
            while at_data(&mut inner)? {
                cpio::archive(&mut inner, found)?;
            }
        }
    }
    match any {
        true => Ok(()),
        false => Err(bad("it holds nothing").into()),
    }
}

/// Skips zeros; false at the end.
fn at_data(reader: &mut impl BufRead) -> Result<bool, Unpack> {
    loop {
        let buffer = reader.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let (is_end, is_data) = (buffer.is_empty(), zeros < buffer.len());
        reader.consume(zeros);
        if is_end || is_data {
            return Ok(is_data);
        }
    }
}
