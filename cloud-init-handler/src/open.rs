//! Which sealed documents this node opens.

use bootkeep_protocol::NodeId;
use bootkeep_tpkd::{
    document_audience, document_key_id, open_document, ContainerError, DocumentKey, SealedText,
};
use zeroize::Zeroizing;

use crate::state::{digest, State};

/// Why a sealed part is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a document, changed, or sealed with another key of the same id.
    #[error("a sealed part: {0}")]
    Container(#[from] ContainerError),
    /// Other user-data came with the envelope.
    #[error("a sealed part that is not among the {0} document(s) of the envelope")]
    NotOfTheEnvelope(usize),
    /// Sealed for somebody else.
    #[error("a sealed part for node {0}, not for this one")]
    OtherNode(String),
    /// The key is not here.
    #[error("a sealed part asks for key {0:?}, which the envelope did not bring")]
    NoKey(String),
}

/// Opens one part's body. `state` says who we are, what is expected and which keys there are.
pub(crate) fn open(state: &State, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    open_sealed(state, &SealedText::decode(body)?)
}

/// Opens one document.
pub(crate) fn open_sealed(state: &State, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let expected = &state.expected;
    if !expected.is_empty() && !expected.contains(&digest(sealed)) {
        return Err(OpenError::NotOfTheEnvelope(expected.len()));
    }
    let audience = document_audience(sealed)?;
    // A group is whoever was given its key; a node is only itself.
    if audience.parse::<NodeId>().is_ok() && audience != state.node_id {
        return Err(OpenError::OtherNode(audience));
    }
    let key = key(state, &document_key_id(sealed)?)?;
    Ok(open_document(&key, sealed)?)
}

fn key(state: &State, key_id: &str) -> Result<DocumentKey, OpenError> {
    let missing = || OpenError::NoKey(key_id.to_owned());
    let found = state.keys.iter().find(|key| key.key_id == key_id);
    let bytes = Zeroizing::new(
        <[u8; 32]>::try_from(found.ok_or_else(missing)?.key.as_slice()).map_err(|_| missing())?,
    );
    Ok(DocumentKey::from_bytes(key_id, *bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_tpkd::seal_document;

    use super::*;

    const KEY: [u8; 32] = [1; 32];

    fn node(digit: &str) -> String {
        digit.repeat(64)
    }

    fn state(expected: &[&[u8]]) -> State {
        State {
            node_id: node("a"),
            expected: expected.iter().map(|sealed| digest(sealed)).collect(),
            had_keys: true,
            keys: vec![bootkeep_handover::DocumentKey {
                key_id: "k".into(),
                key: KEY.to_vec().into(),
            }],
        }
    }

    fn sealed(key_id: &str, key: [u8; 32], audience: &str) -> Vec<u8> {
        seal_document(&DocumentKey::from_bytes(key_id, key), audience, b"plain").unwrap()
    }

    fn open_text(state: &State, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        open(state, SealedText::encode(sealed).0.as_bytes())
    }

    #[test]
    fn documents_for_this_node_or_a_group_whose_key_is_here_open() {
        for audience in [node("a"), "web".into()] {
            let document = sealed("k", KEY, &audience);
            assert_eq!(*open_text(&state(&[]), &document).unwrap(), b"plain");
            assert_eq!(
                *open_text(&state(&[&document]), &document).unwrap(),
                b"plain"
            );
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let cases = [
            (sealed("k", KEY, &node("b")), "for node bbbb"),
            (sealed("other", KEY, &node("a")), "asks for key \"other\""),
            (sealed("k", [2; 32], "web"), "does not open"),
            (b"#cloud-config\n".to_vec(), "not a sealed container"),
        ];
        for (document, why) in cases {
            let error = open_text(&state(&[]), &document).unwrap_err().to_string();
            assert!(error.contains(why), "{error} does not say {why:?}");
        }
        assert!(open(&state(&[]), b"#cloud-config\n").is_err());
        assert!(open(&state(&[]), &[b'A'; 9 * 1024 * 1024]).is_err());
    }

    #[test]
    fn beside_the_envelopes_documents_even_a_good_one_is_refused() {
        let (ours, older) = (sealed("k", KEY, "web"), sealed("k", KEY, "web"));
        let error = open_text(&state(&[&ours]), &older).unwrap_err();
        assert!(matches!(error, OpenError::NotOfTheEnvelope(1)), "{error}");
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let document = sealed("k", KEY, &node("a"));
        for index in 0..document.len() {
            let mut bad = document.clone();
            bad[index] ^= 1;
            assert!(open_text(&state(&[]), &bad).is_err(), "byte {index}");
        }
    }
}
