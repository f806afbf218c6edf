//! A boot policy that accepts the next boot too: alternatives are added, what it asks for stays.
#![allow(clippy::unwrap_used)]

mod boot_log;

use boot_log::{
    images::{authenticode, uki_boot, KERNEL_50, KERNEL_56, UKI_50, UKI_56},
    sha256, Boot, GrubFiles,
};
use bootkeep_evidence::ClockInfo;
use bootkeep_policy::{
    predict, BootOptions, BootPolicy, KnownGoodOptions, NewConfig, NewKernel, NewUki, NextBoot,
    PolicyError, Predicted, Rename, RuleChoice,
};

const CLOCK: ClockInfo = ClockInfo {
    clock: 1,
    reset_count: 1,
    restart_count: 0,
    safe: true,
};

fn made(boot: &Boot, rules: RuleChoice) -> BootPolicy {
    let options = KnownGoodOptions {
        rules,
        without: Vec::new(),
    };
    BootPolicy::from_known_good(&[boot.good()], &options)
        .unwrap()
        .policy
}

fn grub_files(version: &str, kernel: &[u8]) -> GrubFiles {
    GrubFiles {
        version: version.into(),
        kernel: kernel.to_vec(),
        authenticode: authenticode(kernel),
        initrd: format!("initramfs {version}").into_bytes(),
        config: format!("menuentry 'Debian' {{\n\tlinux {version}\n}}\n").into_bytes(),
        menu: format!("menuentry Debian {{\n\tlinux {version}\n}}"),
        parameters: "root=/dev/mapper/cryptroot ro quiet".into(),
    }
}

fn to_56() -> (GrubFiles, NextBoot) {
    let files = grub_files("6.1.0-56-amd64", KERNEL_56);
    let next = NextBoot {
        rename: Some(Rename {
            from: "6.1.0-50-amd64".into(),
            to: files.version.clone(),
        }),
        kernel: Some(NewKernel::read(&files.kernel)),
        initrd: Some(sha256(&files.initrd).into()),
        config: Some(NewConfig::read(&files.config)),
        ..NextBoot::default()
    };
    (files, next)
}

fn foretold(boot: &Boot, next: &NextBoot) -> Predicted {
    predict(&boot.log(), next).unwrap()
}

#[test]
fn old_and_new_boots_pass_and_no_other() {
    for rules in [RuleChoice::Digests, RuleChoice::Signers] {
        let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
        let (files, next) = to_56();
        let new = Boot::of_grub(&files);
        let policy = made(&old, rules);
        assert!(new.held_against(&policy).is_err());
        let extended = policy.extended(&foretold(&old, &next), CLOCK).unwrap();
        old.held_against(&extended.policy).unwrap();
        new.held_against(&extended.policy).unwrap();
        let mut other = new.clone();
        other.at("initrd.img-6.1.0-56-amd64\0").digest = sha256(b"initramfs of an attacker");
        assert!(other.held_against(&extended.policy).is_err());
        let again = extended.policy.extended(&foretold(&old, &next), CLOCK);
        assert_eq!(
            again.unwrap().policy,
            extended.policy,
            "nothing is added twice"
        );
    }
}

#[test]
fn images_with_their_kernel_inside() {
    let mut old = uki_boot(UKI_50, KERNEL_50, "50");
    let mut new = uki_boot(UKI_56, KERNEL_56, "56");
    let policy = made(&old, RuleChoice::Digests);
    let next = NextBoot {
        uki: Some(NewUki::read(UKI_56).unwrap()),
        ..NextBoot::default()
    };
    assert!(new.held_against(&policy).is_err());
    let extended = policy
        .extended(&foretold(&old, &next), CLOCK)
        .unwrap()
        .policy;
    for boot in [&mut old, &mut new] {
        boot.held_against(&extended).unwrap();
        boot.phases = vec!["enter-initrd"];
        boot.held_against(&extended).unwrap();
    }
}

#[test]
fn a_newer_stub_leaves_pcr_9_out() {
    let old = uki_boot(UKI_50, KERNEL_50, "50");
    let mut uki = NewUki::read(UKI_56).unwrap();
    let contents = uki.contents.as_mut().unwrap();
    (contents.initrd, contents.stub) = (None, 257);
    let next = NextBoot {
        uki: Some(uki),
        ..NextBoot::default()
    };
    let predicted = foretold(&old, &next);
    let extended = made(&old, RuleChoice::Digests)
        .extended(&predicted, CLOCK)
        .unwrap();
    assert!(extended.notes[0].contains("PCR 9"), "{:?}", extended.notes);
    old.held_against(&extended.policy).unwrap();
    let mut new = uki_boot(UKI_56, KERNEL_56, "56");
    new.held_against(&extended.policy).unwrap();
    new.at("Linux initrd").digest = [3; 32];
    new.held_against(&extended.policy).unwrap();
    new.at(".\0i\0n\0i\0t\0r\0d").digest = [3; 32];
    assert!(new.held_against(&extended.policy).is_err());
}

#[test]
fn rules_on_what_is_not_known_stop_it() {
    let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
    let policy = made(&old, RuleChoice::Digests);
    let (_, mut next) = to_56();
    next.config = None;
    let refused = policy.extended(&foretold(&old, &next), CLOCK);
    assert!(
        matches!(refused, Err(PolicyError::Open { .. })),
        "{refused:?}"
    );
}

#[test]
fn nothing_is_asked_for_less() {
    let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
    let policy = made(&old, RuleChoice::Digests);
    let with = |line: &str| NextBoot {
        command_line: Some(line.into()),
        ..NextBoot::default()
    };
    for line in [
        "root=/dev/mapper/cryptroot ro quiet init=/bin/sh",
        "root=/dev/mapper/cryptroot ro quiet rd.break",
        "root=/dev/sda1 ro quiet",
        "ro quiet",
    ] {
        let refused = policy.extended(&foretold(&old, &with(line)), CLOCK);
        assert!(
            matches!(refused, Err(PolicyError::NextBoot(_))),
            "{line}: {refused:?}"
        );
    }
    let line = "root=/dev/mapper/cryptroot ro quiet mitigations=auto";
    let extended = policy
        .extended(&foretold(&old, &with(line)), CLOCK)
        .unwrap();
    old.held_against(&extended.policy).unwrap();
}

#[test]
fn policies_of_values_too() {
    let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
    let (files, next) = to_56();
    let new = Boot::of_grub(&files);
    let options = BootOptions { without: vec![1] };
    let policy = BootPolicy::from_evidence(&old.pcrs(), Some(&old.log()), &options).unwrap();
    assert!(new.held_against(&policy).is_err());
    let extended = policy
        .extended(&foretold(&old, &next), CLOCK)
        .unwrap()
        .policy;
    old.held_against(&extended).unwrap();
    new.held_against(&extended).unwrap();
}
