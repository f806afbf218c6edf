//! What can happen next. Each is atomic: a write to one durable place, or one message.

use crate::Split;

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The owner's CLI.
    Tenant(TenantAction),
    /// The verifier.
    Verifier(VerifierAction),
    /// The node's own systems.
    Node(NodeAction),
    /// Power cuts, crashes and broken links.
    Fault(Fault),
    /// The attacker.
    Attacker(AttackerAction),
}

/// Steps of the owner's CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantAction {
    /// `provision` or `reinstate`: a new K, its journal written.
    Begin,
    /// `rotate`: likewise.
    BeginRotate,
    /// The enrolment is sent; the verifier stores or refuses it.
    Enrol,
    /// The journal is written without V.
    DropV,
    /// U goes to the initramfs, after the tenant's own appraisal.
    GiveU,
    /// A write of the running system's NV begins: U of a staged K.
    KeepTorn,
    /// It ends, and the journal is removed.
    Keep,
    /// The journal is removed.
    End,
    /// `reinstate` removes what is left of an earlier provisioning.
    Reinstate,
    /// `revoke`.
    Revoke,
}

/// Steps of the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerifierAction {
    /// Appraises the evidence of the boot at the other end of the link.
    Appraise,
    /// Makes a next V for each K set and stores it.
    Prepare,
    /// Sends V.
    Send,
}

/// Steps of the node's own systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeAction {
    /// Power on.
    Start,
    /// The initramfs agent opens a link.
    OpenLink,
    /// K is there: U from NV or from the tenant fits a V.
    Open,
    /// The next step of [`Step`].
    Step(Step),
    /// The acknowledgement cannot be sent; the boot goes on without.
    SkipAck,
    /// Switch-root.
    SwitchRoot,
}

/// What the initramfs agent does once K is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// PCR 15 is extended and the key handed over.
    Unlock,
    /// The header has the own key.
    AddOwn,
    /// A write of the next U begins.
    Torn,
    /// It has ended.
    Written,
    /// Older keys are removed from it.
    KillOld,
    /// The other NV slots are removed.
    Wipe,
    /// The verifier hears which U is kept.
    Ack,
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The node loses power, or is reset.
    PowerCut,
    /// The verifier crashes, or the link breaks.
    LinkLost,
}

/// Steps of the attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttackerAction {
    /// Copies the verifier's database, with its key.
    CopyVerifier,
    /// Copies the owner's home.
    CopyTenant,
    /// Breaks the TPM open and reads NV.
    ExtractNv,
    /// Boots his own system on the node.
    BootRogue,
    /// From there opens a link.
    OpenLink,
    /// Reads NV through the TPM.
    ReadNv,
    /// Clears the TPM.
    Clear,
    /// Acknowledges a split whose V he knows.
    ForgeAck(Split),
    /// Opens a recorded message.
    OpenRecorded,
}
