//! `EV_EVENT_TAG` of the Linux EFI stub (`drivers/firmware/efi/libstub`): id, size, what was digested.

use crate::reader::Reader;

const LOAD_OPTIONS: u32 = 0x8f3b_22ed;
const INITRD: u32 = 0x8f3b_22ec;

/// `TCG_PCClientTaggedEvent`: id, size of the data, data.
fn read(data: &[u8]) -> Option<(u32, &[u8])> {
    let mut reader = Reader::new(data);
    let id = reader.u32_le().ok()?;
    Some((id, reader.counted_le().ok()?))
}

pub(super) fn is_initrd(data: &[u8]) -> bool {
    read(data).is_some_and(|(id, name)| id == INITRD || name.starts_with(b"Linux initrd"))
}

pub(super) fn is_load_options(data: &[u8]) -> bool {
    read(data).is_some_and(|(id, name)| {
        id == LOAD_OPTIONS || name.starts_with(b"LOADED_IMAGE::LoadOptions")
    })
}

pub(super) fn hint(data: &[u8]) -> Option<String> {
    read(data).map(|(_, name)| super::text::shown(name))
}
