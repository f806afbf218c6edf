//! Numbers for `/metrics`.

use std::fmt::Write as _;

use super::On;
use crate::{clock::now_ms, error::VerifierError, service::Verifier};

impl Verifier {
    /// Gauges of the revocation log in the text format of Prometheus; empty when revocation is off.
    pub(crate) async fn revocation_gauges(&self) -> String {
        let Some(on) = self.revocations.on() else {
            return String::new();
        };
        match gauges(self, on).await {
            Ok(gauges) => text(&gauges),
            Err(error) => {
                tracing::error!(%error, "no numbers of the revocation log");
                String::new()
            }
        }
    }
}

type Gauge = (&'static str, &'static str, u64);

async fn gauges(verifier: &Verifier, on: &On) -> Result<Vec<Gauge>, VerifierError> {
    let end = on.log.end().sequence;
    let follows = |node: &std::sync::Arc<crate::fleet::Node>| {
        node.enrolment().is_some() && on.log.revocation(node.id()).is_none()
    };
    let nodes = verifier.fleet.all();
    let reached = nodes.iter().filter(|node| follows(node));
    let behind: Vec<u64> = reached
        .map(|node| on.acks.of(node.id()))
        .filter(|reached| *reached < end)
        .collect();
    let oldest = match behind.iter().min() {
        Some(reached) => on.log.table.made_at(reached + 1).await?,
        None => None,
    };
    let age_ms = oldest.map_or(0, |at_ms| now_ms().saturating_sub(at_ms));
    let list = on.lists.numbers();
    Ok(vec![
        ("entries", "Entries of the revocation log.", end),
        (
            "peers_behind",
            "Enrolled nodes, not revoked, that have not acknowledged the newest entry.",
            behind.len() as u64,
        ),
        (
            "oldest_unacknowledged_seconds",
            "Age of the oldest entry that a node has not acknowledged.",
            age_ms / 1000,
        ),
        (
            "ca_notices_pending",
            "Revocations that the CA was not told of yet.",
            on.log.table.count_for_ca().await?,
        ),
        (
            "crl_number",
            "Number of the CA's revocation list that nodes are given; 0 when there is none.",
            list.number,
        ),
        (
            "crl_expires_in_seconds",
            "How long that list is still valid.",
            list.expires_in_seconds,
        ),
        (
            "crl_fetch_failures",
            "Fetches of a newer list that failed since the last that did not.",
            list.failures,
        ),
    ])
}

fn text(gauges: &[Gauge]) -> String {
    let mut text = String::new();
    for (name, help, value) in gauges {
        let name = format!("bootkeep_verifier_revocation_{name}");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
        );
    }
    text
}
