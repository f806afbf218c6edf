//! The boot policy document, version 2: rules in words that survive updates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{pattern::Pattern, v1::EventRule};
use crate::{appraise::UnsafeClock, digest::Digest32};

/// A boot policy of version 2. A rule that is not there asks for nothing; a policy without rules accepts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePolicy {
    /// 2.
    pub version: u32,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Secure Boot's state (PCR 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBoot>,
    /// The platform key (PCR 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_key: Option<KeyRule>,
    /// The key exchange keys (PCR 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_exchange_keys: Option<KeyRule>,
    /// Whose images start (PCR 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db: Option<KeyRule>,
    /// What must not start (PCR 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbx: Option<KeyRule>,
    /// What shim must refuse (PCR 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbat: Option<SbatRule>,
    /// The images the firmware and the boot loaders started, in their order (PCR 4, signers by PCR 7).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_stages: Vec<StageRule>,
    /// Firmware that is accepted: any one of these (PCR 0 and 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<FirmwareRule>,
    /// What GRUB ran and read (PCR 8 and 9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grub: Option<GrubRule>,
    /// The kernel's command line (PCR 8, 9, 12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_command_line: Option<CommandLineRule>,
    /// Accepted initramfs images (PCR 9).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initrd: Vec<Listed>,
    /// A unified kernel image (PCR 11, 12, 13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<UkiRule>,
    /// Accepted values by PCR, as in version 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pcrs: BTreeMap<u8, Vec<Digest32>>,
    /// Accepted events by PCR, as in version 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<u8, Vec<EventRule>>,
    /// Whether PCRs 0 to 7 must each be handed over by the firmware exactly once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub separators: Separators,
    /// What becomes of events that no rule knows, by PCR. Not named: refused where a rule lists what there may be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unlisted_events: BTreeMap<u8, Unlisted>,
    /// About a boot after the power went without a shutdown.
    #[serde(default, skip_serializing_if = "UnsafeClock::is_default")]
    pub unsafe_clock: UnsafeClock,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Secure Boot's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecureBoot {
    /// On, and shim verifies, too.
    Required,
    /// Either; PCR 7 must still be well-formed.
    Any,
}

/// Events that no rule knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlisted {
    /// The boot is refused.
    Refuse,
    /// They may be.
    Accept,
}

/// Separators of PCRs 0 to 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Separators {
    /// One each, without error.
    #[default]
    Required,
    /// Not looked at.
    Accept,
}

/// A digest, alone or with a note for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ListedForm", into = "ListedForm")]
pub struct Listed {
    /// SHA-256.
    pub digest: Digest32,
    /// For people.
    pub note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ListedForm {
    Digest(Digest32),
    Noted(EventRule),
}

impl From<ListedForm> for Listed {
    fn from(form: ListedForm) -> Self {
        let (digest, note) = match form {
            ListedForm::Digest(digest) => (digest, String::new()),
            ListedForm::Noted(EventRule { digest, note }) => (digest, note),
        };
        Self { digest, note }
    }
}

impl From<Listed> for ListedForm {
    fn from(Listed { digest, note }: Listed) -> Self {
        if note.is_empty() {
            Self::Digest(digest)
        } else {
            Self::Noted(EventRule { digest, note })
        }
    }
}

/// The contents of a key database. An entry is named by the fingerprint of its certificate (SHA-256 of the DER form),
/// or by the digest it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    /// If given, every entry must be one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<Listed>>,
    /// Entries that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<Listed>,
}

/// The floor of shim's `SbatLevel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SbatRule {
    /// Not older than this, `YYYYMMDDnn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<u64>,
    /// Least generation by component.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, u32>,
}

/// One image of the boot chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRule {
    /// For people and reasons: `shim`, `grub`, `systemd-boot`, `uki`, `linux`.
    pub name: String,
    /// What makes it acceptable.
    pub any_of: Vec<StageSource>,
    /// Whether it may be missing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// Whether it may start before the firmware hands over (a kernel given to QEMU with `-kernel` does).
    #[serde(default, skip_serializing_if = "is_default")]
    pub before_separator: bool,
}

/// What PCR 11 says of the kernel in a unified kernel image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pcr11 {
    /// A key of the rule `uki.signed` signed its value.
    Signed,
}

/// A digest, a signer, or the signature of PCR 11: exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSource {
    /// Authenticode SHA-256 of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest32>,
    /// What verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerRule>,
    /// For the kernel inside a unified kernel image: systemd-stub, which an earlier stage vouches for, starts what it has
    /// measured into PCR 11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr11: Option<Pcr11>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A certificate of a key database by which an image was verified. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerRule {
    /// SHA-256 of its DER form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Digest32>,
    /// Its subject, RFC 4514.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its issuer, RFC 4514.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The database it is in: `db`, `Shim`, `vendor_db`, `MokList`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One accepted firmware. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareRule {
    /// Vendor and model, for people and reasons.
    pub name: String,
    /// Its version, by its own word (`EV_S_CRTM_VERSION`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Pattern>,
    /// Values of PCR 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcr0: Vec<Digest32>,
    /// Values of PCR 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcr2: Vec<Digest32>,
}

/// What GRUB ran and read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrubRule {
    /// Commands (PCR 8), each as GRUB measures it: words parted by one space.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Pattern>,
    /// Files (PCR 9).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRule>,
}

/// A file GRUB reads. PCR 9 covers contents and no names: a listed digest passes under any name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// A glob, for people and reasons.
    pub path: String,
    /// SHA-256 of the contents.
    pub digests: Vec<Listed>,
}

/// Parameters of the kernel's command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandLineRule {
    /// Must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Pattern>,
    /// Must not be there, beside those that are refused by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<Pattern>,
    /// If given, what is neither required nor one of these is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Pattern>>,
    /// Lifts a default refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permit: Vec<Pattern>,
    /// Whole command lines, for boots whose log holds only the digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exact: Vec<String>,
}

/// A unified kernel image with systemd-stub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UkiRule {
    /// Accepted contents by section (PCR 11); if given, all of these sections and no others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sections: BTreeMap<String, Vec<Listed>>,
    /// PCR 11 must have a value that a key signed (systemd-measure, `.pcrsig`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRule>,
    /// How far a boot may have come.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phases: PhaseRule,
    /// Accepted credentials and configuration extensions (PCR 12), by the digest of their archives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Listed>,
    /// Accepted system extensions (PCR 13), by the digest of their archives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Listed>,
}

/// Values of PCR 11 that a key signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRule {
    /// RSA public keys, PEM.
    pub keys: Vec<String>,
    /// Contents of `.pcrsig` sections: by bank a list of signatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<BTreeMap<String, Vec<PcrSignature>>>,
}

/// One signature, as systemd-measure writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcrSignature {
    /// Which PCRs: only `[11]` is used.
    pub pcrs: Vec<u8>,
    /// Fingerprint of the key: not relied on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pkfp: String,
    /// The policy digest, hex.
    pub pol: Digest32,
    /// The signature over it, Base64.
    pub sig: String,
}

/// Phases (systemd-pcrphase) by state of the node, each as systemd-measure writes them: words parted by colons, empty
/// for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseRule {
    /// In the initramfs, before the volume is opened.
    #[serde(default = "initramfs_phases")]
    pub initramfs: Vec<String>,
    /// Afterwards.
    #[serde(default = "running_phases")]
    pub running: Vec<String>,
}

fn initramfs_phases() -> Vec<String> {
    vec![String::new(), "enter-initrd".to_owned()]
}

fn running_phases() -> Vec<String> {
    let words = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
    (0..=words.len())
        .filter_map(|count| words.get(..count))
        .map(|words| words.join(":"))
        .collect()
}

impl Default for PhaseRule {
    fn default() -> Self {
        Self {
            initramfs: initramfs_phases(),
            running: running_phases(),
        }
    }
}
