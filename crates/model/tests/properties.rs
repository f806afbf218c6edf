//! What holds in every reachable state of the product as it is modelled, and what can be reached at all.

mod common;

use bootkeep_model::{properties, Bounds, Graph, HeaderKey, Help, Slot, State};
use common::{product, AGAIN, LIFE, MANY_SHARES, OWNER, ROGUE, SPY, SPY_ON_KEYS};
use stateright::{Checker, Model, StateRecorder};

/// Visits every state and checks every property.
fn every_property_holds(bounds: Bounds) -> Vec<State> {
    let (recorder, states) = StateRecorder::new_with_accessor();
    let checker = product(bounds).checker().threads(2).visitor(recorder);
    let checker = checker.spawn_bfs().join();
    checker.assert_properties();
    let states = states();
    println!("{bounds:?}: {} states", checker.unique_state_count());
    states
}

/// The same, and looks for a way to an unlocked node from each of them.
fn nobody_is_locked_out(bounds: Bounds, helps: &[Help]) -> Vec<State> {
    let graph = Graph::new(product(bounds));
    for help in helps {
        assert_eq!(graph.lockout(*help), None, "{help:?}");
    }
    let states = every_property_holds(bounds);
    assert_eq!(graph.states().len(), states.len());
    states
}

const BOTH: &[Help] = &[Help::Unattended, Help::Attended];

/// The whole story can be told, so that properties do not hold only because nothing happens.
fn reached(states: &[State], what: &str, test: impl Fn(&State) -> bool) {
    assert!(states.iter().any(test), "never reached: {what}");
}

#[test]
fn a_life_of_reboots_rotations_and_power_cuts() {
    let states = nobody_is_locked_out(LIFE, BOTH);
    reached(
        &states,
        "an unlocked node with nobody at the desk",
        |state| state.is_unattended() && state.is_unlocked() && state.tenant.journal.is_none(),
    );
    reached(&states, "a header between two own keys", |state| {
        !state.node.header.contains(&HeaderKey::Image) && state.node.header.len() == 2
    });
    reached(&states, "a write to NV that was cut", |state| {
        state.node.boot.is_none() && state.node.nv.contains(&Slot::Torn)
    });
    reached(&states, "a staged K beside the one in use", |state| {
        state.verifier.sets.len() == 2 && state.verifier.sets.iter().all(|set| set.boots)
    });
    nobody_is_locked_out(MANY_SHARES, BOTH);
}

#[test]
fn provisioned_again_revoked_and_reinstated() {
    let states = nobody_is_locked_out(AGAIN, BOTH);
    reached(&states, "a boot that began revoked", |state| {
        state
            .node
            .boot
            .as_ref()
            .is_some_and(|boot| boot.began_revoked)
    });
    reached(&states, "an older K kept for the header", |state| {
        state.verifier.sets.iter().any(|set| !set.boots)
    });
    reached(&states, "a cleared TPM", |state| state.node.cleared);
}

#[test]
fn everything_the_owner_can_do() {
    nobody_is_locked_out(OWNER, BOTH);
}

#[test]
fn rogue_systems_with_a_copy_of_the_database() {
    let states = nobody_is_locked_out(ROGUE, &[Help::Unattended]);
    reached(&states, "a rogue system with a link", |state| {
        let rogue = |boot: &bootkeep_model::Boot| boot.system == bootkeep_model::System::Rogue;
        state.node.boot.as_ref().is_some_and(rogue) && state.verifier.session.is_some()
    });
}

#[test]
fn two_copies_at_any_time() {
    let states = every_property_holds(SPY);
    reached(&states, "K from a U and a V that were both new", |state| {
        state.attacker.knowledge.has_key(0)
    });
    reached(
        &states,
        "a U and a V of two times that do not fit",
        |state| {
            let attacker = &state.attacker;
            attacker.took_u && attacker.took_v && !attacker.knowledge.has_key(0)
        },
    );
}

#[test]
fn a_rotated_key_is_not_known_to_who_had_the_old_one() {
    let states = every_property_holds(SPY_ON_KEYS);
    reached(
        &states,
        "K lost, then rotated, and the new one not known",
        |state| {
            let knows = |key| state.attacker.knowledge.has_key(key);
            let kept = state.verifier.kept;
            kept.is_some_and(|kept| !knows(kept) && (0..2).any(knows))
                && state.verifier.sets.len() == 1
        },
    );
}

#[test]
fn properties_have_names() {
    let names = product(LIFE)
        .properties()
        .into_iter()
        .map(|property| property.name);
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            properties::SPLIT,
            properties::V_APPRAISED,
            properties::U_APPRAISED,
            properties::ROTATION,
            properties::REVOKED,
            properties::RECOVERY,
        ]
    );
}
