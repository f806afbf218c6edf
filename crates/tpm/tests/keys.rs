//! EK, SRK and AK: which, where, and that they are found again.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_evidence::{key::KeyMaterial, AkPublic, EkPublic};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{AkKind, EkKind, Tpm, TpmError};
use common::{open, tool};

const EKS: [EkKind; 4] = [
    EkKind::EccP256,
    EkKind::EccP256High,
    EkKind::Rsa2048,
    EkKind::Rsa2048High,
];

/// Whether a certificate carries this key.
fn is_for(certificate: &[u8], ek_public: &[u8]) -> bool {
    let key = match EkPublic::parse(ek_public).unwrap().material() {
        KeyMaterial::P256 { x, y } => [&[4][..], x, y].concat(),
        KeyMaterial::Rsa { modulus, .. } => modulus.clone(),
    };
    certificate.windows(key.len()).any(|bytes| bytes == key)
}

#[test]
fn every_template_makes_an_ek_of_its_own_always_the_same() {
    let mut swtpm = Swtpm::bare().unwrap();
    let all = |tpm: &mut Tpm| EKS.map(|kind| tpm.ek_of_kind(kind).unwrap().public);
    let first = all(&mut open(&swtpm));
    for (at, public) in first.iter().enumerate() {
        EkPublic::parse(public).unwrap();
        assert!(!first[..at].contains(public), "{:?}", EKS[at]);
    }
    swtpm.power_cycle().unwrap();
    assert_eq!(all(&mut open(&swtpm)), first);
}

#[test]
fn the_ek_is_the_one_whose_certificate_is_there() {
    let swtpm = Swtpm::certified().unwrap();
    let ek = open(&swtpm).ek_public().unwrap();
    assert_eq!(ek.kind, EkKind::Rsa2048);
    assert!(is_for(&ek.certificate.unwrap(), &ek.public));

    swtpm.certify_p256().unwrap();
    let ek = open(&swtpm).ek_public().unwrap();
    assert_eq!(ek.kind, EkKind::EccP256);
    assert!(is_for(&ek.certificate.unwrap(), &ek.public));
}

#[test]
fn without_certificates_the_ek_is_p256() {
    let swtpm = Swtpm::bare().unwrap();
    let ek = open(&swtpm).ek_public().unwrap();
    assert_eq!((ek.kind, ek.certificate), (EkKind::EccP256, None));
}

/// Writes what stands for a certificate into an index of the owner's.
fn write_certificate(tpm: &mut Tpm, index: u32, bytes: &[u8]) {
    tpm.nv_define(index, bytes.len() as u16).unwrap();
    tpm.nv_write(index, bytes).unwrap();
}

#[test]
fn certificates_of_the_high_range_are_found() {
    for (kind, index) in [
        (EkKind::EccP256High, 0x01c0_0014),
        (EkKind::Rsa2048High, 0x01c0_0012),
    ] {
        let swtpm = Swtpm::bare().unwrap();
        let mut tpm = open(&swtpm);
        let ek = tpm.ek_of_kind(kind).unwrap();
        let certificate = [b"before", ek.public.as_slice(), b"after"].concat();
        write_certificate(&mut tpm, index, &certificate);
        let found = tpm.ek_public().unwrap();
        assert_eq!((found.kind, found.public), (kind, ek.public));
        assert_eq!(found.certificate, Some(certificate));
    }
}

#[test]
fn a_certificate_for_another_key_or_an_empty_index_is_passed_over() {
    let swtpm = Swtpm::certified().unwrap();
    let mut tpm = open(&swtpm);
    let other = tpm.ek_of_kind(EkKind::EccP256High).unwrap().public;
    write_certificate(&mut tpm, 0x01c0_000a, &other);
    tpm.nv_define(0x01c0_0014, 100).unwrap();
    let ek = tpm.ek_public().unwrap();
    assert_eq!(ek.kind, EkKind::Rsa2048);
}

#[test]
fn a_persistent_ek_is_the_one_of_the_template() {
    let swtpm = Swtpm::certified().unwrap();
    let mut tpm = open(&swtpm);
    // swtpm_setup leaves the RSA EK at 0x81010001.
    let found = tpm.ek_public().unwrap();
    assert_eq!(
        found.public,
        tpm.ek_of_kind(EkKind::Rsa2048).unwrap().public
    );
}

#[test]
fn another_key_at_the_place_of_the_ek_is_not_taken_for_it() {
    let swtpm = Swtpm::certified().unwrap();
    let expected = open(&swtpm).ek_public().unwrap();
    tool(&swtpm, "tpm2_evictcontrol", &["-Co", "-c0x81010001"]);
    tool(
        &swtpm,
        "tpm2_createprimary",
        &["-Co", "-Grsa2048", "-cother.ctx"],
    );
    tool(
        &swtpm,
        "tpm2_evictcontrol",
        &["-Co", "-cother.ctx", "0x81010001"],
    );
    tool(&swtpm, "tpm2_flushcontext", &["-t"]);
    assert_eq!(open(&swtpm).ek_public().unwrap(), expected);
}

#[test]
fn the_ak_is_what_an_ak_must_be_and_is_found_again() {
    let mut swtpm = Swtpm::bare().unwrap();
    let make = |swtpm: &Swtpm| {
        [AkKind::EccP256, AkKind::Rsa2048].map(|kind| {
            let mut tpm = open(swtpm);
            tpm.use_ak(kind);
            let ak = tpm.ensure_ak().unwrap();
            let parsed = AkPublic::parse(&ak.public).unwrap();
            assert_eq!(parsed.name(), ak.name, "{kind:?}");
            let is_rsa = matches!(parsed.material(), KeyMaterial::Rsa { .. });
            assert_eq!(is_rsa, kind == AkKind::Rsa2048);
            ak
        })
    };
    let first = make(&swtpm);
    assert_eq!(make(&swtpm), first);
    swtpm.power_cycle().unwrap();
    assert_eq!(make(&swtpm), first);
    assert_ne!(make(&Swtpm::bare().unwrap()), first);
}

#[test]
fn the_default_ak_is_p256() {
    let swtpm = Swtpm::bare().unwrap();
    let ak = open(&swtpm).ensure_ak().unwrap();
    let parsed = AkPublic::parse(&ak.public).unwrap();
    assert!(matches!(parsed.material(), KeyMaterial::P256 { .. }));
}

#[test]
fn a_foreign_key_at_the_place_of_the_ak_is_refused_everywhere() {
    for attributes in [
        "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign",
        "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt",
    ] {
        let swtpm = Swtpm::bare().unwrap();
        tool(
            &swtpm,
            "tpm2_createprimary",
            &["-Co", "-Gecc", "-a", attributes, "-cx"],
        );
        tool(&swtpm, "tpm2_evictcontrol", &["-Co", "-cx", "0x8100b007"]);
        tool(&swtpm, "tpm2_flushcontext", &["-t"]);
        let mut tpm = open(&swtpm);
        let handle = 0x8100_b007;
        let foreign =
            |error: TpmError| matches!(error, TpmError::ForeignKey { handle: h } if h == handle);
        assert!(foreign(tpm.ensure_ak().unwrap_err()));
        assert!(foreign(tpm.quote(b"nonce", &[0]).unwrap_err()));
        assert!(foreign(tpm.activate_credential(b"x", b"y").unwrap_err()));
    }
}

#[test]
fn the_srk_is_made_once_and_an_existing_one_is_used() {
    let mut swtpm = Swtpm::bare().unwrap();
    tool(
        &swtpm,
        "tpm2_createprimary",
        &["-Co", "-Grsa2048", "-cother.ctx"],
    );
    tool(
        &swtpm,
        "tpm2_evictcontrol",
        &["-Co", "-cother.ctx", "0x81000001"],
    );
    swtpm.power_cycle().unwrap();
    let mut tpm = open(&swtpm);
    tpm.ensure_srk().unwrap();
    tpm.ensure_srk().unwrap();
    tpm.ensure_ak().unwrap();
    let sealed = tpm.seal(b"below another's SRK", &[0]).unwrap();
    assert_eq!(
        tpm.unseal(&sealed, &[0]).unwrap().as_slice(),
        b"below another's SRK"
    );
}

#[test]
fn a_tpm_can_move_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<Tpm>();
}
