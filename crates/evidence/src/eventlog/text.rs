//! Strings that boot loaders measure: GRUB's commands and command lines, systemd's command line and section names.

use sha2::{Digest, Sha256};

use super::{covered::Covered, variable::utf16, Event};
use crate::text::visible;

/// Longest label before a string, e.g. `kernel_cmdline`.
const MAX_LABEL: usize = 32;

/// A measured string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What the node says it is (`grub_cmd`, `kernel_cmdline`): not covered by the digest, a hint for people.
    pub label: Option<String>,
    /// What was measured.
    pub text: String,
}

impl Text {
    /// The string whose digest was extended: the data, with or without a NUL at its end, or what follows a label.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let whole = &event.data;
        let labelled = split_label(whole);
        let parts = std::iter::once((None, whole.as_slice())).chain(labelled);
        for (label, part) in parts {
            let found = spellings(part).find_map(|spelling| Covered::part(event, spelling));
            if let Some(covered) = found {
                let text = decode(covered.bytes())?;
                return Some(Self { label, text });
            }
        }
        None
    }
}

/// The event as it would be with another string: label, encoding and end are those of the old one. `None` when it
/// holds no string.
pub(super) fn rewritten(event: &Event, text: &str) -> Option<Event> {
    let whole = event.data.as_slice();
    let labelled = split_label(whole).map(|(_, part)| part);
    let (part, measured) = std::iter::once(whole).chain(labelled).find_map(|part| {
        let covered = spellings(part).find_map(|spelling| Covered::part(event, spelling))?;
        Some((part, covered.bytes()))
    })?;
    let label = whole.get(..whole.len() - part.len())?;
    let wide = is_wide(measured);
    let encode = |old: &[u8]| {
        let end: &[u8] = match (wide, old) {
            (true, [.., 0, 0]) => &[0, 0],
            (false, [.., 0]) => &[0],
            _ => &[],
        };
        let text = match wide {
            true => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            false => text.as_bytes().to_vec(),
        };
        [text.as_slice(), end].concat()
    };
    Some(Event {
        digest: Sha256::digest(encode(measured)).into(),
        data: [label, &encode(part)].concat(),
        ..event.clone()
    })
}

/// With and without the NUL at the end.
fn spellings(part: &[u8]) -> impl Iterator<Item = &[u8]> {
    let narrow = part.strip_suffix(&[0]);
    let wide = part.strip_suffix(&[0, 0]);
    [Some(part), narrow, wide].into_iter().flatten()
}

fn split_label(data: &[u8]) -> Option<(Option<String>, &[u8])> {
    let at = data
        .windows(2)
        .take(MAX_LABEL)
        .position(|pair| pair == b": ")?;
    let label = std::str::from_utf8(data.get(..at)?).ok()?;
    Some((Some(label.to_owned()), data.get(at + 2..)?))
}

/// Decided by the measured bytes alone: with NULs inside they are UTF-16LE, else UTF-8.
fn decode(bytes: &[u8]) -> Option<String> {
    if is_wide(bytes) {
        return utf16(bytes);
    }
    let narrow = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    String::from_utf8(narrow.to_vec()).ok()
}

fn is_wide(bytes: &[u8]) -> bool {
    bytes.strip_suffix(&[0]).unwrap_or(bytes).contains(&0)
}

/// A section of a unified kernel image, as systemd-stub measures it into PCR 11: first its name, then its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.linux`, `.initrd`, `.cmdline`, ….
    pub name: String,
}

impl Section {
    /// The event that names a section: the data is the name in UTF-16, the digest is of the name in ASCII with its
    /// NUL.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let name = utf16(&event.data).filter(|name| name.starts_with('.') && name.is_ascii())?;
        let measured = Sha256::new()
            .chain_update(&name)
            .chain_update([0])
            .finalize();
        (measured.as_slice() == event.digest).then_some(Self { name })
    }
}

/// UTF-8 or UTF-16LE up to the first NUL, unprintable characters replaced: for people.
pub(super) fn shown(data: &[u8]) -> String {
    const MAX: usize = 160;
    let wide = matches!(data, [_, 0, _, 0, ..]);
    let text: String = if wide {
        let pairs = data.chunks_exact(2).filter_map(<[u8]>::first_chunk);
        let units = pairs.map(|&pair| u16::from_le_bytes(pair));
        char::decode_utf16(units.take(MAX))
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    } else {
        String::from_utf8_lossy(data.get(..data.len().min(4 * MAX)).unwrap_or_default())
            .into_owned()
    };
    text.chars()
        .take_while(|&c| c != '\0')
        .take(MAX)
        .map(visible)
        .collect()
}
