//! Quotes made by a real software TPM (tpm2-tools), and what must be refused.
//! Qualifying data 0102030405, SHA-256 bank, PCRs 0, 10 and 15; 10 was extended with 11…11, 15 with 22…22.
#![allow(clippy::unwrap_used)]

use bootkeep_evidence::{
    key::AkScheme, pcr::extend, AkPublic, EkPublic, KeyError, Quote, QuoteError, UnverifiedQuote,
};
use proptest::prelude::*;

const QUALIFYING: [u8; 5] = [1, 2, 3, 4, 5];
const SELECTION: [u8; 3] = [0, 10, 15];

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn values() -> Vec<(u8, [u8; 32])> {
    vec![
        (0, [0; 32]),
        (10, extend(&[0; 32], &[0x11; 32])),
        (15, extend(&[0; 32], &[0x22; 32])),
    ]
}

struct Case {
    ak: AkPublic,
    attest: Vec<u8>,
    signature: Vec<u8>,
}

impl Case {
    fn load(scheme: &str) -> Self {
        Self {
            ak: AkPublic::parse(&read(&format!("ak-{scheme}.public"))).unwrap(),
            attest: read(&format!("{scheme}.attest")),
            signature: read(&format!("{scheme}.sig")),
        }
    }

    fn verify(
        &self,
        qualifying: &[u8],
        selection: &[u8],
        pcrs: &[(u8, [u8; 32])],
    ) -> Result<Quote, QuoteError> {
        UnverifiedQuote {
            attest: &self.attest,
            signature: &self.signature,
        }
        .verify(&self.ak, qualifying, selection, pcrs)
    }
}

#[test]
fn real_quotes_of_every_scheme_verify() {
    for (name, scheme) in [
        ("ecdsa", AkScheme::Ecdsa),
        ("rsassa", AkScheme::RsaSsa),
        ("rsapss", AkScheme::RsaPss),
    ] {
        let case = Case::load(name);
        assert_eq!(case.ak.scheme(), scheme);
        let quote = case.verify(&QUALIFYING, &SELECTION, &values()).unwrap();
        assert_eq!(quote.pcrs().get(15), Some(&values()[2].1));
        assert_eq!(quote.clock().reset_count, 1);
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for name in ["ecdsa", "rsassa", "rsapss"] {
        let case = Case::load(name);
        for index in 0..case.attest.len() {
            let mut attest = case.attest.clone();
            attest[index] ^= 1;
            let bad = Case {
                attest,
                ..Case::load(name)
            };
            let result = bad.verify(&QUALIFYING, &SELECTION, &values());
            assert_eq!(result, Err(QuoteError::Signature), "{name} byte {index}");
        }
        for index in 0..case.signature.len() {
            let mut signature = case.signature.clone();
            signature[index] ^= 1;
            let bad = Case {
                signature,
                ..Case::load(name)
            };
            assert!(bad.verify(&QUALIFYING, &SELECTION, &values()).is_err());
        }
        for length in 0..case.signature.len() {
            let signature = case.signature[..length].to_vec();
            let bad = Case {
                signature,
                ..Case::load(name)
            };
            assert!(bad.verify(&QUALIFYING, &SELECTION, &values()).is_err());
        }
    }
}

#[test]
fn another_question_is_refused() {
    let case = Case::load("ecdsa");
    for qualifying in [&[][..], &[1, 2, 3, 4], &[1, 2, 3, 4, 6]] {
        let result = case.verify(qualifying, &SELECTION, &values());
        assert_eq!(result, Err(QuoteError::Qualifying));
    }
}

#[test]
fn other_pcrs_than_asked_are_refused() {
    let case = Case::load("ecdsa");
    let result = case.verify(&QUALIFYING, &[], &[]);
    assert_eq!(result, Err(QuoteError::EmptySelection));
    for selection in [&[0, 10][..], &[0, 10, 14], &[0, 10, 15, 16]] {
        let result = case.verify(&QUALIFYING, selection, &values());
        assert_eq!(result, Err(QuoteError::Selection), "{selection:?}");
    }
    let short = &values()[..2];
    assert_eq!(
        case.verify(&QUALIFYING, &SELECTION, short),
        Err(QuoteError::Selection)
    );
}

#[test]
fn other_values_than_quoted_are_refused() {
    let mut values = values();
    values[2].1 = [0; 32];
    let result = Case::load("ecdsa").verify(&QUALIFYING, &SELECTION, &values);
    assert_eq!(result, Err(QuoteError::PcrDigest));
}

#[test]
fn a_second_bank_in_the_selection_is_refused() {
    let case = Case {
        attest: read("twobanks.attest"),
        signature: read("twobanks.sig"),
        ..Case::load("ecdsa")
    };
    let result = case.verify(&QUALIFYING, &[0], &[(0, [0; 32])]);
    assert_eq!(result, Err(QuoteError::Selection));
}

#[test]
fn another_attestation_by_the_same_key_is_not_a_quote() {
    let case = Case {
        attest: read("time.attest"),
        signature: read("time.sig"),
        ..Case::load("ecdsa")
    };
    let result = case.verify(&QUALIFYING, &SELECTION, &values());
    assert_eq!(result, Err(QuoteError::Type(0x8019)));
}

#[test]
fn another_ak_is_refused() {
    let case = Case {
        ak: Case::load("rsassa").ak,
        ..Case::load("ecdsa")
    };
    assert!(case.verify(&QUALIFYING, &SELECTION, &values()).is_err());
}

#[test]
fn only_attestation_keys_are_attestation_keys() {
    let unrestricted = AkPublic::parse(&read("unrestricted.public"));
    assert_eq!(unrestricted, Err(KeyError::Attribute("restricted")));
    assert!(AkPublic::parse(&read("ek-ecc.public")).is_err());
    let good = read("ak-ecdsa.public");
    // objectAttributes are bytes 4 to 8, big-endian.
    for (byte, bit, name) in [
        (7, 1 << 1, "fixedTPM"),
        (7, 1 << 4, "fixedParent"),
        (7, 1 << 5, "sensitiveDataOrigin"),
        (5, 1, "restricted"),
        (5, 1 << 1, "decrypt"),
        (5, 1 << 2, "sign"),
    ] {
        let mut bad = good.clone();
        bad[byte] ^= bit;
        assert_eq!(AkPublic::parse(&bad), Err(KeyError::Attribute(name)));
    }
    for length in 0..good.len() {
        assert!(AkPublic::parse(&good[..length]).is_err());
    }
    assert_eq!(
        AkPublic::parse(&[good, vec![0]].concat()),
        Err(KeyError::Trailing(1))
    );
}

#[test]
fn endorsement_keys_are_read() {
    for name in ["ek-ecc.public", "ek-rsa.public"] {
        assert!(EkPublic::parse(&read(name)).is_ok(), "{name}");
    }
    assert!(EkPublic::parse(&read("ak-ecdsa.public")).is_err());
}

/// An EK certificate covers the key alone: were another byte free, one EK could have many node ids.
#[test]
fn one_endorsement_key_has_one_public_area() {
    for (name, key_len) in [("ek-ecc.public", 2 * 34), ("ek-rsa.public", 258)] {
        let good = read(name);
        let key = good.len() - key_len;
        for index in 0..key + 2 {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                assert!(EkPublic::parse(&bad).is_err(), "{name} byte {index}");
            }
        }
        assert!(EkPublic::parse(&[&good[..], &[0]].concat()).is_err());
    }
    // The same exponent, written out.
    let rsa = read("ek-rsa.public");
    let exponent = rsa.len() - 258 - 4;
    let mut written = rsa.clone();
    written[exponent..exponent + 4].copy_from_slice(&65_537u32.to_be_bytes());
    assert_eq!(EkPublic::parse(&written), Err(KeyError::Template));
    // A coordinate with a zero in front.
    let ecc = read("ek-ecc.public");
    let x = ecc.len() - 68;
    let padded = [&ecc[..x], &[0, 33, 0], &ecc[x + 2..]].concat();
    assert!(EkPublic::parse(&padded).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_key_parsers_panic(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = AkPublic::parse(&noise);
        let _ = EkPublic::parse(&noise);
    }

    #[test]
    fn a_damaged_key_is_another_key_or_none(at in 0usize..400, value: u8) {
        for name in ["ak-ecdsa.public", "ak-rsassa.public", "ak-rsapss.public"] {
            let good = read(name);
            let mut bad = good.clone();
            if let Some(byte) = bad.get_mut(at) { *byte = value; }
            if let Ok(ak) = AkPublic::parse(&bad) {
                prop_assert_eq!(bad == good, ak.name() == AkPublic::parse(&good).unwrap().name());
            }
        }
    }

    #[test]
    fn no_bytes_make_the_quote_parser_panic_or_pass(
        attest in proptest::collection::vec(any::<u8>(), 0..300),
        signature in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for name in ["ecdsa", "rsassa"] {
            let bad = Case { attest: attest.clone(), signature: signature.clone(), ..Case::load(name) };
            prop_assert!(bad.verify(&QUALIFYING, &SELECTION, &values()).is_err());
        }
    }
}
