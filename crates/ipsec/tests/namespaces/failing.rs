//! charon hangs, dies, or meets a node of which no address is known.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use bootkeep_ipsec::{ike::DEADLINE, kernel::Kernel, Peer};
use bootkeep_protocol::revocation::Enforcement;
use nix::sys::signal::Signal;

use crate::{
    inside::{self, in_namespace},
    traffic::Flows,
    world::World,
    SETTLE,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, world: &World, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not {what}\n{}", world.story());
        sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root, run by xtask"]
fn a_charon_that_hangs_does_not_stop_a_revocation() {
    inside::again(
        "failing::a_charon_that_hangs_does_not_stop_a_revocation",
        || {
            let world = World::of_three();
            world.wait_until_all_talk();
            let flows = Flows::start(&world);
            flows.wait_for_more_with(&world, 2);
            let (here, bad) = (&world.nodes[0], world.peer(2));
            here.charon.lock().unwrap().signal(Signal::SIGSTOP);
            let begun = Instant::now();
            let outcome = here.revoke(&bad);
            let took = begun.elapsed();
            println!(
                "charon hangs: {:?} after {} ms: {}",
                outcome.enforcement,
                took.as_millis(),
                outcome.detail
            );
            assert_eq!(
                outcome.enforcement,
                Enforcement::Kernel,
                "{}",
                outcome.detail
            );
            assert!(
                outcome.detail.contains("no answer within"),
                "{}",
                outcome.detail
            );
            assert!(took >= DEADLINE);
            // It goes on, with its associations, and gets nothing through.
            here.charon.lock().unwrap().signal(Signal::SIGCONT);
            sleep(SETTLE);
            let before = (flows.arrived(0, 2), flows.arrived(2, 0));
            sleep(SETTLE);
            assert_eq!((flows.arrived(0, 2), flows.arrived(2, 0)), before);
            wait_until("ended", &world, || {
                !here.has_association_with(&world.nodes[2])
            });
            flows.wait_for(&world, &[(0, 1), (1, 0)]);
            let outcome = here.reinstate(&bad);
            assert_eq!(outcome.enforcement, Enforcement::Ike, "{}", outcome.detail);
            flows.wait_for(&world, &[(0, 2), (2, 0)]);
        },
    );
}

#[test]
#[ignore = "needs root, run by xtask"]
fn a_charon_that_starts_again_knows_who_is_revoked() {
    inside::again(
        "failing::a_charon_that_starts_again_knows_who_is_revoked",
        || {
            let world = World::of_three();
            world.wait_until_all_talk();
            let flows = Flows::start(&world);
            let (here, bad) = (&world.nodes[0], world.peer(2));
            here.charon.lock().unwrap().end();
            let outcome = here.revoke(&bad);
            println!(
                "charon is gone: {:?}: {}",
                outcome.enforcement, outcome.detail
            );
            assert_eq!(
                outcome.enforcement,
                Enforcement::Kernel,
                "{}",
                outcome.detail
            );
            here.charon.lock().unwrap().replace();
            flows.wait_for(&world, &[(0, 1), (1, 0)]);
            let before = (flows.arrived(0, 2), flows.arrived(2, 0));
            world.nodes[2].initiate_to(here);
            sleep(SETTLE);
            assert_eq!((flows.arrived(0, 2), flows.arrived(2, 0)), before);
            assert!(!here.has_association_with(&world.nodes[2]));
        },
    );
}

/// Debian's unit runs it when charon has started: it unloads all that is not in swanctl's own files.
#[test]
#[ignore = "needs root, run by xtask"]
fn what_swanctl_unloads_is_given_again() {
    inside::again("failing::what_swanctl_unloads_is_given_again", || {
        let world = World::of_three();
        world.wait_until_all_talk();
        let charon = &world.nodes[0].charon;
        let loaded = || {
            let list = charon.lock().unwrap().swanctl(&["--list-conns"]);
            list.contains("bootkeep-")
        };
        assert!(loaded());
        let said = charon
            .lock()
            .unwrap()
            .swanctl(&["--load-all", "--noprompt"]);
        assert!(!loaded(), "{said}");
        wait_until("given again", &world, loaded);
    });
}

/// Only its identity is known: neither the entry nor the group says where it is.
#[test]
#[ignore = "needs root, run by xtask"]
fn a_revoked_identity_is_ended_when_it_comes_up() {
    inside::again(
        "failing::a_revoked_identity_is_ended_when_it_comes_up",
        || {
            let world = World::of_three_without_ids();
            world.wait_until_all_talk();
            let flows = Flows::start(&world);
            flows.wait_for_more_with(&world, 2);
            let here = &world.nodes[0];
            let bad = Peer {
                addresses: Vec::new(),
                ..world.peer(2)
            };
            world.nodes[2].charon.lock().unwrap().end();
            // Forgets where it was; then says that it is revoked, while it has no association.
            here.revoke(&bad);
            here.reinstate(&bad);
            let outcome = here.revoke(&bad);
            println!("{}", outcome.detail);
            assert_eq!(outcome.counts.blocked, 0, "{}", outcome.detail);
            let before = (flows.arrived(0, 2), flows.arrived(2, 0));
            world.nodes[2].charon.lock().unwrap().replace();
            let blocked = || in_namespace(&here.namespace, || Kernel.blocked().unwrap());
            wait_until("blocked", &world, || {
                blocked().contains(&world.nodes[2].outer.into())
            });
            sleep(SETTLE);
            let slipped = (
                flows.arrived(0, 2) - before.0,
                flows.arrived(2, 0) - before.1,
            );
            println!("packets between coming up and being ended: {slipped:?}");
            // Of some two hundred that are sent each second: it does not wait for the next look at the whole.
            assert!(slipped.0 < 50 && slipped.1 < 50, "{slipped:?}");
            assert!(!here.has_association_with(&world.nodes[2]));
            let before = (flows.arrived(0, 2), flows.arrived(2, 0));
            sleep(SETTLE);
            assert_eq!((flows.arrived(0, 2), flows.arrived(2, 0)), before);
        },
    );
}

/// The same at charon alone: with the certificate on the list, the handshake itself is refused.
#[test]
#[ignore = "needs root, run by xtask"]
fn a_certificate_on_the_list_is_refused_by_charon() {
    inside::again(
        "failing::a_certificate_on_the_list_is_refused_by_charon",
        || {
            let world = World::of_three();
            world.wait_until_all_talk();
            let list = world.revocation_list(2, &[2]);
            let here = &world.nodes[0];
            here.ask(|ipsec| async move { ipsec.set_crl(&list).await.unwrap() });
            let name = "bootkeep-test-10-77-0-3";
            here.charon
                .lock()
                .unwrap()
                .swanctl(&["--terminate", "--ike", name, "--force"]);
            world.nodes[2].initiate_to(here);
            here.initiate_to(&world.nodes[2]);
            assert!(!here.has_association_with(&world.nodes[2]));
            let log = here.charon.lock().unwrap().log();
            assert!(log.contains("certificate was revoked"), "{log}");
            assert!(here.has_association_with(&world.nodes[1]));
        },
    );
}
