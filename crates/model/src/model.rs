//! All of them together, and what must hold.

use stateright::{Model, Property};

use crate::{
    action::{Action, Fault},
    attacker, node,
    state::{HeaderKey, System},
    tenant, verifier, Config, State,
};

/// Only who has had both a share U and a share V can compute a K.
pub const SPLIT: &str = "K is not computable without the holder of U and the holder of V";
/// V leaves the verifier only for a boot that it has appraised.
pub const V_APPRAISED: &str = "V is given only to an appraised boot";
/// U leaves the tenant or NV only for a boot that was appraised.
pub const U_APPRAISED: &str = "U is given only to an accepted boot";
/// A V that was copied before a rotation does not fit a U that was copied after it, and the other way round.
pub const ROTATION: &str = "a share from before a rotation is worthless after it";
/// A boot that began after a revocation does not unlock.
pub const REVOKED: &str = "revoked stays locked";
/// A recovery key that the owner has opens the volume, or the image's key does.
pub const RECOVERY: &str = "the owner can open the volume";

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(tenant::actions(self, state).into_iter().map(Action::Tenant));
        actions.extend(
            verifier::actions(self, state)
                .into_iter()
                .map(Action::Verifier),
        );
        actions.extend(node::actions(self, state).into_iter().map(Action::Node));
        actions.extend(faults(self, state).map(Action::Fault));
        actions.extend(
            attacker::actions(self, state)
                .into_iter()
                .map(Action::Attacker),
        );
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        match action {
            Action::Tenant(action) => tenant::apply(self, &mut state, action)?,
            Action::Verifier(action) => verifier::apply(self, &mut state, action)?,
            Action::Node(action) => node::apply(self, &mut state, action)?,
            Action::Fault(action) => attacker::fault(&mut state, action),
            Action::Attacker(action) => attacker::apply(self, &mut state, action)?,
        }
        state.rename();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SPLIT, |_, state: &State| {
                let attacker = &state.attacker;
                (attacker.took_u && attacker.took_v) || attacker.knowledge.keys().next().is_none()
            }),
            Property::always(V_APPRAISED, |_, state: &State| !state.attacker.v_released),
            Property::always(U_APPRAISED, |_, state: &State| !state.attacker.u_released),
            Property::always(ROTATION, |_, state: &State| {
                !state.attacker.unmatched_keys()
            }),
            Property::always(REVOKED, |_, state: &State| {
                !state
                    .node
                    .boot
                    .as_ref()
                    .is_some_and(|boot| boot.unlocked && boot.began_revoked)
            }),
            Property::always(RECOVERY, |_, state: &State| {
                state.node.header.iter().any(|slot| match slot {
                    HeaderKey::Image => true,
                    HeaderKey::Own(key) => state.tenant.recovery.contains(key),
                })
            }),
        ]
    }
}

fn faults(config: &Config, state: &State) -> impl Iterator<Item = Fault> {
    let power = state.node.boot.is_some().then_some(Fault::PowerCut);
    let link =
        (config.bounds.crashes && state.verifier.session.is_some()).then_some(Fault::LinkLost);
    power.into_iter().chain(link)
}

impl State {
    /// The node's own system has its volume open.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.node
            .boot
            .as_ref()
            .is_some_and(|boot| boot.system == System::Ours && boot.unlocked)
    }

    /// The node is to boot with nobody at the tenant's desk: it has shown that it keeps its U, or its header has
    /// nothing but a key that needs it, and the owner has not begun to provision it anew.
    #[must_use]
    pub fn is_unattended(&self) -> bool {
        let verifier = &self.verifier;
        let own_only = !self.node.header.contains(&HeaderKey::Image) && !verifier.erased;
        let keeps = verifier.kept.is_some() || own_only;
        let whole = !verifier.sets.is_empty() && verifier.sets.iter().all(|set| set.boots);
        keeps && whole && !verifier.revoked && !self.node.cleared
    }

    /// The tenant can bring the node back without its recovery key: nobody has cleared its TPM, and the owner has not
    /// deleted its V by a revocation.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        !self.node.cleared && !self.verifier.erased
    }
}
