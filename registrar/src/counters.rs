//! What happened how often, in the text format of Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        atomic::{AtomicU64, Ordering},
        Mutex, PoisonError,
    },
};

use bootkeep_protocol::Problem;

/// Codes come from our own code, but a bound costs nothing.
const MAX_CODES: usize = 128;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    challenges: AtomicU64,
    activations: AtomicU64,
    refusals: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub(crate) fn challenged(&self) {
        self.challenges.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn activated(&self) {
        self.activations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, problem: &Problem) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() < MAX_CODES || refusals.contains_key(&problem.code) {
            *refusals.entry(problem.code.clone()).or_default() += 1;
        }
    }

    /// The text for `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, help, counter) in [
            ("challenges", "Challenges made.", &self.challenges),
            (
                "activations",
                "Challenges answered well.",
                &self.activations,
            ),
        ] {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP bootkeep_registrar_{name}_total {help}");
            let _ = writeln!(text, "# TYPE bootkeep_registrar_{name}_total counter");
            let _ = writeln!(text, "bootkeep_registrar_{name}_total {value}");
        }
        let _ = writeln!(
            text,
            "# HELP bootkeep_registrar_refusals_total Refusals by their stable code."
        );
        let _ = writeln!(text, "# TYPE bootkeep_registrar_refusals_total counter");
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        for (code, value) in refusals.iter() {
            let _ = writeln!(
                text,
                "bootkeep_registrar_refusals_total{{code=\"{code}\"}} {value}"
            );
        }
        text
    }
}
