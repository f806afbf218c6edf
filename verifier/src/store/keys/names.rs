//! The names secrets are sealed under: rows cannot be swapped.

use bootkeep_protocol::{NodeId, ShareId};
use bootkeep_tpkd::{Share, KEY_LEN, V};
use zeroize::Zeroizing;

use crate::{error::VerifierError, store::Sealer};

/// The one set of a node that does not keep its U has the names it had before there were several.
impl Sealer {
    pub(super) fn seal_envelope(
        &self,
        id: &NodeId,
        number: i64,
        plain: &[u8],
    ) -> Result<String, VerifierError> {
        self.seal(id, &envelope_name(number), plain)
    }

    pub(super) fn open_envelope(
        &self,
        id: &NodeId,
        number: i64,
        sealed: &str,
    ) -> Result<Vec<u8>, VerifierError> {
        Ok(self.open(id, &envelope_name(number), sealed)?.to_vec())
    }

    pub(super) fn seal_share(
        &self,
        id: &NodeId,
        share: Option<ShareId>,
        plain: &Share<V>,
    ) -> Result<String, VerifierError> {
        self.seal(id, &share_name(share), plain.expose())
    }

    pub(super) fn open_share(
        &self,
        id: &NodeId,
        share: Option<ShareId>,
        sealed: &str,
    ) -> Result<Share<V>, VerifierError> {
        let plain = self.open(id, &share_name(share), sealed)?;
        let bytes = plain.as_slice().try_into().map(Zeroizing::new);
        let bytes: Zeroizing<[u8; KEY_LEN]> =
            bytes.map_err(|_| VerifierError::StateKey("share V has another length".to_owned()))?;
        Ok(Share::from_bytes(*bytes))
    }
}

fn envelope_name(number: i64) -> String {
    match number {
        0 => "envelope".to_owned(),
        number => format!("envelope {number}"),
    }
}

fn share_name(share: Option<ShareId>) -> String {
    share.map_or_else(|| "share-v".to_owned(), |share| format!("share-v {share}"))
}
