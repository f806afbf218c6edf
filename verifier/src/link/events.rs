//! What nodes say without being asked. Noted, never believed.

use std::sync::atomic::Ordering;

use bootkeep_protocol::{
    link::{Event, Step},
    Bytes, Phase,
};

use super::{kept, Link};
use crate::{fleet::Node, service::Verifier};

/// Length of a confirmation (bytes).
const CONFIRMATION: usize = 32;

/// Events of one link that leave a trace; a node has about twenty to tell.
const MAX_EVENTS: u32 = 512;

/// Takes one event.
pub(super) async fn take(verifier: &Verifier, node: &Node, link: &Link, event: Event) {
    let growth = matches!(event, Event::ImaGrew { .. });
    if !growth && link.events.fetch_add(1, Ordering::Relaxed) >= MAX_EVENTS {
        tracing::debug!(node = node.id().short(), "an event too many");
        return;
    }
    match event {
        Event::ImaGrew { count } => {
            link.grew.send_replace(count);
        }
        Event::Progress { step, at_ms } => {
            node.record(name(step), Some(at_ms), link.phase.as_str());
        }
        Event::Combined { confirmation } => {
            keep_confirmation(verifier, node, link, confirmation).await
        }
        Event::ShareKept { id } => kept::share_kept(verifier, node, link, id).await,
        Event::BootFiles(report) => kept::boot_files(verifier, node, link, report).await,
        Event::Claim(claim) => {
            let mut new = false;
            change(verifier, node, |trust| new = trust.claim(&claim)).await;
            if new {
                node.step("claim", &format!("{}: {}", claim.code, claim.detail));
            }
        }
    }
}

/// Keeps the node's proof that it knows K until the tenant has checked it.
pub(crate) async fn keep_confirmation(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    confirmation: Bytes,
) {
    if link.phase != Phase::Initramfs || confirmation.as_slice().len() != CONFIRMATION {
        return;
    }
    if node.confirmation().as_ref() == Some(&confirmation) {
        return;
    }
    change(verifier, node, |trust| {
        trust.confirmation = Some(confirmation)
    })
    .await;
    node.step("confirmation", "the node says that it knows K");
}

async fn change(verifier: &Verifier, node: &Node, change: impl FnOnce(&mut crate::fleet::Trust)) {
    let Some(enrolled) = node.enrolment() else {
        return;
    };
    if let Err(error) = verifier.fleet.change(node, &enrolled, change).await {
        tracing::error!(node = node.id().short(), %error, "an event could not be stored");
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Started => "started",
        Step::TpmReady => "tpm-ready",
        Step::NetworkUp => "network-up",
        Step::Registered => "registered",
        Step::Linked => "linked",
        Step::Combined => "combined",
        Step::Latched => "latched",
        Step::KeyHandedOver => "key-handed-over",
        Step::Unlocked => "unlocked",
        Step::Rekeyed => "rekeyed",
        Step::ShareKept => "share-kept",
        Step::RuntimeTookOver => "runtime-took-over",
    }
}
