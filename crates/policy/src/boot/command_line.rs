//! The kernel's command line, wherever it was measured: by GRUB (PCR 8), by systemd-boot and systemd-stub (PCR 12) as
//! text; by the kernel's EFI stub (PCR 9) and inside a unified kernel image (PCR 11) as a digest.

use std::collections::BTreeSet;

use bootkeep_evidence::eventlog::Claim;
use sha2::{Digest, Sha256};

use super::{
    document::{CommandLineRule, RulePolicy},
    grub::{is_command_line, FILES},
    look::Look,
    pattern::Pattern,
};

const GRUB: u8 = 8;
const UKI: u8 = 11;
const STUB: u8 = 12;

/// Parameters that give a shell, another init or another target, or run what the command line says (A27).
const FORBIDDEN: [&str; 22] = [
    "init=",
    "rdinit=",
    "rd.break*",
    "rd.shell",
    "rd.shell=1",
    "rd.shell=y*",
    "rd.shell=true",
    "rd.shell=on",
    "systemd.debug-shell*",
    "rd.systemd.debug-shell*",
    "systemd.unit=",
    "rd.systemd.unit=",
    "systemd.run*",
    "rd.systemd.run*",
    "systemd.wants=",
    "rd.systemd.wants=",
    "systemd.setenv=",
    "systemd.set-credential*",
    "emergency",
    "rescue",
    "single",
    "-b",
];
/// System V's runlevels for one user.
const RUNLEVELS: [&str; 3] = ["s", "S", "1"];

/// One command line as text, with the event that measured it.
struct Line {
    index: usize,
    text: String,
}

impl Line {
    /// The parameters: in PCR 8 the path of the kernel comes first.
    fn parameters(&self, pcr: u8) -> &str {
        match self.text.split_once(' ') {
            Some((_, parameters)) if pcr == GRUB => parameters,
            None if pcr == GRUB => "",
            _ => &self.text,
        }
    }
}

pub(super) fn check(policy: &RulePolicy, look: &mut Look<'_, '_>) {
    let Some(rule) = &policy.kernel_command_line else {
        return;
    };
    let by_grub = lines(look, GRUB);
    let by_stub = lines(look, STUB);
    for line in &by_grub {
        check_words(rule, line, line.parameters(GRUB), look);
        check_required(rule, line.index, line.parameters(GRUB), look);
    }
    for line in &by_stub {
        check_words(rule, line, &line.text, look);
    }
    if let Some(last) = by_stub.last() {
        let all: Vec<&str> = by_stub.iter().map(|line| line.text.as_str()).collect();
        check_required(rule, last.index, &all.join(" "), look);
    }
    let exact = list_digests(rule, &by_grub, &by_stub, look);
    let nowhere = by_grub.is_empty() && by_stub.is_empty() && !exact;
    if nowhere && policy.uki.is_none() {
        let detail =
            "no text of the kernel's command line in PCR 8 or 12, and none of the digests \
                      of rule kernel_command_line.exact in PCR 9";
        look.refuse("boot.kernel_command_line.unknown", detail);
    }
    refuse_hidden(look);
}

/// Command lines of one PCR. Every covered string counts, whatever its label says.
fn lines(look: &mut Look<'_, '_>, pcr: u8) -> Vec<Line> {
    let found = look.pick(pcr, |seen| match &seen.claim {
        Claim::Text(text) if pcr != GRUB || is_command_line(&text.text) => Some(text.text.clone()),
        _ => None,
    });
    found.iter().for_each(|(index, _)| look.list(*index));
    found
        .into_iter()
        .map(|(index, text)| Line { index, text })
        .collect()
}

/// Everything that is there may be there.
fn check_words(rule: &CommandLineRule, line: &Line, parameters: &str, look: &mut Look<'_, '_>) {
    if !parameters.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        let why = "characters that are not printable ASCII, rule kernel_command_line";
        look.refuse_event(line.index, "boot.kernel_command_line.unreadable", why);
    }
    let strict = kernel_words(parameters);
    let all = strict.iter().cloned().chain(plain_words(parameters));
    let mut said = Vec::new();
    for word in all {
        if said.contains(&word) || !is_forbidden(rule, &word) {
            continue;
        }
        let why = format!("{word:?} is refused, rule kernel_command_line.forbidden");
        look.refuse_event(line.index, "boot.kernel_command_line.forbidden", why);
        said.push(word);
    }
    let Some(allowed) = &rule.allowed else {
        return;
    };
    for word in strict {
        if !matches_any(allowed, &word) && !matches_any(&rule.required, &word) {
            let why = format!("{word:?} is not listed, rule kernel_command_line.allowed");
            look.refuse_event(line.index, "boot.kernel_command_line.allowed", why);
        }
    }
}

/// What must be there is there, and with no other value beside it.
fn check_required(rule: &CommandLineRule, index: usize, parameters: &str, look: &mut Look<'_, '_>) {
    let words = kernel_words(parameters);
    for pattern in &rule.required {
        let code = "boot.kernel_command_line.required";
        if !words.iter().any(|word| pattern.matches_parameter(word)) {
            let why = format!(
                "{:?} is missing, rule kernel_command_line.required",
                pattern.text()
            );
            look.refuse_event(index, code, why);
        }
        for word in words.iter().filter(|word| contradicts(pattern, word)) {
            if !matches_any(&rule.required, word)
                && !rule
                    .allowed
                    .as_ref()
                    .is_some_and(|allowed| matches_any(allowed, word))
            {
                let why = format!(
                    "{word:?} beside {:?}, rule kernel_command_line.required",
                    pattern.text()
                );
                look.refuse_event(index, code, why);
            }
        }
    }
}

/// The same parameter with another value.
fn contradicts(pattern: &Pattern, word: &str) -> bool {
    if pattern.is_regex() {
        return false;
    }
    let name = |text: &str| text.split_once('=').map(|(name, _)| name.replace('-', "_"));
    let (wanted, found) = (name(pattern.text()), name(word));
    wanted.is_some() && wanted == found && !pattern.matches_parameter(word)
}

fn matches_any(patterns: &[Pattern], word: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| pattern.matches_parameter(word))
}

fn is_forbidden(rule: &CommandLineRule, word: &str) -> bool {
    if matches_any(&rule.forbidden, word) {
        return true;
    }
    let by_default = RUNLEVELS.contains(&word)
        || FORBIDDEN
            .iter()
            .any(|text| Pattern::exact(text).matches_parameter(word));
    by_default && !matches_any(&rule.permit, word)
}

/// As the kernel parts them (`next_arg`): double quotes hold blanks together and are taken off.
fn kernel_words(parameters: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in parameters.chars() {
        match (character, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (' ', _) if !quoted => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The different parameters of a line.
pub(super) fn words(parameters: &str) -> BTreeSet<String> {
    kernel_words(parameters).into_iter().collect()
}

/// As a script parts them, all quotes taken off: for what must not be there in any reading.
fn plain_words(parameters: &str) -> impl Iterator<Item = String> + '_ {
    parameters
        .split_whitespace()
        .map(|word| word.replace(['"', '\'', '\\'], ""))
}

/// Digests in PCR 9 and 11 of command lines that are known as text. Whether one of `exact` was found.
fn list_digests(
    rule: &CommandLineRule,
    by_grub: &[Line],
    by_stub: &[Line],
    look: &mut Look<'_, '_>,
) -> bool {
    let exact: Vec<[u8; 32]> = rule.exact.iter().flat_map(|text| digests(text)).collect();
    let mut seen: Vec<[u8; 32]> = by_stub
        .iter()
        .flat_map(|line| digests(&line.text))
        .collect();
    for line in by_grub {
        seen.extend(digests(line.parameters(GRUB)));
        seen.extend(digests(&line.text));
        seen.extend(digests(&format!("BOOT_IMAGE={}", line.text)));
    }
    let mut found = false;
    for pcr in [FILES, UKI] {
        for (index, digest) in look.pick(pcr, |seen| Some(seen.event.digest)) {
            if exact.contains(&digest) {
                found = true;
            } else if !seen.contains(&digest) {
                continue;
            }
            if pcr == FILES {
                look.list(index);
            }
        }
    }
    found
}

/// Of a command line in the forms it is measured in: UTF-16 and UTF-8, with and without a NUL or a line's end.
fn digests(text: &str) -> impl Iterator<Item = [u8; 32]> {
    let narrow = ["", "\0", "\n", "\n\0", " "].map(|end| format!("{text}{end}"));
    let wide = narrow
        .clone()
        .map(|text| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() });
    narrow
        .into_iter()
        .map(String::into_bytes)
        .chain(wide)
        .map(|bytes| Sha256::digest(bytes).into())
}

/// In PCR 8 and 12 a bare digest could be that of a command line.
fn refuse_hidden(look: &mut Look<'_, '_>) {
    for pcr in [GRUB, STUB] {
        let hidden = look.pick(pcr, |seen| {
            matches!(seen.claim, Claim::Opaque(_) | Claim::Data(_)).then_some(())
        });
        for (index, ()) in hidden {
            if !look.is_listed(index) {
                let why = "only a digest: it could be a command line, rule kernel_command_line";
                look.refuse_event(index, "boot.kernel_command_line.hidden", why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_by_default() {
        let rule = CommandLineRule::default();
        for word in [
            "init=/bin/sh",
            "rdinit=/x",
            "rd.break",
            "rd.break=cmdline",
            "systemd.debug-shell",
            "systemd.debug_shell=1",
            "emergency",
            "rescue",
            "single",
            "1",
            "-b",
            "rd.shell",
            "systemd.unit=rescue.target",
            "systemd.set_credential=a:b",
        ] {
            assert!(is_forbidden(&rule, word), "{word}");
        }
        for word in [
            "ro",
            "rd.shell=0",
            "root=UUID=1",
            "quiet",
            "initrd=x",
            "rd.retry=5",
        ] {
            assert!(!is_forbidden(&rule, word), "{word}");
        }
        let rule = CommandLineRule {
            permit: vec![Pattern::exact("rd.shell")],
            ..rule
        };
        assert!(!is_forbidden(&rule, "rd.shell") && is_forbidden(&rule, "init=x"));
    }

    #[test]
    fn quotes_hide_nothing() {
        for line in [
            "\"init=/bin/sh\"",
            "in\"it=/bin/sh\"",
            "a=\"b init=/bin/sh\"",
            "'init=/bin/sh'",
        ] {
            let rule = CommandLineRule::default();
            let mut words = kernel_words(line).into_iter().chain(plain_words(line));
            assert!(words.any(|word| is_forbidden(&rule, &word)), "{line}");
        }
        assert_eq!(kernel_words("a=\"b c\"  d"), ["a=b c", "d"]);
    }
}
