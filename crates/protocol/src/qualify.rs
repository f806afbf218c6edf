//! Qualifying data: what a quote is *for*.

use sha2::{Digest, Sha256};

use crate::{NodeId, Nonce, Phase, Role};

/// Label of the TLS exporter (RFC 8446 §7.5) both ends of a link take their binding from; no context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-bootkeep-link-v1";
/// Length of the exporter value (bytes).
pub const EXPORTER_LEN: usize = 32;

fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // A part is a key, a digest, a nonce or a word: none comes near 4 GiB.
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The qualifying data of a quote that `asker` asked for.
///
/// SHA-256 over the parts in this order, each with its length before it as a big-endian `u32`:
/// the tag `bootkeep quote v1`, the asker's nonce, the asker's role, the node's transport key NK,
/// the node id (64 hex digits as text) and the TLS exporter of the link.
/// So a quote serves one asker, once, on one connection, and names the key its shares are wrapped to.
#[must_use]
pub fn quote_qualifying_data(
    nonce: &Nonce,
    asker: Role,
    nk_public: &[u8; 32],
    node: &NodeId,
    exporter: &[u8; EXPORTER_LEN],
) -> [u8; 32] {
    digest_of(&[
        b"bootkeep quote v1",
        nonce.as_bytes(),
        asker.as_str().as_bytes(),
        nk_public,
        node.as_str().as_bytes(),
        exporter,
    ])
}

/// The qualifying data of the quote that opens a link.
///
/// As [`quote_qualifying_data`], with the tag `bootkeep link v1`, the verifier's nonce, the phase, NK, the node id
/// and the exporter.
#[must_use]
pub fn link_qualifying_data(
    nonce: &Nonce,
    phase: Phase,
    nk_public: &[u8; 32],
    node: &NodeId,
    exporter: &[u8; EXPORTER_LEN],
) -> [u8; 32] {
    digest_of(&[
        b"bootkeep link v1",
        nonce.as_bytes(),
        phase.as_str().as_bytes(),
        nk_public,
        node.as_str().as_bytes(),
        exporter,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> (Nonce, NodeId) {
        (Nonce::from([1; 32]), NodeId::of_ek_public(b"ek"))
    }

    #[test]
    fn every_part_counts() {
        let (nonce, node) = inputs();
        let base = quote_qualifying_data(&nonce, Role::Verifier, &[2; 32], &node, &[3; 32]);
        let others = [
            quote_qualifying_data(
                &Nonce::from([9; 32]),
                Role::Verifier,
                &[2; 32],
                &node,
                &[3; 32],
            ),
            quote_qualifying_data(&nonce, Role::Tenant, &[2; 32], &node, &[3; 32]),
            quote_qualifying_data(&nonce, Role::Verifier, &[9; 32], &node, &[3; 32]),
            quote_qualifying_data(
                &nonce,
                Role::Verifier,
                &[2; 32],
                &NodeId::of_ek_public(b"other"),
                &[3; 32],
            ),
            quote_qualifying_data(&nonce, Role::Verifier, &[2; 32], &node, &[9; 32]),
            link_qualifying_data(&nonce, Phase::Runtime, &[2; 32], &node, &[3; 32]),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn matches_the_written_vector() {
        let (nonce, node) = inputs();
        let digest = quote_qualifying_data(&nonce, Role::Verifier, &[2; 32], &node, &[3; 32]);
        assert_eq!(
            hex::encode(digest),
            "148c94fffbb8f5d6dd50ea0ca2a1a7d6a25f57d87ffe3d7ed2707905dc5702e0"
        );
    }
}
