//! Each check of the product is needed: without it a property fails.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use bootkeep_model::{
    properties::{RECOVERY, REVOKED, ROTATION, SPLIT, U_APPRAISED, V_APPRAISED},
    Bounds, Config, Graph, Guards, Help,
};
use common::{AGAIN, LIFE, ROGUE, SPY, SPY_MANY_SHARES, TWICE};
use stateright::{Checker, HasDiscoveries, Model};

/// What goes wrong without a check.
enum Fails {
    /// A property.
    Property(&'static str),
    /// A node is locked out for ever.
    Lockout(Help),
}

use Fails::{Lockout, Property};

const CASES: &[(&str, Bounds, Fails)] = &[
    ("verifier_appraises", ROGUE, Property(V_APPRAISED)),
    ("verdict_of_this_boot", ROGUE, Property(V_APPRAISED)),
    ("latch_appraised", ROGUE, Property(V_APPRAISED)),
    ("tenant_appraises", ROGUE, Property(U_APPRAISED)),
    // A copy of the database and a rogue system: no holder of U was needed.
    ("tenant_appraises", ROGUE, Property(SPLIT)),
    ("key_of_this_boot", ROGUE, Property(V_APPRAISED)),
    ("nv_needs_policy", ROGUE, Property(U_APPRAISED)),
    ("nv_needs_unlatched", ROGUE, Property(U_APPRAISED)),
    ("revoked_looked_at", AGAIN, Property(REVOKED)),
    ("next_is_durable", LIFE, Lockout(Help::Unattended)),
    ("drop_after_ack", LIFE, Lockout(Help::Unattended)),
    ("old_v_dropped", SPY_MANY_SHARES, Property(ROTATION)),
    ("ack_on_appraised_link", ROGUE, Lockout(Help::Unattended)),
    ("used_set_not_replaced", LIFE, Lockout(Help::Unattended)),
    ("older_sets_kept", AGAIN, Lockout(Help::Attended)),
    ("next_in_free_slot", LIFE, Lockout(Help::Unattended)),
    ("keep_in_own_slot", LIFE, Lockout(Help::Unattended)),
    ("add_before_kill", LIFE, Lockout(Help::Unattended)),
    ("keep_before_kill", LIFE, Lockout(Help::Unattended)),
    ("ack_after_rekey", LIFE, Lockout(Help::Unattended)),
    ("old_slots_wiped", SPY, Property(ROTATION)),
    ("journal_drops_v", SPY, Property(SPLIT)),
    ("journal_until_kept", TWICE, Lockout(Help::Attended)),
    ("recovery_kept", LIFE, Property(RECOVERY)),
];

fn fails(config: Config, how: &Fails) -> bool {
    match how {
        Property(name) => config
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([*name])))
            .spawn_bfs()
            .join()
            .discovery(name)
            .is_some(),
        Lockout(help) => Graph::new(config).lockout(*help).is_some(),
    }
}

#[test]
fn without_a_check_a_property_fails() {
    for (name, bounds, how) in CASES {
        let guards = Guards::without(name).unwrap();
        let config = Config {
            bounds: *bounds,
            guards,
        };
        assert!(fails(config, how), "nothing fails without {name}");
    }
}

#[test]
fn every_check_has_a_case() {
    let cases: BTreeSet<&str> = CASES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(cases, Guards::NAMES.iter().copied().collect());
}
