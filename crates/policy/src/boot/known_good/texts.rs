//! Command lines and commands of known-good boots, as patterns.

use std::collections::BTreeSet;

use super::boot::Boot;
use crate::boot::{
    command_line::words, document::CommandLineRule, grub::is_command_line, pattern::Pattern,
};

/// The parameters of a boot's command lines: GRUB's begin with the kernel's path.
pub(super) fn command_lines(boot: &Boot<'_>) -> Vec<String> {
    let grub = boot
        .strings(8)
        .into_iter()
        .filter(|text| is_command_line(text));
    let parameters = |text: String| match text.split_once(' ') {
        Some((_, parameters)) => parameters.to_owned(),
        None => String::new(),
    };
    grub.map(parameters).chain(boot.strings(12)).collect()
}

/// What all lines have is required, what some have is allowed, nothing else passes.
pub(super) fn command_line_rule(boots: &[Vec<String>]) -> CommandLineRule {
    let lines = boots.iter().flatten();
    let sets: Vec<BTreeSet<String>> = lines.map(|line| words(line)).collect();
    let all: BTreeSet<&String> = sets.iter().flatten().collect();
    let (required, allowed): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|word| sets.iter().all(|set| set.contains(*word)));
    let patterns = |words: Vec<&String>| words.into_iter().map(|word| any_version(word)).collect();
    CommandLineRule {
        required: patterns(required),
        allowed: Some(patterns(allowed)),
        ..CommandLineRule::default()
    }
}

/// The names of kernels and their files, whatever their version.
const VERSIONED: [&str; 5] = ["vmlinuz-", "initrd.img-", "initramfs-", "initrd-", "linux-"];

/// The text itself, or an expression in which the versions of kernels may change.
pub(super) fn any_version(text: &str) -> Pattern {
    const VERSION: &str = r"[0-9][0-9A-Za-z.+~_-]*";
    let mut expression = String::new();
    let mut rest = text;
    while let Some((at, name)) = next_version(rest) {
        let (before, after) = rest.split_at(at + name.len());
        expression.push_str(&regex::escape(before));
        expression.push_str(VERSION);
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || ".+~_-".contains(c)));
        rest = after.get(end.unwrap_or(after.len())..).unwrap_or_default();
    }
    if expression.is_empty() {
        return Pattern::exact(text);
    }
    expression.push_str(&regex::escape(rest));
    Pattern::regex(&expression).unwrap_or_else(|_| Pattern::exact(text))
}

/// Where the next name that a version follows begins.
fn next_version(text: &str) -> Option<(usize, &'static str)> {
    let starts = VERSIONED.into_iter().filter_map(|name| {
        let at = text.find(name)?;
        let version = text.as_bytes().get(at + name.len())?;
        version.is_ascii_digit().then_some((at, name))
    });
    starts.min_by_key(|(at, _)| *at)
}

/// A path with the version of a kernel as a glob.
pub(super) fn glob_of(path: &str) -> String {
    match next_version(path) {
        Some((at, name)) => format!("{}*", globset::escape(&path[..at + name.len()])),
        None => globset::escape(path),
    }
}
