//! What the form of a document alone does not say.

use globset::Glob;

use super::{
    allowed,
    document::{Listed, RulePolicy, SignedRule, StageRule, UkiRule},
    pcrsig,
};
use crate::error::PolicyError;

pub(super) const VERSION: u32 = 2;
/// Most entries of one list.
const MAX_ENTRIES: usize = 4096;
/// Most phases, keys and signature documents.
const MAX_FEW: usize = 64;

fn rule(rule: impl Into<String>, problem: impl Into<String>) -> PolicyError {
    PolicyError::Rule {
        rule: rule.into(),
        problem: problem.into(),
    }
}

fn at_most(what: &'static str, length: usize, limit: usize) -> Result<(), PolicyError> {
    if length > limit {
        return Err(PolicyError::TooMany { what, limit });
    }
    Ok(())
}

fn list<T>(name: &str, entries: &[T]) -> Result<(), PolicyError> {
    if entries.is_empty() {
        return Err(rule(
            name,
            "it lists nothing, so nothing passes; leave it out",
        ));
    }
    at_most("entries of one list", entries.len(), MAX_ENTRIES)
}

pub(super) fn check(policy: &RulePolicy) -> Result<(), PolicyError> {
    let named = policy.pcrs.keys().chain(policy.events.keys());
    let mut named = named.chain(policy.unlisted_events.keys());
    if let Some(&pcr) = named.find(|pcr| !allowed(**pcr)) {
        return Err(PolicyError::Pcr(pcr));
    }
    for values in policy.pcrs.values() {
        list("pcrs", values)?;
    }
    for events in policy.events.values() {
        list("events", events)?;
    }
    check_keys(policy)?;
    check_stages(&policy.boot_stages)?;
    check_pcr11(policy)?;
    check_firmware(policy)?;
    check_kernel(policy)?;
    match &policy.uki {
        Some(uki) => check_uki(uki),
        None => Ok(()),
    }
}

fn check_keys(policy: &RulePolicy) -> Result<(), PolicyError> {
    for (name, keys) in [
        ("platform_key", &policy.platform_key),
        ("key_exchange_keys", &policy.key_exchange_keys),
        ("db", &policy.db),
        ("dbx", &policy.dbx),
    ] {
        let Some(keys) = keys else { continue };
        let only = keys.only.as_deref();
        if only.is_none() && keys.contains.is_empty() {
            return Err(rule(name, "name `only` or `contains`"));
        }
        let entries = keys.contains.len() + only.map_or(0, <[Listed]>::len);
        at_most("entries of one list", entries, MAX_ENTRIES)?;
    }
    match &policy.sbat {
        Some(sbat) if sbat.date.is_none() && sbat.components.is_empty() => {
            Err(rule("sbat", "name `date` or `components`"))
        }
        _ => Ok(()),
    }
}

fn check_stages(stages: &[StageRule]) -> Result<(), PolicyError> {
    at_most("boot stages", stages.len(), MAX_FEW)?;
    for stage in stages {
        let name = format!("boot_stages {:?}", stage.name);
        list(&name, &stage.any_of)?;
        for source in &stage.any_of {
            let good = match (&source.digest, &source.signer, &source.pcr11) {
                (Some(_), None, None) | (None, None, Some(_)) => true,
                (None, Some(signer), None) => {
                    signer.fingerprint.is_some() || signer.subject.is_some()
                }
                _ => false,
            };
            if !good {
                let problem =
                    "each of any_of is a digest, a signer with fingerprint or subject, or pcr11";
                return Err(rule(name, problem));
            }
        }
    }
    Ok(())
}

/// PCR 11 says something only when what wrote it is known: any program can extend it with the sections of a good image.
fn check_pcr11(policy: &RulePolicy) -> Result<(), PolicyError> {
    let by_pcr11 = |stage: &StageRule| stage.any_of.iter().any(|source| source.pcr11.is_some());
    let stages = &policy.boot_stages;
    let Some(at) = stages.iter().position(by_pcr11) else {
        return Ok(());
    };
    let name = format!(
        "boot_stages {:?}",
        stages.get(at).map_or("", |stage| &stage.name)
    );
    let signed = policy.uki.as_ref().is_some_and(|uki| uki.signed.is_some());
    if !signed {
        return Err(rule(name, "pcr11 needs the rule uki.signed"));
    }
    let before = stages.get(..at).unwrap_or_default();
    if at + 1 != stages.len() || before.last().is_none_or(|stage| stage.optional) {
        let problem = "only the last stage can be known by pcr11, after the stage of the unified kernel image, which is \
                       known by digest or signer and is not optional";
        return Err(rule(name, problem));
    }
    Ok(())
}

fn check_firmware(policy: &RulePolicy) -> Result<(), PolicyError> {
    at_most("firmware rules", policy.firmware.len(), MAX_ENTRIES)?;
    let bare = policy.firmware.iter().find(|firmware| {
        firmware.version.is_none() && firmware.pcr0.is_empty() && firmware.pcr2.is_empty()
    });
    match bare {
        Some(firmware) => {
            let name = format!("firmware {:?}", firmware.name);
            Err(rule(name, "name version, pcr0 or pcr2"))
        }
        None => Ok(()),
    }
}

fn check_kernel(policy: &RulePolicy) -> Result<(), PolicyError> {
    at_most("entries of one list", policy.initrd.len(), MAX_ENTRIES)?;
    if let Some(line) = &policy.kernel_command_line {
        let allowed = line.allowed.as_ref().map_or(0, Vec::len);
        let patterns = line.required.len() + line.forbidden.len() + line.permit.len() + allowed;
        at_most(
            "entries of one list",
            patterns + line.exact.len(),
            MAX_ENTRIES,
        )?;
    }
    let Some(grub) = &policy.grub else {
        return Ok(());
    };
    if grub.commands.is_empty() && grub.files.is_empty() {
        return Err(rule("grub", "name `commands` or `files`"));
    }
    at_most("entries of one list", grub.commands.len(), MAX_ENTRIES)?;
    at_most("entries of one list", grub.files.len(), MAX_ENTRIES)?;
    for file in &grub.files {
        Glob::new(&file.path).map_err(|error| rule("grub.files", error.to_string()))?;
        list("grub.files", &file.digests)?;
    }
    Ok(())
}

fn check_uki(uki: &UkiRule) -> Result<(), PolicyError> {
    if uki.sections.is_empty() && uki.signed.is_none() {
        return Err(rule("uki", "name `sections` or `signed`"));
    }
    for (name, digests) in &uki.sections {
        if !name.starts_with('.') {
            return Err(rule("uki.sections", format!("{name:?} is no section")));
        }
        list("uki.sections", digests)?;
    }
    at_most("entries of one list", uki.credentials.len(), MAX_ENTRIES)?;
    at_most("entries of one list", uki.extensions.len(), MAX_ENTRIES)?;
    for phases in [&uki.phases.initramfs, &uki.phases.running] {
        at_most("phases", phases.len(), MAX_FEW)?;
        if let Some(path) = phases.iter().find(|path| path.len() > 256) {
            return Err(rule("uki.phases", format!("{path:?} is too long")));
        }
    }
    match &uki.signed {
        Some(signed) => check_signed(signed),
        None => Ok(()),
    }
}

fn check_signed(signed: &SignedRule) -> Result<(), PolicyError> {
    list("uki.signed.keys", &signed.keys)?;
    at_most("keys", signed.keys.len(), MAX_FEW)?;
    at_most("signature documents", signed.signatures.len(), MAX_FEW)?;
    for document in &signed.signatures {
        let count = document.values().map(Vec::len).sum();
        at_most("entries of one list", count, MAX_ENTRIES)?;
    }
    for pem in &signed.keys {
        pcrsig::key(pem).map_err(|problem| rule("uki.signed.keys", problem))?;
    }
    Ok(())
}
