//! After cloud-init: was exactly the sealed user-data applied? A boot without its payload must not look like a good one.

use std::io;

use crate::{record, record::Line, state::State, surroundings, Config, Places};

/// One thing the owner wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable, kebab-case.
    pub code: String,
    /// One line.
    pub detail: String,
    /// Whether the unit fails because of it.
    pub fails: bool,
    /// Whether it was made a claim when it happened.
    claimed: bool,
}

/// What is known at the end of cloud-init's run.
#[derive(Debug, Default)]
struct Facts {
    strict: bool,
    seeded: bool,
    expected: Vec<String>,
    had_keys: bool,
    record: Vec<Line>,
    seed_disks: Vec<String>,
    other_seeds: Vec<String>,
}

/// Looks at everything, reports what is new as claims and forgets the keys.
///
/// # Errors
/// When what this boot left cannot be read; that is a failure too.
pub fn check(places: &Places) -> io::Result<Vec<Finding>> {
    let state = State::load(places)?;
    let facts = Facts {
        strict: Config::strict_unless_allowed(&places.config).require_sealed,
        seeded: state.is_some(),
        record: record::read(places)?,
        seed_disks: surroundings::seed_disks(places),
        other_seeds: surroundings::other_seeds(places),
        expected: state
            .as_ref()
            .map_or_else(Vec::new, |state| state.expected.clone()),
        had_keys: state.as_ref().is_some_and(|state| state.had_keys),
    };
    let findings = judge(&facts);
    for finding in findings.iter().filter(|finding| !finding.claimed) {
        places.handover.claim(&finding.code, &finding.detail)?;
    }
    state.map_or(Ok(()), |state| state.forget_keys(places))?;
    Ok(findings)
}

fn judge(facts: &Facts) -> Vec<Finding> {
    [
        refused(facts),
        not_applied(facts),
        attached(facts),
        named(facts),
    ]
    .concat()
}

fn finding(code: &str, detail: String, fails: bool) -> Finding {
    Finding {
        code: code.into(),
        detail,
        fails,
        claimed: false,
    }
}

fn refused(facts: &Facts) -> Vec<Finding> {
    let mut refused = Vec::new();
    for line in &facts.record {
        let Line::Refused { code, detail } = line else {
            continue;
        };
        let found = Finding {
            claimed: true,
            ..finding(code, detail.clone(), true)
        };
        if !refused.contains(&found) {
            refused.push(found);
        }
    }
    refused
}

fn not_applied(facts: &Facts) -> Vec<Finding> {
    let applied = |digest: &String| facts.record.contains(&Line::Applied(digest.clone()));
    let missing = facts
        .expected
        .iter()
        .filter(|digest| !applied(digest))
        .count();
    let any = facts
        .record
        .iter()
        .any(|line| matches!(line, Line::Applied(_)));
    let detail = if !facts.seeded {
        "the seed step did not run, so sealed user-data was not looked for".to_owned()
    } else if missing > 0 {
        format!(
            "{missing} of {} sealed documents of the envelope were not applied",
            facts.expected.len()
        )
    } else if facts.had_keys && !any {
        "the envelope brought keys of sealed user-data, but the cloud delivered none".to_owned()
    } else {
        return Vec::new();
    };
    vec![finding("cloud-init-not-applied", detail, true)]
}

fn attached(facts: &Facts) -> Vec<Finding> {
    let disk = |label: &String| {
        let detail =
            format!("a file system labelled {label} is attached; it was not used as a seed");
        finding("cloud-init-cidata", detail, facts.strict)
    };
    facts.seed_disks.iter().map(disk).collect()
}

/// Named seeds matter only beside an envelope; else they are how this cloud brings the sealed part.
fn named(facts: &Facts) -> Vec<Finding> {
    if facts.expected.is_empty() {
        return Vec::new();
    }
    let other =
        |text: &String| finding("cloud-init-other-seed", format!("{text}; not used"), false);
    facts.other_seeds.iter().map(other).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            strict: true,
            seeded: true,
            ..Facts::default()
        }
    }

    fn refused(code: &str) -> Line {
        Line::Refused {
            code: code.into(),
            detail: "d".into(),
        }
    }

    #[test]
    fn judgements() {
        let applied = |digest: &str| Line::Applied(digest.into());
        type Case = (&'static str, Facts, &'static [(&'static str, bool)]);
        let cases: [Case; 11] = [
            ("no user-data at all", facts(), &[]),
            (
                "the envelope's document was applied",
                Facts {
                    expected: vec!["a".into()],
                    record: vec![applied("a")],
                    ..facts()
                },
                &[],
            ),
            (
                "it was not",
                Facts {
                    expected: vec!["a".into()],
                    ..facts()
                },
                &[("cloud-init-not-applied", true)],
            ),
            (
                "one of two was",
                Facts {
                    expected: vec!["a".into(), "b".into()],
                    record: vec![applied("b")],
                    ..facts()
                },
                &[("cloud-init-not-applied", true)],
            ),
            (
                "keys for the cloud's metadata service, and it delivered",
                Facts {
                    had_keys: true,
                    record: vec![applied("x")],
                    ..facts()
                },
                &[],
            ),
            (
                "and it did not",
                Facts {
                    had_keys: true,
                    ..facts()
                },
                &[("cloud-init-not-applied", true)],
            ),
            (
                "the seed step did not run",
                Facts {
                    seeded: false,
                    ..facts()
                },
                &[("cloud-init-not-applied", true)],
            ),
            (
                "something was refused",
                Facts {
                    record: vec![refused("cloud-init-unsealed-part")],
                    ..facts()
                },
                &[("cloud-init-unsealed-part", true)],
            ),
            (
                "a seed disk",
                Facts {
                    seed_disks: vec!["CIDATA".into()],
                    ..facts()
                },
                &[("cloud-init-cidata", true)],
            ),
            (
                "a named seed beside an envelope is told, not more",
                Facts {
                    expected: vec!["a".into()],
                    record: vec![applied("a")],
                    other_seeds: vec!["x".into()],
                    ..facts()
                },
                &[("cloud-init-other-seed", false)],
            ),
            (
                "a named seed without an envelope is the way in",
                Facts {
                    other_seeds: vec!["x".into()],
                    ..facts()
                },
                &[],
            ),
        ];
        for (name, facts, wanted) in cases {
            let found = judge(&facts);
            let found: Vec<_> = found.iter().map(|f| (f.code.as_str(), f.fails)).collect();
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn the_keys_are_gone_afterwards_and_a_claim_is_made_once() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::under(root.path());
        std::fs::create_dir_all(root.path().join("run")).unwrap();
        places.handover.prepare().unwrap();
        bootkeep_handover::private_folder(&places.memory()).unwrap();
        let state = State {
            had_keys: true,
            keys: vec![bootkeep_handover::DocumentKey {
                key_id: "k".into(),
                key: b"sesame".as_slice().into(),
            }],
            ..State::default()
        };
        state.save(&places).unwrap();
        record::refuse(&places, "cloud-init-unsealed-part", "x");
        let first = check(&places).unwrap();
        assert_eq!(first, check(&places).unwrap());
        assert!(State::load(&places).unwrap().unwrap().keys.is_empty());
        let codes: Vec<_> = places.handover.take_claims().unwrap();
        assert_eq!(codes.len(), 2, "{codes:?}");
    }
}
