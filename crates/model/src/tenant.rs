//! The owner's CLI (`tenant/src/provision`, `tenant/src/commands`) and how the verifier takes an enrolment.

use crate::{
    action::TenantAction,
    share::Vector,
    state::{Journal, KeySet, Slot, System, STAGED},
    Config, State,
};

pub(crate) fn actions(config: &Config, state: &State) -> Vec<TenantAction> {
    use TenantAction as A;
    let mut found = Vec::new();
    match &state.tenant.journal {
        None => begin(config, state, &mut found),
        Some(journal) => go_on(config, state, journal, &mut found),
    }
    if !state.verifier.revoked
        && !state.verifier.sets.is_empty()
        && state.verifier.revocations < config.bounds.revocations
    {
        found.push(A::Revoke);
    }
    found
}

fn begin(config: &Config, state: &State, found: &mut Vec<TenantAction>) {
    if state.fresh_key(config.bounds.keys).is_none() {
        return;
    }
    let verifier = &state.verifier;
    if verifier.sets.is_empty() || config.bounds.again || verifier.revoked {
        found.push(TenantAction::Begin);
    }
    if config.bounds.rotate && !verifier.revoked && verifier.kept.is_some() && runs(state) {
        found.push(TenantAction::BeginRotate);
    }
}

/// Whether the node runs what it booted into.
fn runs(state: &State) -> bool {
    let boot = state.node.boot.as_ref();
    boot.is_some_and(|boot| boot.system == System::Ours && boot.running)
}

fn go_on(config: &Config, state: &State, journal: &Journal, found: &mut Vec<TenantAction>) {
    use TenantAction as A;
    if state.verifier.revoked {
        found.push(A::Reinstate);
    }
    if !journal.enrolled {
        found.push(A::Enrol);
        return;
    }
    if journal.has_v && config.guards.journal_drops_v {
        found.push(A::DropV);
        return;
    }
    if journal.staged {
        if runs(state) {
            found.extend([A::KeepTorn, A::Keep]);
        }
        return;
    }
    if may_have_u(config, state) {
        found.push(A::GiveU);
    }
    let confirmed = state
        .node
        .boot
        .as_ref()
        .and_then(|boot| boot.used)
        .is_some_and(|used| used.key == journal.split.key);
    let kept = state.verifier.kept == Some(journal.split.key);
    if kept || (confirmed && !config.guards.journal_until_kept) {
        found.push(A::End);
    }
}

fn may_have_u(config: &Config, state: &State) -> bool {
    state.node.boot.as_ref().is_some_and(|boot| {
        !boot.running
            && !boot.latched
            && boot.share_u.is_none()
            && (boot.system == System::Ours || !config.guards.tenant_appraises)
    })
}

pub(crate) fn apply(config: &Config, state: &mut State, action: TenantAction) -> Option<()> {
    use TenantAction as A;
    match action {
        A::Begin => make_key(config, state, false)?,
        A::BeginRotate => make_key(config, state, true)?,
        A::Enrol => enrol(config, state)?,
        A::DropV => state.tenant.journal.as_mut()?.has_v = false,
        A::GiveU => give_u(state)?,
        A::KeepTorn => *slot_for_staged(config, state)? = Slot::Torn,
        A::Keep => {
            let split = state.tenant.journal.take()?.split;
            *slot_for_staged(config, state)? = Slot::Kept(split);
        }
        A::End => state.tenant.journal = None,
        A::Reinstate => {
            // No node can have a K that no verifier has heard of.
            let journal = state.tenant.journal.take()?;
            if !journal.enrolled {
                state.tenant.recovery.remove(&journal.split.key);
            }
        }
        A::Revoke => {
            state.verifier.revoked = true;
            state.verifier.revocations += 1;
            state.verifier.erased = true;
            state.verifier.sets.clear();
            state.verifier.kept = None;
        }
    }
    Some(())
}

fn make_key(config: &Config, state: &mut State, staged: bool) -> Option<()> {
    let key = state.fresh_key(config.bounds.keys)?;
    state.attacker.forget_key(key);
    let split = state.fresh_split(key)?;
    // While the node has acknowledged none of those there are, any of them may be in use.
    let verifier = &state.verifier;
    let live =
        |key: &u8| verifier.kept.is_none() || verifier.sets.iter().any(|set| set.key == *key);
    let recovery = &mut state.tenant.recovery;
    recovery.retain(|key| config.guards.recovery_kept && live(key));
    recovery.insert(key);
    state.tenant.journal = Some(Journal {
        split,
        staged,
        // Of no interest where nobody copies it.
        has_v: config.bounds.copies > 0,
        enrolled: false,
    });
    Some(())
}

/// The verifier takes the enrolment in one transaction, or refuses it; then the CLI ends with an error.
fn enrol(config: &Config, state: &mut State) -> Option<()> {
    let journal = state.tenant.journal.as_mut()?;
    let verifier = &mut state.verifier;
    if !config.guards.older_sets_kept && !journal.staged {
        verifier.sets.clear();
    }
    let kept = verifier.kept;
    if config.guards.used_set_not_replaced {
        verifier
            .sets
            .retain(|set| kept == Some(set.key) || set.sent);
    } else {
        verifier.sets.retain(|set| kept == Some(set.key));
    }
    // What is left beside the one in use may be what the header needs: nothing more is staged on top of it.
    let open = verifier.sets.len() > 1 && config.guards.used_set_not_replaced;
    let refused = journal.staged && (verifier.revoked || open);
    if refused || verifier.sets.len() >= config.bounds.sets {
        state.tenant.journal = None;
        return Some(());
    }
    journal.enrolled = true;
    if !journal.staged {
        for set in &mut verifier.sets {
            set.boots = false;
        }
        verifier.revoked = false;
        verifier.verdict = false;
        if let Some(boot) = &mut state.node.boot {
            boot.began_revoked = false;
        }
    }
    verifier.sets.push(KeySet {
        key: journal.split.key,
        shares: vec![journal.split.number],
        boots: true,
        sent: false,
    });
    Some(())
}

fn give_u(state: &mut State) -> Option<()> {
    let split = state.tenant.journal.as_ref()?.split;
    let boot = state.node.boot.as_mut()?;
    boot.share_u = Some(split);
    if boot.system == System::Rogue {
        state.attacker.knowledge.learn(Vector::share_u(split));
        state.attacker.u_released = true;
    }
    Some(())
}

/// The runtime agent has a slot of its own.
fn slot_for_staged<'a>(config: &Config, state: &'a mut State) -> Option<&'a mut Slot> {
    if config.guards.keep_in_own_slot {
        return Some(&mut state.node.nv[STAGED]);
    }
    let kept = state.node.boot.as_ref()?.kept?;
    let in_use = |slot: &Slot| *slot == Slot::Kept(kept) || *slot == Slot::Torn;
    state.node.nv.iter_mut().find(|slot| in_use(slot))
}
