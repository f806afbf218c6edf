//! A policy from boots that are known to be good: rules that survive updates where the logs show them.

use std::collections::{BTreeMap, BTreeSet};

use bootkeep_evidence::{
    eventlog::{Authority, Claim, Event, EventLog, Guid, SignatureLists, Variable},
    PcrValues,
};

use super::{
    allowed,
    document::{
        CommandLineRule, FileRule, FirmwareRule, GrubRule, KeyRule, Listed, RulePolicy, SbatRule,
        SecureBoot, Separators, SignerRule, StageRule, StageSource, UkiRule,
    },
    grub::is_command_line,
    pattern::{Pattern, MAX_PATTERN},
    phases,
    v1::EventRule,
    validate, BootPolicy,
};
use crate::{appraise::KnownGood, digest::Digest32, error::PolicyError, reason::Reasons};

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

/// A boot whose log explains its PCRs and does not lie about itself.
struct Boot<'a> {
    pcrs: &'a PcrValues,
    log: Option<Vec<(&'a Event, Claim<'a>)>>,
}

impl<'a> Boot<'a> {
    fn of(number: usize, good: &'a KnownGood) -> Result<Self, PolicyError> {
        let problem = |problem: String| PolicyError::KnownGood {
            boot: number,
            problem,
        };
        let log = good.event_log.as_ref().map(|log| {
            explain(&good.pcrs, log).map_err(problem)?;
            let events = log.events().iter().filter(|event| event.is_extended());
            events
                .map(|event| match event.claim() {
                    Ok(claim) => Ok((event, claim)),
                    Err(error) => Err(problem(format!("{event}: {error}"))),
                })
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            pcrs: &good.pcrs,
            log: log.transpose()?,
        })
    }

    /// What `find` makes of the events of one PCR.
    fn pick<T>(&self, pcr: u8, find: impl Fn(&Event, &Claim<'a>) -> Option<T>) -> Vec<T> {
        let events = self.log.iter().flatten();
        events
            .filter(|(event, _)| event.pcr == pcr)
            .filter_map(|(event, claim)| find(event, claim))
            .collect()
    }

    fn variable(&self, vendor: Guid, name: &str) -> Option<Variable<'a>> {
        let found = self.pick(7, |_, claim| match claim {
            Claim::Variable(variable) if variable.is(vendor, name) => Some(variable.clone()),
            _ => None,
        });
        found.into_iter().next()
    }

    fn secure(&self) -> bool {
        let state = self.variable(Guid::GLOBAL, "SecureBoot");
        state.and_then(|variable| variable.switch()) == Some(true)
    }

    fn strings(&self, pcr: u8) -> Vec<String> {
        self.pick(pcr, |_, claim| match claim {
            Claim::Text(text) => Some(text.text.clone()),
            _ => None,
        })
    }

    fn authorities(&self) -> Vec<Authority> {
        self.pick(7, |_, claim| match claim {
            Claim::Authority(authority) => Some(authority.clone()),
            _ => None,
        })
    }
}

/// The log leads to every PCR but those it says nothing of and those that go on after it.
fn explain(quoted: &PcrValues, log: &EventLog) -> Result<(), String> {
    let replayed = log.replay();
    for pcr in (0..=9).chain(12..=14) {
        if replayed.get(pcr) != quoted.get(pcr) {
            return Err(format!(
                "the event log does not replay to the quoted PCR {pcr}: this boot is not a known-good one"
            ));
        }
    }
    let (start, value) = (replayed.get(11), quoted.get(11));
    let paths = super::PhaseRule::default().running;
    let known = |start: &[u8; 32]| {
        let reached = |path: &String| Some(&phases::after(start, path)) == value;
        paths.iter().any(reached)
    };
    if start.is_some_and(known) {
        return Ok(());
    }
    Err("the event log and no phase lead to the quoted PCR 11".to_owned())
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
        super::rules::check(policy, &good.pcrs, good.event_log.as_ref(), &mut reasons);
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

/// An image that was started.
struct Image {
    digest: [u8; 32],
    hint: String,
    handed_over: bool,
}

fn images(boot: &Boot<'_>) -> Vec<Image> {
    let mut handed_over = false;
    let mut all = Vec::new();
    for (event, claim) in boot.log.iter().flatten() {
        match claim {
            _ if event.pcr != 4 => {}
            Claim::Separator(_) => handed_over = true,
            Claim::Opaque(image) => all.push(Image {
                digest: image.digest(),
                hint: image.hint(),
                handed_over,
            }),
            _ => {}
        }
    }
    all
}

fn name_of(images: &[&Image], place: usize) -> String {
    let hint = images.first().map_or("", |image| image.hint.as_str());
    let hint = hint.to_lowercase();
    let known = [
        ("shim", "shim"),
        ("grub", "grub"),
        ("systemd-boot", "systemd-boot"),
        ("/linux/", "uki"),
        ("vmlinuz", "linux"),
        ("kernel", "linux"),
        ("boot\\bootx64.efi", "boot loader"),
    ];
    let named = known.iter().find(|(part, _)| hint.contains(part));
    named.map_or_else(
        || format!("stage {}", place + 1),
        |(_, name)| (*name).to_owned(),
    )
}

/// Certificates that vouched for images, each once, in the order of the logs.
fn signers(boots: &[Boot<'_>]) -> Vec<SignerRule> {
    let mut all: Vec<SignerRule> = Vec::new();
    for authority in boots.iter().flat_map(Boot::authorities) {
        let Authority::Certificate {
            source,
            certificate,
            ..
        } = authority
        else {
            continue;
        };
        let signer = SignerRule {
            fingerprint: Some(certificate.fingerprint.into()),
            subject: certificate.names.map(|names| names.subject),
            issuer: None,
            source: Some(source),
        };
        if !all.contains(&signer) {
            all.push(signer);
        }
    }
    all
}

/// A certificate is measured when it first vouches for an image: the first stage has the first one, later stages one
/// of those that follow, or the last again. Certificates left over belong to the last stage.
fn sources_by_signer(signers: &[SignerRule], place: usize, stages: usize) -> Vec<StageSource> {
    let last = signers.len() - 1;
    let first = place.min(last);
    let end = if place + 1 == stages { last } else { first };
    let of_stage = signers.get(first..=end).unwrap_or_default();
    of_stage
        .iter()
        .map(|signer| StageSource {
            signer: Some(signer.clone()),
            ..StageSource::default()
        })
        .collect()
}

fn sources_by_digest(images: &[&Image]) -> Vec<StageSource> {
    let mut all: Vec<StageSource> = Vec::new();
    for image in images {
        let source = StageSource {
            digest: Some(image.digest.into()),
            signer: None,
            note: image.hint.clone(),
        };
        if all.iter().all(|known| known.digest != source.digest) {
            all.push(source);
        }
    }
    all
}

/// The parameters of a boot's command lines: GRUB's begin with the kernel's path.
fn command_lines(boot: &Boot<'_>) -> Vec<String> {
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
fn command_line_rule(boots: &[Vec<String>]) -> CommandLineRule {
    let lines = boots.iter().flatten();
    let sets: Vec<BTreeSet<String>> = lines.map(|line| super::command_line::words(line)).collect();
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
fn any_version(text: &str) -> Pattern {
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
fn glob_of(path: &str) -> String {
    match next_version(path) {
        Some((at, name)) => format!("{}*", globset::escape(&path[..at + name.len()])),
        None => globset::escape(path),
    }
}

/// Names and digests of the sections of a unified kernel image.
fn sections(boot: &Boot<'_>) -> Vec<(String, [u8; 32])> {
    let events = boot.pick(11, |event, claim| match claim {
        Claim::Section(section) => Some((Some(section.name.clone()), event.digest)),
        _ => Some((None, event.digest)),
    });
    let mut all = Vec::new();
    let mut current = None;
    for (name, digest) in events {
        match current.take() {
            Some(section) => all.push((section, digest)),
            None => current = name,
        }
    }
    all
}
