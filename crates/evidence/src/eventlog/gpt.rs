//! `UEFI_GPT_DATA` (§10.2.8), measured into PCR 5.

use super::{guid::Guid, text::shown, ClaimError, Covered};
use crate::reader::{CutShort, Reader};

/// Most partitions.
const MAX_PARTITIONS: u64 = 256;
const ENTRY: usize = 128;

/// The partition table of the disk that was booted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTable {
    /// The disk.
    pub disk: Guid,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What for.
    pub kind: Guid,
    /// Which.
    pub id: Guid,
    /// Its name.
    pub name: String,
}

impl PartitionTable {
    pub(super) fn read(covered: Covered<'_>) -> Result<Self, ClaimError> {
        let cut = |_: CutShort| ClaimError::Malformed("the UEFI_GPT_DATA is cut short");
        let mut reader = Reader::new(covered.bytes());
        // EFI_PARTITION_TABLE_HEADER is 92 bytes, the disk's GUID is at 56.
        reader.take(56).map_err(cut)?;
        let disk = Guid::read(&mut reader).map_err(cut)?;
        reader.take(20).map_err(cut)?;
        let count = reader.u64_le().map_err(cut)?;
        if count > MAX_PARTITIONS {
            return Err(ClaimError::Malformed("more partitions than the limit"));
        }
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(partition(reader.take(ENTRY).map_err(cut)?).map_err(cut)?);
        }
        Ok(Self { disk, partitions })
    }
}

/// `EFI_PARTITION_ENTRY`: type, id, first and last block, attributes, name.
fn partition(entry: &[u8]) -> Result<Partition, CutShort> {
    let mut reader = Reader::new(entry);
    let (kind, id) = (Guid::read(&mut reader)?, Guid::read(&mut reader)?);
    reader.take(24)?;
    let name = shown(reader.rest());
    Ok(Partition { kind, id, name })
}
