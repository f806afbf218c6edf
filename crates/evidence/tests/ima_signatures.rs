//! Signatures made by evmctl are read and verified as the kernel does.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use bootkeep_evidence::ima::{FileDigest, FileKey, FileSignature, SignatureError};
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha384, Sha512};

fn data(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ima");
    fs::read(folder.join(name)).unwrap()
}

fn key(name: &str) -> FileKey {
    FileKey::new(&data(&format!("{name}.der")), Vec::new()).unwrap()
}

fn digest(algorithm: &str) -> FileDigest {
    let file = data("file");
    let bytes = match algorithm.rsplit(':').next().unwrap() {
        "sha256" => Sha256::digest(file).to_vec(),
        "sha384" => Sha384::digest(file).to_vec(),
        _ => Sha512::digest(file).to_vec(),
    };
    let algorithm = algorithm.to_owned();
    FileDigest { algorithm, bytes }
}

#[test]
fn signatures_of_evmctl_verify_with_their_key_only() {
    let keys = ["rsa", "p256", "p384"];
    for signer in keys {
        for algorithm in ["sha256", "sha384", "sha512"] {
            let bytes = data(&format!("{signer}-{algorithm}.sig"));
            let signature = FileSignature::parse(&bytes).unwrap();
            for other in keys {
                let result = key(other).verify(&signature, &digest(algorithm));
                let expected = if other == signer {
                    Ok(())
                } else {
                    Err(SignatureError::Wrong)
                };
                assert_eq!(result, expected, "{signer}-{algorithm} with {other}");
            }
            let mut changed = digest(algorithm);
            changed.bytes[0] ^= 1;
            let result = key(signer).verify(&signature, &changed);
            assert_eq!(result, Err(SignatureError::Wrong));
        }
    }
}

#[test]
fn the_digest_must_be_of_the_signed_kind() {
    for (file, good, bad) in [
        ("p256-sha256.sig", "sha256", "sha384"),
        ("p256-sha256.sig", "sha256", "verity:sha256"),
        ("p256-verity.sig", "verity:sha256", "sha256"),
        ("rsa-v3.sig", "sha256", "verity:sha256"),
    ] {
        let bytes = data(file);
        let signature = FileSignature::parse(&bytes).unwrap();
        let key = key(file.split('-').next().unwrap());
        assert_eq!(key.verify(&signature, &digest(good)), Ok(()), "{file}");
        let other = key.verify(&signature, &digest(bad));
        assert!(
            matches!(other, Err(SignatureError::OtherDigest { .. })),
            "{file}"
        );
    }
}

/// The three forms sign different bytes: none can be passed off as another by its header.
#[test]
fn headers_cannot_be_exchanged() {
    for (file, index, value, algorithm) in [
        ("p256-sha256.sig", 1, 3, "sha256"),
        ("rsa-v3.sig", 1, 2, "sha256"),
        ("rsa-v3.sig", 0, 6, "verity:sha256"),
        ("p256-verity.sig", 0, 3, "sha256"),
    ] {
        let mut bytes = data(file);
        bytes[index] = value;
        let signature = FileSignature::parse(&bytes).unwrap();
        let key = key(file.split('-').next().unwrap());
        let result = key.verify(&signature, &digest(algorithm));
        assert_eq!(result, Err(SignatureError::Wrong), "{file}");
    }
}

#[test]
fn key_ids_are_those_of_evmctl() {
    for (key, signature) in [("rsa", "rsa-sha256.sig"), ("p256", "p256-sha256.sig")] {
        let spki = data(&format!("{key}.der"));
        // The bit string's contents end the structure: RSA-2048 has 270 bytes, P-256 has 65.
        let length = if key == "rsa" { 270 } else { 65 };
        let id = FileKey::id_of(&spki[spki.len() - length..]);
        assert_eq!(FileSignature::parse(&data(signature)).unwrap().key_id(), id);
    }
    let bytes = data("skid-sha256.sig");
    let id = FileSignature::parse(&bytes).unwrap().key_id();
    assert_eq!(id, [0x11, 0x12, 0x13, 0x14]);
}

#[test]
fn other_forms_are_refused() {
    let good = data("p256-sha256.sig");
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        FileSignature::parse(&bytes).unwrap_err()
    };
    assert_eq!(with(|b| b[0] = 5), SignatureError::Portable);
    assert_eq!(with(|b| b[2] = 2), SignatureError::Algorithm(2));
    let malformed: [fn(&mut Vec<u8>); 8] = [
        |b| b[0] = 1,
        |b| b[1] = 1,
        |b| b[1] = 4,
        |b| b.push(0),
        |b| b.truncate(20),
        |b| b.truncate(9),
        |b| b.clear(),
        |b| {
            b.truncate(9);
            b[7] = 0;
            b[8] = 0;
        },
    ];
    for change in malformed {
        assert!(matches!(with(change), SignatureError::Malformed(_)));
    }
    let sha1 = data("rsa-sha1.sig");
    let refused = FileSignature::parse(&sha1);
    assert_eq!(refused, Err(SignatureError::Algorithm(2)));
}

#[test]
fn not_every_key_signs_files() {
    let key = |bytes: &[u8]| FileKey::new(bytes, Vec::new());
    let good = data("p384.der");
    assert!(key(&good).is_some());
    assert!(key(&good[..good.len() - 1]).is_none());
    assert!(key(b"").is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(signature) = FileSignature::parse(&bytes) {
            prop_assert!(key("p256").verify(&signature, &digest("sha256")).is_err());
        }
    }
}
