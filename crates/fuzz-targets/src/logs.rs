//! Boot event logs and IMA lists.

use bootkeep_evidence::{
    eventlog::{EventLog, MAX_EVENTS},
    ima::{parse_ascii, parse_binary, Entry, Replay, MAX_ENTRIES},
    pcr::extend,
    printable,
};

/// A boot event log: what is parsed is bounded, replays, and can be shown.
pub fn event_log(input: &[u8]) {
    let Ok(log) = EventLog::parse(input) else {
        return;
    };
    assert!(log.events().len() <= MAX_EVENTS);
    for event in log.events() {
        let shown = event.to_string();
        assert_eq!(
            printable(&shown),
            shown.chars().take(512).collect::<String>()
        );
        let _ = event.digest_covers_data();
        let _ = event.claim();
    }
    assert_eq!(log.replay().iter().count(), 24);
}

/// A binary measurement list: read in two parts it is the same list as read at once, and its replay ends where its
/// entries lead.
pub fn ima_binary(input: &[u8]) {
    let Ok((whole, consumed)) = parse_binary(input) else {
        return;
    };
    assert!(consumed <= input.len() && whole.len() <= MAX_ENTRIES);
    let lengths: usize = whole.iter().map(Entry::list_len).sum();
    assert_eq!(lengths, consumed);
    let (first, read) = parse_binary(&input[..consumed / 2]).expect("a part of a good list");
    let (second, rest) = parse_binary(&input[read..consumed]).expect("the rest of a good list");
    assert_eq!(read + rest, consumed);
    assert_eq!([first, second].concat(), whole);
    let end = whole
        .iter()
        .fold([0; 32], |pcr, entry| extend(&pcr, &entry.extended_digest()));
    let covered = Replay::default().advance(&whole, &end);
    assert_eq!(covered, Ok(whole.len()));
}

/// An ASCII measurement list: one entry a line.
pub fn ima_ascii(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(entries) = parse_ascii(&text) {
        assert_eq!(entries.len(), text.lines().count());
    }
}
