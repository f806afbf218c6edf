//! The revocation log as the owner sees it, and a violation from its start to the last acknowledgement.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{bail, Context, Result};
use serde_json::Value;

use crate::{bay::Bay, owner::Owner};

/// A program that nobody listed.
pub const UNLISTED: &str = "/usr/local/bin/unlisted";
/// How long the acknowledgement of a peer may take under emulation.
const ACKNOWLEDGED: Duration = Duration::from_secs(60);

/// One entry of the log with what is known about it.
#[derive(Clone, Debug)]
pub struct Record(Value);

impl Record {
    /// Its place in the log.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.0["sequence"].as_u64().unwrap_or(0)
    }

    /// When it was signed, in milliseconds since 1970.
    #[must_use]
    pub fn at_ms(&self) -> Option<u64> {
        self.0["at_ms"].as_u64()
    }

    /// When the CA had it on its list.
    #[must_use]
    pub fn ca_at_ms(&self) -> Option<u64> {
        self.0["ca_at_ms"].as_u64()
    }

    /// The first reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.0["reasons"][0]["detail"].as_str().unwrap_or_default()
    }

    /// The acknowledgement of this peer, once it is there.
    #[must_use]
    pub fn acknowledgement(&self, peer: &str) -> Option<&Value> {
        let mut all = self.0["acknowledgements"].as_array()?.iter();
        all.find(|one| one["node_id"] == peer && !one["at_ms"].is_null())
    }

    fn revokes(&self, node: &str) -> bool {
        self.0["action"] == "revoke" && self.0["node_id"] == node
    }
}

/// All entries, oldest first.
///
/// # Errors
/// When `bootkeep revocations` fails or prints something else.
pub fn records(owner: &Owner) -> Result<Vec<Record>> {
    let told = owner.json(&["revocations"])?;
    let records = told["records"]
        .as_array()
        .with_context(|| format!("`bootkeep revocations` printed {told}"))?;
    Ok(records.iter().cloned().map(Record).collect())
}

/// A violation and what came of it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When it began, in milliseconds since 1970.
    pub begun_ms: u64,
    /// The entry of the log.
    pub record: Record,
    /// The peer's acknowledgement.
    pub acknowledgement: Value,
}

impl Violation {
    /// Starts a program that nobody listed in the machine, and waits until the peer has acknowledged the revocation and
    /// the CA has it on its list.
    ///
    /// # Errors
    /// When one of them does not within a minute.
    pub fn commit(owner: &Owner, bay: &Bay, node: &str, peer: &str) -> Result<Self> {
        let known = records(owner)?.iter().map(Record::sequence).max();
        bay.guest
            .ok(&format!("cp /bin/true {UNLISTED} && echo x >> {UNLISTED}"))?;
        let begun_ms = now_ms();
        bay.guest.ok(UNLISTED)?;
        let end = Instant::now() + ACKNOWLEDGED;
        loop {
            let records = records(owner)?;
            let record = records
                .iter()
                .find(|record| Some(record.sequence()) > known && record.revokes(node));
            let acknowledgement = record.and_then(|record| record.acknowledgement(peer));
            if let (Some(record), Some(acknowledgement)) = (record, acknowledgement) {
                if record.ca_at_ms().is_some() {
                    return Ok(Self {
                        begun_ms,
                        record: record.clone(),
                        acknowledgement: acknowledgement.clone(),
                    });
                }
            }
            if Instant::now() > end {
                bail!("no acknowledgement, or no list of the CA, within a minute: {records:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How the peer enforced it: `ike`, `kernel`, ...
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.acknowledgement["done"]["outcome"]
            .as_str()
            .unwrap_or_default()
    }

    /// What happened when, in milliseconds since the program was started; by the owner's clock.
    #[must_use]
    pub fn timeline(&self) -> Vec<(u64, String)> {
        let since = |at: u64| at.saturating_sub(self.begun_ms);
        let done = &self.acknowledgement["done"];
        let mut events = vec![
            (0, format!("{UNLISTED} is started")),
            (
                since(self.record.at_ms().unwrap_or(self.begun_ms)),
                format!(
                    "untrusted; revocation {} is signed: {}",
                    self.record.sequence(),
                    self.record.reason()
                ),
            ),
        ];
        if let Some(at) = self.record.ca_at_ms() {
            events.push((
                since(at),
                "the CA's new revocation list has its certificate".into(),
            ));
        }
        if let Some(at) = self.acknowledgement["at_ms"].as_u64() {
            events.push((
                since(at),
                format!(
                    "its peer has acknowledged: {} ({} ms in the emulated peer)",
                    done["detail"].as_str().unwrap_or_default(),
                    done["took_us"].as_u64().unwrap_or(0) / 1000,
                ),
            ));
        }
        events.sort_by_key(|(at, _)| *at);
        events
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
