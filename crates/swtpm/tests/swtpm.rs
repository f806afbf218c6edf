//! The fixture keeps its promises: certificates where the profile puts them, power cycles, nothing left behind.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

use bootkeep_swtpm::Swtpm;

fn tool(swtpm: &Swtpm, name: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(name);
    command.env("TPM2TOOLS_TCTI", swtpm.tcti()).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    output.stdout
}

#[test]
fn certificates_are_in_nv_and_chain_to_the_roots() {
    let swtpm = Swtpm::certified().unwrap();
    swtpm.certify_p256().unwrap();
    let root = swtpm.roots().join("swtpm-localca-rootca-cert.pem");
    let issuer = swtpm.roots().join("issuercert.pem");
    for index in ["0x01c00002", "0x01c0000a"] {
        let file = swtpm.state().join(index);
        std::fs::write(&file, tool(&swtpm, "tpm2_nvread", &[index, "-Co"])).unwrap();
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-ignore_critical", "-CAfile"]);
        verify.arg(&root).arg("-untrusted").arg(&issuer).arg(&file);
        let output = verify.output().unwrap();
        assert!(output.status.success(), "{index}: {output:?}");
    }
}

#[test]
fn a_power_cycle_clears_pcrs_and_a_drop_leaves_nothing() {
    let mut swtpm = Swtpm::bare().unwrap();
    let value = |swtpm: &Swtpm| tool(swtpm, "tpm2_pcrread", &["sha256:16"]);
    let fresh = value(&swtpm);
    let digest = format!("16:sha256={}", "11".repeat(32));
    tool(&swtpm, "tpm2_pcrextend", &[&digest]);
    assert_ne!(value(&swtpm), fresh);
    swtpm.power_cycle().unwrap();
    assert_eq!(value(&swtpm), fresh);
    let state = swtpm.state().to_owned();
    drop(swtpm);
    assert!(!Path::new(&state).exists());
}
