//! No operation leaves an object or a session in the TPM, whether it succeeds or fails.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_credential::make_credential;
use bootkeep_evidence::EkPublic;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{AkKind, EkKind, Sealed, Tpm};
use common::{clean, open, tool};

const INDEX: u32 = 0x0180_b007;

#[test]
fn nothing_is_left_by_what_succeeds() {
    let swtpm = Swtpm::certified().unwrap();
    let mut tpm = open(&swtpm);
    let tpm = &mut tpm;
    clean(tpm, "ek_public", |t| t.ek_public().unwrap());
    clean(tpm, "ek_of_kind", |t| {
        t.ek_of_kind(EkKind::EccP256).unwrap()
    });
    clean(tpm, "ensure_srk", |t| t.ensure_srk().unwrap());
    for kind in [AkKind::EccP256, AkKind::Rsa2048] {
        tpm.use_ak(kind);
        clean(tpm, "ensure_ak, making", |t| t.ensure_ak().unwrap());
        clean(tpm, "ensure_ak, finding", |t| t.ensure_ak().unwrap());
        clean(tpm, "quote", |t| t.quote(b"n", &[0, 10]).unwrap());
    }
    clean(tpm, "pcr_read", |t| t.pcr_read(&[0]).unwrap());
    clean(tpm, "pcr_extend", |t| t.pcr_extend(16, &[1; 32]).unwrap());
    let sealed = clean(tpm, "seal", |t| t.seal(b"s", &[0]).unwrap());
    clean(tpm, "unseal", |t| t.unseal(&sealed, &[0]).unwrap());
    clean(tpm, "nv_define", |t| t.nv_define(INDEX, 4).unwrap());
    clean(tpm, "nv_write", |t| t.nv_write(INDEX, b"four").unwrap());
    clean(tpm, "nv_read", |t| t.nv_read(INDEX).unwrap());
    clean(tpm, "nv_undefine", |t| t.nv_undefine(INDEX).unwrap());
}

#[test]
fn nothing_is_left_by_a_credential_good_or_bad() {
    let swtpm = Swtpm::certified().unwrap();
    let mut tpm = open(&swtpm);
    let tpm = &mut tpm;
    let name = tpm.ensure_ak().unwrap().name;
    for kind in [
        EkKind::EccP256,
        EkKind::EccP256High,
        EkKind::Rsa2048,
        EkKind::Rsa2048High,
    ] {
        let ek = EkPublic::parse(&tpm.ek_of_kind(kind).unwrap().public).unwrap();
        tpm.use_ek(kind);
        let good = make_credential(&ek, &name, &[9; 32]).unwrap();
        let opened = clean(tpm, "activation", |t| {
            t.activate_credential(&good.blob, &good.encrypted_secret)
        });
        assert_eq!(opened.unwrap().as_slice(), [9; 32], "{kind:?}");
        let short = &good.encrypted_secret[..10];
        clean(tpm, "a bad secret", |t| {
            t.activate_credential(&good.blob, short)
        })
        .unwrap_err();
        let empty = |t: &mut Tpm| t.activate_credential(&[], &[]);
        clean(tpm, "an empty credential", empty).unwrap_err();
    }
}

#[test]
fn nothing_is_left_by_the_ways_to_an_ek() {
    let swtpm = Swtpm::certified().unwrap();
    swtpm.certify_p256().unwrap();
    let mut tpm = open(&swtpm);
    clean(&mut tpm, "P-256 with certificate", |t| {
        t.ek_public().unwrap()
    });
    drop(tpm);
    tool(&swtpm, "tpm2_evictcontrol", &["-Co", "-c0x81010001"]);
    tool(&swtpm, "tpm2_nvundefine", &["0x01c0000a", "-Co"]);
    let mut tpm = open(&swtpm);
    let ek = clean(&mut tpm, "RSA from its template", |t| {
        t.ek_public().unwrap()
    });
    assert_eq!(ek.kind, EkKind::Rsa2048);
}

#[test]
fn nothing_is_left_by_what_fails() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let tpm = &mut tpm;
    let long = [0; 129];
    let sealed = tpm.seal(b"s", &[16]).unwrap();
    tpm.pcr_extend(16, &[1; 32]).unwrap();
    let foreign = Sealed {
        private: vec![1; 10],
        ..sealed.clone()
    };
    clean(tpm, "unseal after a change", |t| {
        t.unseal(&sealed, &[16]).map(drop)
    })
    .unwrap_err();
    clean(tpm, "unseal with other PCRs", |t| {
        t.unseal(&sealed, &[0]).map(drop)
    })
    .unwrap_err();
    clean(tpm, "unseal what is not ours", |t| {
        t.unseal(&foreign, &[16]).map(drop)
    })
    .unwrap_err();
    clean(tpm, "seal too much", |t| t.seal(&long, &[0])).unwrap_err();
    clean(tpm, "quote too much", |t| t.quote(&long, &[0])).unwrap_err();
    clean(tpm, "nv_read of nothing", |t| t.nv_read(INDEX)).unwrap_err();
    clean(tpm, "nv_write to nothing", |t| t.nv_write(INDEX, b"x")).unwrap_err();
    clean(tpm, "nv_undefine of nothing", |t| t.nv_undefine(INDEX)).unwrap_err();
    tpm.nv_define(INDEX, 4).unwrap();
    clean(tpm, "nv_define twice", |t| t.nv_define(INDEX, 4)).unwrap_err();
    clean(tpm, "nv_read before a write", |t| t.nv_read(INDEX)).unwrap_err();
    clean(tpm, "nv_write too much", |t| t.nv_write(INDEX, b"fives")).unwrap_err();
}

#[test]
fn nothing_is_left_when_the_owner_or_endorsement_hierarchy_has_a_password() {
    let swtpm = Swtpm::bare().unwrap();
    tool(&swtpm, "tpm2_changeauth", &["-co", "secret"]);
    tool(&swtpm, "tpm2_changeauth", &["-ce", "secret"]);
    let mut tpm = open(&swtpm);
    let tpm = &mut tpm;
    clean(tpm, "ensure_srk", |t| t.ensure_srk()).unwrap_err();
    clean(tpm, "ensure_ak", |t| t.ensure_ak()).unwrap_err();
    clean(tpm, "ek_public", |t| t.ek_public()).unwrap_err();
    clean(tpm, "nv_define", |t| t.nv_define(INDEX, 4)).unwrap_err();
}

#[test]
fn nothing_is_left_when_persisting_is_refused() {
    let mut swtpm = Swtpm::bare().unwrap();
    // The SRK is there, so the AK is made and loaded; then the owner's password keeps it from its place.
    open(&swtpm).ensure_srk().unwrap();
    tool(&swtpm, "tpm2_changeauth", &["-co", "secret"]);
    swtpm.power_cycle().unwrap();
    let mut tpm = open(&swtpm);
    clean(&mut tpm, "ensure_ak", |t| t.ensure_ak()).unwrap_err();
}

#[test]
fn a_thousand_quotes_take_no_more_of_the_tpm_than_one() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    tpm.ensure_ak().unwrap();
    clean(&mut tpm, "many quotes", |t| {
        for _ in 0..1000 {
            t.quote(b"n", &[0]).unwrap();
        }
    });
}
