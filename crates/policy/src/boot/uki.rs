//! A unified kernel image: its sections (PCR 11), what was added to it (PCR 12, 13), the phase reached.

use bootkeep_evidence::{eventlog::Claim, PcrValues};

use super::{
    document::{Listed, UkiRule},
    grub::lists,
    look::Look,
    pcrsig,
};

const IMAGE: u8 = 11;
const CONFIGURATION: u8 = 12;
const EXTENSIONS: u8 = 13;

/// Whether a key of the rule signed the quoted value of PCR 11: in the policy, or in what the evidence brought.
pub(super) fn is_signed(
    rule: Option<&UkiRule>,
    quoted: &PcrValues,
    from_node: Option<&[u8]>,
) -> bool {
    let signed = rule.and_then(|rule| rule.signed.as_ref());
    signed
        .zip(quoted.get(IMAGE))
        .is_some_and(|(signed, value)| pcrsig::is_signed(signed, from_node, value))
}

pub(super) fn check(rule: Option<&UkiRule>, signed: bool, look: &mut Look<'_, '_>) {
    let Some(rule) = rule else {
        return;
    };
    check_sections(rule, look);
    if rule.signed.is_some() && !signed {
        let detail = "PCR 11 has a value that no key of the policy signed, rule uki.signed";
        look.refuse("boot.uki.signature", detail);
    }
    check_added(CONFIGURATION, &rule.credentials, "credentials", look);
    check_added(EXTENSIONS, &rule.extensions, "extensions", look);
}

/// Names and contents take turns.
fn check_sections(rule: &UkiRule, look: &mut Look<'_, '_>) {
    let events = look.pick(IMAGE, |seen| {
        let name = match &seen.claim {
            Claim::Section(section) => Some(section.name.clone()),
            _ => None,
        };
        Some((name, seen.event.digest))
    });
    if events.is_empty() {
        look.refuse(
            "boot.uki.missing",
            "PCR 11: no unified kernel image, rule uki",
        );
        return;
    }
    let mut current: Option<String> = None;
    let mut found = Vec::new();
    for (index, (name, digest)) in events {
        look.list(index);
        match (current.take(), name) {
            (Some(section), _) => {
                check_section(rule, index, &section, &digest, look);
                found.push(section);
            }
            (None, Some(section)) => current = Some(section),
            (None, None) => {
                let why = "neither the name nor the contents of a section, rule uki";
                look.refuse_event(index, "boot.uki.event", why);
            }
        }
    }
    if current.is_some() {
        look.refuse(
            "boot.uki.event",
            "PCR 11: a section without contents, rule uki",
        );
    }
    for section in rule.sections.keys().filter(|name| !found.contains(name)) {
        let detail = format!("PCR 11: section {section:?} is missing, rule uki.sections");
        look.refuse("boot.uki.section_missing", detail);
    }
}

fn check_section(
    rule: &UkiRule,
    index: usize,
    section: &str,
    digest: &[u8; 32],
    look: &mut Look<'_, '_>,
) {
    if rule.sections.is_empty() {
        return;
    }
    let accepted = rule.sections.get(section);
    if !accepted.is_some_and(|listed| lists(listed, digest)) {
        let why = format!("not the contents expected of section {section:?}, rule uki.sections");
        look.refuse_event(index, "boot.uki.section", why);
    }
}

/// Archives that systemd-stub adds. Strings of PCR 12 are command lines and another rule's.
fn check_added(pcr: u8, accepted: &[Listed], what: &str, look: &mut Look<'_, '_>) {
    let added = look.pick(pcr, |seen| {
        let string = pcr == CONFIGURATION && matches!(seen.claim, Claim::Text(_));
        (!string).then_some(seen.event.digest)
    });
    for (index, digest) in added {
        if lists(accepted, &digest) || look.is_listed(index) {
            look.list(index);
        } else {
            let why = format!("not an archive that is listed, rule uki.{what}");
            look.refuse_event(index, &format!("boot.uki.{what}"), why);
        }
    }
}
