//! Accepted firmware: its version by its own word, its measurements (PCR 0), its option ROMs (PCR 2).

use bootkeep_evidence::eventlog::Claim;

use super::{document::FirmwareRule, look::Look};
use crate::digest::Digest32;

const FIRMWARE: u8 = 0;
const OPTION_ROMS: u8 = 2;

pub(super) fn check(rules: &[FirmwareRule], look: &mut Look<'_, '_>) {
    if rules.is_empty() {
        return;
    }
    let version = version(look);
    if !rules
        .iter()
        .any(|rule| fits(rule, version.as_deref(), look))
    {
        let version = version.map_or("no version".to_owned(), |text| format!("version {text:?}"));
        let value = |pcr| {
            let value = look.quoted.get(pcr).copied().map(Digest32);
            value.map_or("not quoted".to_owned(), |value| value.to_string())
        };
        let detail = format!(
            "this firmware has {version}, PCR 0 {}, PCR 2 {}: none of rule firmware",
            value(FIRMWARE),
            value(OPTION_ROMS)
        );
        look.refuse("boot.firmware.unknown", detail);
    }
    list_all(look);
}

/// The first event of PCR 0: where it stands cannot be changed.
fn version(look: &Look<'_, '_>) -> Option<String> {
    match &look.of(FIRMWARE).next()?.1.claim {
        Claim::FirmwareVersion(version) => Some(version.clone()),
        _ => None,
    }
}

fn fits(rule: &FirmwareRule, version: Option<&str>, look: &Look<'_, '_>) -> bool {
    let has = |pcr, values: &[Digest32]| {
        let value = look.quoted.get(pcr).copied().map(Digest32);
        values.is_empty() || value.is_some_and(|value| values.contains(&value))
    };
    let names = |pattern: &super::Pattern| version.is_some_and(|text| pattern.matches(text));
    rule.version.as_ref().is_none_or(names)
        && has(FIRMWARE, &rule.pcr0)
        && has(OPTION_ROMS, &rule.pcr2)
}

/// The firmware as a whole was judged.
fn list_all(look: &mut Look<'_, '_>) {
    for pcr in [FIRMWARE, OPTION_ROMS] {
        let all = look.pick(pcr, |_| Some(()));
        all.iter().for_each(|(index, ())| look.list(*index));
    }
}
