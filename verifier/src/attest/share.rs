//! Share V leaves here and nowhere else.

use std::{sync::Arc, time::Duration};

use bootkeep_policy::Booted;
use bootkeep_protocol::{
    kept::{Kept, KeySet, SignedPcrPolicy, WrappedShare},
    link::{Call, Reply, ShareCall, SharePart},
};
use bootkeep_tpkd::{wrap_share, Share, Wrapped, V};

use super::LONGEST_GAP;
use crate::{
    clock::now_ms,
    error::VerifierError,
    fleet::{Enrolled, Node},
    keys::Keys,
    link::{keep_confirmation, Link},
    service::Verifier,
    store::{NamedShare, SecretSet},
};

/// Sends V with the envelope, wrapped to the NK of the quote that was just appraised.
///
/// It takes the appraisal itself: without a good one there is no value to call this with, and it serves once. Gives the
/// PCR policies of the boot policy that went with V to a node that keeps its U.
pub(super) async fn send(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    enrolled: &Arc<Enrolled>,
    booted: Booted,
) -> Result<Option<Vec<SignedPcrPolicy>>, VerifierError> {
    let sets = verifier.fleet.take_secrets(node, enrolled).await?;
    if sets.is_empty() {
        node.step("refused", "there is no share V for this node any more");
        return Ok(None);
    }
    let known = sets.iter().filter_map(|set| set.known.clone());
    let keys = Keys(known.collect());
    let policies = generations(enrolled);
    let call = match share_call(&booted, &sets, &keys, &policies) {
        Ok(call) => call,
        Err(error) => {
            node.step("refused", &error);
            return Ok(None);
        }
    };
    drop(sets);
    link.offer(
        keys.0
            .iter()
            .filter(|set| set.boots)
            .flat_map(|set| set.shares.clone()),
    );
    match link.calls.ask(Call::Share(call)).await {
        Ok(Reply::Share { confirmation }) => {
            if let Some(confirmation) = confirmation {
                keep_confirmation(verifier, node, link, confirmation).await;
            }
            verifier.counters.share_sent();
            node.step("share-v-sent", "wrapped to the key of the appraised quote");
        }
        Ok(_) => node.step("refused", "the node's answer to share V is of another kind"),
        Err(error) => node.step("refused", &format!("share V was not taken: {error}")),
    }
    Ok((!keys.0.is_empty()).then_some(policies))
}

fn share_call(
    booted: &Booted,
    sets: &[SecretSet],
    keys: &Keys,
    policies: &[SignedPcrPolicy],
) -> Result<ShareCall, String> {
    let none = || "there is no share V for this node".to_owned();
    let newest = sets.first().ok_or_else(none)?;
    // The oldest: the tenant's U is made for it, until the node keeps one of its own.
    let (_, share) = newest.shares.first().ok_or_else(none)?;
    let wrapped = wrap(booted, share)?;
    Ok(ShareCall {
        part: SharePart::V,
        nonce: *booted.nonce(),
        encapsulated: wrapped.encapsulated.into(),
        ciphertext: wrapped.ciphertext.into(),
        envelope: Some(newest.envelope.as_slice().into()),
        kept: kept(booted, sets, keys, policies)?.map(Box::new),
    })
}

fn wrap(booted: &Booted, share: &Share<V>) -> Result<Wrapped, String> {
    let (nonce, node) = (booted.nonce().as_bytes(), booted.node().as_str());
    wrap_share(booted.nk_public(), nonce, node, share).map_err(|error| error.to_string())
}

/// What a node that keeps its U gets besides.
fn kept(
    booted: &Booted,
    sets: &[SecretSet],
    keys: &Keys,
    policies: &[SignedPcrPolicy],
) -> Result<Option<Kept>, String> {
    if keys.0.is_empty() {
        return Ok(None);
    }
    let sets = sets.iter().map(|set| key_set(booted, set));
    Ok(Some(Kept {
        sets: sets.collect::<Result<_, _>>()?,
        policies: keys.pcr_policies(policies.iter().cloned()),
    }))
}

fn key_set(booted: &Booted, set: &SecretSet) -> Result<KeySet, String> {
    let known = set.known.as_ref().ok_or("a K set of another kind")?;
    let (next, older) = set.shares.split_last().ok_or("a K set without a share V")?;
    let held = if set.fresh { older } else { &set.shares[..] };
    Ok(KeySet {
        envelope: set.envelope.as_slice().into(),
        authorities: known.authorities.clone(),
        shares: held
            .iter()
            .map(|share| wrap_named(booted, share))
            .collect::<Result<_, _>>()?,
        next: wrap_named(booted, next)?,
        boots: known.boots,
    })
}

fn wrap_named(booted: &Booted, (id, share): &NamedShare) -> Result<WrappedShare, String> {
    let wrapped = wrap(booted, share)?;
    Ok(WrappedShare {
        id: id.ok_or("a share V without an id")?,
        encapsulated: wrapped.encapsulated.into(),
        ciphertext: wrapped.ciphertext.into(),
    })
}

/// PCR policies of the boot policy's generations that count now, newest first.
fn generations(enrolled: &Enrolled) -> Vec<SignedPcrPolicy> {
    let content = enrolled.boot.content();
    let live = content.generations.live_at(now_ms());
    live.flat_map(|generation| generation.pcr_policies.to_vec())
        .collect()
}

/// Until the boot policy has other PCR policies than these.
pub(super) async fn await_other_policies(enrolled: &Enrolled, sent: &[SignedPcrPolicy]) {
    loop {
        let mut content = enrolled.boot.watch();
        if generations(enrolled) != sent {
            return;
        }
        let pause = enrolled.next_change(now_ms()).map(Duration::from_millis);
        tokio::select! {
            // The sender lives as long as the enrolment, which we hold.
            _ = content.changed() => {}
            () = tokio::time::sleep(pause.unwrap_or(LONGEST_GAP).min(LONGEST_GAP)) => {}
        }
    }
}
