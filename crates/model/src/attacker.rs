//! The attacker: copies, rogue systems, forged messages, a cleared TPM.

use crate::{
    action::{AttackerAction, Fault},
    share::{Vector, MAX_KEYS},
    state::{Attacker, Boot, Session, Slot, System},
    verifier::acknowledged,
    Config, Split, State,
};

pub(crate) fn actions(config: &Config, state: &State) -> Vec<AttackerAction> {
    let mut found = Vec::new();
    if state.attacker.copies < config.bounds.copies {
        copies(state, &mut found);
    }
    if config.bounds.rogue {
        match &state.node.boot {
            None => found.push(AttackerAction::BootRogue),
            Some(boot) if boot.system == System::Rogue || boot.running => {
                from_the_node(config, state, boot, &mut found);
            }
            Some(_) => {}
        }
    }
    found
}

fn copies(state: &State, found: &mut Vec<AttackerAction>) {
    use AttackerAction as A;
    if !state.verifier.sets.is_empty() {
        found.push(A::CopyVerifier);
    }
    if state.tenant.journal.is_some() {
        found.push(A::CopyTenant);
    }
    if kept(state).next().is_some() {
        found.push(A::ExtractNv);
    }
}

/// From a system of his own, or as root in the running one.
fn from_the_node(config: &Config, state: &State, boot: &Boot, found: &mut Vec<AttackerAction>) {
    use AttackerAction as A;
    let rogue = boot.system == System::Rogue;
    match &state.verifier.session {
        None => found.push(A::OpenLink),
        Some(session) if session.sent.is_empty() && !config.guards.ack_on_appraised_link => {
            let known = state.verifier.sets.iter().flat_map(|set| set.splits());
            let known = known.filter(|split| state.attacker.knowledge.has_v(*split));
            found.extend(known.map(A::ForgeAck));
        }
        Some(_) => {}
    }
    let opens = if rogue {
        !config.guards.nv_needs_policy
    } else {
        !config.guards.nv_needs_unlatched
    };
    if opens && kept(state).next().is_some() {
        found.push(A::ReadNv);
    }
    if !state.attacker.recorded.is_empty() {
        found.push(A::OpenRecorded);
    }
    if rogue && !state.node.cleared {
        found.push(A::Clear);
    }
}

fn kept(state: &State) -> impl Iterator<Item = Split> + '_ {
    state.node.nv.iter().filter_map(Slot::split)
}

pub(crate) fn apply(config: &Config, state: &mut State, action: AttackerAction) -> Option<()> {
    use AttackerAction as A;
    match action {
        A::CopyVerifier => {
            let splits: Vec<Split> = state
                .verifier
                .sets
                .iter()
                .flat_map(|set| set.splits())
                .collect();
            state.attacker.take_v(&splits);
        }
        A::CopyTenant => copy_tenant(config, state)?,
        A::ExtractNv => {
            let splits: Vec<Split> = kept(state).collect();
            state.attacker.take_u(&splits);
        }
        A::BootRogue => state.node.boot = Some(Boot::of(System::Rogue, state.verifier.revoked)),
        A::OpenLink => state.verifier.session = Some(Session::default()),
        A::ReadNv => {
            for split in kept(state).collect::<Vec<_>>() {
                state.attacker.knowledge.learn(Vector::share_u(split));
            }
            state.attacker.u_released = true;
        }
        A::Clear => {
            state.node.nv = [Slot::Empty; 3];
            state.node.cleared = true;
        }
        A::ForgeAck(split) => acknowledged(config, state, split)?,
        A::OpenRecorded => {
            for split in std::mem::take(&mut state.attacker.recorded) {
                state.attacker.knowledge.learn(Vector::share_v(split));
            }
            state.attacker.v_released = true;
        }
    }
    Some(())
}

fn copy_tenant(config: &Config, state: &mut State) -> Option<()> {
    let journal = state.tenant.journal.as_ref()?;
    let (split, has_v, enrolled) = (journal.split, journal.has_v, journal.enrolled);
    state.attacker.take_u(&[split]);
    if has_v && (!enrolled || config.guards.journal_drops_v) {
        // The owner makes K: until V is known to be at the verifier the owner is the holder of both.
        state.attacker.copies -= 1;
        state.attacker.take_v(&[split]);
    } else if has_v {
        state.attacker.knowledge.learn(Vector::share_v(split));
    }
    Some(())
}

pub(crate) fn fault(state: &mut State, fault: Fault) {
    state.verifier.session = None;
    if fault == Fault::PowerCut {
        state.node.boot = None;
    }
}

impl Attacker {
    fn take_v(&mut self, splits: &[Split]) {
        self.copies += 1;
        self.took_v = true;
        for split in splits {
            self.knowledge.learn(Vector::share_v(*split));
            self.new_v |= 1 << split.key;
        }
        self.match_now(splits, self.new_u | self.aging_u);
    }

    fn take_u(&mut self, splits: &[Split]) {
        self.copies += 1;
        self.took_u = true;
        for split in splits {
            self.knowledge.learn(Vector::share_u(*split));
            self.new_u |= 1 << split.key;
        }
        self.match_now(splits, self.new_v | self.aging_v);
    }

    fn match_now(&mut self, splits: &[Split], other: u8) {
        for split in splits {
            self.matched |= other & (1 << split.key);
        }
    }

    /// A next V is stored: copies of the database from now on have it.
    pub(crate) fn rotation_begins_v(&mut self, key: u8) {
        self.aging_v |= self.new_v & (1 << key);
        self.new_v &= !(1 << key);
    }

    /// A next U is in NV.
    pub(crate) fn rotation_begins_u(&mut self, key: u8) {
        self.aging_u |= self.new_u & (1 << key);
        self.new_u &= !(1 << key);
    }

    /// The rotation has ended: what was taken before it began is to be worthless.
    pub(crate) fn rotation_ends(&mut self, key: u8) {
        self.aging_v &= !(1 << key);
        self.aging_u &= !(1 << key);
    }

    /// The number of this K stands for another one now.
    pub(crate) fn forget_key(&mut self, key: u8) {
        for bits in [
            &mut self.new_v,
            &mut self.new_u,
            &mut self.aging_v,
            &mut self.aging_u,
            &mut self.matched,
        ] {
            *bits &= !(1 << key);
        }
    }

    /// The K he has without ever having had both of its shares at one time.
    pub(crate) fn unmatched_keys(&self) -> bool {
        (0..MAX_KEYS).any(|key| self.knowledge.has_key(key) && self.matched & (1 << key) == 0)
    }
}
