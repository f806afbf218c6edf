//! Which key opens the volume: one of this node's own, or the image's.
//!
//! A LUKS2 token says which: `{"type":"bootkeep","keyslots":["1"],"key_id":"…"}`. Tokens are not authenticated; a wrong one
//! makes a key be tried that does not open the volume, nothing more.

use std::path::{Path, PathBuf};

use bootkeep_tpkd::{luks_key_id, BootstrapKey};
use zeroize::Zeroizing;

use crate::{
    luks::{self, Slots},
    rekey,
};

/// Token of a key of the node's own.
pub(crate) const OWN: &str = "bootkeep";
/// Token of its recovery key.
pub(crate) const RECOVERY: &str = "bootkeep-recovery";
/// Token that is there while keys are being exchanged.
pub(crate) const UNFINISHED: &str = "bootkeep-unfinished";

/// Most block devices that are looked at.
const MAX_DEVICES: usize = 128;
/// Devices that hold no volume, or that take long to say so.
const SKIPPED: [&str; 7] = ["fd", "sr", "ram", "loop", "zram", "dm-", "nbd"];

/// A key of the node's own with its id.
pub(crate) struct OwnKey {
    pub(crate) key: Zeroizing<[u8; 32]>,
    pub(crate) id: String,
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "own key {} (secret)", self.id)
    }
}

impl OwnKey {
    pub(crate) fn of(key: &BootstrapKey, volume: &str) -> Self {
        let key = key.luks_key(volume);
        let id = luks_key_id(&key);
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key, id }
    }
}

/// The keys that may open the volume.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// Newest first.
    pub(crate) own: Vec<OwnKey>,
    pub(crate) image: Option<Zeroizing<Vec<u8>>>,
}

impl Candidates {
    /// The key of the volume that is there now: an own key that a token of some disk names, else the image's, else the
    /// newest own one.
    pub(crate) fn choose(&self, sys_block: &Path, devices: &Path) -> Zeroizing<Vec<u8>> {
        let disks = disks(sys_block, devices);
        let named = self
            .own
            .iter()
            .find(|own| disks.iter().any(|(_, slots)| slots.names(OWN, &own.id)));
        let own = |own: &OwnKey| Zeroizing::new(own.key.to_vec());
        named
            .map(own)
            .or_else(|| self.image.clone())
            .or_else(|| self.own.first().map(own))
            .unwrap_or_default()
    }
}

impl Candidates {
    /// Whether one of the keys opens the volume as far as its header tells. No when a disk's token names an own key of
    /// another K: then the image's key is tried, which is the way back with a recovery key.
    pub(crate) fn fit(&self, sys_block: &Path, devices: &Path, cryptsetup: &Path) -> bool {
        let disks = disks(sys_block, devices);
        let named = |slots: &Slots| self.own.iter().any(|own| slots.names(OWN, &own.id));
        if disks.iter().any(|(_, slots)| named(slots)) {
            return true;
        }
        let mut others = disks.iter().filter(|(_, slots)| slots.token(OWN).is_some());
        let Some((device, _)) = others.next() else {
            return true;
        };
        let opens = |image: &Zeroizing<Vec<u8>>| rekey::opens(cryptsetup, device, image);
        self.image.as_ref().is_some_and(opens)
    }
}

/// The disks of this machine with what their LUKS2 headers say.
fn disks(sys_block: &Path, devices: &Path) -> Vec<(PathBuf, Slots)> {
    let Ok(entries) = std::fs::read_dir(sys_block) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .filter(|name| {
            let name = name.to_string_lossy();
            !SKIPPED.iter().any(|skipped| name.starts_with(skipped))
        })
        .take(MAX_DEVICES)
        .filter_map(|name| {
            let device = devices.join(name);
            luks::slots(&device).ok().map(|slots| (device, slots))
        })
        .collect()
}
