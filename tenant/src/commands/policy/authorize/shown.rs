//! What was authorized, for people and programs.

use bootkeep_policy::Predicted;
use bootkeep_protocol::{kept::SignedPcrPolicy, limits::clean_text, policy::PolicyObject};
use serde::Serialize;

use super::{super::objects::Given, Foretold};
use crate::{clock::written, output::Show};

/// The new generation.
#[derive(Debug, Serialize)]
pub(super) struct Authorized {
    name: String,
    generation: u64,
    valid_from_ms: u64,
    valid_until_ms: u64,
    /// Boot by boot.
    boots: Vec<Change>,
    /// Each list of PCRs that was signed.
    signed_pcrs: Vec<Vec<u8>>,
    /// How many signed PCR policies the generation carries, with those of before.
    pcr_policies: usize,
    notes: Vec<String>,
    /// As the verifier has it, when it was given to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) given: Option<Given>,
}

/// How a boot changes.
#[derive(Debug, Serialize)]
struct Change {
    /// New values of the PCRs that change, lower-case hex.
    pcrs: Vec<Value>,
    /// What cannot be foretold.
    open: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Value {
    pcr: u8,
    value: String,
}

impl Change {
    fn of(boot: &Foretold) -> Self {
        let Predicted { open, .. } = &boot.next;
        let is_open = boot.next.open_pcrs();
        // PCR 11 went on after the log: only logs are compared.
        let before = boot.last.event_log.as_ref().map(|log| log.replay());
        let before = before.unwrap_or_default();
        let after = boot.next.pcrs();
        let changes = after
            .iter()
            .filter(|(pcr, value)| !is_open.contains(pcr) && before.get(*pcr) != Some(*value));
        Self {
            pcrs: changes
                .map(|(pcr, value)| Value {
                    pcr,
                    value: hex::encode(value),
                })
                .collect(),
            open: open
                .iter()
                .map(|open| clean_text(&open.to_string()))
                .collect(),
        }
    }
}

impl Authorized {
    pub(super) fn new(
        object: &PolicyObject,
        signed: &[SignedPcrPolicy],
        boots: &[Foretold],
        notes: Vec<String>,
    ) -> Self {
        let mut signed_pcrs: Vec<Vec<u8>> =
            signed.iter().map(|policy| policy.pcrs.clone()).collect();
        signed_pcrs.dedup();
        Self {
            name: object.name.clone(),
            generation: object.generation,
            valid_from_ms: object.valid_from_ms,
            valid_until_ms: object.valid_until_ms,
            boots: boots.iter().map(Change::of).collect(),
            signed_pcrs,
            pcr_policies: object.pcr_policies.len(),
            notes,
            given: None,
        }
    }
}

impl Show for Authorized {
    fn human(&self) -> String {
        let mut text = format!(
            "boot policy @{}, generation {}: counts from {} until {}\n",
            self.name,
            self.generation,
            written(self.valid_from_ms),
            written(self.valid_until_ms)
        );
        for boot in &self.boots {
            if boot.pcrs.is_empty() && boot.open.is_empty() {
                text.push_str("nothing changes: the present boot is authorized\n");
            }
            for Value { pcr, value } in &boot.pcrs {
                text.push_str(&format!("PCR {pcr} becomes {value}\n"));
            }
            for open in &boot.open {
                text.push_str(&format!("cannot be foretold: {open}\n"));
            }
        }
        for pcrs in &self.signed_pcrs {
            let pcrs: Vec<String> = pcrs.iter().map(u8::to_string).collect();
            text.push_str(&format!("signed: PCRs {}\n", pcrs.join(", ")));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        match &self.given {
            Some(given) => text + &given.human(),
            None => text,
        }
    }
}
