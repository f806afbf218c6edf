//! How large a model is, and which of the product's checks it has.

/// A model's size and checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What may happen, and how often.
    pub bounds: Bounds,
    /// The product's checks.
    pub guards: Guards,
}

/// Bounds keep the number of states finite. Reboots, power cuts, crashes and rotations are not bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Values of K that can be told apart at one time; at most [`crate::MAX_KEYS`].
    pub keys: u8,
    /// Shares V of one K set (the product: `MAX_KEPT_SHARES`).
    pub shares: usize,
    /// K sets of one node (the product: `MAX_KEY_SETS`).
    pub sets: usize,
    /// Copies the attacker may take, of the verifier's database, the tenant's files or the TPM's NV.
    pub copies: u8,
    /// Whether the tenant provisions a node again that is already provisioned.
    pub again: bool,
    /// Whether the tenant rotates K.
    pub rotate: bool,
    /// Whether the attacker boots a system of his own on the node, and has root in the running one.
    pub rogue: bool,
    /// Whether links break and the verifier crashes on their own, not only with the node's power.
    pub crashes: bool,
    /// Revocations, by the tenant or for refused evidence.
    pub revocations: u8,
}

macro_rules! guards {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One value for each check or order of writes. [`Guards::all`] is the product as it is meant to be; a model without one shows what
        /// the check is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Guards {
            $($(#[doc = $doc])+ pub $name: bool,)+
        }

        impl Guards {
            /// The product.
            #[must_use]
            pub fn all() -> Self {
                Self { $($name: true,)+ }
            }

            /// Their names.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// The product without the check of this name; nothing for an unknown name.
            #[must_use]
            pub fn without(name: &str) -> Option<Self> {
                let mut guards = Self::all();
                match name {
                    $(stringify!($name) => guards.$name = false,)+
                    _ => return None,
                }
                Some(guards)
            }
        }
    };
}

guards! {
    /// The verifier appraises a boot before it sends V.
    verifier_appraises,
    /// A good verdict is good for the boot it was made of, not for the next.
    verdict_of_this_boot,
    /// Appraisal demands that PCR 15 is not latched.
    latch_appraised,
    /// The tenant appraises for itself before it sends U.
    tenant_appraises,
    /// Shares are wrapped to a key that is made anew in each boot.
    key_of_this_boot,
    /// NV opens only while the PCRs have values that the owner has signed.
    nv_needs_policy,
    /// NV opens only while PCR 15 is not latched.
    nv_needs_unlatched,
    /// V is not sent for a node that is revoked or whose evidence was refused.
    revoked_looked_at,
    /// The verifier stores the next V durably before it sends it.
    next_is_durable,
    /// The verifier keeps the old V until the node has acknowledged the next.
    drop_after_ack,
    /// The verifier does drop the old V then.
    old_v_dropped,
    /// An acknowledgement counts only on a link whose boot was appraised and to which that V was sent.
    ack_on_appraised_link,
    /// An enrolment never drops a K set whose V was sent and whose use the node has neither shown nor ruled out, and
    /// nothing is staged beside one.
    used_set_not_replaced,
    /// An enrolment that is not staged keeps the older K sets, to find the volume's present key.
    older_sets_kept,
    /// The node writes the next U into an NV slot that this boot has not used.
    next_in_free_slot,
    /// The runtime agent writes the U of a staged K into a slot of its own.
    keep_in_own_slot,
    /// The own key is in the header before an older key is removed.
    add_before_kill,
    /// The next U is in NV before an older key is removed from the header.
    keep_before_kill,
    /// The node acknowledges only after the header has its own key.
    ack_after_rekey,
    /// The node removes older U from NV once the next is there.
    old_slots_wiped,
    /// The tenant's journal is without V as soon as the verifier has it. Not in the product yet: `docs/model.md`.
    journal_drops_v,
    /// The tenant keeps its journal, with U, until the node has acknowledged.
    journal_until_kept,
    /// The tenant keeps an older recovery key until the node has acknowledged the newer K.
    recovery_kept,
}
