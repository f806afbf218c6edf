//! Three nodes, each with its own network namespace and its own charon (ESP in user space: the kernel of a test machine
//! may have none). One is revoked; the other two keep their traffic.
//!
//! Needs root and the packages that `cargo xtask setup` names: `cargo test -p bootkeep-ipsec --test namespaces -- --ignored`.
//! Every test runs itself again in namespaces of its own, and what it started ends with it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod charon;
mod failing;
mod figures;
mod inside;
mod kernel;
mod node;
mod traffic;
mod traps;
mod world;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use bootkeep_ipsec::{Outcome, Peer};
use bootkeep_protocol::revocation::Enforcement;

use figures::Figures;
use traffic::Flows;
use world::World;

/// Rounds of revoking and reinstating.
const ROUNDS: usize = 20;
/// Long enough for a packet that is on its way, on a busy machine.
const SETTLE: Duration = Duration::from_millis(300);

#[test]
#[ignore = "needs root, run by xtask"]
fn a_revoked_node_is_cut_off_and_the_others_keep_their_traffic() {
    inside::again(
        "a_revoked_node_is_cut_off_and_the_others_keep_their_traffic",
        || {
            let world = World::of_three();
            world.wait_until_all_talk();
            let flows = Flows::start(&world);
            flows.wait_for_more_with(&world, 2);
            let (mut gone, mut back) = (Figures::default(), Figures::default());
            for _ in 0..ROUNDS {
                revoke_and_reinstate(&world, &flows, &mut gone, &mut back);
            }
            let lost = flows.lost_between(0, 1) + flows.lost_between(1, 0);
            let sent = flows.sent(0, 1) + flows.sent(1, 0);
            println!("notice to associations gone at both peers: {gone}");
            println!("reinstatement to traffic back both ways: {back}");
            println!("healthy pair: {lost} of {sent} packets lost in {ROUNDS} rounds");
            assert!(lost <= 3, "{lost} of {sent} lost between healthy nodes");
        },
    );
}

fn revoke(world: &World, bad: &Peer) -> Vec<Outcome> {
    world.at_each(&[0, 1], |ipsec| async move { ipsec.revoke(bad).await })
}

fn reinstate(world: &World, bad: &Peer) -> Vec<Outcome> {
    world.at_each(&[0, 1], |ipsec| async move { ipsec.reinstate(bad).await })
}

fn revoke_and_reinstate(world: &World, flows: &Flows, gone: &mut Figures, back: &mut Figures) {
    let bad = world.peer(2);
    let begun = Instant::now();
    for outcome in revoke(world, &bad) {
        assert_eq!(outcome.enforcement, Enforcement::Ike, "{}", outcome.detail);
    }
    gone.add(begun.elapsed());
    assert!(!world.nodes[0].has_association_with(&world.nodes[2]));
    assert!(!world.nodes[1].has_association_with(&world.nodes[2]));
    sleep(SETTLE);
    let before = flows.received_with(2);
    // It tries to come back all the time.
    world.nodes[2].initiate_to(&world.nodes[0]);
    sleep(SETTLE);
    assert_eq!(
        flows.received_with(2),
        before,
        "traffic with a revoked node"
    );
    let begun = Instant::now();
    for outcome in reinstate(world, &bad) {
        assert_eq!(outcome.enforcement, Enforcement::Ike, "{}", outcome.detail);
    }
    flows.wait_for_more_with(world, 2);
    back.add(begun.elapsed());
}
