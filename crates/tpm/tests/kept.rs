//! The U a node keeps: which boot may read it, and which may not.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use bootkeep_authorize::{access_policy, from_pcr_signatures, public_from_pem, AuthorityKey};
use bootkeep_protocol::kept::SignedPcrPolicy;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::Authority;
use bootkeep_tpm::{KeptError, KeptShare, KeptSlot, Tpm, TpmError};
use common::{clean, open, tool};
use sha2::{Digest, Sha256};

const OWNER: &str = include_str!("data/authorize.key");
const OTHER: &str = include_str!("data/other.key");
/// systemd's signatures of PCR 11, and the key they were made with.
const PCRSIG: &[u8] = include_bytes!("../../policy/tests/data/uki/pcrsig.json");
const VENDOR: &str = include_str!("../../policy/tests/data/uki/pub.pem");

const ID: [u8; 16] = [7; 16];
const U: [u8; 32] = [0x55; 32];

fn owner() -> AuthorityKey {
    AuthorityKey::from_pem(OWNER, b"web").unwrap()
}

fn values(tpm: &mut Tpm, pcrs: &[u8]) -> BTreeMap<u8, [u8; 32]> {
    tpm.pcr_read(pcrs).unwrap().into_iter().collect()
}

/// Signs the present boot.
fn sign(tpm: &mut Tpm, key: &AuthorityKey, pcrs: &[u8]) -> SignedPcrPolicy {
    let values = values(tpm, pcrs);
    key.sign(pcrs, &values).unwrap()
}

fn keep(tpm: &mut Tpm, slot: KeptSlot, authorities: &[Authority]) {
    let policy = access_policy(authorities).unwrap();
    clean(tpm, "write", |tpm| tpm.write_kept(slot, &policy, &ID, &U)).unwrap();
}

fn read(
    tpm: &mut Tpm,
    authorities: &[Authority],
    policies: &[SignedPcrPolicy],
) -> Result<KeptShare, KeptError> {
    clean(tpm, "read", |tpm| {
        tpm.read_kept(KeptSlot::A, authorities, policies)
    })
}

fn is_ours(share: &KeptShare) -> bool {
    share.id == ID && *share.u == U
}

#[test]
fn a_signed_boot_reads_it_and_another_does_not() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let (owner, pcrs) = (owner(), [4, 9, 14]);
    let authorities = [owner.authority().clone()];
    let none = read(&mut tpm, &authorities, &[]).unwrap_err();
    assert!(matches!(none, KeptError::Absent));
    keep(&mut tpm, KeptSlot::A, &authorities);

    let old = sign(&mut tpm, &owner, &pcrs);
    assert!(is_ours(
        &read(&mut tpm, &authorities, std::slice::from_ref(&old)).unwrap()
    ));

    // An updated boot: nothing fits, until the owner signs it.
    tpm.pcr_extend(9, &[1; 32]).unwrap();
    let refused = read(&mut tpm, &authorities, std::slice::from_ref(&old)).unwrap_err();
    assert!(matches!(refused, KeptError::NoPolicyFits));
    let new = sign(&mut tpm, &owner, &pcrs);
    assert!(is_ours(&read(&mut tpm, &authorities, &[old, new]).unwrap()));
}

#[test]
fn nothing_reads_it_after_the_latch() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let owner = owner();
    let authorities = [owner.authority().clone()];
    keep(&mut tpm, KeptSlot::A, &authorities);
    let signed = [sign(&mut tpm, &owner, &[4])];
    tpm.pcr_extend(15, &[1; 32]).unwrap();
    let latched = read(&mut tpm, &authorities, &signed).unwrap_err();
    assert!(matches!(latched, KeptError::NoPolicyFits), "{latched}");
    // The running system may still write the staged slot, and learns nothing by it.
    clean(&mut tpm, "stage", |tpm| tpm.stage_kept(&[8; 16], &[9; 32])).unwrap();
    let staged = tpm.read_kept(KeptSlot::Staged, &authorities, &signed);
    assert!(matches!(staged, Err(KeptError::NoPolicyFits)));
}

#[test]
fn other_signers_references_and_changed_policies_do_not_count() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let owner = owner();
    let authorities = [owner.authority().clone()];
    keep(&mut tpm, KeptSlot::A, &authorities);
    let good = sign(&mut tpm, &owner, &[4, 7]);
    let other = AuthorityKey::from_pem(OTHER, b"web").unwrap();
    let reference = AuthorityKey::from_pem(OWNER, b"db").unwrap();
    let mut signature = good.clone();
    *signature.signature.0.last_mut().unwrap() ^= 1;
    let mut selection = good.clone();
    selection.pcrs = vec![4, 9];
    for (what, policy) in [
        ("another key", sign(&mut tpm, &other, &[4, 7])),
        ("another reference", sign(&mut tpm, &reference, &[4, 7])),
        ("a changed signature", signature),
        ("another selection", selection),
    ] {
        let refused = read(&mut tpm, &authorities, &[policy]).unwrap_err();
        assert!(matches!(refused, KeptError::NoPolicyFits), "{what}");
    }
    // Whoever brings an authority of his own does not get in either: the TPM knows the owner's.
    let theirs = [other.authority().clone()];
    let signed = [sign(&mut tpm, &other, &[4, 7])];
    let refused = read(&mut tpm, &theirs, &signed).unwrap_err();
    assert!(matches!(refused, KeptError::OtherAuthorities));
    assert!(is_ours(&read(&mut tpm, &authorities, &[good]).unwrap()));
}

#[test]
fn neither_the_owner_nor_a_password_reads_it() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    keep(&mut tpm, KeptSlot::A, &[owner().authority().clone()]);
    let index = KeptSlot::A.index();
    let refused = tpm.nv_read(index).unwrap_err();
    assert!(matches!(refused, TpmError::NvUnreadable { .. }));
    drop(tpm);
    for hierarchy in ["o", &format!("0x{index:08x}")] {
        let mut command = std::process::Command::new("tpm2_nvread");
        command.env("TPM2TOOLS_TCTI", swtpm.tcti());
        let output = command
            .args(["-C", hierarchy, &format!("0x{index:08x}")])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{hierarchy}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn it_survives_a_power_cycle_and_not_a_clear() {
    let mut swtpm = Swtpm::bare().unwrap();
    let owner = owner();
    let authorities = [owner.authority().clone()];
    let mut tpm = open(&swtpm);
    keep(&mut tpm, KeptSlot::A, &authorities);
    drop(tpm);
    swtpm.power_cycle().unwrap();
    let mut tpm = open(&swtpm);
    let signed = [sign(&mut tpm, &owner, &[4])];
    assert!(is_ours(&read(&mut tpm, &authorities, &signed).unwrap()));
    drop(tpm);
    tool(&swtpm, "tpm2_clear", &["-c", "p"]);
    let gone = read(&mut open(&swtpm), &authorities, &signed).unwrap_err();
    assert!(matches!(gone, KeptError::Absent));
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What systemd-stub measures of the image that the vendor's signatures are of.
fn measure_image(tpm: &mut Tpm) {
    for (name, data) in [
        (".linux\0", &b"kernel"[..]),
        (".osrel\0", b"ID=debian\n"),
        (".cmdline\0", b"root=/dev/mapper/cryptroot ro quiet"),
        (".initrd\0", b"initramfs"),
        (".pcrpkey\0", VENDOR.as_bytes()),
    ] {
        tpm.pcr_extend(11, &digest(name.as_bytes())).unwrap();
        tpm.pcr_extend(11, &digest(data)).unwrap();
    }
}

#[test]
fn owner_and_vendor_both_open_it() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let owner = owner();
    let vendor = public_from_pem(VENDOR, &[]).unwrap();
    let authorities = [owner.authority().clone(), vendor.clone()];
    keep(&mut tpm, KeptSlot::A, &authorities);
    let by_owner = sign(&mut tpm, &owner, &[4]);
    assert!(is_ours(&read(&mut tpm, &authorities, &[by_owner]).unwrap()));
    let by_vendor = from_pcr_signatures(PCRSIG).unwrap();
    let refused = read(&mut tpm, &authorities, &by_vendor).unwrap_err();
    assert!(matches!(refused, KeptError::NoPolicyFits));
    measure_image(&mut tpm);
    let refused = read(&mut tpm, &authorities, &by_vendor).unwrap_err();
    assert!(
        matches!(refused, KeptError::NoPolicyFits),
        "before the first phase"
    );
    tpm.pcr_extend(11, &digest(b"enter-initrd")).unwrap();
    assert!(is_ours(&read(&mut tpm, &authorities, &by_vendor).unwrap()));
    // And the order of authorities is part of the policy.
    let turned = [vendor, owner.authority().clone()];
    let refused = read(&mut tpm, &turned, &by_vendor).unwrap_err();
    assert!(matches!(refused, KeptError::OtherAuthorities));
}

#[test]
fn new_authorities_take_the_slot_over() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let (owner, other) = (owner(), AuthorityKey::from_pem(OTHER, b"web").unwrap());
    keep(&mut tpm, KeptSlot::A, &[other.authority().clone()]);
    keep(&mut tpm, KeptSlot::A, &[owner.authority().clone()]);
    let signed = [sign(&mut tpm, &owner, &[4])];
    let authorities = [owner.authority().clone()];
    assert!(is_ours(&read(&mut tpm, &authorities, &signed).unwrap()));
}

#[test]
fn what_others_keep_there_is_left_alone() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    tpm.nv_define(KeptSlot::A.index(), 64).unwrap();
    let policy = access_policy(&[owner().authority().clone()]).unwrap();
    let refused = tpm.write_kept(KeptSlot::A, &policy, &ID, &U).unwrap_err();
    assert!(matches!(refused, TpmError::ForeignNv { .. }));
    let nothing = tpm.stage_kept(&ID, &U).unwrap_err();
    assert!(matches!(
        nothing,
        KeptError::Tpm(TpmError::ForeignNv { .. })
    ));
}

#[test]
fn what_was_kept_can_be_removed() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let owner = owner();
    let authorities = [owner.authority().clone()];
    keep(&mut tpm, KeptSlot::A, &authorities);
    let signed = [sign(&mut tpm, &owner, &[4])];
    for _ in 0..2 {
        clean(&mut tpm, "forget", |tpm| tpm.forget_kept(KeptSlot::A)).unwrap();
        let gone = read(&mut tpm, &authorities, &signed).unwrap_err();
        assert!(matches!(gone, KeptError::Absent));
    }
}

#[test]
fn staging_needs_a_slot_that_is_there() {
    let swtpm = Swtpm::bare().unwrap();
    let refused = open(&swtpm).stage_kept(&ID, &U).unwrap_err();
    assert!(matches!(refused, KeptError::NoSlot));
}
