//! A policy from boots that are known to be good: rules that survive updates where the logs show them.

mod boot;
mod extend;
mod stages;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use bootkeep_evidence::eventlog::{Authority, Claim, EventLog, Guid, SignatureLists};

use super::{
    allowed,
    document::{
        CommandLineRule, FileRule, FirmwareRule, GrubRule, KeyRule, Listed, RulePolicy, SbatRule,
        SecureBoot, Separators, StageRule, UkiRule,
    },
    grub::is_command_line,
    pattern::{Pattern, MAX_PATTERN},
    v1::EventRule,
    validate, BootPolicy,
};
use crate::{appraise::KnownGood, digest::Digest32, error::PolicyError, reason::Reasons};
use boot::{sections, Boot};
pub(super) use extend::extend;
use stages::{images, name_of, signers, sources_by_digest, sources_by_signer, Image};
use texts::{any_version, command_line_rule, command_lines, glob_of};

/// Which rules are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleChoice {
    /// By signer where Secure Boot is on, else by digest.
    #[default]
    Signers,
    /// By digest: an update needs a new policy.
    Digests,
}

/// How a boot policy is made.
#[derive(Clone, Debug, Default)]
pub struct KnownGoodOptions {
    /// Which rules are chosen.
    pub rules: RuleChoice,
    /// PCRs left out, because they differ from boot to boot.
    pub without: Vec<u8>,
}

/// A policy and what a person should know about how it was made.
#[derive(Clone, Debug)]
pub struct MadeBootPolicy {
    /// The policy, version 2.
    pub policy: BootPolicy,
    /// What stays open, beside the policy's own [`BootPolicy::warnings`].
    pub notes: Vec<String>,
}

pub(super) fn make(
    goods: &[KnownGood],
    options: &KnownGoodOptions,
) -> Result<MadeBootPolicy, PolicyError> {
    let boots: Vec<Boot<'_>> = (1..)
        .zip(goods)
        .map(|(number, good)| Boot::of(number, good))
        .collect::<Result<_, _>>()?;
    let mut maker = Maker {
        boots: &boots,
        options,
        policy: RulePolicy {
            version: validate::VERSION,
            ..RulePolicy::default()
        },
        notes: Vec::new(),
    };
    if !boots.is_empty() && boots.iter().all(|boot| boot.log.is_some()) {
        maker.rules();
    } else {
        maker.note("a boot has no event log: only PCR values are asked for");
        maker.values((0..=9).chain(11..=14));
    }
    let Maker {
        mut policy,
        mut notes,
        ..
    } = maker;
    if goods.iter().any(lacks_separator) {
        policy.separators = Separators::Accept;
        notes.push("a boot has no separators in PCR 0 to 7".to_owned());
    }
    accepts_its_origin(&policy, goods)?;
    let policy = BootPolicy::Rules(Box::new(policy)).validated()?;
    Ok(MadeBootPolicy { policy, notes })
}

/// Firmware that never hands over is no PC client's, but there are test machines.
fn lacks_separator(good: &KnownGood) -> bool {
    let events = good.event_log.iter().flat_map(EventLog::events);
    let handed_over: BTreeSet<u8> = events
        .filter(|event| matches!(event.claim(), Ok(Claim::Separator(_))))
        .map(|event| event.pcr)
        .collect();
    !(0..=7).all(|pcr| handed_over.contains(&pcr))
}

/// A policy that refuses the boots it was made from helps nobody.
fn accepts_its_origin(policy: &RulePolicy, boots: &[KnownGood]) -> Result<(), PolicyError> {
    for (boot, good) in (1..).zip(boots) {
        let mut reasons = Reasons::default();
        super::rules::check(
            policy,
            &good.pcrs,
            good.event_log.as_ref(),
            good.pcr_signatures.as_deref(),
            &mut reasons,
        );
        reasons
            .verdict()
            .map_err(|refusal| PolicyError::KnownGood {
                boot,
                problem: format!("no rules fit it: {refusal}"),
            })?;
    }
    Ok(())
}

struct Maker<'m, 'a> {
    boots: &'m [Boot<'a>],
    options: &'m KnownGoodOptions,
    policy: RulePolicy,
    notes: Vec<String>,
}

impl Maker<'_, '_> {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn wants(&self, pcr: u8) -> bool {
        allowed(pcr) && !self.options.without.contains(&pcr)
    }

    fn by_signer(&self) -> bool {
        self.options.rules == RuleChoice::Signers && self.boots.iter().all(Boot::secure)
    }

    fn rules(&mut self) {
        if self.wants(7) {
            self.secure_boot();
        }
        if self.wants(4) {
            self.stages();
        }
        self.firmware();
        self.loader();
        if self.wants(11) {
            self.image();
        }
        if self.by_signer() {
            self.values([3, 6, 14]);
            self.note(
                "PCR 1 and 5 (settings of the firmware, boot order, partitions) are left open",
            );
        } else {
            self.values([1, 3, 5, 6, 14]);
        }
    }

    /// Accepted values of PCRs as they are.
    fn values(&mut self, pcrs: impl IntoIterator<Item = u8>) {
        for pcr in pcrs {
            if !self.wants(pcr) {
                self.note(format!("PCR {pcr} is left out"));
                continue;
            }
            let values = values(self.boots, pcr);
            if !values.is_empty() {
                self.policy.pcrs.insert(pcr, values);
            }
        }
    }

    fn secure_boot(&mut self) {
        if !self.boots.iter().all(Boot::secure) {
            self.note("Secure Boot is off in a boot: PCR 7 is asked for by value");
            self.values([7]);
            return;
        }
        self.policy.secure_boot = Some(SecureBoot::Required);
        self.policy.platform_key = only(&self.keys(Guid::GLOBAL, "PK"));
        self.policy.key_exchange_keys = only(&self.keys(Guid::GLOBAL, "KEK"));
        self.policy.db = only(&self.keys(Guid::SECURITY_DATABASE, "db"));
        let dbx = self.keys(Guid::SECURITY_DATABASE, "dbx");
        let contains = common(&dbx);
        if contains.is_empty() {
            self.note("dbx is empty in a boot: nothing must be in it");
        } else {
            self.policy.dbx = Some(KeyRule {
                only: None,
                contains,
            });
        }
        self.sbat();
    }

    /// The entries of a key database, boot by boot.
    fn keys(&self, vendor: Guid, name: &str) -> Vec<Vec<Listed>> {
        let lists = |boot: &Boot<'_>| {
            let variable = boot.variable(vendor, name)?;
            variable.signature_lists().ok()
        };
        self.boots
            .iter()
            .map(|boot| lists(boot).map_or_else(Vec::new, |lists| listed(&lists)))
            .collect()
    }

    /// The lowest floor of all boots.
    fn sbat(&mut self) {
        let levels: Vec<_> = self
            .boots
            .iter()
            .filter_map(|boot| {
                boot.authorities()
                    .into_iter()
                    .find_map(|found| match found {
                        Authority::Sbat(level) => Some(level),
                        _ => None,
                    })
            })
            .collect();
        if levels.len() < self.boots.len() {
            self.note("a boot measured no SbatLevel: old boot loaders of shim pass");
            return;
        }
        let date = levels.iter().map(|level| level.date).min();
        let mut components = BTreeMap::new();
        for generation in levels.iter().flat_map(|level| &level.generations) {
            let component = &generation.component;
            let least = levels.iter().map(|level| level.of(component)).min();
            components.insert(component.clone(), least.unwrap_or(0));
        }
        self.policy.sbat = Some(SbatRule { date, components });
    }

    fn stages(&mut self) {
        let chains: Vec<Vec<Image>> = self.boots.iter().map(images).collect();
        let (longest, shortest) = (
            chains.iter().map(Vec::len).max().unwrap_or(0),
            chains.iter().map(Vec::len).min().unwrap_or(0),
        );
        if longest != shortest {
            self.note("boots start different numbers of images: the last ones are optional");
        }
        let by_signer = self.by_signer();
        let signers = signers(self.boots);
        let by_signer = by_signer && !signers.is_empty();
        for place in 0..longest {
            let found: Vec<&Image> = chains.iter().filter_map(|chain| chain.get(place)).collect();
            let any_of = if by_signer {
                sources_by_signer(&signers, place, longest)
            } else {
                sources_by_digest(&found)
            };
            self.policy.boot_stages.push(StageRule {
                name: name_of(&found, place),
                any_of,
                optional: place >= shortest,
                before_separator: found.iter().any(|image| !image.handed_over),
            });
        }
        if by_signer {
            self.note("each stage may be any image that one of its signers signed");
        }
    }

    fn firmware(&mut self) {
        if !self.wants(0) {
            self.note("PCR 0 is left out: the firmware may be any");
            return;
        }
        for boot in self.boots {
            let version = boot.pick(0, |_, claim| match claim {
                Claim::FirmwareVersion(text) => Some(text.clone()),
                _ => None,
            });
            let version = version.into_iter().next().filter(|text| !text.is_empty());
            let value = |pcr: u8| -> Vec<Digest32> {
                let value = boot.pcrs.get(pcr).filter(|_| self.wants(pcr));
                value.copied().map(Digest32).into_iter().collect()
            };
            let rule = FirmwareRule {
                name: version.clone().unwrap_or_else(|| "firmware".to_owned()),
                version: version.as_deref().map(Pattern::exact),
                pcr0: value(0),
                pcr2: value(2),
            };
            if !self.policy.firmware.contains(&rule) {
                self.policy.firmware.push(rule);
            }
        }
    }

    /// What was measured between firmware and kernel: PCR 8, 9 and 12.
    fn loader(&mut self) {
        let grub = self.boots.iter().any(|boot| !boot.strings(8).is_empty());
        let lines: Vec<Vec<String>> = self.boots.iter().map(command_lines).collect();
        let texts = lines.iter().all(|lines| !lines.is_empty());
        if texts && self.wants(8) && self.wants(12) {
            self.policy.kernel_command_line = Some(command_line_rule(&lines));
        } else {
            self.values([8, 12]);
        }
        if grub && texts && self.wants(8) {
            self.long_commands();
            let commands = self.commands();
            self.policy.grub = Some(GrubRule {
                commands,
                files: Vec::new(),
            });
        }
        if self.wants(9) {
            self.files(grub && texts);
        } else {
            self.note("PCR 9 is left out: initramfs and files of GRUB may be any");
        }
    }

    /// Commands that are too long for a pattern, by digest.
    fn long_commands(&mut self) {
        let long = self.boots.iter().flat_map(|boot| {
            boot.pick(8, |event, claim| match claim {
                Claim::Text(text) if text.text.len() > MAX_PATTERN => Some(event.digest),
                _ => None,
            })
        });
        let rules: Vec<EventRule> = long
            .map(|digest| EventRule {
                digest: digest.into(),
                note: "a long command of GRUB".to_owned(),
            })
            .collect();
        if !rules.is_empty() {
            self.policy.events.insert(8, rules);
        }
    }

    fn commands(&self) -> Vec<Pattern> {
        let strings = self.boots.iter().flat_map(|boot| boot.strings(8));
        let commands: BTreeSet<String> = strings
            .filter(|text| !is_command_line(text) && text.len() <= MAX_PATTERN)
            .collect();
        let patterns = commands.iter().map(|text| any_version(text));
        let mut all: Vec<Pattern> = Vec::new();
        for pattern in patterns {
            if !all.contains(&pattern) {
                all.push(pattern);
            }
        }
        all
    }

    /// Files of GRUB and what the kernel's EFI stub measured, by digest: nothing signs them.
    fn files(&mut self, grub: bool) {
        let events = |boot: &Boot<'_>| {
            boot.pick(9, |event, claim| match claim {
                Claim::Opaque(file) => Some((event.digest, file.hint())),
                _ => Some((event.digest, event.text())),
            })
        };
        let mut files: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        let mut rules: Vec<EventRule> = Vec::new();
        for (digest, note) in self.boots.iter().flat_map(events) {
            let listed = listed_digest(digest, "");
            if grub && note.starts_with(['/', '(']) {
                let digests = files.entry(glob_of(&note)).or_default();
                if !digests.contains(&listed) {
                    digests.push(listed);
                }
            } else if rules.iter().all(|rule| rule.digest.0 != digest) {
                let digest = digest.into();
                rules.push(EventRule { digest, note });
            }
        }
        let unseen = rules.is_empty() && files.is_empty();
        if !rules.is_empty() {
            self.policy.events.insert(9, rules);
        }
        let files = files.into_iter();
        let files: Vec<FileRule> = files
            .map(|(path, digests)| FileRule { path, digests })
            .collect();
        if !files.is_empty() {
            self.note(
                "files that GRUB reads (kernel, initramfs, grub.cfg) are listed by digest: an update needs new ones",
            );
            self.policy.grub.get_or_insert_default().files = files;
        }
        if unseen {
            self.values([9]);
        }
    }

    /// A unified kernel image, by its sections.
    fn image(&mut self) {
        let sections: Vec<_> = self.boots.iter().map(sections).collect();
        if sections.iter().any(Vec::is_empty) {
            self.values([11, 13]);
            return;
        }
        let mut accepted: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for (name, digest) in sections.into_iter().flatten() {
            let digests = accepted.entry(name).or_default();
            let listed = listed_digest(digest, "");
            if !digests.contains(&listed) {
                digests.push(listed);
            }
        }
        let added = |pcr: u8| -> Vec<Listed> {
            let events = self.boots.iter().flat_map(|boot| {
                boot.pick(pcr, |event, claim| match claim {
                    Claim::Text(_) if pcr == 12 => None,
                    _ => Some((event.digest, event.text())),
                })
            });
            let mut all: Vec<Listed> = Vec::new();
            for (digest, note) in events {
                if all.iter().all(|listed| listed.digest.0 != digest) {
                    all.push(listed_digest(digest, &note));
                }
            }
            all
        };
        let uki = UkiRule {
            sections: accepted,
            credentials: added(12),
            extensions: added(13),
            ..UkiRule::default()
        };
        self.policy.uki = Some(uki);
        // The command line is judged by its words, or is inside the image.
        self.policy.pcrs.remove(&12);
        self.policy
            .kernel_command_line
            .get_or_insert_with(CommandLineRule::default);
        self.note(
            "the unified kernel image is listed by its sections: sign PCR 11 (systemd-measure) and set uki.signed to \
             let updates pass",
        );
    }
}

fn values(boots: &[Boot<'_>], pcr: u8) -> Vec<Digest32> {
    let values = boots.iter().filter_map(|boot| boot.pcrs.get(pcr));
    let values: BTreeSet<Digest32> = values.copied().map(Digest32).collect();
    values.into_iter().collect()
}

fn listed_digest(digest: [u8; 32], note: &str) -> Listed {
    Listed {
        digest: digest.into(),
        note: note.to_owned(),
    }
}

fn listed(lists: &SignatureLists) -> Vec<Listed> {
    use bootkeep_evidence::eventlog::SignatureData;
    let entries = lists.entries().iter();
    entries
        .map(|entry| {
            let note = match &entry.data {
                SignatureData::X509(certificate) => certificate
                    .names
                    .as_ref()
                    .map_or("", |names| names.subject.as_str()),
                _ => "",
            };
            listed_digest(entry.digest, note)
        })
        .collect()
}

/// Every entry of any boot, and no other.
fn only(boots: &[Vec<Listed>]) -> Option<KeyRule> {
    let mut all: Vec<Listed> = Vec::new();
    for entry in boots.iter().flatten() {
        if !all.contains(entry) {
            all.push(entry.clone());
        }
    }
    Some(KeyRule {
        only: Some(all),
        contains: Vec::new(),
    })
}

/// The entries that every boot has.
fn common(boots: &[Vec<Listed>]) -> Vec<Listed> {
    let Some((first, others)) = boots.split_first() else {
        return Vec::new();
    };
    let everywhere = |entry: &&Listed| others.iter().all(|other| other.contains(entry));
    first.iter().filter(everywhere).cloned().collect()
}
