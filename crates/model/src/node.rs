//! The node's initramfs agent (`initrd-agent/src`), and what it does with NV and the LUKS header.

use crate::{
    action::{NodeAction, Step},
    state::{Boot, HeaderKey, Offer, Session, Slot, System, TURNS},
    verifier::acknowledged,
    Config, Guards, Split, State,
};

pub(crate) fn actions(config: &Config, state: &State) -> Vec<NodeAction> {
    use NodeAction as A;
    let Some(boot) = &state.node.boot else {
        return vec![A::Start];
    };
    if boot.system == System::Rogue || boot.running {
        return Vec::new();
    }
    let mut found = Vec::new();
    if boot.used.is_none() {
        if state.verifier.session.is_none() {
            found.push(A::OpenLink);
        }
        if usable(state).is_some() {
            found.push(A::Open);
        }
        return found;
    }
    match order(&config.guards).get(usize::from(boot.done)) {
        Some(Step::Ack) if !can_ack(state) => found.push(A::SkipAck),
        Some(step) => found.push(A::Step(*step)),
        None => found.push(A::SwitchRoot),
    }
    found
}

/// The order of writes.
fn order(guards: &Guards) -> [Step; 7] {
    use Step::{Ack, AddOwn, KillOld, Torn, Unlock, Wipe, Written};
    if !guards.add_before_kill {
        return [Unlock, Torn, Written, KillOld, AddOwn, Wipe, Ack];
    }
    if !guards.keep_before_kill {
        return [Unlock, AddOwn, KillOld, Torn, Written, Wipe, Ack];
    }
    if !guards.ack_after_rekey {
        return [Unlock, Torn, Written, Ack, AddOwn, KillOld, Wipe];
    }
    [Unlock, AddOwn, Torn, Written, KillOld, Wipe, Ack]
}

fn can_ack(state: &State) -> bool {
    let Some(session) = &state.verifier.session else {
        return false;
    };
    let kept = state.node.boot.as_ref().and_then(|boot| boot.kept);
    kept.is_some_and(|kept| {
        session.sent.contains(&kept) && state.node.nv.contains(&Slot::Kept(kept))
    })
}

pub(crate) fn apply(config: &Config, state: &mut State, action: NodeAction) -> Option<()> {
    use NodeAction as A;
    match action {
        A::Start => {
            state.node.boot = Some(Boot::of(System::Ours, state.verifier.revoked));
            return Some(());
        }
        A::OpenLink => state.verifier.session = Some(Session::default()),
        A::Open => {
            open(state)?;
            skip_idle(config, state)?;
        }
        A::Step(step) => {
            do_step(config, state, step)?;
            state.node.boot.as_mut()?.done += 1;
            skip_idle(config, state)?;
        }
        A::SkipAck => state.node.boot.as_mut()?.done += 1,
        A::SwitchRoot => switch_root(state)?,
    }
    Some(())
}

fn open(state: &mut State) -> Option<()> {
    let used = usable(state)?;
    let boot = state.node.boot.as_mut()?;
    boot.used = Some(used);
    boot.kept = Some(used);
    Some(())
}

/// What is not needed any more leaves memory: fewer states.
fn switch_root(state: &mut State) -> Option<()> {
    let boot = state.node.boot.as_mut()?;
    boot.running = true;
    boot.offer = None;
    boot.share_u = None;
    boot.used = None;
    boot.done = 0;
    state.verifier.session = None;
    Some(())
}

/// The split this boot uses: of the newest K set the node may boot with and has a U for, when the header can be opened.
fn usable(state: &State) -> Option<Split> {
    let offer = state.node.boot.as_ref()?.offer.as_ref()?;
    let mut sets = offer.sets.iter().filter(|set| set.boots);
    let used = sets.find_map(|set| fitting(state, offer, set.key))?;
    opens_header(state, offer, used).then_some(used)
}

/// The newest split of this K for which V came and U is there.
fn fitting(state: &State, offer: &Offer, key: u8) -> Option<Split> {
    let set = offer.sets.iter().find(|set| set.key == key)?;
    let boot = state.node.boot.as_ref()?;
    let has_u = |split: &Split| {
        let in_nv = !boot.latched && state.node.nv.contains(&Slot::Kept(*split));
        in_nv || boot.share_u == Some(*split)
    };
    let mut shares = set.shares.iter().rev();
    shares
        .by_ref()
        .map(|number| Split {
            key,
            number: *number,
        })
        .find(has_u)
}

fn opens_header(state: &State, offer: &Offer, used: Split) -> bool {
    let header = &state.node.header;
    header.contains(&HeaderKey::Image)
        || header.contains(&HeaderKey::Own(used.key))
        || older_split(state, offer, used).is_some()
}

/// The split of an older K that opens the header, when nothing newer does.
fn older_split(state: &State, offer: &Offer, used: Split) -> Option<Split> {
    let header = &state.node.header;
    if header.contains(&HeaderKey::Own(used.key)) || header.contains(&HeaderKey::Image) {
        return None;
    }
    let mut sets = offer.sets.iter();
    sets.by_ref()
        .filter(|set| header.contains(&HeaderKey::Own(set.key)))
        .find_map(|set| fitting(state, offer, set.key))
}

/// Steps that have nothing to do are no states of their own.
fn skip_idle(config: &Config, state: &mut State) -> Option<()> {
    while let Some(step) = order(&config.guards).get(usize::from(state.node.boot.as_ref()?.done)) {
        let own = HeaderKey::Own(used(state)?.key);
        let idle = match step {
            Step::Torn | Step::Written => next_write(config, state).is_none(),
            Step::AddOwn => state.node.header.contains(&own),
            Step::KillOld => state.node.header.iter().all(|slot| *slot == own),
            Step::Wipe => others(config, state)?.is_empty(),
            Step::Unlock | Step::Ack => false,
        };
        if !idle {
            break;
        }
        state.node.boot.as_mut()?.done += 1;
    }
    Some(())
}

fn do_step(config: &Config, state: &mut State, step: Step) -> Option<()> {
    match step {
        Step::Torn => {
            if let Some((slot, _)) = next_write(config, state) {
                state.node.nv[slot] = Slot::Torn;
            }
        }
        Step::Written => {
            if let Some((slot, next)) = next_write(config, state) {
                state.node.nv[slot] = Slot::Kept(next);
                state.node.boot.as_mut()?.kept = Some(next);
                state.attacker.rotation_begins_u(next.key);
            }
        }
        Step::Unlock => {
            let boot = state.node.boot.as_mut()?;
            boot.latched = true;
            boot.unlocked = true;
        }
        Step::AddOwn => {
            let key = used(state)?.key;
            state.node.header.insert(HeaderKey::Own(key));
        }
        Step::KillOld => {
            let key = used(state)?.key;
            state
                .node
                .header
                .retain(|slot| *slot == HeaderKey::Own(key));
        }
        Step::Wipe => {
            for slot in others(config, state)? {
                state.node.nv[slot] = Slot::Empty;
            }
        }
        Step::Ack => {
            let kept = state.node.boot.as_ref()?.kept?;
            acknowledged(config, state, kept)?;
        }
    }
    Some(())
}

fn used(state: &State) -> Option<Split> {
    state.node.boot.as_ref()?.used
}

/// Where the next U goes, and which; nothing when no slot is free in this boot, or when it is there already.
fn next_write(config: &Config, state: &State) -> Option<(usize, Split)> {
    let boot = state.node.boot.as_ref()?;
    let offer = boot.offer.as_ref()?;
    let used = boot.used?;
    let set = offer.sets.iter().find(|set| set.key == used.key)?;
    let next = Split {
        key: set.key,
        number: set.next,
    };
    if state.node.nv.contains(&Slot::Kept(next)) {
        return None;
    }
    if !config.guards.next_in_free_slot {
        let in_use = |slot: &Slot| *slot == Slot::Kept(used);
        return Some((state.node.nv.iter().position(in_use).unwrap_or(0), next));
    }
    let turns = &state.node.nv[..TURNS];
    let unused = |slot: &Slot| !slot.split().is_some_and(|split| offer.has(split));
    let slot = turns.iter().position(unused);
    let slot = slot.or_else(|| turns.iter().position(|slot| slot.split() != Some(used)))?;
    Some((slot, next))
}

/// Slots whose U is of no use once the next is there.
fn others(config: &Config, state: &State) -> Option<Vec<usize>> {
    let nv = &state.node.nv;
    let kept = Slot::Kept(state.node.boot.as_ref()?.kept?);
    if !config.guards.old_slots_wiped || !nv.contains(&kept) {
        return Some(Vec::new());
    }
    let other = |slot: &usize| nv[*slot] != kept && nv[*slot] != Slot::Empty;
    Some((0..nv.len()).filter(other).collect())
}
