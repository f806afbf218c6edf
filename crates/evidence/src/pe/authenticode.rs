//! The Authenticode digest as EDK2, shim and sbsign compute it ("Windows Authenticode Portable Executable Signature
//! Format", "Calculating the PE Image Hash").

use sha2::{Digest, Sha256};

use super::PeImage;

/// Headers without checksum and certificate entry; the sections in the order of their places in the file; what is left
/// of the file, without the certificates at its end.
pub(super) fn digest(image: &PeImage<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |from: usize, to: usize| {
        hash.update(image.bytes.get(from..to).unwrap_or_default());
    };
    part(0, image.checksum);
    match image.certificate_entry {
        Some(entry) => {
            part(image.checksum + 4, entry);
            part(entry + 8, image.headers);
        }
        None => part(image.checksum + 4, image.headers),
    }
    let mut places: Vec<(usize, usize)> = image
        .sections
        .iter()
        .map(|(place, section)| (*place, section.raw.len()))
        .filter(|(_, size)| *size > 0)
        .collect();
    places.sort_by_key(|(place, _)| *place);
    let mut digested = image.headers;
    for (place, size) in places {
        part(place, place + size);
        digested = digested.saturating_add(size);
    }
    part(
        digested,
        image.bytes.len().saturating_sub(image.certificates),
    );
    hash.finalize().into()
}
