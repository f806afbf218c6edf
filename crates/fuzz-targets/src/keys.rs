//! Public areas.

use bootkeep_credential::make_credential;
use bootkeep_evidence::{AkPublic, EkPublic};

/// The input as an EK's and an AK's public area: it is never both, an AK has a name, an EK can be challenged or is
/// refused in order.
pub fn key_public(input: &[u8]) {
    let (ek, ak) = (EkPublic::parse(input), AkPublic::parse(input));
    assert!(ek.is_err() || ak.is_err());
    if let Ok(ak) = &ak {
        assert_eq!(ak.name().len(), 34);
    }
    if let Ok(ek) = ek {
        let name = [&[0, 0x0b][..], &[7; 32]].concat();
        if let Ok(credential) = make_credential(&ek, &name, &[1; 32]) {
            assert_eq!(credential.blob.len(), 2 + 32 + 2 + 32);
        }
    }
}
