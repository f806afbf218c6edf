//! What happened how often, in the text format of Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        atomic::{AtomicU64, Ordering},
        Mutex, PoisonError,
    },
};

/// Codes come from our own code, but a bound costs nothing.
const MAX_CODES: usize = 256;

/// Counters of other parts: name without prefix, help, value.
pub(crate) fn lines(counters: &[(&str, &str, u64)]) -> String {
    let mut text = String::new();
    for (name, help, value) in counters {
        let name = format!("bootkeep_verifier_{name}_total");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"
        );
    }
    text
}

/// Values of now with one label: name without prefix, help, label, values.
pub(crate) fn gauge(name: &str, help: &str, label: &str, values: &BTreeMap<&str, u64>) -> String {
    let name = format!("bootkeep_verifier_{name}");
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (key, value) in values {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}{{{label}=\"{key}\"}} {value}");
    }
    text
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    boots: AtomicU64,
    attestations: AtomicU64,
    shares: AtomicU64,
    kept: AtomicU64,
    checkpoint_hits: AtomicU64,
    checkpoint_misses: AtomicU64,
    refusals: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub(crate) fn appraised(&self) {
        self.boots.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn attested(&self) {
        self.attestations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn share_sent(&self) {
        self.shares.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn share_kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// A running node's list goes on where it was, or is read from its start.
    pub(crate) fn resumed(&self, hit: bool) {
        let counter = if hit {
            &self.checkpoint_hits
        } else {
            &self.checkpoint_misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, code: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() < MAX_CODES || refusals.contains_key(code) {
            *refusals.entry(code.to_owned()).or_default() += 1;
        }
    }

    /// The text for `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, help, counter) in [
            (
                "boots_appraised",
                "Boots that were appraised and good.",
                &self.boots,
            ),
            (
                "attestations",
                "Attestations of running nodes that were good.",
                &self.attestations,
            ),
            ("shares_sent", "Shares V that nodes took.", &self.shares),
            (
                "shares_kept",
                "Splits that nodes acknowledged to have in their TPMs.",
                &self.kept,
            ),
            (
                "checkpoint_hits",
                "Measurement lists that went on where they were.",
                &self.checkpoint_hits,
            ),
            (
                "checkpoint_misses",
                "Measurement lists that were read from their start.",
                &self.checkpoint_misses,
            ),
        ] {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP bootkeep_verifier_{name}_total {help}");
            let _ = writeln!(text, "# TYPE bootkeep_verifier_{name}_total counter");
            let _ = writeln!(text, "bootkeep_verifier_{name}_total {value}");
        }
        let _ = writeln!(
            text,
            "# HELP bootkeep_verifier_refusals_total Refusals by their stable code."
        );
        let _ = writeln!(text, "# TYPE bootkeep_verifier_refusals_total counter");
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        for (code, value) in refusals.iter() {
            let _ = writeln!(
                text,
                "bootkeep_verifier_refusals_total{{code=\"{code}\"}} {value}"
            );
        }
        text
    }
}
