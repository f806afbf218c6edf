//! A credential opens in the TPM it was made for, with the key it was made for, unchanged, and nowhere else.
#![allow(clippy::unwrap_used)]

use bootkeep_credential::{make_credential, Credential, CredentialError};
use bootkeep_evidence::{AkPublic, EkPublic};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{EkKind, Tcti, Tpm};

const SECRET: [u8; 32] = [0x5a; 32];
const BOTH: [EkKind; 2] = [EkKind::EccP256, EkKind::Rsa2048];

fn open(swtpm: &Swtpm) -> Tpm {
    let port = swtpm.port();
    Tpm::open(&Tcti::Swtpm { port }).unwrap()
}

fn ek(tpm: &mut Tpm, kind: EkKind) -> EkPublic {
    tpm.use_ek(kind);
    EkPublic::parse(&tpm.ek_of_kind(kind).unwrap().public).unwrap()
}

fn ak_name(tpm: &mut Tpm) -> Vec<u8> {
    let ak = tpm.ensure_ak().unwrap();
    let name = AkPublic::parse(&ak.public).unwrap().name().to_vec();
    assert_eq!(name, ak.name);
    name
}

fn opens(tpm: &mut Tpm, credential: &Credential) -> Option<Vec<u8>> {
    let before = tpm.count_handles().unwrap();
    let opened = tpm.activate_credential(&credential.blob, &credential.encrypted_secret);
    assert_eq!(tpm.count_handles().unwrap(), before);
    opened.ok().map(|secret| secret.to_vec())
}

#[test]
fn the_right_tpm_opens_it_and_no_other() {
    let (swtpm, other) = (Swtpm::bare().unwrap(), Swtpm::bare().unwrap());
    let (mut tpm, mut other) = (open(&swtpm), open(&other));
    for kind in BOTH {
        let (ek, name) = (ek(&mut tpm, kind), ak_name(&mut tpm));
        for length in [1, 16, 32] {
            let secret = &SECRET[..length];
            let credential = make_credential(&ek, &name, secret).unwrap();
            assert_eq!(opens(&mut tpm, &credential).unwrap(), secret, "{kind:?}");
            other.use_ek(kind);
            assert_eq!(opens(&mut other, &credential), None, "{kind:?}");
        }
    }
}

#[test]
fn a_credential_for_another_ak_is_refused() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    for kind in BOTH {
        let (ek, mut name) = (ek(&mut tpm, kind), ak_name(&mut tpm));
        name[33] ^= 1;
        let credential = make_credential(&ek, &name, &SECRET).unwrap();
        assert_eq!(opens(&mut tpm, &credential), None, "{kind:?}");
    }
}

#[test]
fn a_changed_credential_is_refused() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    for kind in BOTH {
        let (ek, name) = (ek(&mut tpm, kind), ak_name(&mut tpm));
        let good = make_credential(&ek, &name, &SECRET).unwrap();
        for at in [0, 2, good.blob.len() - 1] {
            let mut bad = good.clone();
            bad.blob[at] ^= 1;
            assert_eq!(opens(&mut tpm, &bad), None, "{kind:?}, blob byte {at}");
        }
        for at in [0, 3, good.encrypted_secret.len() - 1] {
            let mut bad = good.clone();
            bad.encrypted_secret[at] ^= 1;
            assert_eq!(opens(&mut tpm, &bad), None, "{kind:?}, secret byte {at}");
        }
        assert!(opens(&mut tpm, &good).is_some(), "{kind:?}");
    }
}

#[test]
fn two_credentials_for_the_same_secret_share_nothing() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    for kind in BOTH {
        let (ek, name) = (ek(&mut tpm, kind), ak_name(&mut tpm));
        let first = make_credential(&ek, &name, &SECRET).unwrap();
        let second = make_credential(&ek, &name, &SECRET).unwrap();
        assert_ne!(first.blob, second.blob);
        assert_ne!(first.encrypted_secret, second.encrypted_secret);
    }
}

/// A P-256 EK's public area with other coordinates.
fn ek_with_point(tpm: &mut Tpm, x: [u8; 32], y: [u8; 32]) -> EkPublic {
    let public = tpm.ek_of_kind(EkKind::EccP256).unwrap().public;
    let head = &public[..public.len() - 2 * 34];
    EkPublic::parse(&[head, &[0, 32], &x, &[0, 32], &y].concat()).unwrap()
}

#[test]
fn what_cannot_be_wrapped_is_refused_with_its_reason() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let (good, name) = (ek(&mut tpm, EkKind::EccP256), ak_name(&mut tpm));
    for length in [0, 33] {
        let refused = make_credential(&good, &name, &vec![1; length]);
        assert_eq!(refused, Err(CredentialError::SecretLength(length)));
    }
    for bad in [
        &name[..33],
        &[][..],
        &[[0, 4].as_slice(), &name[2..]].concat(),
    ] {
        let refused = make_credential(&good, bad, &SECRET);
        assert_eq!(refused, Err(CredentialError::AkName));
    }
    for point in [([0; 32], [0; 32]), ([1; 32], [2; 32])] {
        let off_curve = ek_with_point(&mut tpm, point.0, point.1);
        let refused = make_credential(&off_curve, &name, &SECRET);
        assert_eq!(refused, Err(CredentialError::EkPublic));
    }
}
