//! A policy that accepts one boot more. Only alternatives are added: what it accepted it accepts still, and nothing that
//! it asks for (parameters that are required or forbidden, keys, Secure Boot) is asked for less.

use std::collections::BTreeSet;

use bootkeep_evidence::eventlog::Claim;
use globset::Glob;

use super::{
    boot::{sections, Boot},
    listed_digest,
    stages::images,
    texts::{any_version, command_lines, glob_of},
};
use crate::{
    boot::{
        command_line::words,
        document::{FileRule, Listed, RulePolicy, StageSource},
        grub::{is_command_line, lists},
        pattern::MAX_PATTERN,
        predict::Predicted,
        rules,
        v1::{BootOptions, EventRule, ValuePolicy},
        BootPolicy,
    },
    digest::Digest32,
    error::PolicyError,
    reason::Reasons,
};

use super::MadeBootPolicy;

/// PCR 9 of a unified kernel image: what the kernel's EFI stub measures again is in PCR 11 and 12.
const MEASURED_AGAIN: u8 = 9;

/// `policy`, accepting the foretold boot too.
pub(in crate::boot) fn extend(
    policy: &BootPolicy,
    next: &Predicted,
    clock: bootkeep_evidence::ClockInfo,
) -> Result<MadeBootPolicy, PolicyError> {
    match policy {
        BootPolicy::Values(policy) => extend_values(policy, next),
        BootPolicy::Rules(policy) => extend_rules(policy, next, clock),
    }
}

fn extend_values(policy: &ValuePolicy, next: &Predicted) -> Result<MadeBootPolicy, PolicyError> {
    let named: BTreeSet<u8> = policy.pcrs.keys().copied().collect();
    refuse_open(next, &named)?;
    let mut policy = policy.clone();
    for pcrs in next.pcrs_in_initramfs() {
        let other = ValuePolicy::from_evidence(&pcrs, Some(&next.log), &BootOptions::default())?;
        policy.merge(&other);
    }
    let policy = BootPolicy::Values(policy).validated()?;
    Ok(MadeBootPolicy {
        policy,
        notes: Vec::new(),
    })
}

fn extend_rules(
    policy: &RulePolicy,
    next: &Predicted,
    clock: bootkeep_evidence::ClockInfo,
) -> Result<MadeBootPolicy, PolicyError> {
    let good = next.known_good(clock);
    let boot = Boot::of(1, &good)?;
    let mut policy = policy.clone();
    let mut notes = Vec::new();
    leave_out_again(&mut policy, next, &mut notes);
    refuse_open(next, &rules::decided(&policy))?;
    let mut extension = Extension {
        policy: &mut policy,
        boot: &boot,
    };
    extension.stages();
    extension.commands();
    extension.files();
    extension.command_line(next);
    extension.image();
    extension.events();
    extension.values();
    accepts(&policy, next)?;
    let policy = BootPolicy::Rules(Box::new(policy)).validated()?;
    Ok(MadeBootPolicy { policy, notes })
}

/// Lists of PCR 9 give way when it cannot be foretold and PCR 11 covers the same.
fn leave_out_again(policy: &mut RulePolicy, next: &Predicted, notes: &mut Vec<String>) {
    if policy.uki.is_none() || !next.open_pcrs().contains(&MEASURED_AGAIN) {
        return;
    }
    let events = policy.events.remove(&MEASURED_AGAIN).is_some();
    let values = policy.pcrs.remove(&MEASURED_AGAIN).is_some();
    if events || values {
        notes.push(
            "PCR 9 is not listed any more: it cannot be foretold for this systemd-stub; command line and initramfs of \
             the unified kernel image are in PCR 11 and 12"
                .to_owned(),
        );
    }
}

fn refuse_open(next: &Predicted, decided: &BTreeSet<u8>) -> Result<(), PolicyError> {
    match next.open.iter().find(|open| decided.contains(&open.pcr)) {
        Some(open) => Err(PolicyError::Open {
            pcr: open.pcr,
            problem: open.to_string(),
        }),
        None => Ok(()),
    }
}

/// In one of the phases the initramfs may be in: a signature of PCR 11 is for one of them.
fn accepts(policy: &RulePolicy, next: &Predicted) -> Result<(), PolicyError> {
    let mut first = None;
    for pcrs in next.pcrs_in_initramfs() {
        let mut reasons = Reasons::default();
        let signatures = next.signatures.as_deref();
        rules::check(policy, &pcrs, Some(&next.log), signatures, &mut reasons);
        match reasons.verdict() {
            Ok(()) => return Ok(()),
            Err(refusal) => first.get_or_insert(refusal),
        };
    }
    let refusal = first.map_or_else(String::new, |refusal| refusal.to_string());
    Err(PolicyError::NextBoot(refusal))
}

struct Extension<'e, 'a> {
    policy: &'e mut RulePolicy,
    boot: &'e Boot<'a>,
}

impl Extension<'_, '_> {
    /// Stages that are known by digest.
    fn stages(&mut self) {
        let images = images(self.boot);
        if images.len() != self.policy.boot_stages.len() {
            // Optional stages: the check at the end decides.
            return;
        }
        for (image, stage) in images.iter().zip(&mut self.policy.boot_stages) {
            let digest = Digest32(image.digest);
            let by_digest = stage.any_of.iter().any(|source| source.digest.is_some());
            let known = stage
                .any_of
                .iter()
                .any(|source| source.digest == Some(digest));
            if by_digest && !known {
                stage.any_of.push(StageSource {
                    digest: Some(digest),
                    note: image.hint.clone(),
                    ..StageSource::default()
                });
            }
        }
    }

    fn commands(&mut self) {
        let texts = self.boot.strings(8);
        let Some(grub) = &mut self.policy.grub else {
            return;
        };
        if grub.commands.is_empty() {
            return;
        }
        for text in texts.iter().filter(|text| !is_command_line(text)) {
            let known = grub.commands.iter().any(|pattern| pattern.matches(text));
            if known {
                continue;
            }
            if text.len() <= MAX_PATTERN {
                grub.commands.push(any_version(text));
            } else {
                add_event(
                    self.policy.events.entry(8).or_default(),
                    crate::boot::predict::sha256(text.as_bytes()),
                    "a long command of GRUB",
                );
            }
        }
    }

    /// Files that GRUB read, and the initramfs as the kernel measured it.
    fn files(&mut self) {
        let found = self.boot.pick(9, |event, claim| match claim {
            Claim::Opaque(file) => Some((event.digest, file.hint(), file.says_initrd())),
            _ => None,
        });
        for (digest, name, initrd) in found {
            if initrd && !self.policy.initrd.is_empty() {
                add(&mut self.policy.initrd, digest);
            }
            let Some(grub) = &mut self.policy.grub else {
                continue;
            };
            let known = grub.files.iter().any(|rule| lists(&rule.digests, &digest));
            if known || grub.files.is_empty() || !name.starts_with(['/', '(']) {
                continue;
            }
            match grub.files.iter_mut().find(|rule| names(rule, &name)) {
                Some(rule) => add(&mut rule.digests, digest),
                None => grub.files.push(FileRule {
                    path: glob_of(&name),
                    digests: vec![listed_digest(digest, "")],
                }),
            }
        }
    }

    /// Words may be added, where words are listed; what is required and forbidden stays.
    fn command_line(&mut self, next: &Predicted) {
        let lines = command_lines(self.boot);
        let Some(rule) = &mut self.policy.kernel_command_line else {
            return;
        };
        if let (false, Some(line)) = (rule.exact.is_empty(), &next.load_options) {
            if !rule.exact.contains(line) {
                rule.exact.push(line.clone());
            }
        }
        let required = &rule.required;
        let Some(allowed) = &mut rule.allowed else {
            return;
        };
        for word in lines.iter().flat_map(|line| words(line)) {
            let mut known = required.iter().chain(allowed.iter());
            if !known.any(|pattern| pattern.matches_parameter(&word)) {
                allowed.push(any_version(&word));
            }
        }
    }

    /// Sections of a unified kernel image.
    fn image(&mut self) {
        let found = sections(self.boot);
        let Some(uki) = &mut self.policy.uki else {
            return;
        };
        for (name, digest) in found {
            if let Some(listed) = uki.sections.get_mut(&name) {
                add(listed, digest);
            }
        }
    }

    /// Events that are listed one by one.
    fn events(&mut self) {
        let pcrs: Vec<u8> = self.policy.events.keys().copied().collect();
        for pcr in pcrs {
            let found = self.boot.pick(pcr, |event, claim| match claim {
                Claim::Separator(_) => None,
                Claim::Opaque(file) => Some((event.digest, file.hint())),
                Claim::Text(_) if pcr == 8 => None,
                _ => Some((event.digest, event.text())),
            });
            let elsewhere: Vec<Listed> = self.listed_elsewhere(pcr);
            for (digest, note) in found {
                if let Some(rules) = self.policy.events.get_mut(&pcr) {
                    if !lists(&elsewhere, &digest) {
                        add_event(rules, digest.into(), &note);
                    }
                }
            }
        }
    }

    /// What other rules know of the events of this PCR.
    fn listed_elsewhere(&self, pcr: u8) -> Vec<Listed> {
        if pcr != 9 {
            return Vec::new();
        }
        let files = self.policy.grub.iter().flat_map(|grub| &grub.files);
        let files = files.flat_map(|rule| &rule.digests);
        files.chain(&self.policy.initrd).cloned().collect()
    }

    fn values(&mut self) {
        for (pcr, values) in &mut self.policy.pcrs {
            let value = self.boot.pcrs.get(*pcr).copied().map(Digest32);
            if let Some(value) = value.filter(|value| !values.contains(value)) {
                values.push(value);
            }
        }
    }
}

fn names(rule: &FileRule, name: &str) -> bool {
    Glob::new(&rule.path).is_ok_and(|glob| glob.compile_matcher().is_match(name))
}

fn add(listed: &mut Vec<Listed>, digest: [u8; 32]) {
    if !lists(listed, &digest) {
        listed.push(listed_digest(digest, ""));
    }
}

fn add_event(rules: &mut Vec<EventRule>, digest: Digest32, note: &str) {
    if rules.iter().all(|rule| rule.digest != digest) {
        rules.push(EventRule {
            digest,
            note: note.to_owned(),
        });
    }
}
