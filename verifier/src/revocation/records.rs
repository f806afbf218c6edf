//! The log for the tenant.

use std::{collections::HashMap, time::Duration};

use bootkeep_protocol::{
    limits::{LONG_POLL_SECONDS, MAX_REVOCATIONS},
    revocation::{Acknowledgement, Record, Revocations},
    NodeId, Problem, ProblemKind,
};

use super::{
    table::{Row, StoredAck},
    On,
};
use crate::{error::VerifierError, service::Verifier};

/// Acknowledgements of one answer: a large fleet gets fewer entries at a time.
const MAX_ACKNOWLEDGEMENTS: usize = 50_000;

struct Peer {
    id: NodeId,
    label: String,
}

impl Verifier {
    /// Entries after this one, with who has acknowledged them.
    pub(crate) async fn revocations_after(&self, after: u64) -> Result<Revocations, Problem> {
        let on = self.revocations.on().ok_or_else(off)?;
        on.log.refresh().await?;
        Ok(records(self, on, after).await?)
    }

    /// Waits until there is a later entry, or the time for it is over.
    pub(crate) async fn await_revocations(&self, after: u64) -> Result<(), Problem> {
        let on = self.revocations.on().ok_or_else(off)?;
        let mut end = on.log.watch();
        let later = end.wait_for(|end| end.sequence > after);
        // Over or changed: the caller looks.
        let _ = tokio::time::timeout(Duration::from_secs(LONG_POLL_SECONDS), later).await;
        Ok(())
    }
}

fn off() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "revocation-off",
        "this verifier keeps no revocation log: verifier.yaml has no revocation_key",
    )
}

async fn records(verifier: &Verifier, on: &On, after: u64) -> Result<Revocations, VerifierError> {
    let seen = on.log.seen();
    let peers = peers(verifier);
    let most = MAX_ACKNOWLEDGEMENTS / peers.len().max(1);
    let mut rows = on
        .log
        .table
        .after(after, most.clamp(1, MAX_REVOCATIONS))
        .await?;
    // One that another verifier has appended just now is beyond this head.
    rows.retain(|row| row.position.sequence <= seen.end.sequence);
    let acks = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => {
            let (first, last) = (first.position.sequence, last.position.sequence);
            on.log.table.acks(first, last).await?
        }
        _ => Vec::new(),
    };
    let acks = by_entry(acks);
    Ok(Revocations {
        head: on.log.head(&seen)?,
        records: rows
            .into_iter()
            .map(|row| record(row, &peers, &acks))
            .collect(),
    })
}

fn peers(verifier: &Verifier) -> Vec<Peer> {
    let peer = |node: std::sync::Arc<crate::fleet::Node>| {
        Some(Peer {
            label: node.enrolment()?.terms.label.clone(),
            id: node.id().clone(),
        })
    };
    verifier.fleet.all().into_iter().filter_map(peer).collect()
}

type ByEntry = HashMap<(u64, String), StoredAck>;

fn by_entry(acks: Vec<StoredAck>) -> ByEntry {
    acks.into_iter()
        .map(|ack| ((ack.sequence, ack.node.clone()), ack))
        .collect()
}

fn record(row: Row, peers: &[Peer], acks: &ByEntry) -> Record {
    let acknowledgement = |peer: &Peer| {
        let ack = acks.get(&(row.position.sequence, peer.id.as_str().to_owned()));
        Acknowledgement {
            node_id: peer.id.clone(),
            label: peer.label.clone(),
            at_ms: ack.map(|ack| ack.at_ms),
            done: ack.and_then(|ack| ack.done.clone()),
        }
    };
    Record {
        acknowledgements: peers
            .iter()
            .filter(|peer| peer.id != row.node)
            .map(acknowledgement)
            .collect(),
        entry: row.envelope,
        ca_at_ms: row.ca_at_ms,
    }
}
