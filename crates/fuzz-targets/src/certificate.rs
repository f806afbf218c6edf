//! EK certificates.

use std::{
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use bootkeep_evidence::EkPublic;
use bootkeep_pki::ek::{EkError, EkRoots};

/// The EK of the corpus, its certificate, and when that is valid.
const EK: &[u8] = include_bytes!("../../../fuzz/ek/ek.public");
const CERTIFICATE: &[u8] = include_bytes!("../../../fuzz/ek/ek.der");
const VALID_AT: Duration = Duration::from_secs(1_800_000_000);

struct Manufacturer {
    roots: EkRoots,
    ek: EkPublic,
}

fn manufacturer() -> &'static Manufacturer {
    static MANUFACTURER: OnceLock<Manufacturer> = OnceLock::new();
    MANUFACTURER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/ek/roots");
        Manufacturer {
            roots: EkRoots::load(&folder).expect("the roots of the corpus"),
            ek: EkPublic::parse(EK).expect("the EK of the corpus"),
        }
    })
}

/// The input as the EK certificate a node shows: no other bytes than the manufacturer's pass, whatever follows them.
pub fn ek_certificate(input: &[u8]) {
    let maker = manufacturer();
    let now = SystemTime::UNIX_EPOCH + VALID_AT;
    match maker.roots.verify(input, &maker.ek, now) {
        Ok(chain) => {
            assert_eq!(chain.certificate, CERTIFICATE);
            assert!(input.starts_with(CERTIFICATE));
        }
        Err(error) => assert!(
            !input.starts_with(CERTIFICATE),
            "the certificate itself is refused: {error}"
        ),
    }
    let without_roots = EkRoots::default().verify(input, &maker.ek, now);
    assert!(matches!(
        without_roots,
        Err(EkError::Unreadable | EkError::OtherKey | EkError::Chain(_))
    ));
}
