//! Reading signed entries and heads.

use bootkeep_protocol::{
    dsse::Envelope,
    limits::{MAX_ADDRESSES, MAX_SERIALS, MAX_TEXT},
    revocation::{Entry, Head, ENTRY_TYPE, HEAD_TYPE, REVOCATION_VERSION},
};
use bootkeep_signed::VerifyingKeys;

use crate::{FollowError, Position};

/// Reasons of one entry.
const MAX_REASONS: usize = 64;
/// Longest detail of one reason (bytes).
const MAX_DETAIL: usize = 4096;
/// Digits of a serial number: 20 bytes (RFC 5280 §4.1.2.2).
const MAX_SERIAL_DIGITS: usize = 40;
/// Digits of a log's name.
const LOG_DIGITS: usize = 32;

/// Verifies an entry; gives it with its position.
///
/// # Errors
/// [`FollowError::Signature`], [`FollowError::Version`], [`FollowError::Field`].
pub fn read_entry(
    keys: &VerifyingKeys,
    envelope: &Envelope,
) -> Result<(Entry, Position), FollowError> {
    let verified = keys.verify(envelope, ENTRY_TYPE)?;
    let entry: Entry = verified.read()?;
    check_version(entry.version)?;
    let bad = |field| FollowError::Field {
        sequence: entry.sequence,
        field,
    };
    if let Some(field) = field_out_of_range(&entry) {
        return Err(bad(field));
    }
    let position = Position {
        sequence: entry.sequence,
        digest: verified.digest(),
    };
    Ok((entry, position))
}

/// Verifies a head; gives it with the position it names.
///
/// # Errors
/// As [`read_entry`].
pub fn read_head(
    keys: &VerifyingKeys,
    envelope: &Envelope,
) -> Result<(Head, Position), FollowError> {
    let head: Head = keys.verify(envelope, HEAD_TYPE)?.read()?;
    check_version(head.version)?;
    let bad = |field| FollowError::Field { sequence: 0, field };
    if !is_log(&head.log) {
        return Err(bad("log"));
    }
    let position = Position::of_parts(head.sequence, &head.digest).ok_or_else(|| bad("digest"))?;
    // No entry, no digest, and the other way round.
    if (position.sequence == 0) != (position.digest == Position::START.digest) {
        return Err(bad("digest"));
    }
    Ok((head, position))
}

fn check_version(version: u32) -> Result<(), FollowError> {
    (version == REVOCATION_VERSION)
        .then_some(())
        .ok_or(FollowError::Version(version))
}

/// Name of the first field that is not what an entry has; also for entries that were kept.
pub(crate) fn field_out_of_range(entry: &Entry) -> Option<&'static str> {
    let is_serial =
        |serial: &String| (1..=MAX_SERIAL_DIGITS).contains(&serial.len()) && is_lower_hex(serial);
    let short = |reason: &bootkeep_protocol::verifier::Reason| {
        reason.code.len() <= MAX_TEXT && reason.detail.len() <= MAX_DETAIL
    };
    let checks = [
        ("log", is_log(&entry.log)),
        ("sequence", entry.sequence > 0),
        ("previous", entry.previous.as_slice().len() == 32),
        ("label", entry.label.chars().count() <= MAX_TEXT),
        (
            "serials",
            entry.serials.len() <= MAX_SERIALS && entry.serials.iter().all(is_serial),
        ),
        ("addresses", entry.addresses.len() <= MAX_ADDRESSES),
        (
            "reasons",
            entry.reasons.len() <= MAX_REASONS && entry.reasons.iter().all(short),
        ),
    ];
    checks
        .into_iter()
        .find_map(|(field, good)| (!good).then_some(field))
}

pub(crate) fn is_log(text: &str) -> bool {
    text.len() == LOG_DIGITS && is_lower_hex(text)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Shortens what a verdict said to what an entry may hold.
pub(crate) fn shorten(entry: &mut Entry) {
    entry.label = entry.label.chars().take(MAX_TEXT).collect();
    entry.reasons.truncate(MAX_REASONS);
    for reason in &mut entry.reasons {
        cut(&mut reason.code, MAX_TEXT);
        cut(&mut reason.detail, MAX_DETAIL);
    }
}

fn cut(text: &mut String, most: usize) {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}
