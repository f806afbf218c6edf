//! The real `bootkeep-agent enforce` and the real charon, three nodes in network namespaces: a revoked node is cut off, and
//! stays so over crashes of both; a node without a fresh word closes; reinstating brings traffic back.
//!
//! Needs root and the packages that `cargo xtask setup` names:
//! `cargo test -p bootkeep-runtime-agent --test strongswan -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod charon;
#[path = "../enforcer/mod.rs"]
mod enforcer;
mod guard;
#[path = "../../../crates/ipsec/tests/namespaces/inside.rs"]
mod inside;
mod node;

use std::time::{Duration, Instant};

use bootkeep_pki::node::NodeAuthority;
use bootkeep_protocol::revocation::{Action, Enforcement, RevocationsCall, RevocationsReply};
use enforcer::{node_id, Log};
use node::{Identity, Node, Plan};

/// Until traffic is there, or not any more.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root, run by xtask"]
fn the_enforcer_and_charon_cut_a_node_off_and_let_it_in_again() {
    inside::again(
        "the_enforcer_and_charon_cut_a_node_off_and_let_it_in_again",
        story,
    );
}

fn story() {
    node::bridge();
    let root = tempfile::tempdir().unwrap();
    let authority = NodeAuthority::generate("nodes").unwrap();
    let mut log = Log::new();
    log.tick();
    let plan = Plan {
        identities: ["1", "2", "3"].map(|name| Identity::new(&authority, &node_id(name))),
        keys: &log.public.clone(),
        root: root.path(),
    };
    let start = |number: u8, closes: bool| Node::start(&plan, number, closes, None);
    let (mut a, b, c) = (start(1, true), start(2, false), start(3, false));
    let empty = authority.crl(1, &[], Duration::from_secs(86_400)).unwrap();
    let with_list = |log: &Log| RevocationsCall {
        crl: Some(empty.clone().into()),
        ..log.whole()
    };

    // A certificate whose status is not known is no good; with the list there is traffic before anybody was revoked.
    silent(&b, &c);
    b.tell(&with_list(&log));
    c.tell(&with_list(&log));
    talk(&log, &b, &c);
    // `a` closes without a fresh word, and has had none since boot.
    silent(&a, &b);
    a.tell(&with_list(&log));
    talk(&log, &a, &b);
    talk(&log, &a, &c);

    log.add_at(Action::Revoke, "3", "10.77.0.3");
    for node in [&a, &b] {
        by_ike(&node.tell(&log.whole()));
        silent(node, &c);
    }
    talk(&log, &a, &b);

    a.kill_both();
    a.start_both();
    talk(&log, &a, &b);
    silent(&a, &c);

    let begun = Instant::now();
    while !a.said("no fresh word of the verifier in time") {
        assert!(begun.elapsed() < PATIENCE, "{}", a.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    silent(&a, &b);
    println!(
        "closed after {:?} of silence; claims: {:?}",
        begun.elapsed(),
        a.claims()
    );
    assert!(a
        .claims()
        .iter()
        .any(|claim| claim.contains("revocations-stale")));
    talk(&log, &a, &b);
    silent(&a, &c);

    log.add_at(Action::Reinstate, "3", "10.77.0.3");
    for node in [&a, &b] {
        by_ike(&node.tell(&log.whole()));
    }
    talk(&log, &a, &c);
    talk(&log, &b, &c);
    println!("enforcer: {}", a.memory());
}

fn by_ike(reply: &RevocationsReply) {
    let done = reply.done.last().unwrap();
    println!(
        "{}: {:?} in {} us: {}",
        done.sequence, done.outcome, done.took_us, done.detail
    );
    assert_eq!(done.outcome, Enforcement::Ike, "{}", done.detail);
}

/// Traffic passes. The verifier speaks with the first meanwhile.
fn talk(log: &Log, one: &Node, other: &Node) {
    let begun = Instant::now();
    one.tell(&log.whole());
    while !(one.reaches(other) && other.reaches(one)) {
        one.tell(&log.whole());
        assert!(
            begun.elapsed() < PATIENCE,
            "no traffic\n{}\n{}",
            one.story(),
            other.story()
        );
        one.initiate_to(other);
    }
}

/// Nothing passes, however hard both try.
fn silent(one: &Node, other: &Node) {
    for _ in 0..3 {
        one.initiate_to(other);
        assert!(!one.reaches(other), "{}", one.story());
        assert!(!other.reaches(one), "{}", other.story());
    }
}
