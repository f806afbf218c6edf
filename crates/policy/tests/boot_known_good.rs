//! Boot policies made from known-good boots: they accept these boots, survive the updates the rules are for, and no more.
#![allow(clippy::unwrap_used)]

mod boot_log;

use boot_log::{sha256, wide, Boot, COMMAND_LINE};
use bootkeep_evidence::eventlog::{kind, EventLog, Guid};
use bootkeep_policy::{
    BootPolicy, KnownGood, KnownGoodOptions, Live, MadeBootPolicy, PolicyError, RuleChoice,
};

fn made(boots: &[Boot], rules: RuleChoice) -> MadeBootPolicy {
    let boots: Vec<KnownGood> = boots.iter().map(Boot::good).collect();
    let options = KnownGoodOptions {
        rules,
        without: Vec::new(),
    };
    BootPolicy::from_known_good(&boots, &options).unwrap()
}

/// GRUB and kernel of an update, signed by the same keys.
fn updated() -> Boot {
    let mut boot = Boot::shim_grub();
    for (needle, contents) in [("shimx64", "shim 15.9"), ("grubx64", "grub 2.12")] {
        boot.at(needle).digest = sha256(contents.as_bytes());
    }
    let kernel = boot
        .events
        .iter()
        .rposition(|event| event.pcr == 4)
        .unwrap();
    boot.events[kernel].digest = sha256(b"kernel 6.1.0-56");
    boot
}

#[test]
fn signers_survive_an_update_of_what_they_sign() {
    let MadeBootPolicy { policy, notes } = made(&[Boot::shim_grub()], RuleChoice::Signers);
    assert!(
        notes.iter().any(|note| note.contains("any image")),
        "{notes:?}"
    );
    Boot::shim_grub().held_against(&policy).unwrap();
    updated().held_against(&policy).unwrap();
    let mut other = updated();
    other.authority(Guid::SHIM, "MokList", boot_log::db_signatures()[0]);
    assert!(other
        .held_against(&policy)
        .unwrap_err()
        .has("boot.stages.signer"));
    let mut off = Boot::shim_grub();
    let data = boot_log::variable(Guid::GLOBAL, "SecureBoot", &[0]);
    let event = off.at("SecureBoot");
    (event.digest, event.data) = (sha256(&data), data);
    assert!(off
        .held_against(&policy)
        .unwrap_err()
        .has("boot.secure_boot.off"));
    let mut shell = Boot::shim_grub();
    shell.grub("kernel_cmdline", &format!("{COMMAND_LINE} rd.break"));
    let refusal = shell.held_against(&policy).unwrap_err();
    assert!(
        refusal.has("boot.kernel_command_line.forbidden"),
        "{refusal}"
    );
}

#[test]
fn digests_do_not_and_several_boots_join() {
    let one = made(&[Boot::shim_grub()], RuleChoice::Digests).policy;
    Boot::shim_grub().held_against(&one).unwrap();
    let refusal = updated().held_against(&one).unwrap_err();
    assert!(refusal.has("boot.stages.unknown"), "{refusal}");
    let both = made(&[Boot::shim_grub(), updated()], RuleChoice::Digests).policy;
    Boot::shim_grub().held_against(&both).unwrap();
    updated().held_against(&both).unwrap();
}

#[test]
fn other_kernels_may_have_other_versions_in_their_names() {
    let policy = made(&[Boot::shim_grub()], RuleChoice::Signers).policy;
    let mut boot = updated();
    let newer = COMMAND_LINE.replace("6.1.0-50", "6.1.0-56");
    for (label, old, text) in [
        ("grub_cmd", "grub_cmd: linux", format!("linux {newer}")),
        ("kernel_cmdline", "kernel_cmdline", newer.clone()),
        (
            "grub_cmd",
            "grub_cmd: initrd",
            "initrd /initrd.img-6.1.0-56-amd64".into(),
        ),
    ] {
        let event = boot.at(old);
        event.digest = sha256(text.as_bytes());
        event.data = format!("{label}: {text}\0").into_bytes();
    }
    boot.at("LoadOptions").digest = sha256(&wide(&format!("BOOT_IMAGE={newer}\0")));
    // Its digest in PCR 9 is that of a text which passed.
    boot.held_against(&policy).unwrap();
    boot.at("LoadOptions").digest = sha256(&wide("BOOT_IMAGE=/vmlinuz init=/bin/sh\0"));
    let refusal = boot.held_against(&policy).unwrap_err();
    assert!(refusal.has("boot.unlisted"), "{refusal}");
}

#[test]
fn a_unified_kernel_image() {
    let mut boot = Boot::uki();
    boot.phases = vec!["enter-initrd", "leave-initrd", "sysinit", "ready"];
    boot.latched = true;
    let MadeBootPolicy { policy, notes } = made(&[boot.clone()], RuleChoice::Signers);
    assert!(
        notes.iter().any(|note| note.contains("uki.signed")),
        "{notes:?}"
    );
    boot.held_against(&policy).unwrap();
    let mut early = Boot::uki();
    early.phases = vec!["enter-initrd"];
    early.held_against(&policy).unwrap();
    let mut other = early;
    let index = other.find(".initrd") + 1;
    other.events[index].digest = sha256(b"other");
    let refusal = other.held_against(&policy).unwrap_err();
    assert!(refusal.has("boot.uki.section"), "{refusal}");
}

#[test]
fn real_boots() {
    for name in ["debian12-ovmf.bin", "debian12-seabios.bin"] {
        let path = format!(
            "{}/../../fuzz/corpus/event_log/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        let log = EventLog::parse(&std::fs::read(path).unwrap()).unwrap();
        let good = KnownGood {
            pcrs: log.replay(),
            event_log: Some(log.clone()),
            ..Boot::shim_grub().good()
        };
        for rules in [RuleChoice::Signers, RuleChoice::Digests] {
            let options = KnownGoodOptions {
                rules,
                without: vec![1],
            };
            let made = BootPolicy::from_known_good(std::slice::from_ref(&good), &options).unwrap();
            let live = Live::from(&made.policy);
            live.dry_run(&log.replay(), Some(&log), None).unwrap();
            let mut other = log.replay();
            other.set(9, [7; 32]);
            live.dry_run(&other, Some(&log), None).unwrap_err();
        }
    }
}

#[test]
fn boots_that_explain_nothing_make_no_policy() {
    let options = KnownGoodOptions::default();
    let mut boot = Boot::shim_grub();
    boot.lie().covered(4, kind::EV_EFI_ACTION, b"x");
    let result = BootPolicy::from_known_good(&[boot.good()], &options);
    assert!(matches!(
        result,
        Err(PolicyError::KnownGood { boot: 1, .. })
    ));
    let mut boot = Boot::shim_grub();
    boot.at("SecureBoot").kind = kind::EV_IPL;
    let result = BootPolicy::from_known_good(&[Boot::shim_grub().good(), boot.good()], &options);
    assert!(matches!(
        result,
        Err(PolicyError::KnownGood { boot: 2, .. })
    ));
    let none = BootPolicy::from_known_good(&[], &options).unwrap();
    assert!(none.policy.is_empty());
}
