//! Phases of the boot that systemd-pcrphase extends into PCR 11, after the event log has ended.

use bootkeep_evidence::{pcr::extend, PcrValues};
use sha2::{Digest, Sha256};

use super::{document::PhaseRule, look::Look};

const PHASE_PCR: u8 = 11;
const LATCH_PCR: u8 = 15;

/// `value` after the words of a path (`enter-initrd:leave-initrd`), each extended as the SHA-256 of its text.
pub(super) fn after(value: &[u8; 32], path: &str) -> [u8; 32] {
    path.split(':')
        .filter(|word| !word.is_empty())
        .fold(*value, |value, word| {
            extend(&value, &Sha256::digest(word).into())
        })
}

/// The paths this node may have come along: PCR 15 tells whether the volume was opened.
fn paths<'a>(rule: &'a PhaseRule, quoted: &PcrValues) -> &'a [String] {
    match quoted.get(LATCH_PCR) {
        Some(value) if *value != [0; 32] => &rule.running,
        _ => &rule.initramfs,
    }
}

/// PCR 11 is what the log leads to, after a phase that is accepted.
pub(super) fn check(look: &mut Look<'_, '_>, rule: &PhaseRule) {
    let Some((start, quoted)) = look.replayed.get(PHASE_PCR).zip(look.quoted.get(PHASE_PCR)) else {
        look.refuse("boot.replay", "PCR 11 was not quoted");
        return;
    };
    let paths = paths(rule, look.quoted);
    if paths.iter().any(|path| after(start, path) == *quoted) {
        return;
    }
    let known = PhaseRule::default();
    let elsewhere = known.running.iter().chain(&rule.running);
    let reached = elsewhere
        .chain(&rule.initramfs)
        .find(|path| after(start, path) == *quoted);
    match reached {
        Some(path) => {
            let detail = format!("PCR 11: the boot is at phase {path:?}, rule uki.phases");
            look.refuse("boot.uki.phase", detail);
        }
        None => {
            let detail = "PCR 11: the event log and no known phase lead to the quoted value";
            look.refuse("boot.replay", detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_extended_one_by_one() {
        let one = extend(&[0; 32], &Sha256::digest("enter-initrd").into());
        let two = extend(&one, &Sha256::digest("leave-initrd").into());
        assert_eq!(after(&[0; 32], ""), [0; 32]);
        assert_eq!(after(&[0; 32], "enter-initrd"), one);
        assert_eq!(after(&[0; 32], "enter-initrd:leave-initrd"), two);
    }
}
