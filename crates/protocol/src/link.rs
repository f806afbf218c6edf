//! The link: one connection the node dials, requests flow towards the node, answers and events back.
//!
//! `GET /v1/link` upgraded to a WebSocket over TLS 1.3; each frame is one JSON text message.
//!
//! ```text
//! verifier → node   hello { version, nonce }
//! node → verifier   open { node_id, phase, boot_id, nk_public, quote }   quote over PCR 15, bound to nonce and exporter
//! verifier → node   accepted {} | refused { problem }
//! verifier → node   request { id, call }
//! node → verifier   reply { id, outcome }     one for each request, in any order
//! node → verifier   event { … }               whenever something happens
//! ```

use serde::{Deserialize, Serialize};

use crate::{
    boot_files::BootFiles,
    kept::{KeepCall, Kept},
    revocation::{RevocationsCall, RevocationsReply},
    BootId, Bytes, NodeId, Nonce, Phase, Problem, Role, ShareId,
};

/// Version of the link's messages.
pub const LINK_VERSION: u32 = 1;

/// The PCR the opening quote covers: the latch.
pub const LATCH_PCR: u8 = 15;

/// From the service to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", deny_unknown_fields)]
pub enum ServerFrame {
    /// First frame of a link.
    Hello {
        /// [`LINK_VERSION`].
        version: u32,
        /// For the opening quote.
        nonce: Nonce,
    },
    /// The node is who it says.
    Accepted {},
    /// It is not, or may not speak now; the link closes.
    Refused {
        /// Why.
        problem: Problem,
    },
    /// A question to the node.
    Request {
        /// Repeated in the reply.
        id: u64,
        /// The question.
        call: Call,
    },
}

/// From the node to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", deny_unknown_fields)]
pub enum NodeFrame {
    /// Answer to [`ServerFrame::Hello`].
    Open(Open),
    /// Answer to one request.
    Reply {
        /// Of the request.
        id: u64,
        /// The answer, or why there is none.
        outcome: Outcome,
    },
    /// Something happened on the node.
    Event {
        /// What.
        event: Event,
    },
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With an answer.
    Ok(Reply),
    /// With a refusal.
    Refused(Problem),
}

/// The node shows that it holds its AK, on this very connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Who.
    pub node_id: NodeId,
    /// Which agent.
    pub phase: Phase,
    /// Label of this boot.
    pub boot_id: BootId,
    /// The node's transport key of this boot: X25519 public key, 32 bytes.
    pub nk_public: Bytes,
    /// Over PCR 15, qualifying data [`crate::link_qualifying_data`].
    pub quote: Quote,
}

/// A TPM quote as the TPM made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// Marshalled `TPMS_ATTEST`.
    pub attest: Bytes,
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: Bytes,
    /// The SHA-256 bank's values the quote's digest is over, in ascending order of index.
    pub pcrs: Vec<PcrValue>,
}

/// One PCR of the SHA-256 bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcrValue {
    /// 0 to 23.
    pub index: u8,
    /// 32 bytes.
    pub digest: Bytes,
}

/// What a node can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "call", deny_unknown_fields)]
pub enum Call {
    /// Give evidence.
    Quote(QuoteCall),
    /// Show once more that AK and EK live in one TPM (the asker does not believe the registrar).
    Activate(ActivateCall),
    /// Take a share.
    Share(ShareCall),
    /// Take what the revocation log says, and acknowledge it. Only for the running system.
    Revocations(RevocationsCall),
    /// Keep this U for the next boot. Only for the running system.
    Keep(KeepCall),
}

/// Ask for evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteCall {
    /// Fresh, used once.
    pub nonce: Nonce,
    /// For whom: part of the qualifying data.
    pub asker: Role,
    /// PCRs of the SHA-256 bank, ascending, not empty.
    pub pcrs: Vec<u8>,
    /// Whether the boot event log is wanted.
    pub event_log: bool,
    /// From which byte of the binary measurement list on; absent: no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ima_offset: Option<u64>,
}

/// Evidence (RFC 9334): a quote and the logs that explain it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Over the PCRs asked for, qualifying data [`crate::quote_qualifying_data`].
    pub quote: Quote,
    /// The node's transport key, 32 bytes; bound by the qualifying data.
    pub nk_public: Bytes,
    /// Label of this boot.
    pub boot_id: BootId,
    /// Which agent answered.
    pub phase: Phase,
    /// Crypto-agile TCG event log (`binary_bios_measurements`), when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Bytes>,
    /// Part of the binary measurement list, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ima: Option<ImaSlice>,
    /// The unified kernel image's signatures of PCR 11 values (`.pcrsig`, JSON), when the event log was asked for and the
    /// image has some; at most [`crate::limits::MAX_PCR_SIGNATURES`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr_signatures: Option<Bytes>,
}

/// Part of `binary_runtime_measurements`; read *after* the quote, so it may hold lines newer than it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImaSlice {
    /// Of the first byte, as asked.
    pub offset: u64,
    /// At most [`crate::limits::MAX_IMA_SLICE`] bytes; may end inside an entry only when that limit was met.
    pub data: Bytes,
}

/// A credential for the node's EK, made by the asker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateCall {
    /// Names the challenge in the proof.
    pub challenge_id: String,
    /// Contents of `TPM2B_ID_OBJECT`.
    pub credential_blob: Bytes,
    /// Contents of `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Bytes,
}

/// Which share of K.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharePart {
    /// The tenant's.
    U,
    /// The verifier's.
    V,
}

impl SharePart {
    /// Who holds it.
    #[must_use]
    pub fn holder(self) -> Role {
        match self {
            Self::U => Role::Tenant,
            Self::V => Role::Verifier,
        }
    }
}

/// A share, wrapped to the NK of the quote its holder has just appraised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareCall {
    /// Which.
    pub part: SharePart,
    /// The nonce of the quote that was appraised; part of the wrapping's context.
    pub nonce: Nonce,
    /// HPKE encapsulated key, 32 bytes.
    pub encapsulated: Bytes,
    /// HPKE ciphertext of the share.
    pub ciphertext: Bytes,
    /// The sealed envelope; comes with V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Bytes>,
    /// For a node that keeps its U; comes with V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Box<Kept>>,
}

/// Answers, one for each [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply", deny_unknown_fields)]
pub enum Reply {
    /// To [`Call::Quote`].
    Quote(Box<Evidence>),
    /// To [`Call::Activate`]: the proof of [`crate::registrar::ActivateRequest`].
    Activate {
        /// `HMAC-SHA256(secret, activation_message)`.
        proof: Bytes,
    },
    /// To [`Call::Share`].
    Share {
        /// Once both shares are there: `confirmation` of [`Event::Combined`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirmation: Option<Bytes>,
    },
    /// To [`Call::Revocations`].
    Revocations(RevocationsReply),
    /// To [`Call::Keep`]: U is in NV.
    Keep {},
}

/// What a node tells without being asked. A node says it, nobody has proved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event", deny_unknown_fields)]
pub enum Event {
    /// The IMA list grew: look at once.
    ImaGrew {
        /// Entries now (`runtime_measurements_count`).
        count: u64,
    },
    /// Both shares came and the envelope opened.
    Combined {
        /// `HMAC(K_confirm, nonce of the share U call || node id)`: only who knows K can make it.
        confirmation: Bytes,
    },
    /// A step of the boot, for the people who watch.
    Progress {
        /// Which.
        step: Step,
        /// CLOCK_BOOTTIME in milliseconds.
        at_ms: u64,
    },
    /// U of this split is in the TPM's NV: older shares V are not needed any more. Only from the initramfs.
    ShareKept {
        /// Which split.
        id: ShareId,
    },
    /// Files of the next boot have changed.
    BootFiles(BootFiles),
    /// A claim about this boot: something the node saw and the owner wants to know.
    Claim(Claim),
}

/// Steps of a boot, in the order they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The agent started.
    Started,
    /// The TPM answered; EK, SRK and AK are there.
    TpmReady,
    /// A network address is there.
    NetworkUp,
    /// The registrar knows the AK.
    Registered,
    /// The link is open.
    Linked,
    /// Both shares came.
    Combined,
    /// PCR 15 is extended.
    Latched,
    /// systemd-cryptsetup has taken the key.
    KeyHandedOver,
    /// The volume is open.
    Unlocked,
    /// The volume has a key of this node alone, the image's key is gone.
    Rekeyed,
    /// U is kept for the next boot.
    ShareKept,
    /// The runtime agent has taken over.
    RuntimeTookOver,
}

/// A claim: a stable code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Kebab-case, stable: `cloud-init-unsealed-part`, `cloud-init-cidata`, `unlocked-by-passphrase` …
    pub code: String,
    /// One line.
    pub detail: String,
}
