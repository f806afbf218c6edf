//! When actions are run, and what they are told.

use std::fmt;

use bootkeep_protocol::revocation::{self, Entry};
use serde::Deserialize;

/// Longest value of a variable (bytes).
const MAX_VALUE: usize = 4096;
/// Longest label that is told (characters).
const MAX_LABEL: usize = 64;

/// The occasions an action can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// Another node was revoked.
    Revoke,
    /// A node is good again.
    Reinstate,
    /// This node was revoked.
    SelfRevoked,
    /// No fresh word of the verifier came in time.
    Stale,
    /// A fresh word came again.
    Fresh,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoke => "revoke",
            Self::Reinstate => "reinstate",
            Self::SelfRevoked => "self-revoked",
            Self::Stale => "stale",
            Self::Fresh => "fresh",
        })
    }
}

/// An occasion that has come.
#[derive(Clone, Debug)]
pub enum Occasion {
    /// The log has an entry.
    Entry {
        /// Verified.
        entry: Box<Entry>,
        /// Whether it is about this node.
        own: bool,
    },
    /// [`On::Stale`].
    Stale,
    /// [`On::Fresh`].
    Fresh,
}

impl Occasion {
    /// Which.
    #[must_use]
    pub fn on(&self) -> On {
        match self {
            Self::Entry { entry, own } => match (entry.action, own) {
                (revocation::Action::Revoke, true) => On::SelfRevoked,
                (revocation::Action::Revoke, false) => On::Revoke,
                (revocation::Action::Reinstate, _) => On::Reinstate,
            },
            Self::Stale => On::Stale,
            Self::Fresh => On::Fresh,
        }
    }

    /// What a command is told: fixed names, values of a few harmless characters.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let mut told = vec![("BOOTKEEP_EVENT", self.on().to_string())];
        if let Self::Entry { entry, .. } = self {
            let reasons = entry.reasons.iter().map(|reason| reason.code.as_str());
            let addresses = entry.addresses.iter().map(ToString::to_string);
            told.extend([
                ("BOOTKEEP_SEQUENCE", entry.sequence.to_string()),
                ("BOOTKEEP_NODE_ID", entry.node_id.to_string()),
                ("BOOTKEEP_NODE_NAME", entry.node_id.host_name()),
                (
                    "BOOTKEEP_LABEL",
                    harmless(&entry.label).chars().take(MAX_LABEL).collect(),
                ),
                (
                    "BOOTKEEP_SERIALS",
                    words(entry.serials.iter().map(|serial| harmless(serial))),
                ),
                ("BOOTKEEP_ADDRESSES", words(addresses)),
                ("BOOTKEEP_REASONS", words(reasons.map(harmless))),
            ]);
        }
        told
    }
}

/// Letters, digits and `._-`; anything else becomes `_`. A shell that forgets its quotes cannot be led astray.
fn harmless(text: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.chars()
        .map(|c| if good(c) { c } else { '_' })
        .collect()
}

/// Whole words, as many as fit.
fn words(words: impl Iterator<Item = String>) -> String {
    words.fold(String::new(), |line, word| match line.len() {
        0 if word.len() <= MAX_VALUE => word,
        length if length + 1 + word.len() <= MAX_VALUE => format!("{line} {word}"),
        _ => line,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_protocol::{verifier::Reason, Bytes, NodeId};

    use super::*;

    fn hostile() -> Entry {
        Entry {
            version: 1,
            log: "0".repeat(32),
            sequence: 7,
            previous: Bytes(vec![0; 32]),
            at_ms: 1,
            action: revocation::Action::Revoke,
            node_id: NodeId::of_ek_public(b"x"),
            label: "$(reboot); `id`\nLD_PRELOAD=/tmp/x".repeat(4),
            serials: vec!["0a".into(), "--help".into(), "x".repeat(9000)],
            addresses: vec!["10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap()],
            reasons: vec![Reason {
                code: "a b\0".into(),
                detail: "$(id)".into(),
            }],
        }
    }

    #[test]
    fn what_is_told_is_harmless() {
        let occasion = Occasion::Entry {
            entry: Box::new(hostile()),
            own: false,
        };
        let told = occasion.variables();
        let value = |name: &str| &told.iter().find(|(key, _)| *key == name).unwrap().1;
        assert_eq!(value("BOOTKEEP_EVENT"), "revoke");
        assert_eq!(value("BOOTKEEP_SEQUENCE"), "7");
        assert_eq!(value("BOOTKEEP_ADDRESSES"), "10.0.0.1 fe80::1");
        assert_eq!(value("BOOTKEEP_REASONS"), "a_b_");
        assert_eq!(value("BOOTKEEP_SERIALS"), "0a --help");
        assert!(value("BOOTKEEP_LABEL").starts_with("__reboot____id__LD_PRELOAD__tmp_x"));
        assert_eq!(value("BOOTKEEP_LABEL").len(), MAX_LABEL);
        for (name, value) in &told {
            let good = |c: char| c.is_ascii_alphanumeric() || "._- :".contains(c);
            assert!(
                value.chars().all(good) && value.len() <= MAX_VALUE,
                "{name}={value}"
            );
        }
    }

    #[test]
    fn an_entry_about_this_node_is_its_own_occasion() {
        let mut entry = hostile();
        let on = |entry: &Entry, own| {
            Occasion::Entry {
                entry: Box::new(entry.clone()),
                own,
            }
            .on()
        };
        assert_eq!(
            (on(&entry, false), on(&entry, true)),
            (On::Revoke, On::SelfRevoked)
        );
        entry.action = revocation::Action::Reinstate;
        assert_eq!(
            (on(&entry, false), on(&entry, true)),
            (On::Reinstate, On::Reinstate)
        );
        assert_eq!(
            Occasion::Stale.variables(),
            [("BOOTKEEP_EVENT", "stale".to_owned())]
        );
    }
}
