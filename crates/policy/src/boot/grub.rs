//! What GRUB ran (PCR 8) and read (PCR 9).
//!
//! GRUB digests a string without the label before it, and a file without its name: labels and names are hints. A
//! string is told by its own form: a kernel's command line begins with the path of the kernel.

use bootkeep_evidence::eventlog::Claim;
use globset::Glob;

use super::{
    document::{GrubRule, Listed},
    look::Look,
};

const STRINGS: u8 = 8;
pub(super) const FILES: u8 = 9;

/// Whether a string of PCR 8 is a command line: no command of GRUB begins so.
pub(super) fn is_command_line(text: &str) -> bool {
    text.starts_with(['/', '('])
}

pub(super) fn check(rule: Option<&GrubRule>, look: &mut Look<'_, '_>) {
    let Some(rule) = rule else {
        return;
    };
    if !rule.commands.is_empty() {
        check_commands(rule, look);
    }
    if !rule.files.is_empty() {
        check_files(rule, look);
    }
}

fn check_commands(rule: &GrubRule, look: &mut Look<'_, '_>) {
    let commands = look.pick(STRINGS, |seen| match &seen.claim {
        Claim::Text(text) if !is_command_line(&text.text) => Some(text.text.clone()),
        _ => None,
    });
    for (index, text) in commands {
        if look.is_listed(index) || rule.commands.iter().any(|pattern| pattern.matches(&text)) {
            look.list(index);
        } else {
            let why = "not a command of the policy, rule grub.commands";
            look.refuse_event(index, "boot.grub.command", why);
        }
    }
}

/// A file passes by its digest, whatever it is called; the name only chooses the words of the reason.
fn check_files(rule: &GrubRule, look: &mut Look<'_, '_>) {
    let files = look.pick(FILES, |seen| match &seen.claim {
        Claim::Opaque(file) => Some((file.digest(), file.hint())),
        Claim::Text(text) => Some((seen.event.digest, text.text.clone())),
        _ => None,
    });
    for (index, (digest, name)) in files {
        let listed = rule.files.iter().any(|file| lists(&file.digests, &digest));
        if listed || look.is_listed(index) {
            look.list(index);
        } else if let Some(path) = rule.files.iter().find_map(|file| names(&file.path, &name)) {
            let why = format!("not a digest of {path}, rule grub.files");
            look.refuse_event(index, "boot.grub.file", why);
        }
    }
}

fn names<'a>(glob: &'a str, name: &str) -> Option<&'a str> {
    let matcher = Glob::new(glob).ok()?.compile_matcher();
    matcher.is_match(name).then_some(glob)
}

pub(super) fn lists(listed: &[Listed], digest: &[u8; 32]) -> bool {
    listed.iter().any(|listed| listed.digest.0 == *digest)
}

/// Accepted initramfs images, measured into PCR 9 by the kernel's EFI stub or by GRUB.
pub(super) fn check_initrd(images: &[Listed], look: &mut Look<'_, '_>) {
    if images.is_empty() {
        return;
    }
    let found = look.pick(FILES, |seen| match &seen.claim {
        Claim::Opaque(file) => Some((file.digest(), file.says_initrd())),
        _ => None,
    });
    let mut any = false;
    for (index, (digest, says_initrd)) in found {
        if lists(images, &digest) {
            any = true;
            look.list(index);
        } else if says_initrd && !look.is_listed(index) {
            let why = "not an accepted initramfs, rule initrd";
            look.refuse_event(index, "boot.initrd.unlisted", why);
        }
    }
    if !any {
        let detail = "PCR 9: no accepted initramfs was measured, rule initrd";
        look.refuse("boot.initrd.missing", detail);
    }
}
