//! From a violation to the acknowledgement of every peer: a real swtpm is violated again and again, real links, SQLite
//! on a disk. Peers have no kernel to act on here; with real ones: `bootkeep-runtime-agent`, test `network`.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/violator.rs"]
mod violator;

use bootkeep_protocol::verifier::State;
use common::{
    node::{running, Node},
    peer::Peer,
    World,
};
use violator::{acknowledged_ms, machine, millis, Times, Violator};

const VIOLATIONS: usize = if cfg!(debug_assertions) { 5 } else { 250 };
const PEERS: usize = 2;

/// A node of the fleet that only follows.
async fn peer(world: &World, name: &str) -> (Node, Peer) {
    let (machine, _) = world.enrolled(name).await;
    let mut boot = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    boot.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    let peer = Peer::new(world.revocation_keys());
    let machine = running(&machine);
    let node = Node::connect_as(&world.node_tls, &world.url, &machine, &peer).await;
    world.until(&machine.node, State::Trusted).await;
    (node.unwrap(), peer)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_violation_to_the_last_acknowledgement() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let mut peers = Vec::new();
    for n in 0..PEERS {
        peers.push(peer(&world, &format!("peer-{n}")).await);
    }
    let host = machine(&world).await;
    let mut violator = Violator::run(&world, host, Vec::new()).await;
    let mut verdict = Times::new("violation to verdict");
    let mut entry = Times::new("violation to entry at the last peer");
    let mut acknowledged = Times::new("violation to last acknowledgement");
    for n in 0..VIOLATIONS {
        let sequence = 2 * n as u64 + 1;
        let begun = violator.violate().await;
        for (_, peer) in &peers {
            peer.holds(sequence).await;
        }
        let taken = peers.iter().map(|(_, peer)| peer.taken()[2 * n].1);
        entry.1.push(millis(taken.max().unwrap() - begun.instant));
        let acked = acknowledged_ms(&world, sequence, PEERS).await;
        acknowledged.1.push(begun.until_ms(acked));
        let status = world.status(&violator.node).await;
        assert_eq!(status.state, State::Untrusted);
        verdict.1.push(begun.until_ms(status.since_ms));
        violator.provision(&world).await;
        for (_, peer) in &peers {
            peer.holds(sequence + 1).await;
        }
    }
    if cfg!(debug_assertions) {
        return;
    }
    println!("{VIOLATIONS} violations on swtpm, {PEERS} peers, loopback, SQLite, every entry on disk first");
    for times in [&mut verdict, &mut entry, &mut acknowledged] {
        times.print();
    }
}
