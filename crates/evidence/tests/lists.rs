//! Measurement lists: both forms give the same entries, replay finds its place, tampering is noticed.
#![allow(clippy::unwrap_used)]

use bootkeep_evidence::{
    eventlog::{EventLog, EventLogError},
    ima::{parse_ascii, parse_binary, Replay, ReplayError},
    pcr::extend,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn entry_of(template: &str, data: &[u8], violation: bool) -> Vec<u8> {
    let sha1 = if violation { [0; 20] } else { [1; 20] };
    [
        &10u32.to_le_bytes(),
        sha1.as_slice(),
        &counted(template.as_bytes()),
        &counted(data),
    ]
    .concat()
}

fn ima_ng(path: &str, digest: u8) -> Vec<u8> {
    let field = [b"sha256:\0".as_slice(), &[digest; 32]].concat();
    let name = [path.as_bytes(), &[0]].concat();
    [counted(&field), counted(&name)].concat()
}

#[test]
fn binary_and_ascii_tell_the_same() {
    let d = "ab".repeat(32);
    let ab = vec![0xab; 32];
    let field = [b"sha256:\0".as_slice(), &ab].concat();
    let v2 = [b"verity:sha256:\0".as_slice(), &ab].concat();
    let name = b"/usr/bin/x\0";
    let zeros = "01".repeat(20);
    let cases = [
        (
            "ima-ng",
            vec![&field[..], name],
            format!("sha256:{d} /usr/bin/x"),
        ),
        (
            "ima-sig",
            vec![&field, name, &[3, 2]],
            format!("sha256:{d} /usr/bin/x 0302"),
        ),
        (
            "ima-sig",
            vec![&field, name, &[]],
            format!("sha256:{d} /usr/bin/x "),
        ),
        (
            "ima-buf",
            vec![&field, name, b"hi"],
            format!("sha256:{d} /usr/bin/x 6869"),
        ),
        (
            "ima-ngv2",
            vec![&v2, name],
            format!("verity:sha256:{d} /usr/bin/x"),
        ),
        (
            "ima-sigv2",
            vec![&v2, name, &[3]],
            format!("verity:sha256:{d} /usr/bin/x 03"),
        ),
        (
            "ima-modsig",
            vec![&field, name, &[], &field, &[7]],
            format!("sha256:{d} /usr/bin/x  sha256:{d} 07"),
        ),
    ];
    for (template, fields, text) in cases {
        let data: Vec<u8> = fields.iter().flat_map(|field| counted(field)).collect();
        let bytes = entry_of(template, &data, false);
        let (binary, consumed) = parse_binary(&bytes).unwrap();
        assert_eq!(consumed, bytes.len());
        let ascii = parse_ascii(&format!("10 {zeros} {template} {text}\n")).unwrap();
        assert_eq!(binary, ascii, "{template}");
        assert_eq!(binary[0].path, "/usr/bin/x");
        assert_eq!(binary[0].digest.as_ref().unwrap().bytes, ab);
        let expected: [u8; 32] = Sha256::digest(&data).into();
        assert_eq!(binary[0].extended_digest(), expected);
    }
}

/// PCR 10 does not cover a template's name: calling an entry something else must not make it say something else.
#[test]
fn a_made_up_template_says_nothing() {
    let field = |value: &[u8]| counted(value);
    let data = [
        field(&[b"sha256:\0".as_slice(), &[0xab; 32]].concat()),
        field(b"/tmp/evil\0"),
    ]
    .concat();
    for template in [
        "x|n-ng",
        "d-ng|x",
        "d-ng|d-ng",
        "n-ng|n-ng",
        "x|y",
        "",
        "no-such",
        "d-ng",
    ] {
        let bytes = entry_of(template, &data, false);
        let (entries, _) = parse_binary(&bytes).unwrap();
        assert_eq!(entries[0].digest, None, "{template}");
        assert_eq!(entries[0].path, "", "{template}");
    }
    for template in ["d-ng|n-ng", "d-ngv2|n-ng", "ima-ng"] {
        let bytes = entry_of(template, &data, false);
        let (entries, _) = parse_binary(&bytes).unwrap();
        assert_eq!(entries[0].path, "/tmp/evil", "{template}");
    }
    for template in ["ima-sig", "ima-modsig", "d-ng|n-ng|sig"] {
        let bytes = entry_of(template, &data, false);
        assert!(parse_binary(&bytes).is_err(), "{template}");
    }
}

#[test]
fn evm_signatures_are_read() {
    let digest = [b"sha256:\0".as_slice(), &[0xab; 32]].concat();
    let rest: [&[u8]; 7] = [
        &[3, 2],
        b"security.ima\0",
        &[4],
        &[1],
        &[0; 4],
        &[0; 4],
        &[0; 2],
    ];
    let mut data = [counted(&digest), counted(b"/usr/bin/x\0")].concat();
    rest.iter().for_each(|field| data.extend(counted(field)));
    let (entries, _) = parse_binary(&entry_of("evm-sig", &data, false)).unwrap();
    assert_eq!(entries[0].path, "/usr/bin/x");
}

#[test]
fn the_old_template_is_hashed_padded() {
    let bytes = [
        &10u32.to_le_bytes(),
        [1u8; 20].as_slice(),
        &counted(b"ima"),
        &[0xcd; 20],
        &counted(b"/init"),
    ]
    .concat();
    let (binary, _) = parse_binary(&bytes).unwrap();
    let line = format!("10 {} ima {} /init\n", "01".repeat(20), "cd".repeat(20));
    assert_eq!(binary, parse_ascii(&line).unwrap());
    let mut hashed = [vec![0xcd; 20], b"/init".to_vec()].concat();
    hashed.resize(276, 0);
    let expected: [u8; 32] = Sha256::digest(&hashed).into();
    assert_eq!(binary[0].extended_digest(), expected);
    assert_eq!(binary[0].path, "/init");
}

#[test]
fn replay_finds_the_quoted_place_and_goes_on_from_it() {
    let list: Vec<u8> = (0..4)
        .flat_map(|n| entry_of("ima-ng", &ima_ng("/x", n), n == 2))
        .collect();
    let (entries, _) = parse_binary(&list).unwrap();
    assert_eq!(entries[2].extended_digest(), [0xff; 32]);
    let after = |count: usize| {
        entries[..count]
            .iter()
            .fold([0; 32], |pcr, entry| extend(&pcr, &entry.extended_digest()))
    };
    let mut replay = Replay::default();
    assert_eq!(replay.advance(&entries, &[0; 32]), Ok(0));
    assert_eq!(replay.advance(&entries, &after(3)), Ok(3));
    assert_eq!(replay.advance(&entries[3..], &after(4)), Ok(1));
    assert_eq!(replay.entries(), 4);

    let mut dropped = entries.clone();
    dropped.remove(1);
    let mut swapped = entries.clone();
    swapped.swap(0, 1);
    let (mut changed, _) = parse_binary(&list).unwrap();
    changed[1] = parse_binary(&entry_of("ima-ng", &ima_ng("/y", 1), false))
        .unwrap()
        .0
        .remove(0);
    for bad in [dropped, swapped, changed] {
        let mut replay = Replay::default();
        assert_eq!(replay.advance(&bad, &after(4)), Err(ReplayError));
        assert_eq!(replay, Replay::default());
    }
}

#[test]
fn a_cut_entry_waits_and_a_wrong_one_is_refused() {
    let list: Vec<u8> = (0..2)
        .flat_map(|n| entry_of("ima-ng", &ima_ng("/x", n), false))
        .collect();
    let one = list.len() / 2;
    for length in one..list.len() {
        let (entries, consumed) = parse_binary(&list[..length]).unwrap();
        assert_eq!((entries.len(), consumed), (1, one));
    }
    let mut other_pcr = list.clone();
    other_pcr[0] = 11;
    assert!(parse_binary(&other_pcr).is_err());
    let huge = entry_of("ima-ng", &ima_ng("/x", 1), false);
    let mut huge = huge;
    huge[34..38].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(parse_binary(&huge).is_err());
}

/// A log with a SHA-1 and a SHA-256 bank and the given events: PCR, type, data.
fn log(events: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let spec = [
        b"Spec ID Event03\0".as_slice(),
        &[0, 0, 0, 0, 0, 2, 0, 2],
        &2u32.to_le_bytes(),
        &[4, 0, 20, 0],
        &[0x0b, 0, 32, 0],
        &[0],
    ]
    .concat();
    let mut out = [
        &0u32.to_le_bytes(),
        3u32.to_le_bytes().as_slice(),
        &[0; 20],
        &counted(&spec),
    ]
    .concat();
    for (pcr, kind, data) in events {
        out.extend_from_slice(&pcr.to_le_bytes());
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&2u32.to_le_bytes());
        out.extend_from_slice(&[4, 0]);
        out.extend_from_slice(&[0; 20]);
        out.extend_from_slice(&[0x0b, 0]);
        out.extend_from_slice(&Sha256::digest(data));
        out.extend_from_slice(&counted(data));
    }
    out
}

#[test]
fn event_logs_replay() {
    let bytes = log(&[
        (0, 3, b"StartupLocality\0\x03"),
        (0, 8, b"v1"),
        (7, 4, &[0; 4]),
    ]);
    let log = EventLog::parse(&bytes).unwrap();
    let mut start = [0; 32];
    start[31] = 3;
    let pcrs = log.replay();
    assert_eq!(
        pcrs.get(0),
        Some(&extend(&start, &Sha256::digest(b"v1").into()))
    );
    assert_eq!(
        pcrs.get(7),
        Some(&extend(&[0; 32], &Sha256::digest([0; 4]).into()))
    );
    assert_eq!(pcrs.get(15), Some(&[0; 32]));
    assert_eq!(log.events()[2].to_string(), "event 3, PCR 7, EV_SEPARATOR");
}

#[test]
fn data_that_its_digest_does_not_cover_is_noticed() {
    let mut bytes = log(&[(7, 0x8000_0001, b"secure boot on")]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.events()[0].digest_covers_data(), Some(false));
}

#[test]
fn cut_and_wrong_logs_are_refused() {
    let bytes = log(&[(0, 8, b"v1"), (1, 4, b"x")]);
    let first = log(&[(0, 8, b"v1")]).len();
    let none = log(&[]).len();
    for length in 0..bytes.len() {
        let whole = [first, none].contains(&length);
        assert_eq!(EventLog::parse(&bytes[..length]).is_ok(), whole, "{length}");
    }
    let late = log(&[(0, 8, b"v1"), (0, 3, b"StartupLocality\0\x03")]);
    assert!(matches!(
        EventLog::parse(&late),
        Err(EventLogError::Event { number: 2, .. })
    ));
    let high = log(&[(24, 8, b"v1")]);
    assert!(EventLog::parse(&high).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = EventLog::parse(&bytes);
        if let Ok((_, consumed)) = parse_binary(&bytes) {
            prop_assert!(consumed <= bytes.len());
        }
        let _ = parse_ascii(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_lists_never_panic(index in 0usize..400, value: u8) {
        let mut list: Vec<u8> = (0..3).flat_map(|n| entry_of("ima-sig", &ima_ng("/x", n), false)).collect();
        if let Some(byte) = list.get_mut(index) { *byte = value; }
        let _ = parse_binary(&list);
        let mut events = log(&[(0, 8, b"v1"), (9, 6, b"12345678LOADED_IMAGE::LoadOptions\0")]);
        if let Some(byte) = events.get_mut(index) { *byte = value; }
        if let Ok(log) = EventLog::parse(&events) {
            for event in log.events() { let _ = (event.to_string(), event.digest_covers_data()); }
        }
    }
}
