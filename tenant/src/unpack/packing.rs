//! Compressions, told apart by their first bytes.

use std::io::{self, BufRead, Read, Seek, Write};

use super::bad;

/// Most bytes anything unpacks to: a bomb ends here.
pub(crate) const MAX_UNPACKED: u64 = 8 * 1024 * 1024 * 1024;
/// A block of the kernel's LZ4 form unpacks to at most this (bytes).
const LZ4_BLOCK: usize = 8 * 1024 * 1024;
/// First bytes of the kernel's LZ4 form (`lz4 -l`).
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// What `input` holds, unpacked; as it is when it is not packed. Reads no more of it than belongs to it.
///
/// # Errors
/// For a compression that is not known here; errors of the input.
pub(crate) fn unpacked<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = input.fill_buf()?;
    let has = |magic: &[u8]| start.starts_with(magic);
    if has(&[0x1f, 0x8b]) {
        return Ok(limited(flate2::bufread::GzDecoder::new(input)));
    }
    if has(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(input)
            .map_err(|error| bad(format!("zstd: {error}")))?;
        return Ok(limited(decoder));
    }
    if has(b"\xfd7zXZ\0") {
        return spooled(|out| {
            let mut stream = io::BufReader::new(WithoutPadding::new(&mut input));
            lzma_rs::xz_decompress(&mut stream, &mut { out })
                .map_err(|error| bad(format!("xz: {error:?}")))
        });
    }
    if has(&LZ4_LEGACY) {
        return spooled(|out| lz4_legacy(&mut input, out));
    }
    for (magic, name) in [
        (&b"BZh"[..], "bzip2"),
        (&[0x5d, 0, 0][..], "lzma"),
        (&[0x89, b'L', b'Z', b'O'][..], "lzo"),
        (&[0x04, 0x22, 0x4d, 0x18][..], "lz4 frames"),
    ] {
        if has(magic) {
            return Err(bad(format!(
                "packed with {name}, which is not read here; unpack it first"
            )));
        }
    }
    Ok(limited(input))
}

fn limited<'a>(reader: impl Read + 'a) -> Box<dyn Read + 'a> {
    Box::new(Limited {
        reader,
        left: MAX_UNPACKED,
    })
}

/// Ends in an error, not in an early end, when there is too much.
struct Limited<T> {
    reader: T,
    left: u64,
}

fn too_much() -> io::Error {
    bad(format!("it unpacks to more than {MAX_UNPACKED} bytes"))
}

impl<T: Read> Read for Limited<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(too_much)?;
        Ok(length)
    }
}

impl<T: Write> Write for Limited<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(too_much)?;
        self.reader.write_all(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.reader.flush()
    }
}

/// For decoders that write: into a file without a name, read from its start.
fn spooled<'a>(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut file = tempfile::tempfile()?;
    let mut out = Limited {
        reader: io::BufWriter::new(&mut file),
        left: MAX_UNPACKED,
    };
    write(&mut out)?;
    out.flush()?;
    drop(out);
    file.rewind()?;
    Ok(Box::new(io::BufReader::new(file)))
}

/// Blocks, each with its packed length before it, until something else comes (Documentation/staging/lz4.rst).
fn lz4_legacy(input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    input.consume(LZ4_LEGACY.len());
    loop {
        let mut length = [0; 4];
        match input.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let length = u32::from_le_bytes(length) as usize;
        // Padding, or the next stream: the kernel takes both for the end.
        if length == 0 || length == u32::from_le_bytes(LZ4_LEGACY) as usize {
            return Ok(());
        }
        if length > lz4_flex::block::get_maximum_output_size(LZ4_BLOCK) {
            return Err(bad("lz4: a block is too long"));
        }
        let mut packed = vec![0; length];
        input.read_exact(&mut packed)?;
        let block = lz4_flex::block::decompress(&packed, LZ4_BLOCK)
            .map_err(|error| bad(format!("lz4: {error}")))?;
        out.write_all(&block)?;
    }
}

/// An input without the zeros at its end: xz streams end in other bytes, and images are padded.
struct WithoutPadding<R> {
    input: R,
    /// Zeros that came, and are not given yet.
    zeros: u64,
    /// Whether something came after them.
    more: bool,
}

impl<R: BufRead> WithoutPadding<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            zeros: 0,
            more: false,
        }
    }

    fn give_zeros(&mut self, out: &mut [u8]) -> usize {
        let length = usize::try_from(self.zeros).map_or(out.len(), |zeros| zeros.min(out.len()));
        out[..length].fill(0);
        self.zeros -= length as u64;
        length
    }
}

impl<R: BufRead> Read for WithoutPadding<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.more && self.zeros > 0 {
                return Ok(self.give_zeros(out));
            }
            let buffer = self.input.fill_buf()?;
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                let data = buffer.iter().take_while(|byte| **byte != 0).count();
                let length = data.min(out.len());
                out[..length].copy_from_slice(&buffer[..length]);
                self.input.consume(length);
                self.more = false;
                return Ok(length);
            }
            self.input.consume(zeros);
            self.zeros += zeros as u64;
            self.more = self
                .input
                .fill_buf()?
                .first()
                .is_some_and(|byte| *byte != 0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_the_zeros_at_the_end_go(
            parts in proptest::collection::vec((proptest::bool::ANY, 0..40_usize), 0..12),
            capacity in 1..32_usize,
        ) {
            let bytes: Vec<u8> = parts
                .iter()
                .flat_map(|(zero, length)| vec![if *zero { 0 } else { 7 }; *length])
                .collect();
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let mut out = Vec::new();
            let input = io::BufReader::with_capacity(capacity, bytes.as_slice());
            WithoutPadding::new(input).read_to_end(&mut out).unwrap();
            prop_assert_eq!(out, &bytes[..end]);
        }
    }

    #[test]
    fn too_much_is_an_error_and_no_early_end() {
        let mut out = Vec::new();
        let mut limited = Limited {
            reader: io::repeat(1).take(11),
            left: 10,
        };
        assert!(limited.read_to_end(&mut out).is_err());
        let mut limited = Limited {
            reader: Vec::new(),
            left: 3,
        };
        assert!(limited.write_all(b"abc").is_ok() && limited.write_all(b"d").is_err());
    }
}
