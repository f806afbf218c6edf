//! Secrets at rest.

use base64::{engine::general_purpose::STANDARD, Engine as _};
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::NodeId;
use zeroize::Zeroizing;

use crate::error::VerifierError;

/// Seals with the state key; the context ties a value to its node and column, so rows cannot be swapped.
#[derive(Debug)]
pub(crate) struct Sealer(StateKey);

fn context(node: &NodeId, what: &str) -> Vec<u8> {
    format!("bootkeep verifier {what} {node}").into_bytes()
}

fn fault(error: impl std::fmt::Display) -> VerifierError {
    VerifierError::StateKey(error.to_string())
}

impl Sealer {
    pub(crate) fn new(key: StateKey) -> Self {
        Self(key)
    }

    /// Sealed and in base64.
    pub(crate) fn seal(
        &self,
        node: &NodeId,
        what: &str,
        plain: &[u8],
    ) -> Result<String, VerifierError> {
        let sealed = self.0.seal(&context(node, what), plain).map_err(fault)?;
        Ok(STANDARD.encode(sealed))
    }

    pub(crate) fn open(
        &self,
        node: &NodeId,
        what: &str,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, VerifierError> {
        let sealed = STANDARD.decode(sealed).map_err(fault)?;
        self.0.open(&context(node, what), &sealed).map_err(fault)
    }
}
