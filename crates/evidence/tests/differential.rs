//! Real captures, read by us and by others: `tpm2_eventlog` reads boot event logs, the kernel writes each measurement
//! list in two forms.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf, process::Command};

use bootkeep_evidence::{
    eventlog::EventLog,
    ima::{parse_ascii, parse_binary},
};

fn captures(kind: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<_> = fs::read_dir(folder.join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no captures in fuzz/corpus/{kind}");
    files
}

/// What `tpm2_eventlog` says of a log; `None` when it is not installed.
fn tool_says(file: &PathBuf) -> Option<String> {
    match Command::new("tpm2_eventlog").arg(file).output() {
        Ok(output) => {
            assert!(output.status.success(), "{file:?}: {output:?}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!in_ci, "tpm2_eventlog (tpm2-tools) must be there: {error}");
            eprintln!("SKIPPED: tpm2_eventlog (tpm2-tools) is not installed: {error}");
            None
        }
    }
}

/// One event as both can say it: PCR, type, SHA-256 digest, length of the data.
type Said = (String, String, String, String);

/// The events but the header, from the tool's YAML.
fn events_of(text: &str) -> Vec<Said> {
    text.split("\n- EventNum:").skip(2).map(event_of).collect()
}

fn event_of(text: &str) -> Said {
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
        line.unwrap_or_default().trim_matches([' ', '"']).to_owned()
    };
    let after_algorithm = text.split_once("AlgorithmId: sha256").unwrap().1;
    (
        value(text, "PCRIndex:"),
        value(text, "EventType:"),
        value(after_algorithm, "Digest:"),
        value(text, "EventSize:"),
    )
}

/// The PCRs of the SHA-256 bank the tool gets from the log.
fn pcrs_of(text: &str) -> Vec<(u8, String)> {
    let bank = text.split_once("\npcrs:\n").unwrap().1;
    let bank = bank.split_once("sha256:\n").unwrap().1;
    bank.lines()
        .map_while(|line| line.split_once(" : 0x"))
        .map(|(index, value)| (index.trim().parse().unwrap(), value.to_owned()))
        .collect()
}

#[test]
fn boot_event_logs_say_the_same_to_tpm2_eventlog() {
    for file in captures("event_log") {
        let Some(text) = tool_says(&file) else {
            return;
        };
        let log = EventLog::parse(&fs::read(&file).unwrap()).unwrap();
        let ours: Vec<Said> = log
            .events()
            .iter()
            .map(|event| {
                (
                    event.pcr.to_string(),
                    event.type_name().to_owned(),
                    hex::encode(event.digest),
                    event.data.len().to_string(),
                )
            })
            .collect();
        assert_eq!(ours, events_of(&text), "{file:?}");
        let replayed = log.replay();
        let theirs = pcrs_of(&text);
        assert!(theirs.len() >= 8, "{file:?}: {theirs:?}");
        for (index, value) in theirs {
            let ours = hex::encode(replayed.get(index).unwrap());
            assert_eq!(ours, value, "{file:?} PCR {index}");
        }
    }
}

#[test]
fn every_event_of_a_real_boot_is_covered_or_known_not_to_be() {
    for file in captures("event_log") {
        let log = EventLog::parse(&fs::read(&file).unwrap()).unwrap();
        let uncovered: Vec<_> = log
            .events()
            .iter()
            .filter(|event| event.digest_covers_data() == Some(false))
            .map(ToString::to_string)
            .collect();
        let excused = |text: &String| text.contains("EV_EVENT_TAG");
        assert!(uncovered.iter().all(excused), "{file:?}: {uncovered:#?}");
    }
}

#[test]
fn both_forms_of_a_measurement_list_say_the_same() {
    for file in captures("ima_binary") {
        let bytes = fs::read(&file).unwrap();
        let (binary, consumed) = parse_binary(&bytes).unwrap();
        assert_eq!(consumed, bytes.len(), "{file:?}");
        assert_eq!(binary[0].path, "boot_aggregate");
        let name = file.file_stem().unwrap().to_string_lossy();
        let ascii = captures("ima_ascii")
            .into_iter()
            .find(|other| other.file_stem().unwrap().to_string_lossy() == name)
            .unwrap();
        let ascii = parse_ascii(&fs::read_to_string(ascii).unwrap()).unwrap();
        // One was read after the other, and the list grows.
        let both = binary.len().min(ascii.len());
        assert!(both > 100, "{file:?}: {both}");
        assert_eq!(binary[..both], ascii[..both], "{file:?}");
    }
}
