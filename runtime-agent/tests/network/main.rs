//! A real verifier and real nodes between a violation and the network: each peer is the program `bootkeep-agent enforce`
//! with a charon of its own, in its own network namespace, and has a link to the verifier.
//!
//! Needs root and the packages that `cargo xtask setup` names:
//! `cargo test -p bootkeep-runtime-agent --test network -- --ignored`. Built for release it prints figures.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../strongswan/charon.rs"]
mod charon;
#[path = "../../../verifier/tests/common/mod.rs"]
mod common;
mod cut_off;
#[path = "../enforcer/mod.rs"]
mod enforcer;
#[path = "../../../crates/ipsec/tests/namespaces/inside.rs"]
mod inside;
mod latency;
mod link;
#[path = "../../../verifier/tests/common/members.rs"]
mod members;
#[path = "../strongswan/node.rs"]
mod node;
#[path = "../../../verifier/tests/common/violator.rs"]
mod violator;

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// Until something happens that must.
const PATIENCE: Duration = Duration::from_secs(120);

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

fn wait_until(what: &str, story: impl Fn() -> String, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not {what}\n{}", story());
        std::thread::sleep(Duration::from_millis(5));
    }
}
