//! NV indices and sealed secrets.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{Sealed, TpmError};
use common::{open, tool};

const INDEX: u32 = 0x0180_b007;

#[test]
fn nv_keeps_what_is_written_over_a_power_cycle() {
    let mut swtpm = Swtpm::bare().unwrap();
    // More than one command carries.
    let bytes: Vec<u8> = (0..1300u32).map(|i| i as u8).collect();
    let mut tpm = open(&swtpm);
    tpm.nv_define(INDEX, 1300).unwrap();
    tpm.nv_write(INDEX, &bytes).unwrap();
    assert_eq!(tpm.nv_read(INDEX).unwrap(), bytes);
    drop(tpm);
    swtpm.power_cycle().unwrap();
    let mut tpm = open(&swtpm);
    assert_eq!(tpm.nv_read(INDEX).unwrap(), bytes);
    tpm.nv_undefine(INDEX).unwrap();
    let gone = tpm.nv_read(INDEX).unwrap_err();
    assert!(matches!(gone, TpmError::NvAbsent { index: INDEX }));
}

#[test]
fn an_unwritten_or_unreadable_index_says_so() {
    let swtpm = Swtpm::bare().unwrap();
    let attributes = "-aownerwrite|policyread|policywrite";
    tool(
        &swtpm,
        "tpm2_nvdefine",
        &["0x0180b008", "-Co", "-s4", attributes],
    );
    std::fs::write(swtpm.state().join("four"), b"four").unwrap();
    tool(&swtpm, "tpm2_nvwrite", &["0x0180b008", "-Co", "-ifour"]);
    let mut tpm = open(&swtpm);
    let unreadable = tpm.nv_read(0x0180_b008).unwrap_err();
    assert!(matches!(
        unreadable,
        TpmError::NvUnreadable { index: 0x0180_b008 }
    ));
    tpm.nv_define(INDEX, 4).unwrap();
    let unwritten = tpm.nv_read(INDEX).unwrap_err();
    assert!(matches!(unwritten, TpmError::NvAbsent { index: INDEX }));
}

#[test]
fn an_index_is_read_with_its_own_password_where_the_owner_has_one() {
    let swtpm = Swtpm::certified().unwrap();
    let certificate = open(&swtpm).ek_public().unwrap().certificate;
    tool(&swtpm, "tpm2_changeauth", &["-co", "secret"]);
    assert_eq!(open(&swtpm).ek_public().unwrap().certificate, certificate);
}

#[test]
fn a_sealed_secret_opens_until_its_pcr_changes() {
    let mut swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let (secret, pcrs) = ([0x42; 32], [7, 15]);
    let sealed = tpm.seal(&secret, &pcrs).unwrap();
    assert_eq!(tpm.unseal(&sealed, &pcrs).unwrap().as_slice(), secret);
    tpm.pcr_extend(0, &[1; 32]).unwrap();
    assert!(
        tpm.unseal(&sealed, &pcrs).is_ok(),
        "a PCR it is not sealed to"
    );
    tpm.pcr_extend(15, &[1; 32]).unwrap();
    assert!(tpm.unseal(&sealed, &pcrs).is_err(), "PCR 15 has changed");
    drop(tpm);
    swtpm.power_cycle().unwrap();
    let mut tpm = open(&swtpm);
    assert_eq!(tpm.unseal(&sealed, &pcrs).unwrap().as_slice(), secret);
}

#[test]
fn a_sealed_secret_opens_in_its_own_tpm_unchanged_only() {
    let (swtpm, other) = (Swtpm::bare().unwrap(), Swtpm::bare().unwrap());
    let mut tpm = open(&swtpm);
    let sealed = tpm.seal(b"secret", &[7]).unwrap();
    assert!(open(&other).unseal(&sealed, &[7]).is_err());
    for at in [0, sealed.private.len() / 2, sealed.private.len() - 1] {
        let mut changed = sealed.clone();
        changed.private[at] ^= 1;
        assert!(tpm.unseal(&changed, &[7]).is_err(), "private byte {at}");
    }
    let other_public = Sealed {
        public: tpm.seal(b"other", &[8]).unwrap().public,
        ..sealed.clone()
    };
    assert!(tpm.unseal(&other_public, &[8]).is_err());
    assert!(tpm.unseal(&sealed, &[8]).is_err(), "another selection");
    assert_eq!(tpm.unseal(&sealed, &[7]).unwrap().as_slice(), b"secret");
}

#[test]
fn an_unreachable_tpm_is_an_error() {
    let port = Swtpm::bare().unwrap().port();
    assert!(bootkeep_tpm::Tpm::open(&bootkeep_tpm::Tcti::Swtpm { port }).is_err());
}
