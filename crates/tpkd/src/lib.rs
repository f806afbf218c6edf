//! Three Part Key Derivation: split, combine, derive, wrap and seal.
//!
//! ```text
//! tenant:    K random, U random, V = K xor U      envelope = seal(HKDF(K, "payload"), items)
//! verifier:  holds V and the envelope             wrap(NK, V)  ─┐ each after its own appraisal
//! tenant:    holds U                              wrap(NK, U)  ─┤
//! node:      K = U xor V, opens the envelope, confirms K      ◄─┘
//! ```
//!
//! K is never used directly, only keys derived from it with a context for each use. All secrets are wiped from
//! memory when dropped and show nothing in their debug form. The byte forms, with test vectors, are written down in
//! `docs/protocol.md`. This crate knows nothing of connections, files or TPMs.

#![forbid(unsafe_code)]

mod container;
mod document;
mod envelope;
mod key;
mod latch;
mod random;
mod recovery;
mod share;
mod transport;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod vectors;

pub use container::{ContainerError, MAX_CONTAINER};
pub use document::{
    document_audience, document_key_id, open_document, seal_document, DocumentKey, SealedText,
    DOCUMENT_MIME,
};
pub use envelope::{
    open_envelope, seal_envelope, Authority, Envelope, EnvelopeError, Identity, Item,
    MAX_AUTHORITIES,
};
pub use key::{luks_key_id, BootstrapKey, KEY_LEN};
pub use latch::{latch_digest, latched_pcr15};
pub use random::RandomError;
pub use recovery::{RecoveryError, RecoveryPublic, RecoverySecret};
pub use share::{Share, SharePart, U, V};
pub use transport::{wrap_share, NodeKey, WrapError, Wrapped};
