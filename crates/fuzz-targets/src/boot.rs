//! Events of the boot, what they hold, and policies about them.

use bootkeep_evidence::eventlog::{
    device_path_text, kind, Claim, Event, EventLog, SbatLevel, SignatureLists,
};
use bootkeep_policy::{
    predict, BootPolicy, Live, NewConfig, NewKernel, NewLoader, NewUki, NextBoot, Rename,
};

/// Types whose data is read only where it is covered.
const READ: [u32; 6] = [
    kind::EV_EFI_VARIABLE_DRIVER_CONFIG,
    kind::EV_EFI_VARIABLE_AUTHORITY,
    kind::EV_EFI_GPT_EVENT,
    kind::EV_EFI_ACTION,
    kind::EV_S_CRTM_VERSION,
    kind::EV_IPL,
];

/// The input as one event's data, under every type that is read: with a digest of something else nothing of it is
/// believed.
pub fn boot_event(input: &[u8]) {
    for event_type in READ {
        let mut event = Event {
            number: 1,
            pcr: 7,
            event_type,
            digest: [7; 32],
            data: input.to_vec(),
        };
        assert!(matches!(event.claim(), Err(_) | Ok(Claim::Opaque(_))));
        event.digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input)
            .as_ref()
            .try_into()
            .expect("a SHA-256 digest has 32 bytes");
        if let Ok(Claim::Variable(variable)) = event.claim() {
            let _ = variable.signature_lists();
        }
        let _ = event.to_string();
    }
    let _ = (device_path_text(input), SbatLevel::parse(input));
}

/// A key database: entries are never more than the bytes that are there.
pub fn signature_lists(input: &[u8]) {
    if let Ok(lists) = SignatureLists::parse(input) {
        assert!(lists.entries().len() <= input.len() / 17);
    }
}

/// A boot policy: what is read can be written and read again, and judges a real boot without a panic.
pub fn boot_policy(input: &[u8]) {
    const LOG: &[u8] = include_bytes!("../../../fuzz/corpus/event_log/debian12-ovmf.bin");
    let Ok(policy) = BootPolicy::from_yaml(input) else {
        return;
    };
    let value = policy.to_value().expect("a policy can be written");
    let again = BootPolicy::from_value(value).expect("what was written can be read");
    assert_eq!(again, policy);
    let log = EventLog::parse(LOG).expect("the log of the corpus");
    let result = Live::from(&policy).dry_run(&log.replay(), Some(&log), None);
    assert!(!policy.is_empty() || result.is_err());
    let _ = (policy.warnings(), policy.summary());
}

/// A log as the base of a prediction: without a change it stays as it is, with changes it has at most more sections.
pub fn boot_predict(input: &[u8]) {
    let Ok(log) = EventLog::parse(input) else {
        return;
    };
    if let Ok(same) = predict(&log, &NextBoot::default()) {
        assert!(same.log == log && same.open.is_empty());
    }
    let all = NextBoot {
        rename: Some(Rename {
            from: "6.1.0-50-amd64".to_owned(),
            to: "6.1.0-56-amd64".to_owned(),
        }),
        kernel: Some(NewKernel::read(b"kernel")),
        initrd: Some([1; 32].into()),
        config: Some(NewConfig::read(b"menuentry 'Debian' {\n}\n")),
        command_line: Some("ro quiet".to_owned()),
        ..NextBoot::default()
    };
    if let Ok(next) = predict(&log, &all) {
        assert_eq!(next.log.events().len(), log.events().len());
    }
}

/// A boot file: PE image, unified kernel image, `grub.cfg`.
pub fn boot_image(input: &[u8]) {
    let _ = (NewKernel::read(input), NewLoader::read("x.efi", input));
    if let Ok(uki) = NewUki::read(input) {
        assert!(uki.contents.is_some());
    }
    const LOG: &[u8] = include_bytes!("../../../fuzz/corpus/event_log/made-shim-grub.bin");
    let log = EventLog::parse(LOG).expect("the log of the corpus");
    let next = NextBoot {
        config: Some(NewConfig::read(input)),
        ..NextBoot::default()
    };
    assert!(predict(&log, &next).is_ok());
}
