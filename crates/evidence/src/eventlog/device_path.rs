//! `EFI_DEVICE_PATH_PROTOCOL` (UEFI §10.3) as text, for people.

use super::{guid::Guid, text::shown};
use crate::reader::{CutShort, Reader};

/// Most nodes that are shown.
const MAX_NODES: usize = 32;

/// The text form of UEFI §10.6 for the nodes one meets, `Path(type,subtype)` for the rest. Device paths are never
/// covered by a digest of their own: good for a note to people, not for a decision.
#[must_use]
pub fn device_path_text(bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes);
    let mut nodes = Vec::new();
    while nodes.len() < MAX_NODES {
        match node(&mut reader) {
            Ok(Some(text)) => nodes.push(text),
            Ok(None) => break,
            Err(CutShort) => {
                nodes.push("(cut short)".to_owned());
                break;
            }
        }
    }
    nodes.join("/")
}

/// Type, subtype, length of the node, data; `None` at the end.
fn node(reader: &mut Reader<'_>) -> Result<Option<String>, CutShort> {
    const HEADER: usize = 4;
    if reader.is_empty() {
        return Ok(None);
    }
    let (kind, subtype) = (reader.u8()?, reader.u8()?);
    let length = usize::from(reader.u16_le()?);
    let data = reader.take(length.checked_sub(HEADER).ok_or(CutShort)?)?;
    if kind == 0x7f {
        return Ok(None);
    }
    let known = known(kind, subtype, &mut Reader::new(data));
    Ok(Some(
        known.unwrap_or_else(|_| format!("Path({kind},{subtype})")),
    ))
}

fn known(kind: u8, subtype: u8, data: &mut Reader<'_>) -> Result<String, CutShort> {
    Ok(match (kind, subtype) {
        (1, 1) => {
            let (function, device) = (data.u8()?, data.u8()?);
            format!("Pci({device:#x},{function:#x})")
        }
        (1, 4) => format!("VenHw({})", Guid::read(data)?),
        (2, 1) => acpi(data)?,
        (3, 5) => format!("USB({},{})", data.u8()?, data.u8()?),
        (3, 11) => {
            let mac: [u8; 6] = data.array()?;
            format!("MAC({})", hex::encode(mac))
        }
        (3, 12) => "IPv4()".to_owned(),
        (3, 13) => "IPv6()".to_owned(),
        (3, 18) => format!("Sata({:#x},{:#x})", data.u16_le()?, data.u16_le()?),
        (3, 23) => format!("NVMe({:#x})", data.u32_le()?),
        (3, 24) => format!("Uri({})", shown(data.rest())),
        (4, 1) => hard_drive(data)?,
        (4, 3) => format!("VenMedia({})", Guid::read(data)?),
        (4, 4) => shown(data.rest()),
        (4, 6) => format!("FvFile({})", Guid::read(data)?),
        (4, 7) => format!("Fv({})", Guid::read(data)?),
        _ => return Err(CutShort),
    })
}

fn acpi(data: &mut Reader<'_>) -> Result<String, CutShort> {
    const PCI_ROOT: [u32; 2] = [0x0a03_41d0, 0x0a08_41d0];
    let (hid, uid) = (data.u32_le()?, data.u32_le()?);
    Ok(if PCI_ROOT.contains(&hid) {
        format!("PciRoot({uid:#x})")
    } else {
        format!("Acpi({hid:#x},{uid:#x})")
    })
}

/// Partition number, start, size, signature, format, type of the signature.
fn hard_drive(data: &mut Reader<'_>) -> Result<String, CutShort> {
    let number = data.u32_le()?;
    data.take(16)?;
    let id = Guid::read(data)?;
    Ok(format!("HD({number},GPT,{id})"))
}
