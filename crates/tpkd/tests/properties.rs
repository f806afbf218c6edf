//! Any share, key and contents go through; any noise is refused.
#![allow(clippy::unwrap_used)]

use bootkeep_tpkd::{
    open_document, open_envelope, seal_document, wrap_share, BootstrapKey, DocumentKey, NodeKey,
    SealedText, Share, Wrapped, U, V,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn split_and_combine_are_inverse(key: [u8; 32]) {
        let k = BootstrapKey::from_bytes(key);
        let (u, v) = k.split().unwrap();
        let u = Share::<U>::from_bytes(*u.expose());
        let v = Share::<V>::from_bytes(*v.expose());
        prop_assert_eq!(*BootstrapKey::combine(&u, &v).expose(), key);
    }

    #[test]
    fn wrapped_shares_come_back(share: [u8; 32], nonce: [u8; 32]) {
        let node = NodeKey::generate().unwrap();
        let wrapped = wrap_share(&node.public(), &nonce, "n", &Share::<V>::from_bytes(share)).unwrap();
        prop_assert_eq!(*node.unwrap_share::<V>(&nonce, "n", &wrapped).unwrap().expose(), share);
    }

    #[test]
    fn documents_come_back(key: [u8; 32], plain in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let key = DocumentKey::from_bytes("id", key);
        let sealed = seal_document(&key, "web", &plain).unwrap();
        let text = SealedText::encode(&sealed);
        let back = SealedText::decode(text.0.as_bytes()).unwrap();
        prop_assert_eq!(&*open_document(&key, &back).unwrap(), &plain);
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..300), with_magic: bool) {
        let bytes = if with_magic { [b"BKSEAL1\n".as_slice(), &noise].concat() } else { noise.clone() };
        prop_assert!(open_envelope(&BootstrapKey::from_bytes([0; 32]), "n", &bytes).is_err());
        prop_assert!(open_document(&DocumentKey::from_bytes("id", [0; 32]), &bytes).is_err());
        let wrapped = Wrapped { encapsulated: noise.clone(), ciphertext: noise };
        prop_assert!(NodeKey::generate().unwrap().unwrap_share::<U>(&[0; 32], "n", &wrapped).is_err());
    }
}
