//! What is told.

use bootkeep_protocol::{
    dsse::Envelope,
    revocation::{Action, Entry},
    verifier::{NodeStatus, Reason, State},
    NodeId,
};
use serde::{Deserialize, Serialize};

use crate::{clock::now_ms, error::VerifierError};

const VERSION: u32 = 1;

/// What a target can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Attestations are good again, or for the first time.
    Trusted,
    /// Evidence was refused.
    Untrusted,
    /// Trust ran out, the link is there.
    Stale,
    /// Trust ran out, no link is there.
    Unreachable,
    /// The revocation log has an entry against it.
    Revoked,
    /// The revocation log has taken it back.
    Reinstated,
}

impl EventKind {
    /// The word in JSON and in the header.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
            Self::Revoked => "revoked",
            Self::Reinstated => "reinstated",
        }
    }

    /// Of a state that a node has come to. The tenant's own acts and a boot under way are told by nobody; a revoked node
    /// is told of with its signed entry.
    pub(super) fn of_state(state: State) -> Option<Self> {
        match state {
            State::Trusted => Some(Self::Trusted),
            State::Untrusted => Some(Self::Untrusted),
            State::Stale => Some(Self::Stale),
            State::Unreachable => Some(Self::Unreachable),
            State::Waiting | State::BootTrusted | State::Revoked => None,
        }
    }
}

/// The body of a webhook.
#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    id: &'a str,
    event: EventKind,
    at_ms: u64,
    node_id: &'a NodeId,
    label: &'a str,
    reasons: &'a [Reason],
    /// The signed entry, for revocations.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a Envelope>,
}

/// An event that is ready to be stored.
pub(super) struct Event {
    pub(super) kind: EventKind,
    pub(super) id: String,
    pub(super) at_ms: u64,
    pub(super) body: String,
}

impl Event {
    /// Of a node's state; `None` when it is one that nobody is told of.
    pub(super) fn of_status(status: &NodeStatus) -> Result<Option<Self>, VerifierError> {
        let Some(kind) = EventKind::of_state(status.state) else {
            return Ok(None);
        };
        Self::new(
            kind,
            now_ms(),
            &status.node_id,
            &status.label,
            &status.reasons,
            None,
        )
        .map(Some)
    }

    /// Of an entry of the revocation log.
    pub(super) fn of_entry(envelope: &Envelope, entry: &Entry) -> Result<Self, VerifierError> {
        let kind = match entry.action {
            Action::Revoke => EventKind::Revoked,
            Action::Reinstate => EventKind::Reinstated,
        };
        Self::new(
            kind,
            entry.at_ms,
            &entry.node_id,
            &entry.label,
            &entry.reasons,
            Some(envelope),
        )
    }

    fn new(
        kind: EventKind,
        at_ms: u64,
        node_id: &NodeId,
        label: &str,
        reasons: &[Reason],
        entry: Option<&Envelope>,
    ) -> Result<Self, VerifierError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| VerifierError::Random)?;
        let id = hex::encode(id);
        let body = Body {
            version: VERSION,
            id: &id,
            event: kind,
            at_ms,
            node_id,
            label,
            reasons,
            entry,
        };
        let body = serde_json::to_string(&body)
            .map_err(|error| VerifierError::Document(error.to_string()))?;
        Ok(Self {
            kind,
            id,
            at_ms,
            body,
        })
    }
}
