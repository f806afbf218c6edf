//! What a policy leaves open.

use super::document::{RulePolicy, SecureBoot, Separators, Unlisted};

pub(super) fn of(policy: &RulePolicy) -> Vec<String> {
    let mut all = Vec::new();
    let mut warn = |condition: bool, text: &str| {
        if condition {
            all.push(text.to_owned());
        }
    };
    let value = |pcr: u8| policy.pcrs.contains_key(&pcr);
    let kernel = kernel(policy);
    warn(
        super::rules::is_empty(policy),
        "it asks for nothing: it accepts nothing",
    );
    warn(
        !kernel,
        "no rule covers the kernel (boot_stages, uki, or PCR 4, 9 or 11): any kernel passes",
    );
    warn(
        unknown_stub(policy),
        "uki without boot_stages (or PCR 4): any program can extend PCR 11 with the sections of a good image",
    );
    warn(
        !(initramfs(policy)),
        "no rule covers the initramfs (initrd, uki, grub.files, or PCR 9 or 11): any passes",
    );
    warn(
        !command_line(policy),
        "no rule covers the kernel's command line: init=/bin/sh passes",
    );
    warn(
        policy
            .firmware
            .iter()
            .all(|firmware| firmware.pcr0.is_empty())
            && !value(0),
        "PCR 0 is left open: the firmware may be any (a version is its own word)",
    );
    warn(
        policy.secure_boot != Some(SecureBoot::Required) && !value(7),
        "Secure Boot may be off",
    );
    all.extend(signers(policy));
    all.extend(loose(policy));
    all
}

/// Who wrote PCR 11 is told by PCR 4 alone.
fn unknown_stub(policy: &RulePolicy) -> bool {
    let value = policy.pcrs.contains_key(&4) || policy.events.contains_key(&4);
    policy.uki.is_some() && policy.boot_stages.is_empty() && !value
}

fn kernel(policy: &RulePolicy) -> bool {
    let value = |pcr: u8| policy.pcrs.contains_key(&pcr) || policy.events.contains_key(&pcr);
    !policy.boot_stages.is_empty() || policy.uki.is_some() || [4, 9, 11].into_iter().any(value)
}

fn initramfs(policy: &RulePolicy) -> bool {
    let value = |pcr: u8| policy.pcrs.contains_key(&pcr) || policy.events.contains_key(&pcr);
    let files = policy
        .grub
        .as_ref()
        .is_some_and(|grub| !grub.files.is_empty());
    !policy.initrd.is_empty() || policy.uki.is_some() || files || value(9) || value(11)
}

fn command_line(policy: &RulePolicy) -> bool {
    let value = |pcr: u8| policy.pcrs.contains_key(&pcr) || policy.events.contains_key(&pcr);
    policy.kernel_command_line.is_some() || [8, 9, 12].into_iter().any(value)
}

/// Signers are only as good as what may sign.
fn signers(policy: &RulePolicy) -> Vec<String> {
    let mut all = Vec::new();
    let sources = || policy.boot_stages.iter().flat_map(|stage| &stage.any_of);
    if super::stages::names_signers(&policy.boot_stages) {
        if policy.secure_boot != Some(SecureBoot::Required) {
            all.push("stages by signer without secure_boot: required verify nothing".to_owned());
        }
        if policy.sbat.is_none() && policy.dbx.is_none() {
            let text = "stages by signer without sbat or dbx: old, broken boot loaders pass (A34)";
            all.push(text.to_owned());
        }
    }
    let by_name = sources().any(|source| {
        let signer = source.signer.as_ref();
        signer.is_some_and(|signer| signer.fingerprint.is_none())
    });
    let only =
        |rule: &Option<super::KeyRule>| rule.as_ref().is_some_and(|rule| rule.only.is_some());
    if by_name && !only(&policy.db) {
        let text = "a signer by name without db.only: whoever may write db may take that name";
        all.push(text.to_owned());
    }
    all
}

fn loose(policy: &RulePolicy) -> Vec<String> {
    let mut all = Vec::new();
    if policy.separators == Separators::Accept {
        all.push("separators are not looked at".to_owned());
    }
    for (pcr, rule) in &policy.unlisted_events {
        if *rule == Unlisted::Accept && [4, 7, 8, 9, 11, 12, 13].contains(pcr) {
            all.push(format!("PCR {pcr}: events that no rule knows pass"));
        }
    }
    if let Some(line) = &policy.kernel_command_line {
        let lifted: Vec<&str> = line.permit.iter().map(super::Pattern::text).collect();
        if !lifted.is_empty() {
            all.push(format!(
                "the kernel's command line may have {}",
                lifted.join(", ")
            ));
        }
        for pattern in line.allowed.iter().flatten() {
            if matches!(pattern.text(), "*" | ".*" | ".+") {
                all.push("kernel_command_line.allowed allows everything".to_owned());
            }
        }
    }
    let commands = policy.grub.iter().flat_map(|grub| &grub.commands);
    let wide = |pattern: &super::Pattern| pattern.is_regex() && pattern.matches("chainloader /x");
    for pattern in commands.filter(|pattern| wide(pattern)) {
        all.push(format!(
            "grub.commands: {:?} lets any image start",
            pattern.text()
        ));
    }
    all
}
