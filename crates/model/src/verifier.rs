//! The verifier (`verifier/src/attest`, `verifier/src/link`).

use crate::{
    action::VerifierAction,
    share::Vector,
    state::{KeySet, Offer, OfferedSet, Session, System},
    Config, Split, State,
};

pub(crate) fn actions(config: &Config, state: &State) -> Vec<VerifierAction> {
    use VerifierAction as A;
    let verifier = &state.verifier;
    let (Some(session), Some(_)) = (&verifier.session, &state.node.boot) else {
        return Vec::new();
    };
    if !session.appraised {
        let mut found = Vec::new();
        let refused = !fits(config, state);
        if is_open(config, state)
            && !verifier.sets.is_empty()
            && (!refused || verifier.revocations < config.bounds.revocations)
        {
            found.push(A::Appraise);
        }
        if !config.guards.verdict_of_this_boot && verifier.verdict {
            found.extend(release(config, state, session));
        }
        return found;
    }
    release(config, state, session).into_iter().collect()
}

fn release(config: &Config, state: &State, session: &Session) -> Option<VerifierAction> {
    if !is_open(config, state) {
        return None;
    }
    match session.next {
        None => Some(VerifierAction::Prepare),
        Some(_) => session.sent.is_empty().then_some(VerifierAction::Send),
    }
}

fn is_open(config: &Config, state: &State) -> bool {
    !state.verifier.revoked || !config.guards.revoked_looked_at
}

/// What appraisal says of the boot at the other end.
fn fits(config: &Config, state: &State) -> bool {
    state.node.boot.as_ref().is_some_and(|boot| {
        let right = boot.system == System::Ours || !config.guards.verifier_appraises;
        right && (!boot.latched || !config.guards.latch_appraised)
    })
}

pub(crate) fn apply(config: &Config, state: &mut State, action: VerifierAction) -> Option<()> {
    match action {
        VerifierAction::Appraise => appraise(config, state),
        VerifierAction::Prepare => prepare(config, state),
        VerifierAction::Send => send(config, state),
    }
}

fn appraise(config: &Config, state: &mut State) -> Option<()> {
    if fits(config, state) {
        state.verifier.session.as_mut()?.appraised = true;
        state.verifier.verdict = true;
    } else {
        state.verifier.revoked = true;
        state.verifier.verdict = false;
        state.verifier.revocations += 1;
    }
    Some(())
}

/// One transaction: a next V for each K set that may be used, and the mark that its V was sent.
fn prepare(config: &Config, state: &mut State) -> Option<()> {
    let mut next = Vec::new();
    let mut fresh = Vec::new();
    for index in 0..state.verifier.sets.len() {
        let split = state.next_of(config, index)?;
        let set = &mut state.verifier.sets[index];
        set.sent = true;
        if !set.shares.contains(&split.number) {
            fresh.push(split);
            state.attacker.rotation_begins_v(split.key);
            if config.guards.next_is_durable {
                set.shares.push(split.number);
            }
        }
        next.push(split);
    }
    let session = state.verifier.session.as_mut()?;
    session.next = Some(next);
    session.fresh = fresh;
    Some(())
}

impl State {
    fn next_of(&self, config: &Config, index: usize) -> Option<Split> {
        let set = &self.verifier.sets[index];
        if set.boots && set.shares.len() < config.bounds.shares {
            return self.fresh_split(set.key);
        }
        set.splits().last()
    }
}

fn send(config: &Config, state: &mut State) -> Option<()> {
    let offer = offer(state)?;
    let splits: Vec<Split> = offer.splits().collect();
    state.verifier.session.as_mut()?.sent = splits.clone();
    if !config.guards.drop_after_ack {
        drop_old_at_once(state)?;
    }
    if !config.guards.key_of_this_boot {
        state.attacker.recorded.extend(&splits);
    }
    let boot = state.node.boot.as_mut()?;
    if boot.system == System::Rogue || boot.running {
        for split in splits {
            state.attacker.knowledge.learn(Vector::share_v(split));
        }
        state.attacker.v_released = true;
    } else if boot.used.is_none() {
        boot.offer = Some(offer);
    }
    Some(())
}

fn offer(state: &State) -> Option<Offer> {
    let next = state.verifier.session.as_ref()?.next.as_ref()?;
    let sets = state.verifier.sets.iter().zip(next).rev();
    let sets = sets.map(|(set, next)| OfferedSet {
        key: set.key,
        shares: set.shares.clone(),
        next: next.number,
        boots: set.boots,
    });
    Some(Offer {
        sets: sets.collect(),
    })
}

fn drop_old_at_once(state: &mut State) -> Option<()> {
    let next = state.verifier.session.as_ref()?.next.clone()?;
    for (set, next) in state.verifier.sets.iter_mut().zip(next) {
        set.shares = vec![next.number];
    }
    Some(())
}

/// `share-kept`: the node has U of this split.
pub(crate) fn acknowledged(config: &Config, state: &mut State, split: Split) -> Option<()> {
    let sets = &mut state.verifier.sets;
    let Some(index) = sets.iter().position(|set| set.key == split.key) else {
        return Some(());
    };
    let journal = state.tenant.journal.as_ref();
    let session = state.verifier.session.as_ref()?;
    // While the owner's files have a U of this K, that one is as old as the rotation.
    if session.fresh.contains(&split)
        && journal.is_none_or(|journal| journal.split.key != split.key)
    {
        state.attacker.rotation_ends(split.key);
    }
    let known = sets[index].shares.contains(&split.number);
    if !known && config.guards.next_is_durable {
        return Some(());
    }
    keep_only(config, &mut sets[index], split);
    for newer in &mut sets[index + 1..] {
        newer.sent = false;
    }
    if config.guards.old_v_dropped {
        sets.drain(..index);
    }
    state.verifier.kept = Some(split.key);
    Some(())
}

fn keep_only(config: &Config, set: &mut KeySet, split: Split) {
    if config.guards.old_v_dropped {
        set.shares = vec![split.number];
    } else if !set.shares.contains(&split.number) {
        set.shares.push(split.number);
    }
}
