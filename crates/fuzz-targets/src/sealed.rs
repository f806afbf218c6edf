//! Sealed containers: envelopes and documents.

use bootkeep_tpkd::{
    document_key_id, open_document, open_envelope, seal_document, seal_envelope, BootstrapKey,
    DocumentKey, Envelope, SealedText,
};

const NODE: &str = "a node";

/// The input as a sealed container, which never opens with a key it was not sealed with; as the text form of one; as
/// the contents of an envelope; and as a document, which comes back as it was.
pub fn container(input: &[u8]) {
    let (key, document_key) = (
        BootstrapKey::from_bytes([3; 32]),
        DocumentKey::from_bytes("id", [4; 32]),
    );
    assert!(open_envelope(&key, NODE, input).is_err());
    assert!(open_document(&document_key, input).is_err());
    let _ = document_key_id(input);
    let _ = SealedText::decode(input);
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(input) {
        if let Ok(sealed) = seal_envelope(&key, NODE, &envelope) {
            let opened = open_envelope(&key, NODE, &sealed).expect("what was sealed opens");
            assert_eq!(opened, envelope);
        }
    }
    if let Ok(sealed) = seal_document(&document_key, NODE, input) {
        let opened = open_document(&document_key, &sealed).expect("what was sealed opens");
        assert_eq!(opened.as_slice(), input);
        let text = SealedText::encode(&sealed);
        let decoded = SealedText::decode(text.0.as_bytes()).expect("what was encoded decodes");
        assert_eq!(decoded, sealed);
    }
}
