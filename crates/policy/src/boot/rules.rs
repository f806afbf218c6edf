//! The rules of version 2, one after the other.

use std::collections::BTreeSet;

use bootkeep_evidence::{
    eventlog::{Claim, EventLog},
    PcrValues,
};

use super::{
    command_line,
    document::{RulePolicy, Separators, Unlisted},
    firmware, grub,
    look::Look,
    secure_boot, stages, uki,
};
use crate::{digest::Digest32, reason::Reasons};

/// Whether it asks for nothing.
pub(super) fn is_empty(policy: &RulePolicy) -> bool {
    policy.pcrs.is_empty() && read(policy).is_empty()
}

/// PCRs whose events rules read: these must replay, and their events must not lie about themselves.
fn read(policy: &RulePolicy) -> BTreeSet<u8> {
    let mut pcrs: BTreeSet<u8> = policy.events.keys().copied().collect();
    let mut reads = |condition: bool, read: &[u8]| {
        if condition {
            pcrs.extend(read);
        }
    };
    reads(secure_boot::is_read(policy), &[7]);
    reads(!policy.boot_stages.is_empty(), &[4]);
    reads(!policy.firmware.is_empty(), &[0, 2]);
    reads(policy.grub.is_some(), &[8, 9]);
    reads(policy.kernel_command_line.is_some(), &[8, 9, 12]);
    reads(!policy.initrd.is_empty(), &[9]);
    reads(policy.uki.is_some(), &[11, 12, 13]);
    let refused = policy.unlisted_events.iter();
    pcrs.extend(
        refused
            .filter(|(_, rule)| **rule == Unlisted::Refuse)
            .map(|(pcr, _)| *pcr),
    );
    pcrs
}

/// PCRs in which an event that no rule knows is refused.
fn closed(policy: &RulePolicy) -> BTreeSet<u8> {
    let mut pcrs: BTreeSet<u8> = policy.events.keys().copied().collect();
    let mut closes = |condition: bool, pcr: u8| {
        if condition {
            pcrs.insert(pcr);
        }
    };
    let grub = policy.grub.as_ref();
    closes(secure_boot::is_read(policy), 7);
    closes(!policy.boot_stages.is_empty(), 4);
    closes(grub.is_some_and(|rule| !rule.commands.is_empty()), 8);
    closes(grub.is_some_and(|rule| !rule.files.is_empty()), 9);
    closes(!policy.initrd.is_empty(), 9);
    for pcr in [11, 12, 13] {
        closes(policy.uki.is_some(), pcr);
    }
    for (pcr, rule) in &policy.unlisted_events {
        match rule {
            Unlisted::Refuse => pcrs.insert(*pcr),
            Unlisted::Accept => pcrs.remove(pcr),
        };
    }
    pcrs
}

/// PCRs on whose contents the policy decides: an unknown event or value there is refused.
pub(super) fn decided(policy: &RulePolicy) -> BTreeSet<u8> {
    let mut pcrs = closed(policy);
    pcrs.extend(policy.pcrs.keys());
    let line = policy.kernel_command_line.as_ref();
    let exact = line.is_some_and(|line| !line.exact.is_empty());
    if exact || !policy.initrd.is_empty() {
        pcrs.insert(9);
    }
    if line.is_some() {
        pcrs.extend([8, 12]);
    }
    pcrs
}

/// `signatures`: `.pcrsig` documents that came with the evidence.
pub(super) fn check(
    policy: &RulePolicy,
    quoted: &PcrValues,
    log: Option<&EventLog>,
    signatures: Option<&[u8]>,
    reasons: &mut Reasons,
) {
    let read = read(policy);
    match log {
        Some(log) if !read.is_empty() => {
            check_log(policy, &read, quoted, log, signatures, reasons);
        }
        None if !read.is_empty() => reasons.add(
            "boot.event_log.missing",
            "the node sent no boot event log, the policy's rules need one",
        ),
        _ => {}
    }
    for (&pcr, accepted) in &policy.pcrs {
        check_value(pcr, accepted, quoted, reasons);
    }
}

fn check_log(
    policy: &RulePolicy,
    read: &BTreeSet<u8>,
    quoted: &PcrValues,
    log: &EventLog,
    signatures: Option<&[u8]>,
    reasons: &mut Reasons,
) {
    let skimmed: BTreeSet<u8> = match policy.separators {
        Separators::Required => (0..=7).collect(),
        Separators::Accept => BTreeSet::new(),
    };
    let pcrs = read.union(&skimmed).copied().collect();
    let phases = policy.uki.as_ref().map(|uki| uki.phases.clone());
    let mut look = Look::new(log, quoted, read, &skimmed, reasons);
    look.check_replay(&pcrs, &phases.unwrap_or_default());
    look.check_separators(policy.separators, &pcrs);
    list_events(policy, &mut look);
    secure_boot::check(policy, &mut look);
    let signed = uki::is_signed(policy.uki.as_ref(), quoted, signatures);
    stages::check(&policy.boot_stages, signed, &mut look);
    firmware::check(&policy.firmware, &mut look);
    uki::check(policy.uki.as_ref(), signed, &mut look);
    grub::check_initrd(&policy.initrd, &mut look);
    command_line::check(policy, &mut look);
    grub::check(policy.grub.as_ref(), &mut look);
    look.check_unlisted(&closed(policy));
}

/// Events that the policy lists one by one.
fn list_events(policy: &RulePolicy, look: &mut Look<'_, '_>) {
    for (&pcr, rules) in &policy.events {
        let known = look.pick(pcr, |seen| {
            let separator = matches!(seen.claim, Claim::Separator(_));
            let mut listed = rules.iter();
            let known = listed.any(|rule| rule.digest.0 == seen.event.digest);
            (known && !separator).then_some(())
        });
        known.iter().for_each(|(index, ())| look.list(*index));
    }
}

fn check_value(pcr: u8, accepted: &[Digest32], quoted: &PcrValues, reasons: &mut Reasons) {
    let value = quoted.get(pcr).copied().map(Digest32);
    if value.is_some_and(|value| accepted.contains(&value)) {
        return;
    }
    let detail = match value {
        Some(value) => format!("PCR {pcr} is {value}: not an accepted value, rule pcrs"),
        None => format!("PCR {pcr} was not quoted, rule pcrs"),
    };
    reasons.add("boot.pcr", detail);
}

/// A line for each rule.
pub(super) fn summary(policy: &RulePolicy) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |condition: bool, text: String| {
        if condition {
            lines.push(text);
        }
    };
    say(
        policy.secure_boot.is_some(),
        format!("secure_boot: {:?}", policy.secure_boot).to_lowercase(),
    );
    for (name, rule) in [
        ("platform_key", &policy.platform_key),
        ("key_exchange_keys", &policy.key_exchange_keys),
        ("db", &policy.db),
        ("dbx", &policy.dbx),
    ] {
        if let Some(rule) = rule {
            let only = rule
                .only
                .as_ref()
                .map_or(String::new(), |only| format!("only {}, ", only.len()));
            say(
                true,
                format!("{name}: {only}at least {}", rule.contains.len()),
            );
        }
    }
    if let Some(sbat) = &policy.sbat {
        say(
            true,
            format!(
                "sbat: date {:?}, {} components",
                sbat.date,
                sbat.components.len()
            ),
        );
    }
    for stage in &policy.boot_stages {
        say(
            true,
            format!("stage {}: one of {}", stage.name, stage.any_of.len()),
        );
    }
    for firmware in &policy.firmware {
        say(true, format!("firmware: {}", firmware.name));
    }
    if let Some(grub) = &policy.grub {
        let (commands, files) = (grub.commands.len(), grub.files.len());
        say(true, format!("grub: {commands} commands, {files} files"));
    }
    if let Some(line) = &policy.kernel_command_line {
        let (required, exact) = (line.required.len(), line.exact.len());
        say(
            true,
            format!("kernel_command_line: {required} required, {exact} exact"),
        );
    }
    say(
        !policy.initrd.is_empty(),
        format!("initrd: one of {}", policy.initrd.len()),
    );
    if let Some(uki) = &policy.uki {
        let signed = if uki.signed.is_some() {
            "signed"
        } else {
            "by digest"
        };
        say(
            true,
            format!("uki: {} sections, {signed}", uki.sections.len()),
        );
    }
    for (pcr, values) in &policy.pcrs {
        say(true, format!("PCR {pcr}: one of {}", values.len()));
    }
    for (pcr, events) in &policy.events {
        say(true, format!("PCR {pcr}: {} events", events.len()));
    }
    for (pcr, rule) in &policy.unlisted_events {
        say(
            true,
            format!("PCR {pcr}: unlisted events {rule:?}")
                .to_lowercase()
                .replace("pcr", "PCR"),
        );
    }
    lines
}
