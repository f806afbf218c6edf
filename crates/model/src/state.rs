//! The state of a node, its verifier, its tenant and an attacker.

use std::collections::BTreeSet;

use crate::{
    knowledge::Knowledge,
    share::{MAX_KEYS, MAX_SPLITS},
    Split,
};

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The owner's files.
    pub tenant: Tenant,
    /// The verifier: database and memory.
    pub verifier: Verifier,
    /// The node: TPM, disk and memory.
    pub node: Node,
    /// What the attacker has, and what must be remembered of how he came to it.
    pub attacker: Attacker,
}

/// The owner's home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// A provisioning or rotation under way.
    pub journal: Option<Journal>,
    /// The K whose recovery keys are kept, sealed to the offline key.
    pub recovery: BTreeSet<u8>,
}

/// `provisioning.json`: written before anything that depends on it leaves the owner's machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Journal {
    /// The split that was made.
    pub split: Split,
    /// A `rotate`; otherwise a provisioning.
    pub staged: bool,
    /// Whether V is still in it.
    pub has_v: bool,
    /// Whether the verifier has stored the enrolment.
    pub enrolled: bool,
}

/// One K with its shares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySet {
    /// Which K.
    pub key: u8,
    /// Numbers of the splits whose V is there, oldest first.
    pub shares: Vec<u8>,
    /// Whether the node may boot with it; otherwise it only serves to find the volume's present key.
    pub boots: bool,
    /// Whether a V of it was sent since the node last showed that it uses an older K.
    pub sent: bool,
}

/// The verifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verifier {
    /// Durable: K sets, oldest first.
    pub sets: Vec<KeySet>,
    /// Durable: the K the node has last acknowledged.
    pub kept: Option<u8>,
    /// Durable: revoked, or evidence was refused.
    pub revoked: bool,
    /// Remembered: how often.
    pub revocations: u8,
    /// Remembered: the owner has revoked, which deletes every V.
    pub erased: bool,
    /// Durable: the last verdict about a boot was good.
    pub verdict: bool,
    /// In memory: the link of an initramfs.
    pub session: Option<Session>,
}

/// A link and what was done over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// This boot was appraised and is good.
    pub appraised: bool,
    /// The next V of each K set, once they are stored.
    pub next: Option<Vec<Split>>,
    /// Those of them that were made for this link, not used again.
    pub fresh: Vec<Split>,
    /// Every split whose V was sent.
    pub sent: Vec<Split>,
}

/// NV indices that the initramfs writes in turn: 0 and 1.
pub const TURNS: usize = 2;
/// The NV index that the running system writes.
pub const STAGED: usize = 2;

/// One NV index (the product: `KeptSlot`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Nothing, or wiped.
    #[default]
    Empty,
    /// A write was cut.
    Torn,
    /// U of this split.
    Kept(Split),
}

/// What opens the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderKey {
    /// The image's key: in every envelope.
    Image,
    /// Derived from this K; a recovery key of the same K stands beside it.
    Own(u8),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// In the TPM.
    pub nv: [Slot; 3],
    /// Whether somebody has cleared the TPM.
    pub cleared: bool,
    /// On the disk: key slots of the LUKS header.
    pub header: BTreeSet<HeaderKey>,
    /// What runs.
    pub boot: Option<Boot>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            nv: [Slot::Empty; 3],
            cleared: false,
            header: [HeaderKey::Image].into(),
            boot: None,
        }
    }
}

/// What a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// What the owner's policies accept.
    Ours,
    /// Anything else.
    Rogue,
}

/// One boot, in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Boot {
    /// Which system.
    pub system: System,
    /// After switch-root.
    pub running: bool,
    /// PCR 15.
    pub latched: bool,
    /// Whether the volume is open.
    pub unlocked: bool,
    /// Remembered: the node was revoked when this boot began.
    pub began_revoked: bool,
    /// U from the tenant.
    pub share_u: Option<Split>,
    /// The verifier's message with V.
    pub offer: Option<Offer>,
    /// The split that gave K.
    pub used: Option<Split>,
    /// The split to be acknowledged.
    pub kept: Option<Split>,
    /// Steps done after K was there.
    pub done: u8,
}

/// What comes with V: the verifier's K sets, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// K sets.
    pub sets: Vec<OfferedSet>,
}

/// One K set in the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OfferedSet {
    /// Which K.
    pub key: u8,
    /// Splits, oldest first.
    pub shares: Vec<u8>,
    /// For the next U.
    pub next: u8,
    /// As in [`KeySet::boots`].
    pub boots: bool,
}

/// The attacker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attacker {
    /// What he can compute.
    pub knowledge: Knowledge,
    /// Copies taken so far.
    pub copies: u8,
    /// Remembered: he has had something of the holder of U (the owner's files or the TPM).
    pub took_u: bool,
    /// Remembered: he has had something of the holder of V.
    pub took_v: bool,
    /// Remembered: K whose V (U) he took, with no rotation begun since.
    pub new_v: u8,
    /// Of U.
    pub new_u: u8,
    /// Remembered: K whose V (U) he took before a rotation began that has not ended yet.
    pub aging_v: u8,
    /// Of U.
    pub aging_u: u8,
    /// Remembered: K of which he had both at one time.
    pub matched: u8,
    /// Remembered: a V was given to a system that was not appraised as it is.
    pub v_released: bool,
    /// Remembered: a U was given to a system that was not appraised as it is.
    pub u_released: bool,
    /// Messages with V he recorded; only where their wrapping does not change from boot to boot.
    pub recorded: BTreeSet<Split>,
}

impl State {
    /// A number for a new split of this K: the smallest that nothing depends on. Two splits that nothing depends on cannot
    /// be told apart, so numbers may be used again.
    pub(crate) fn fresh_split(&self, key: u8) -> Option<Split> {
        (0..MAX_SPLITS)
            .map(|number| Split { key, number })
            .find(|split| !self.mentions(*split))
    }

    /// A number for a new K, likewise.
    pub(crate) fn fresh_key(&self, keys: u8) -> Option<u8> {
        (0..keys.min(MAX_KEYS)).find(|key| !self.mentions_key(*key))
    }

    fn mentions(&self, split: Split) -> bool {
        self.splits().contains(&split)
            || self.attacker.knowledge.mentions(split)
            || self.attacker.recorded.contains(&split)
    }

    fn mentions_key(&self, key: u8) -> bool {
        self.splits().iter().any(|split| split.key == key)
            || self.verifier.sets.iter().any(|set| set.key == key)
            || self.verifier.kept == Some(key)
            || self.tenant.recovery.contains(&key)
            || self.node.header.contains(&HeaderKey::Own(key))
            || self.attacker.knowledge.mentions_key(key)
            || self.attacker.recorded.iter().any(|split| split.key == key)
    }

    /// Every split that something depends on, the verifier's first; some more than once.
    pub(crate) fn splits(&self) -> Vec<Split> {
        let mut found = Vec::new();
        found.extend(self.verifier.sets.iter().flat_map(KeySet::splits));
        found.extend(self.tenant.journal.iter().map(|journal| journal.split));
        if let Some(session) = &self.verifier.session {
            found.extend(session.next.iter().flatten());
            found.extend(&session.sent);
        }
        found.extend(self.node.nv.iter().filter_map(|slot| slot.split()));
        if let Some(boot) = &self.node.boot {
            found.extend([boot.share_u, boot.used, boot.kept].iter().flatten());
            found.extend(boot.offer.iter().flat_map(Offer::splits));
        }
        found
    }
}

impl KeySet {
    pub(crate) fn splits(&self) -> impl Iterator<Item = Split> + '_ {
        self.shares.iter().map(|number| Split {
            key: self.key,
            number: *number,
        })
    }
}

impl Offer {
    /// Whether V of this split came.
    pub(crate) fn has(&self, split: Split) -> bool {
        let set = self.sets.iter().find(|set| set.key == split.key);
        set.is_some_and(|set| set.shares.contains(&split.number))
    }

    pub(crate) fn splits(&self) -> impl Iterator<Item = Split> + '_ {
        self.sets.iter().flat_map(OfferedSet::splits)
    }
}

impl OfferedSet {
    /// Those of the set and the next.
    pub(crate) fn splits(&self) -> impl Iterator<Item = Split> + '_ {
        self.shares.iter().chain([&self.next]).map(|number| Split {
            key: self.key,
            number: *number,
        })
    }
}

impl Slot {
    pub(crate) fn split(&self) -> Option<Split> {
        match self {
            Self::Kept(split) => Some(*split),
            Self::Empty | Self::Torn => None,
        }
    }
}

impl Boot {
    pub(crate) fn of(system: System, revoked: bool) -> Self {
        Self {
            system,
            running: false,
            latched: false,
            unlocked: false,
            began_revoked: revoked,
            share_u: None,
            offer: None,
            used: None,
            kept: None,
            done: 0,
        }
    }
}
