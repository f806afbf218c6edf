//! Device mapper's critical data, with the examples of the kernel's documentation.
#![allow(clippy::unwrap_used)]

use bootkeep_evidence::ima::{DmEvent, DmEventKind};
use proptest::prelude::*;

const LINEAR: &str = "dm_version=4.45.0;name=linear1,uuid=,major=253,minor=0,minor_count=1,num_targets=2;\
    target_index=0,target_begin=0,target_len=2,target_name=linear,target_version=1.4.0,device_name=7:0,start=512;\
    target_index=1,target_begin=2,target_len=2,target_name=linear,target_version=1.4.0,device_name=7:0,start=512;";
const VERITY: &str = "dm_version=4.45.0;name=test-verity,uuid=CRYPT-VERITY-1,major=253,minor=2,minor_count=1,\
    num_targets=1;target_index=0,target_begin=0,target_len=1953120,target_name=verity,target_version=1.8.0,\
    hash_failed=V,verity_version=1,data_device_name=253:1,hash_device_name=253:0,verity_algorithm=sha256,\
    root_digest=29cb87e60ce7b12b443ba6008266f3e41e93e403d7f298f8e3f316b29ff89c5e,\
    salt=e48da609055204e89ae53b655ca2216dd983cf3cb829f34f63a297d106d53e2d,ignore_zero_blocks=n,\
    check_at_most_once=n;";

fn parse(name: &str, text: &str) -> Result<DmEvent, &'static str> {
    DmEvent::parse(DmEventKind::of(name).unwrap(), text.as_bytes())
}

fn names(event: &DmEvent) -> Vec<(&str, &str)> {
    event
        .devices
        .iter()
        .map(|device| (device.name.as_str(), device.uuid.as_str()))
        .collect()
}

#[test]
fn tables_are_read() {
    let event = parse("dm_table_load", LINEAR).unwrap();
    assert_eq!(names(&event), [("linear1", "")]);
    assert_eq!(event.targets.len(), 2);
    let event = parse("dm_table_load", VERITY).unwrap();
    assert_eq!(names(&event), [("test-verity", "CRYPT-VERITY-1")]);
    assert_eq!(event.targets[0]["target_name"], "verity");
    assert!(event.targets[0]["root_digest"].starts_with("29cb87e6"));
}

#[test]
fn other_events_name_their_devices() {
    let meta = "name=linear1,uuid=,major=253,minor=0,minor_count=1,num_targets=4;";
    let hash = "active_table_hash=sha256:4d73481e;";
    for (name, text, expected) in [
        (
            "dm_device_resume",
            format!("dm_version=4.45.0;{meta}{hash}current_device_capacity=8;"),
            vec!["linear1"],
        ),
        (
            "dm_device_resume",
            "dm_version=4.45.0;name=a,uuid=b;device_resume=no_data;\0\0\0current_device_capacity=8;".into(),
            vec!["a"],
        ),
        (
            "dm_device_remove",
            format!(
                "dm_version=4.45.0;device_active_metadata={meta}device_inactive_metadata={meta}\
                 active_table_hash=sha256:4d,inactive_table_hash=sha256:55,remove_all=n;current_device_capacity=8;"
            ),
            vec!["linear1", "linear1"],
        ),
        (
            "dm_table_clear",
            format!("dm_version=4.45.0;{meta}inactive_table_hash=sha256:55;current_device_capacity=0;"),
            vec!["linear1"],
        ),
        (
            "dm_device_rename",
            format!("dm_version=4.45.0;{meta}new_name=linear\\=2,new_uuid=1234-5678;current_device_capacity=2;"),
            vec!["linear1", "linear=2"],
        ),
    ] {
        let event = parse(name, &text).unwrap();
        let found: Vec<_> = names(&event).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(DmEventKind::of("table_load"), None);
}

#[test]
fn escapes_are_understood() {
    let text = LINEAR.replace("name=linear1,", r"name=a\\\,b\;\=c,");
    assert_eq!(
        parse("dm_table_load", &text).unwrap().devices[0].name,
        r"a\,b;=c"
    );
}

/// A text that somebody chose must not be able to stand for another table.
#[test]
fn what_may_have_been_smuggled_in_is_refused() {
    for (from, to, problem) in [
        (
            "hash_failed=V",
            "hash_failed=V,root_digest=00",
            "a key comes twice",
        ),
        ("hash_failed=V", "hash_failed", "a field is not key=value"),
        (
            "hash_failed=V",
            "hash_failed=V=W",
            "a field has more than one =",
        ),
        (
            "num_targets=1",
            "num_targets=2",
            "the table does not have the number of targets it says",
        ),
        (
            "check_at_most_once=n;",
            "check_at_most_once=n;target_index=1,target_name=linear;",
            "the table does not have the number of targets it says",
        ),
        (
            "target_index=0",
            "target_index=1",
            "its targets are not counted from 0",
        ),
        (
            "target_index=0",
            "name=b,uuid=;target_index=0",
            "it names several devices",
        ),
        (
            "name=test-verity,uuid=CRYPT-VERITY-1",
            "uuid=CRYPT-VERITY-1",
            "it names no device",
        ),
        (
            "check_at_most_once=n;",
            "check_at_most_once=n;name=c,uuid=;",
            "a device comes after its targets",
        ),
    ] {
        assert!(VERITY.contains(from));
        let text = VERITY.replacen(from, to, 1);
        assert_eq!(parse("dm_table_load", &text), Err(problem), "{text}");
    }
    assert!(parse("dm_table_load", "").is_err());
    let kind = DmEventKind::Load;
    assert!(DmEvent::parse(kind, &[0xff]).is_err());
    assert!(DmEvent::parse(kind, &vec![b';'; 100_000]).is_err());
}

proptest! {
    #[test]
    fn nothing_makes_the_parser_panic(text in "[a-c,;=\\\\0-2]{0,80}") {
        for name in ["dm_table_load", "dm_device_rename"] {
            let _ = parse(name, &format!("name=a,uuid=,num_targets=1;target_index=0,{text}"));
            let _ = parse(name, &text);
        }
    }
}
