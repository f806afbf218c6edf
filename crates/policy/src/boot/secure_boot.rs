//! Rules of PCR 7: Secure Boot's state, its keys, what vouched for images, shim's state.
//!
//! PCR 7 is read to the last event: each must be a variable, an authority or the separator. So an event cannot be left
//! out, called something else, or be there twice.

use bootkeep_evidence::eventlog::{Authority, Claim, Guid, SbatLevel, SignatureLists, Variable};

use super::{
    document::{KeyRule, Listed, RulePolicy, SbatRule, SecureBoot},
    look::Look,
};
use crate::digest::Digest32;

const PCR: u8 = 7;

/// Variables the firmware measures before it hands over.
const VARIABLES: [(&str, Guid); 9] = [
    ("SecureBoot", Guid::GLOBAL),
    ("PK", Guid::GLOBAL),
    ("KEK", Guid::GLOBAL),
    ("db", Guid::SECURITY_DATABASE),
    ("dbx", Guid::SECURITY_DATABASE),
    ("dbt", Guid::SECURITY_DATABASE),
    ("dbr", Guid::SECURITY_DATABASE),
    ("AuditMode", Guid::GLOBAL),
    ("DeployedMode", Guid::GLOBAL),
];
/// Of these, the ones that every firmware measures.
const ALWAYS: usize = 5;
/// shim's state that says nothing about what may start. `MokListTrusted` makes the keys of PCR 14 count; what they
/// vouched for shows as an authority of its own.
const HARMLESS: [&str; 2] = ["MokListTrusted", "MokPolicy"];
/// shim's switches that turn verification off.
const SWITCHES: [&str; 2] = ["MokSBState", "MokDBState"];

/// Whether a rule reads PCR 7.
pub(super) fn is_read(policy: &RulePolicy) -> bool {
    policy.secure_boot.is_some()
        || policy.sbat.is_some()
        || key_rules(policy).iter().any(|(_, _, rule)| rule.is_some())
        || super::stages::names_signers(&policy.boot_stages)
}

fn key_rules(policy: &RulePolicy) -> [(&'static str, &'static str, Option<&KeyRule>); 4] {
    [
        ("platform_key", "PK", policy.platform_key.as_ref()),
        (
            "key_exchange_keys",
            "KEK",
            policy.key_exchange_keys.as_ref(),
        ),
        ("db", "db", policy.db.as_ref()),
        ("dbx", "dbx", policy.dbx.as_ref()),
    ]
}

pub(super) fn check(policy: &RulePolicy, look: &mut Look<'_, '_>) {
    if !is_read(policy) {
        return;
    }
    let required = policy.secure_boot == Some(SecureBoot::Required);
    for (place, (name, _)) in VARIABLES.into_iter().enumerate() {
        check_variable(look, name, place < ALWAYS, required);
    }
    for (rule, name, keys) in key_rules(policy) {
        if let Some(keys) = keys {
            check_keys(look, rule, name, keys);
        }
    }
    check_states(look, required);
    check_sbat(look, policy.sbat.as_ref());
}

/// A variable as it was found, with the index of its event.
fn variable<'a>(look: &Look<'a, '_>, name: &str) -> Vec<(usize, (Variable<'a>, bool))> {
    let known = VARIABLES.iter().find(|(known, _)| *known == name);
    look.pick(PCR, |seen| match (&seen.claim, known) {
        (Claim::Variable(variable), Some((name, vendor))) if variable.is(*vendor, name) => {
            Some((variable.clone(), seen.handed_over))
        }
        _ => None,
    })
}

/// Once, and before the firmware handed over.
fn check_variable(look: &mut Look<'_, '_>, name: &str, always: bool, required: bool) {
    let found = variable(look, name);
    for (place, (index, (variable, handed_over))) in found.iter().enumerate() {
        look.list(*index);
        if place > 0 {
            let why = format!("{name} is measured a second time, rule secure_boot");
            look.refuse_event(*index, "boot.secure_boot.twice", why);
        } else if *handed_over {
            let why = format!("{name} after the separator, rule secure_boot");
            look.refuse_event(*index, "boot.secure_boot.after_separator", why);
        } else if required {
            check_state(look, *index, name, variable);
        }
    }
    if found.is_empty() && always {
        let detail = format!("PCR 7: {name} was not measured, rule secure_boot");
        look.refuse("boot.secure_boot.missing", detail);
    }
}

fn check_state(look: &mut Look<'_, '_>, index: usize, name: &str, variable: &Variable<'_>) {
    let expected = match name {
        "SecureBoot" => true,
        "AuditMode" => false,
        _ => return,
    };
    if variable.switch() != Some(expected) {
        let is = if expected { "off" } else { "on" };
        let why = format!("{name} is {is}, rule secure_boot");
        look.refuse_event(index, "boot.secure_boot.off", why);
    }
}

fn check_keys(look: &mut Look<'_, '_>, rule: &str, name: &str, keys: &KeyRule) {
    // Missing, twice or too late was said before.
    let Some((index, lists)) = variable(look, name)
        .first()
        .map(|(index, (variable, _))| (*index, variable.signature_lists()))
    else {
        return;
    };
    match lists {
        Ok(lists) => check_entries(look, index, rule, &lists, keys),
        Err(error) => look.refuse_event(index, "boot.event.malformed", error.to_string()),
    }
}

fn check_entries(
    look: &mut Look<'_, '_>,
    index: usize,
    rule: &str,
    lists: &SignatureLists,
    keys: &KeyRule,
) {
    let names =
        |listed: &[Listed], digest: [u8; 32]| listed.iter().any(|listed| listed.digest.0 == digest);
    if let Some(only) = &keys.only {
        for entry in lists.entries() {
            if !names(only, entry.digest) {
                let digest = Digest32(entry.digest);
                let why = format!("entry {digest} is not listed, rule {rule}.only");
                look.refuse_event(index, &format!("boot.{rule}.unlisted"), why);
            }
        }
    }
    for wanted in &keys.contains {
        let mut entries = lists.entries().iter();
        if !entries.any(|entry| entry.digest == wanted.digest.0) {
            let why = format!("entry {} is missing, rule {rule}.contains", wanted.digest);
            look.refuse_event(index, &format!("boot.{rule}.missing"), why);
        }
    }
}

/// shim's variables that are no certificates.
fn check_states(look: &mut Look<'_, '_>, required: bool) {
    let states = look.pick(PCR, |seen| match &seen.claim {
        Claim::Authority(Authority::State {
            name,
            vendor: Guid::SHIM,
            value,
        }) => Some((name.clone(), value.clone())),
        _ => None,
    });
    for (index, (name, value)) in states {
        if HARMLESS.contains(&name.as_str()) {
            look.list(index);
        }
        if !SWITCHES.contains(&name.as_str()) {
            continue;
        }
        look.list(index);
        if required && value.iter().any(|byte| *byte != 0) {
            let why = format!("{name} turns verification off, rule secure_boot");
            look.refuse_event(index, "boot.secure_boot.shim_validation", why);
        }
    }
}

fn check_sbat(look: &mut Look<'_, '_>, rule: Option<&SbatRule>) {
    let levels = look.pick(PCR, |seen| match &seen.claim {
        Claim::Authority(Authority::Sbat(level)) => Some((level.clone(), seen.handed_over)),
        _ => None,
    });
    for (place, (index, (level, handed_over))) in levels.iter().enumerate() {
        look.list(*index);
        if place > 0 || !handed_over {
            let why = "SbatLevel is measured twice or before the separator, rule sbat";
            look.refuse_event(*index, "boot.sbat.place", why);
        } else if let Some(rule) = rule {
            check_level(look, *index, level, rule);
        }
    }
    if levels.is_empty() && rule.is_some() {
        let detail = "PCR 7: shim measured no SbatLevel, rule sbat";
        look.refuse("boot.sbat.missing", detail);
    }
}

fn check_level(look: &mut Look<'_, '_>, index: usize, level: &SbatLevel, rule: &SbatRule) {
    if rule.date.is_some_and(|date| level.date < date) {
        let why = format!("SbatLevel is of {}, rule sbat.date", level.date);
        look.refuse_event(index, "boot.sbat.old", why);
    }
    for (component, least) in &rule.components {
        let found = level.of(component);
        if found < *least {
            let why = format!(
                "SbatLevel starts {component} from generation {found}, rule sbat.components"
            );
            look.refuse_event(index, "boot.sbat.old", why);
        }
    }
}
