//! PE images: digests that osslsigncode signed, and everything a file can be cut to. One image has its sections in the
//! file in another order than in its table, one has bytes after them.
#![allow(clippy::unwrap_used)]

use bootkeep_evidence::pe::{PeError, PeImage};
use proptest::prelude::*;

const REVERSED: &[u8] = include_bytes!("data/pe/reversed-sections.efi");
const TAIL: &[u8] = include_bytes!("data/pe/bytes-after-sections.efi");

fn digest(bytes: &[u8]) -> String {
    hex::encode(PeImage::parse(bytes).unwrap().authenticode())
}

/// Where the optional header begins.
fn optional(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap()) as usize + 24
}

#[test]
fn the_digest_is_what_is_in_the_signature() {
    for (image, expected) in [
        (
            REVERSED,
            "a86696d5925b41e7d8cc9365954a79a85dd10c30ed9573d4d381bdf78f451121",
        ),
        (
            TAIL,
            "ff24eeaecb54f9126df6590ebfc732129ce78e1475842d2dcb16043d0605307b",
        ),
    ] {
        assert_eq!(digest(image), expected);
        let bytes = hex::decode(expected).unwrap();
        assert!(image.windows(32).any(|window| window == bytes));
    }
}

#[test]
fn checksum_and_signature_do_not_count_and_all_else_does() {
    let at = optional(REVERSED);
    let entry = at + 112 + 4 * 8;
    let size = u32::from_le_bytes(REVERSED[entry + 4..entry + 8].try_into().unwrap()) as usize;
    let signature = REVERSED.len() - size;
    let free = |at_byte: usize| {
        (at + 64..at + 68).contains(&at_byte)
            || (entry..entry + 4).contains(&at_byte)
            || at_byte >= signature
    };
    for at_byte in 0x40..REVERSED.len() {
        let mut image = REVERSED.to_vec();
        image[at_byte] ^= 1;
        let Ok(other) = PeImage::parse(&image) else {
            continue;
        };
        let same = hex::encode(other.authenticode()) == digest(REVERSED);
        // The size of the signature says where it begins.
        if !(entry + 4..entry + 8).contains(&at_byte) {
            assert_eq!(same, free(at_byte), "byte {at_byte}");
        }
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let at = optional(REVERSED);
    let with = |at: usize, bytes: &[u8]| {
        let mut image = REVERSED.to_vec();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        PeImage::parse(&image).map(|_| ()).unwrap_err()
    };
    let sections = at - 18;
    assert!(matches!(PeImage::parse(b""), Err(PeError::NotPe(_))));
    assert!(matches!(PeImage::parse(b"\x7fELF"), Err(PeError::NotPe(_))));
    assert!(matches!(PeImage::parse(b"MZ"), Err(PeError::CutShort(_))));
    assert!(matches!(with(at - 24, b"NE"), PeError::NotPe(_)));
    assert!(matches!(with(at, &[0, 0]), PeError::NotPe(_)));
    assert!(matches!(with(0x3c, &[0xff; 4]), PeError::CutShort(_)));
    assert!(matches!(with(at + 60, &[0xff; 4]), PeError::CutShort(_)));
    assert!(matches!(with(sections, &[0xff, 0]), PeError::TooMuch(_)));
    assert!(matches!(
        with(sections, &[90, 0]),
        PeError::CutShort(_) | PeError::TooMuch(_)
    ));
    for length in 0..optional(REVERSED) + 112 {
        assert!(PeImage::parse(&REVERSED[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_may_come(mut image: Vec<u8>, which: bool, at: prop::sample::Index, value: u8) {
        let _ = PeImage::parse(&image).map(|image| image.authenticode());
        image = if which { REVERSED.to_vec() } else { TAIL.to_vec() };
        let at = at.index(image.len());
        image[at] = value;
        for bytes in [&image[..], &image[..at]] {
            let Ok(image) = PeImage::parse(bytes) else { continue };
            let _ = image.authenticode();
            for section in image.sections() {
                prop_assert!(section.contents().len() <= 1 << 30);
            }
        }
    }
}
