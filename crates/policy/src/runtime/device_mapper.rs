//! Device mapper: which tables which devices may have.

use std::collections::BTreeMap;

use bootkeep_evidence::ima::{DmDevice, DmEvent, DmEventKind, DmFields};
use serde::{Deserialize, Serialize};

use super::{
    pattern::{PathPattern, Patterns, TextPattern, MAX_PATTERNS},
    verdict::Missing,
};
use crate::error::PolicyError;

/// What the kernel says of a dm-verity device that found no damage.
const UNDAMAGED: &str = "V";

/// A device and its table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRule {
    /// Its name.
    pub name: PathPattern,
    /// Its UUID; any when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<PathPattern>,
    /// The targets of its table, in their order, each with the attributes that matter (`target_name`, `root_digest`,
    /// `cipher_string` …). None: any table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<BTreeMap<String, TextPattern>>>,
}

#[derive(Clone, Debug)]
struct Rule {
    written: DeviceRule,
    name: Patterns,
    uuid: Patterns,
}

/// The devices of a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices(Vec<Rule>);

impl PartialEq for Devices {
    fn eq(&self, other: &Self) -> bool {
        self.written().eq(other.written())
    }
}

impl Devices {
    pub(super) fn new(list: Vec<DeviceRule>) -> Result<Self, PolicyError> {
        let mut devices = Self::default();
        for rule in list {
            devices.add(rule)?;
        }
        Ok(devices)
    }

    pub(super) fn add(&mut self, written: DeviceRule) -> Result<(), PolicyError> {
        if self.written().any(|rule| *rule == written) {
            return Ok(());
        }
        if self.0.len() >= MAX_PATTERNS {
            return Err(PolicyError::TooMany {
                what: "device mapper rules",
                limit: MAX_PATTERNS,
            });
        }
        let name = Patterns::new(vec![written.name.clone()])?;
        let uuid = Patterns::new(written.uuid.iter().cloned().collect())?;
        self.0.push(Rule {
            written,
            name,
            uuid,
        });
        Ok(())
    }

    pub(super) fn written(&self) -> impl Iterator<Item = &DeviceRule> {
        self.0.iter().map(|rule| &rule.written)
    }

    /// The number of the rule that accepts the event.
    pub(super) fn accept(&self, kind: DmEventKind, buffer: &[u8]) -> Result<usize, Missing> {
        let event = DmEvent::parse(kind, buffer)
            .map_err(|problem| Missing::new("dm-malformed", problem))?;
        let mut missing = None;
        for (number, rule) in self.0.iter().enumerate() {
            match rule.accept(&event) {
                Ok(()) => return Ok(number),
                // What comes nearest is told: a table of a device that has a rule.
                Err(Some(problem)) => missing = Some(problem.about(number)),
                Err(None) => {}
            }
        }
        Err(missing.unwrap_or_else(|| no_rule(&event)))
    }
}

fn no_rule(event: &DmEvent) -> Missing {
    let names: Vec<String> = event.devices.iter().map(shown).collect();
    let code = match event.kind {
        DmEventKind::Rename => "dm-rename",
        _ => "dm-device",
    };
    let names = names.join(" and ");
    Missing::new(code, format!("no device_mapper rule covers {names}"))
}

fn shown(device: &DmDevice) -> String {
    match device.uuid.as_str() {
        "" => format!("{:?}", device.name),
        uuid => format!("{:?} ({uuid})", device.name),
    }
}

impl Rule {
    /// `Err(None)` when the rule is about another device. A rename must stay within one rule: a device that was loaded
    /// under a lax rule must not become one that a strict rule is about.
    fn accept(&self, event: &DmEvent) -> Result<(), Option<Missing>> {
        if !event.devices.iter().all(|device| self.is_about(device)) {
            return Err(None);
        }
        for target in &event.targets {
            undamaged(target).map_err(Some)?;
        }
        let Some(targets) = &self.written.targets else {
            return Ok(());
        };
        match event.kind {
            DmEventKind::Load => table(targets, &event.targets).map_err(Some),
            DmEventKind::Update => updated(targets, &event.targets).map_err(Some),
            _ => Ok(()),
        }
    }

    fn is_about(&self, device: &DmDevice) -> bool {
        let uuid = self.uuid.is_empty() || self.uuid.find(&device.uuid).is_some();
        uuid && self.name.find(&device.name).is_some()
    }
}

fn undamaged(target: &DmFields) -> Result<(), Missing> {
    match target.get("hash_failed") {
        Some(state) if state != UNDAMAGED => {
            Err(Missing::new("dm-table", "dm-verity found damaged data"))
        }
        _ => Ok(()),
    }
}

type Targets = [BTreeMap<String, TextPattern>];

fn table(rules: &Targets, targets: &[DmFields]) -> Result<(), Missing> {
    if rules.len() != targets.len() {
        let (has, wants) = (targets.len(), rules.len());
        let problem = format!("the table has {has} targets, the policy wants {wants}");
        return Err(Missing::new("dm-table", problem));
    }
    let mut pairs = rules.iter().zip(targets).enumerate();
    pairs.try_for_each(|(index, (rule, target))| row(index, rule, target))
}

/// Only the changed targets are in such an event: each must be one of those of the table.
fn updated(rules: &Targets, targets: &[DmFields]) -> Result<(), Missing> {
    targets.iter().enumerate().try_for_each(|(index, target)| {
        let good = rules.iter().any(|rule| row(index, rule, target).is_ok());
        let problem = "a target changed to what the policy does not accept";
        good.then_some(())
            .ok_or_else(|| Missing::new("dm-table", problem))
    })
}

fn row(
    index: usize,
    rule: &BTreeMap<String, TextPattern>,
    target: &DmFields,
) -> Result<(), Missing> {
    for (attribute, wanted) in rule {
        let found = target.get(attribute).map(String::as_str);
        if !found.is_some_and(|found| wanted.matches(found)) {
            let found = found.unwrap_or("missing");
            let problem = format!("target {index}: {attribute} is {found}");
            return Err(Missing::new("dm-table", problem));
        }
    }
    Ok(())
}
