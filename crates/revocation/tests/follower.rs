//! A follower takes the log in order, and nothing leads it off.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bootkeep_protocol::{
    dsse::Envelope,
    revocation::{Action, Entry, RevocationsCall, ENTRY_TYPE, HEAD_TYPE, REVOCATION_VERSION},
    verifier::Reason,
    NodeId, Problem,
};
use bootkeep_revocation::{
    read_entry, Draft, FollowError, Follower, Kept, LogKey, Position, Signed, HEAD_SKEW_MS,
};
use bootkeep_signed::{SigningKey, VerifyingKeys};
use proptest::prelude::*;

const LOG: &str = "00112233445566778899aabbccddeeff";
const OTHER_LOG: &str = "ffeeddccbbaa99887766554433221100";
const NOW: u64 = 1_800_000_000_000;

fn node(n: usize) -> NodeId {
    NodeId::of_ek_public(&n.to_le_bytes())
}

/// A log whose entries revoke and reinstate three nodes in turn.
struct World {
    pem: String,
    log: LogKey,
    entries: Vec<Signed>,
}

fn draft(n: usize) -> Draft {
    let action = if n % 4 == 3 {
        Action::Reinstate
    } else {
        Action::Revoke
    };
    Draft {
        serials: vec![format!("{n:02x}")],
        addresses: vec!["10.1.0.7".parse().unwrap()],
        reasons: vec![Reason {
            code: "file-not-listed".into(),
            detail: "/usr/bin/evil".into(),
        }],
        ..Draft::new(action, node(n % 3), "node")
    }
}

impl World {
    fn new(length: usize) -> Self {
        let key = SigningKey::generate().unwrap();
        let pem = key.public_pem();
        let log = LogKey::new(key, LOG);
        let entries = continue_log(&log, Position::START, 0, length);
        Self { pem, log, entries }
    }

    fn keys(&self) -> VerifyingKeys {
        VerifyingKeys::from_pem(&self.pem).unwrap()
    }

    fn position(&self, sequence: usize) -> Position {
        match sequence.checked_sub(1) {
            None => Position::START,
            Some(index) => self.entries[index].position,
        }
    }

    /// A head that ends at this entry, and these entries (counted from 1).
    fn call(&self, end: usize, at_ms: u64, entries: &[usize]) -> RevocationsCall {
        let envelope = |n: &usize| self.entries[n - 1].envelope.clone();
        RevocationsCall {
            head: self.log.head(&self.position(end), at_ms).unwrap(),
            entries: entries.iter().map(envelope).collect(),
            crl: None,
        }
    }

    /// A follower that holds the first entries.
    fn at(&self, sequence: usize) -> Follower {
        let all: Vec<usize> = (1..=sequence).collect();
        let follower = Follower::new(self.keys());
        follower
            .check(&self.call(sequence, NOW, &all))
            .unwrap()
            .next
    }

    /// What a follower of the first entries must believe.
    fn revoked(&self, sequence: u64) -> BTreeMap<NodeId, Entry> {
        let mut revoked = BTreeMap::new();
        for signed in self.entries.iter().take(usize::try_from(sequence).unwrap()) {
            let entry = signed.entry.clone();
            match entry.action {
                Action::Revoke => drop(revoked.insert(entry.node_id.clone(), entry)),
                Action::Reinstate => drop(revoked.remove(&entry.node_id)),
            }
        }
        revoked
    }

    /// The follower is at a prefix of the log and believes what that says.
    fn is_prefix(&self, follower: &Follower) {
        let position = *follower.position();
        let sequence = usize::try_from(position.sequence).unwrap();
        assert_eq!(position, self.position(sequence));
        let believed: BTreeMap<_, _> = follower
            .revoked()
            .map(|entry| (entry.node_id.clone(), entry.clone()))
            .collect();
        assert_eq!(believed, self.revoked(position.sequence));
    }
}

fn continue_log(log: &LogKey, mut last: Position, from: usize, count: usize) -> Vec<Signed> {
    let mut entries = Vec::new();
    for n in from..from + count {
        let entry = log.entry(&last, NOW + n as u64, draft(n)).unwrap();
        last = entry.position;
        entries.push(entry);
    }
    entries
}

fn code(follower: &Follower, call: &RevocationsCall) -> &'static str {
    let before = follower.kept();
    let error = follower.check(call).unwrap_err();
    assert_eq!(follower.kept(), before);
    assert_eq!(Problem::from(&error).code, error.code());
    error.code()
}

#[test]
fn a_log_is_followed_in_batches() {
    let world = World::new(5);
    let first = Follower::new(world.keys());
    let accepted = first.check(&world.call(5, NOW, &[])).unwrap();
    assert!(!accepted.is_caught_up() && accepted.entries.is_empty());
    let accepted = accepted.next.check(&world.call(5, NOW, &[1, 2])).unwrap();
    assert_eq!(accepted.entries.len(), 2);
    assert!(!accepted.is_caught_up());
    // Known entries in front are passed over.
    let accepted = accepted
        .next
        .check(&world.call(5, NOW, &[1, 2, 3, 4, 5]))
        .unwrap();
    let sequences: Vec<u64> = accepted.entries.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, [3, 4, 5]);
    assert!(accepted.is_caught_up());
    world.is_prefix(&accepted.next);
    assert_eq!(accepted.next.log(), Some(LOG));
    // node 0 was revoked by 1 and reinstated by 4.
    assert!(accepted.next.revocation(&node(0)).is_none());
    assert_eq!(accepted.next.revocation(&node(1)).unwrap().sequence, 5);
}

#[test]
fn each_wrong_call_is_refused_with_its_own_reason() {
    let world = World::new(6);
    let follower = world.at(3);
    let mut cases: Vec<(&str, RevocationsCall)> = vec![
        ("revocation-gap", world.call(6, NOW, &[5])),
        ("revocation-gap", world.call(6, NOW, &[4, 6])),
        ("revocation-gap", world.call(6, NOW, &[5, 4])),
        ("revocation-beyond-head", world.call(4, NOW, &[4, 5])),
        (
            "revocation-rolled-back",
            world.call(2, NOW + HEAD_SKEW_MS + 1, &[]),
        ),
        (
            "revocation-rolled-back",
            world.call(0, NOW + HEAD_SKEW_MS + 1, &[]),
        ),
        (
            "revocation-stale-head",
            world.call(2, NOW - HEAD_SKEW_MS - 1, &[]),
        ),
        ("revocation-beyond-head", world.call(2, NOW, &[3])),
        (
            "revocation-stale-head",
            world.call(3, NOW - HEAD_SKEW_MS - 1, &[]),
        ),
        ("revocation-too-many", world.call(6, NOW, &[4; 65])),
    ];

    let mut forged = world.call(4, NOW, &[4]);
    forged.entries[0].payload.0[100] ^= 1;
    cases.push(("revocation-signature", forged));
    let mut forged = world.call(4, NOW, &[4]);
    forged.head.signatures[0].sig.0[10] ^= 1;
    cases.push(("revocation-signature", forged));
    let stranger = LogKey::new(SigningKey::generate().unwrap(), LOG);
    let mut forged = world.call(4, NOW, &[]);
    forged.entries = continue_log(&stranger, world.position(3), 3, 1)
        .into_iter()
        .map(|signed| signed.envelope)
        .collect();
    cases.push(("revocation-signature", forged));
    // An entry cannot stand for a head.
    let mut swapped = world.call(4, NOW, &[4]);
    swapped.head = swapped.entries[0].clone();
    cases.push(("revocation-signature", swapped));

    for (expected, call) in &cases {
        assert_eq!(code(&follower, call), *expected);
    }
    // And good ones still go on.
    follower.check(&world.call(6, NOW, &[4, 5, 6])).unwrap();
}

#[test]
fn a_verifier_that_has_not_read_the_last_entry_is_old_news() {
    let world = World::new(70);
    let follower = world.at(3);
    for end in [0, 1, 2] {
        for at_ms in [NOW - HEAD_SKEW_MS, NOW, NOW + HEAD_SKEW_MS] {
            let known: Vec<usize> = (1..=end).collect();
            let accepted = follower.check(&world.call(end, at_ms, &known)).unwrap();
            // It changes nothing, not even when the verifier was heard last, and makes nothing fresh.
            assert_eq!(accepted.next.kept(), follower.kept());
            assert!(accepted.entries.is_empty() && !accepted.is_caught_up());
        }
    }
    // Again and again: what is made later is refused, whatever came in between.
    let mut heard = follower;
    for later in (0..=HEAD_SKEW_MS).step_by(1000) {
        heard = heard.check(&world.call(2, NOW + later, &[])).unwrap().next;
    }
    let late = world.call(2, NOW + HEAD_SKEW_MS + 1, &[]);
    assert_eq!(code(&heard, &late), "revocation-rolled-back");
    // Old news of another history, and news too old to be compared.
    let other = continue_log(&world.log, world.position(1), 7, 1);
    let forked = RevocationsCall {
        head: world.log.head(&other[0].position, NOW).unwrap(),
        ..world.call(0, NOW, &[])
    };
    assert_eq!(code(&heard, &forked), "revocation-fork");
    let first = world.at(64);
    first.check(&world.call(0, NOW, &[])).unwrap();
    let next = first.check(&world.call(65, NOW, &[65])).unwrap().next;
    next.check(&world.call(2, NOW, &[])).unwrap();
    for end in [0, 1] {
        let old = world.call(end, NOW, &[]);
        assert_eq!(code(&next, &old), "revocation-rolled-back");
    }
}

/// Signs with the log's own key what its owner would never sign.
fn sign(key: &SigningKey, kind: &str, document: &serde_json::Value) -> Envelope {
    key.sign(kind, &serde_json::to_vec(document).unwrap())
        .unwrap()
}

#[test]
fn documents_of_the_right_key_are_checked_too() {
    let key = SigningKey::generate().unwrap();
    let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
    let log = LogKey::new(SigningKey::from_pem(&key.to_pem()).unwrap(), LOG);
    let good = log.entry(&Position::START, NOW, draft(0)).unwrap();
    let document = serde_json::to_value(&good.entry).unwrap();
    let follower = Follower::new(keys);
    let with = |field: &str, value: serde_json::Value| {
        let mut changed = document.clone();
        changed[field] = value;
        RevocationsCall {
            head: log.head(&good.position, NOW).unwrap(),
            entries: vec![sign(&key, ENTRY_TYPE, &changed)],
            crl: None,
        }
    };
    let long: Vec<String> = (0..65).map(|n| format!("{n:x}")).collect();
    let cases = [
        (
            "version",
            (REVOCATION_VERSION + 1).into(),
            "revocation-version",
        ),
        ("log", OTHER_LOG.into(), "revocation-other-log"),
        ("log", "x".into(), "revocation-field"),
        ("sequence", 0.into(), "revocation-field"),
        ("previous", "AAAA".into(), "revocation-field"),
        ("label", "x".repeat(257).into(), "revocation-field"),
        ("serials", serde_json::json!(["XY"]), "revocation-field"),
        ("serials", serde_json::json!(long), "revocation-field"),
        ("more", 1.into(), "revocation-signature"),
    ];
    for (field, value, expected) in cases {
        assert_eq!(code(&follower, &with(field, value)), expected, "{field}");
    }
    let head = |sequence: u64, digest: [u8; 32]| RevocationsCall {
        head: log.head(&Position { sequence, digest }, NOW).unwrap(),
        entries: Vec::new(),
        crl: None,
    };
    assert_eq!(code(&follower, &head(1, [0; 32])), "revocation-field");
    assert_eq!(code(&follower, &head(0, [1; 32])), "revocation-field");
    assert!(read_entry(
        &VerifyingKeys::from_pem(&key.public_pem()).unwrap(),
        &sign(&key, HEAD_TYPE, &document)
    )
    .is_err());
}

#[test]
fn a_fork_is_seen() {
    let world = World::new(4);
    let follower = world.at(3);
    // The key's holder signs another history.
    let other = continue_log(&world.log, world.position(1), 7, 3);
    let call = |head: &Position, entries: &[&Signed]| RevocationsCall {
        head: world.log.head(head, NOW).unwrap(),
        entries: entries.iter().map(|s| s.envelope.clone()).collect(),
        crl: None,
    };
    // Known numbers with other contents; one that follows another entry; a head that names another one.
    for forked in [
        call(&world.position(3), &[&other[0]]),
        call(&other[2].position, &[&other[2]]),
        call(&other[1].position, &[]),
    ] {
        assert_eq!(code(&follower, &forked), "revocation-fork");
    }
}

#[test]
fn the_first_log_is_the_one_that_counts() {
    let world = World::new(1);
    let key = SigningKey::from_pem(&{
        // The same key, another log: a verifier that was set up anew.
        let key = SigningKey::generate().unwrap();
        key.to_pem().to_string()
    })
    .unwrap();
    let pem = [world.pem.clone(), key.public_pem()].concat();
    let other = LogKey::new(key, OTHER_LOG);
    let follower = Follower::new(VerifyingKeys::from_pem(&pem).unwrap());
    let follower = follower.check(&world.call(1, NOW, &[1])).unwrap().next;
    let call = RevocationsCall {
        head: other.head(&Position::START, NOW).unwrap(),
        entries: Vec::new(),
        crl: None,
    };
    assert_eq!(code(&follower, &call), "revocation-other-log");
}

#[test]
fn a_changed_key_goes_on_with_the_log() {
    let old = World::new(2);
    let key = SigningKey::generate().unwrap();
    let pem = [old.pem.clone(), key.public_pem()].concat();
    let new = LogKey::new(key, LOG);
    let third = new.entry(&old.position(2), NOW, draft(2)).unwrap();
    let follower = Follower::new(VerifyingKeys::from_pem(&pem).unwrap());
    let mut call = old.call(2, NOW, &[1, 2]);
    call.entries.push(third.envelope);
    call.head = new.head(&third.position, NOW).unwrap();
    assert_eq!(follower.check(&call).unwrap().entries.len(), 3);
}

#[test]
fn new_entries_count_whatever_the_clock_says() {
    let world = World::new(4);
    let follower = world.at(3);
    // The verifier's clock was an hour ahead and was set back.
    let hour = 3_600_000;
    let ahead = follower
        .check(&world.call(3, NOW + hour, &[]))
        .unwrap()
        .next;
    assert_eq!(
        code(&ahead, &world.call(3, NOW, &[])),
        "revocation-stale-head"
    );
    let back = ahead.check(&world.call(4, NOW, &[4])).unwrap().next;
    back.check(&world.call(4, NOW + 1, &[])).unwrap();
    // Heads of two verifiers whose clocks differ a little.
    back.check(&world.call(4, NOW - HEAD_SKEW_MS, &[])).unwrap();
}

#[test]
fn what_is_kept_is_taken_up_again() {
    let world = World::new(6);
    for length in 0..=6 {
        let follower = world.at(length);
        let text = serde_json::to_string(&follower.kept()).unwrap();
        let kept: Kept = serde_json::from_str(&text).unwrap();
        let again = Follower::restore(world.keys(), kept).unwrap();
        assert_eq!(again.kept(), follower.kept());
        world.is_prefix(&again);
        assert_eq!(again.position().reply().sequence, length as u64);
    }
    let kept = serde_json::to_value(world.at(5).kept()).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut changed = kept.clone();
        changed[field] = value;
        let kept: Kept = serde_json::from_value(changed).unwrap();
        Follower::restore(world.keys(), kept)
            .unwrap_err()
            .to_string()
    };
    assert!(with("version", 2.into()).contains("version 2"));
    for (field, value) in [
        ("log", serde_json::Value::Null),
        ("digest", "AAAA".into()),
        ("recent", serde_json::json!([])),
        ("sequence", 1.into()),
    ] {
        with(field, value);
    }
}

#[test]
fn long_texts_are_cut_not_refused() {
    let world = World::new(0);
    let long = Draft {
        label: "ä".repeat(1000),
        reasons: vec![
            Reason {
                code: "ä".repeat(1000),
                detail: "ä".repeat(10_000),
            };
            100
        ],
        ..draft(0)
    };
    let signed = world.log.entry(&Position::START, NOW, long).unwrap();
    let (entry, _) = read_entry(&world.keys(), &signed.envelope).unwrap();
    assert_eq!(entry, signed.entry);
}

#[test]
fn an_error_says_what_to_do() {
    let world = World::new(3);
    let later = world.call(1, NOW + HEAD_SKEW_MS + 1, &[]);
    let error = world.at(3).check(&later).unwrap_err();
    assert!(matches!(
        error,
        FollowError::RolledBack { held: 3, found: 1 }
    ));
    assert!(error.to_string().contains("restore"), "{error}");
}

/// One call of somebody who has the log's messages and nothing else.
#[derive(Clone, Debug)]
struct Play {
    end: usize,
    later_ms: u64,
    entries: Vec<usize>,
    tamper: Option<(usize, usize)>,
}

const LENGTH: usize = 8;

fn plays() -> impl Strategy<Value = Vec<Play>> {
    let entries = prop_oneof![
        prop::collection::vec(1..=LENGTH, 0..6),
        (1..=LENGTH, 0..=LENGTH)
            .prop_map(|(from, count)| { (from..=LENGTH).take(count).collect::<Vec<_>>() }),
    ];
    let tamper = prop::option::weighted(0.2, (0..8usize, 0..400usize));
    let play = (0..=LENGTH, 0..20_000u64, entries, tamper);
    let play = play.prop_map(|(end, later_ms, entries, tamper)| Play {
        end,
        later_ms,
        entries,
        tamper,
    });
    prop::collection::vec(play, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any order, repetition, loss and tampering of a log's messages leaves the follower at a prefix of the log.
    #[test]
    fn nothing_leads_off_the_log(plays in plays()) {
        let world = World::new(LENGTH);
        let mut follower = Follower::new(world.keys());
        for play in plays {
            let mut call = world.call(play.end, NOW + play.later_ms, &play.entries);
            let tampered = play.tamper.is_some();
            if let Some((which, byte)) = play.tamper {
                let target = call.entries.get_mut(which).unwrap_or(&mut call.head);
                let index = byte % target.payload.0.len();
                target.payload.0[index] ^= 1;
            }
            let before = follower.kept();
            match follower.check(&call) {
                Ok(accepted) => {
                    prop_assert!(!tampered);
                    prop_assert!(accepted.next.position().sequence >= follower.position().sequence);
                    follower = accepted.next;
                }
                Err(_) => prop_assert_eq!(follower.kept(), before),
            }
            world.is_prefix(&follower);
        }
        let rest: Vec<usize> = (1..=LENGTH).collect();
        let last = follower.check(&world.call(LENGTH, NOW + 20_000, &rest)).unwrap();
        world.is_prefix(&last.next);
        prop_assert!(last.is_caught_up());
    }
}
