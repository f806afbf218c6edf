//! The header of the volume that was opened: its key slots must be encrypted, all of it must be.
//!
//! Whoever can write to the disk can give it a LUKS2 header whose key slot is not encrypted, and which some cryptsetup
//! therefore open with whatever key they are given (CVE-2025-59054), or a header that passes a part of the disk through
//! in clear. A volume like that is not the owner's, though it took the owner's key. So the header is read once the volume
//! is open, at the very device that it was opened from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Length of the binary header; the JSON area follows (LUKS2 specification 1.1, section 2.1).
const BINARY: usize = 4096;
/// Largest header with its JSON area (bytes).
const MAX_HEADER: u64 = 4 * 1024 * 1024;
const CHECKSUM: std::ops::Range<usize> = 0x1c0..0x200;
const PRIMARY: &[u8] = b"LUKS\xba\xbe";
const SECONDARY: &[u8] = b"SKUL\xba\xbe";
const CIPHERS: [&str; 4] = ["aes", "serpent", "twofish", "camellia"];

/// Why the opened volume is not one that only the owner's key opens.
#[derive(Debug, thiserror::Error)]
pub enum LuksProblem {
    /// The device or what it was opened from cannot be read.
    #[error("the header cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No single device below the volume.
    #[error("the volume does not lie on exactly one device")]
    Device,
    /// Not LUKS, version 2.
    #[error("it is not LUKS, version 2 ({0}); convert it: cryptsetup convert --type luks2")]
    Version(&'static str),
    /// The copies of the header are not both whole.
    #[error("a copy of its header is damaged ({0}); repair it: cryptsetup repair")]
    Damaged(&'static str),
    /// What the header says.
    #[error("its header allows more than the owner's key: {0}")]
    Weak(String),
}

/// Finds the device below an open volume.
pub(crate) fn lower_device(
    volume: &Path,
    sys_block: &Path,
    devices: &Path,
) -> Result<PathBuf, LuksProblem> {
    let node = fs::canonicalize(volume)?;
    let name = node.file_name().ok_or(LuksProblem::Device)?;
    let below: Vec<_> =
        fs::read_dir(sys_block.join(name).join("slaves"))?.collect::<io::Result<_>>()?;
    match below.as_slice() {
        [one] => Ok(devices.join(one.file_name())),
        _ => Err(LuksProblem::Device),
    }
}

/// Reads both copies of the header and judges what they say.
pub(crate) fn check(device: &Path) -> Result<(), LuksProblem> {
    let disk = File::open(device)?;
    let primary = read(&disk, 0, PRIMARY)?;
    let secondary = read(&disk, primary.len() as u64, SECONDARY)?;
    for copy in [&primary, &secondary] {
        judge(copy)?;
    }
    Ok(())
}

/// What the key slots of a volume are for.
#[derive(Debug)]
pub(crate) struct Slots {
    used: BTreeSet<u32>,
    tokens: Vec<NumberedToken>,
}

/// A token: a note in the header about key slots.
#[derive(Clone, Debug)]
pub(crate) struct NumberedToken {
    pub(crate) number: u32,
    kind: String,
    pub(crate) keyslots: Vec<u32>,
    key_id: String,
}

impl Slots {
    /// Whether a token of this kind names a slot for the key with this id.
    pub(crate) fn names(&self, kind: &str, key_id: &str) -> bool {
        let named = |token: &NumberedToken| {
            token.kind == kind
                && token.key_id == key_id
                && token.keyslots.iter().any(|slot| self.is_used(*slot))
        };
        self.tokens.iter().any(named)
    }

    /// The tokens of this kind for other keys.
    pub(crate) fn others(&self, kind: &str, key_id: &str) -> Vec<NumberedToken> {
        let other = |token: &&NumberedToken| token.kind == kind && token.key_id != key_id;
        self.tokens.iter().filter(other).cloned().collect()
    }

    /// The number of the first token of this kind.
    pub(crate) fn token(&self, kind: &str) -> Option<u32> {
        let token = self.tokens.iter().find(|token| token.kind == kind)?;
        Some(token.number)
    }

    pub(crate) fn is_used(&self, slot: u32) -> bool {
        self.used.contains(&slot)
    }
}

/// Reads what the first copy of the header says about key slots. Nothing is judged.
pub(crate) fn slots(device: &Path) -> Result<Slots, LuksProblem> {
    let metadata = metadata(&read(&File::open(device)?, 0, PRIMARY)?)?;
    let number = |text: &String| text.parse().ok();
    let token = |(name, token): (&String, &Token)| {
        Some(NumberedToken {
            number: number(name)?,
            kind: token.kind.clone(),
            keyslots: token.keyslots.iter().filter_map(number).collect(),
            key_id: token.key_id.clone(),
        })
    };
    Ok(Slots {
        used: metadata.keyslots.keys().filter_map(number).collect(),
        tokens: metadata.tokens.iter().filter_map(token).collect(),
    })
}

/// One copy with its JSON area, its checksum verified.
fn read(disk: &File, offset: u64, magic: &[u8]) -> Result<Vec<u8>, LuksProblem> {
    let mut binary = vec![0; BINARY];
    disk.read_exact_at(&mut binary, offset)?;
    if !binary.starts_with(magic) {
        return Err(match offset {
            0 => LuksProblem::Version("another format"),
            _ => LuksProblem::Damaged("the second one is not where it must be"),
        });
    }
    if binary[6..8] != [0, 2] {
        return Err(LuksProblem::Version("an older version"));
    }
    let mut size = [0; 8];
    size.copy_from_slice(&binary[8..16]);
    let size = u64::from_be_bytes(size);
    if size <= BINARY as u64 || size > MAX_HEADER {
        return Err(LuksProblem::Damaged("its size"));
    }
    let mut copy = vec![0; usize::try_from(size).map_err(|_| LuksProblem::Damaged("its size"))?];
    disk.read_exact_at(&mut copy, offset)?;
    let written = copy[CHECKSUM].to_vec();
    copy[CHECKSUM].fill(0);
    let named_sha256 = copy[0x48..0x68].starts_with(b"sha256\0");
    if !named_sha256 || written[..32] != *Sha256::digest(&copy) {
        return Err(LuksProblem::Damaged("its checksum"));
    }
    Ok(copy)
}

/// What of the metadata decides who can open the volume and what is read from it.
#[derive(Deserialize)]
struct Metadata {
    keyslots: BTreeMap<String, KeySlot>,
    segments: BTreeMap<String, Segment>,
    config: Config,
    #[serde(default)]
    tokens: BTreeMap<String, Token>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    keyslots: Vec<String>,
    #[serde(default)]
    key_id: String,
}

#[derive(Deserialize)]
struct KeySlot {
    #[serde(rename = "type")]
    kind: String,
    area: Area,
}

#[derive(Deserialize)]
struct Area {
    #[serde(default)]
    encryption: String,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    encryption: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    requirements: Requirements,
}

#[derive(Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

fn metadata(copy: &[u8]) -> Result<Metadata, LuksProblem> {
    let area = copy.get(BINARY..).unwrap_or_default();
    let end = area.iter().position(|&byte| byte == 0);
    let text = &area[..end.unwrap_or(area.len())];
    serde_json::from_slice(text).map_err(|_| LuksProblem::Damaged("its JSON area"))
}

fn judge(copy: &[u8]) -> Result<(), LuksProblem> {
    let metadata = metadata(copy)?;
    for (number, slot) in &metadata.keyslots {
        if slot.kind != "luks2" || !is_encryption(&slot.area.encryption) {
            return Err(LuksProblem::Weak(format!(
                "key slot {number} ({}, {:?})",
                slot.kind, slot.area.encryption
            )));
        }
    }
    let mut segments = metadata.segments.iter();
    let (Some((_, segment)), None) = (segments.next(), segments.next()) else {
        return Err(LuksProblem::Weak("more than one data segment".into()));
    };
    if segment.kind != "crypt" || !is_encryption(&segment.encryption) {
        return Err(LuksProblem::Weak(format!(
            "its data segment ({}, {:?})",
            segment.kind, segment.encryption
        )));
    }
    match metadata.config.requirements.mandatory.first() {
        Some(requirement) => Err(LuksProblem::Weak(format!("it demands {requirement:?}"))),
        None => Ok(()),
    }
}

/// `CIPHER-MODE-IV` with a real cipher; the kernel's own notation (`capi:…`) is not needed for a root volume.
fn is_encryption(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(cipher, _)| CIPHERS.contains(&cipher))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A volume as the system's own cryptsetup makes it.
    fn volume() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (disk, key) = (folder.path().join("disk"), folder.path().join("key"));
        File::create(&disk).unwrap().set_len(20 << 20).unwrap();
        fs::write(&key, "key").unwrap();
        let made = Command::new("cryptsetup")
            .args(["luksFormat", "--type", "luks2", "--batch-mode"])
            .args(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"])
            .args([&disk, &key])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        (folder, disk)
    }

    /// Changes the metadata of one copy and mends its checksum.
    fn change(disk: &Path, offset: usize, change: impl Fn(&mut serde_json::Value)) {
        let mut bytes = fs::read(disk).unwrap();
        let size = u64::from_be_bytes(bytes[8..16].try_into().unwrap()) as usize;
        let copy = &mut bytes[offset..offset + size];
        let end = copy[BINARY..].iter().position(|&byte| byte == 0).unwrap();
        let mut json = serde_json::from_slice(&copy[BINARY..BINARY + end]).unwrap();
        change(&mut json);
        copy[BINARY..].fill(0);
        let text = serde_json::to_vec(&json).unwrap();
        copy[BINARY..BINARY + text.len()].copy_from_slice(&text);
        copy[CHECKSUM].fill(0);
        let sum = Sha256::digest(&*copy);
        copy[CHECKSUM.start..CHECKSUM.start + 32].copy_from_slice(&sum);
        fs::write(disk, bytes).unwrap();
    }

    #[test]
    fn a_header_that_cryptsetup_made_is_good() {
        let (_folder, disk) = volume();
        check(&disk).unwrap();
        change(&disk, 0, |_| {});
        check(&disk).unwrap();
    }

    #[test]
    fn headers_that_allow_more_than_the_key_are_refused_in_either_copy() {
        type Change = fn(&mut serde_json::Value);
        let changes: [(&str, Change); 7] = [
            ("null key slot", |json| {
                json["keyslots"]["0"]["area"]["encryption"] = "cipher_null-ecb".into();
            }),
            ("null key slot in the kernel's notation", |json| {
                json["keyslots"]["0"]["area"]["encryption"] = "capi:ecb(cipher_null)-null".into();
            }),
            ("second key slot of another kind", |json| {
                json["keyslots"]["1"] = json["keyslots"]["0"].clone();
                json["keyslots"]["1"]["type"] = "reencrypt".into();
            }),
            ("data in clear", |json| {
                json["segments"]["0"]["encryption"] = "cipher_null-ecb".into();
            }),
            ("linear data", |json| {
                json["segments"]["0"]["type"] = "linear".into();
            }),
            ("a second segment", |json| {
                json["segments"]["1"] = json["segments"]["0"].clone();
            }),
            ("reencryption under way", |json| {
                json["config"]["requirements"]["mandatory"] =
                    serde_json::json!(["online-reencrypt"]);
            }),
        ];
        for (name, make) in changes {
            for second in [false, true] {
                let (_folder, disk) = volume();
                change(&disk, if second { 16384 } else { 0 }, make);
                let checked = check(&disk);
                assert!(
                    matches!(checked, Err(LuksProblem::Weak(_))),
                    "{name}, second copy: {second}: {checked:?}"
                );
            }
        }
    }

    #[test]
    fn damaged_and_foreign_headers_are_refused() {
        let (_folder, disk) = volume();
        let good = fs::read(&disk).unwrap();
        for (name, at, byte) in [
            ("magic", 0, b'X'),
            ("version", 7, 1),
            ("size", 9, 0xff),
            ("checksum", 0x1c0, good[0x1c0] ^ 1),
            ("metadata", BINARY + 3, good[BINARY + 3] ^ 1),
            ("second magic", 16384, b'X'),
            ("second metadata", 16384 + BINARY + 3, good[BINARY + 3] ^ 1),
        ] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            fs::write(&disk, bytes).unwrap();
            assert!(check(&disk).is_err(), "{name}");
        }
        fs::write(&disk, "short").unwrap();
        assert!(matches!(check(&disk), Err(LuksProblem::Io(_))));
    }

    #[test]
    fn the_device_below_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (mapper, sys) = (folder.path().join("mapper"), folder.path().join("sys"));
        fs::create_dir_all(&mapper).unwrap();
        fs::create_dir_all(sys.join("dm-3/slaves/vda2")).unwrap();
        fs::write(folder.path().join("dm-3"), "").unwrap();
        std::os::unix::fs::symlink("../dm-3", mapper.join("root")).unwrap();
        let found = lower_device(&mapper.join("root"), &sys, Path::new("/dev"));
        assert_eq!(found.unwrap(), Path::new("/dev/vda2"));
        fs::create_dir(sys.join("dm-3/slaves/vdb")).unwrap();
        assert!(matches!(
            lower_device(&mapper.join("root"), &sys, Path::new("/dev")),
            Err(LuksProblem::Device)
        ));
    }
}
