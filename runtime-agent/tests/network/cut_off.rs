//! A peer whose network goes down hears nothing, closes, and catches up in order when it is back. The certificates' list
//! comes from the CA by way of the verifier: there is traffic before anybody was revoked.

use std::time::Instant;

use bootkeep_pki::node::new_key_and_csr;
use bootkeep_protocol::{
    ca::{IssueRequest, Issued},
    revocation::{Action, Revocations},
    verifier::{NodeStatus, RevokeRequest, State},
    NodeId,
};
use bootkeep_revocation::read_entry;
use tokio::runtime::Runtime;

use crate::{
    common::{machine::Machine, node::running, World},
    inside::{self, run},
    latency::{boot, Peer},
    link::Link,
    members::{CaServer, Member},
    node::{bridge, Identity, Node, Plan},
    runtime,
    violator::acknowledged_ms,
    wait_until, PATIENCE,
};

/// More than one message carries.
const OTHERS: u64 = 70;

#[test]
#[ignore = "needs root, run by xtask"]
fn a_peer_whose_network_went_down_catches_up_in_order() {
    inside::again(
        "cut_off::a_peer_whose_network_went_down_catches_up_in_order",
        story,
    );
}

/// A certificate of the real CA, and its serial number.
async fn identity(world: &World, ca: &CaServer, id: &NodeId) -> (Identity, String) {
    let (key, csr) = new_key_and_csr("node").unwrap();
    let request = IssueRequest {
        node_id: id.clone(),
        label: "node".into(),
        csr: csr.into(),
    };
    let url = format!("{}/v1/certificates", ca.url);
    let issued: Issued = ca.client(world).post(&url, &request).await.unwrap();
    let identity = Identity {
        id: id.clone(),
        certificate: issued.certificate_pem,
        chain: issued.chain_pem,
        key: key.to_string(),
    };
    (identity, issued.serial)
}

async fn revoke(world: &World, node: &NodeId) {
    let url = format!("{}/revoke", world.node_url(node));
    let request = RevokeRequest {
        reason: "stolen".into(),
    };
    let _: NodeStatus = world.tenant.post(&url, &request).await.unwrap();
}

/// Revokes this node first, and then many that are enrolled and nothing more. How many entries the log has.
async fn revoke_many(world: &World, first: &NodeId) -> u64 {
    revoke(world, first).await;
    for n in 1..OTHERS {
        let other = Member::enrolled(world, &format!("other-{n}"), "10").await;
        revoke(world, other.id()).await;
    }
    let url = format!("{}/v1/revocations?after=0", world.url);
    let log: Revocations = world.tenant.get(&url).await.unwrap();
    let (entry, _) = read_entry(&world.revocation_keys(), &log.records[0].entry).unwrap();
    assert_eq!((entry.action, &entry.node_id), (Action::Revoke, first));
    OTHERS
}

/// Both ways, however often it has to be tried.
fn talk(one: &Peer, other: &Peer) {
    let begun = Instant::now();
    while !(one.node.reaches(&other.node) && other.node.reaches(&one.node)) {
        assert!(
            begun.elapsed() < PATIENCE,
            "no traffic\n{}\n{}",
            one.node.story(),
            other.node.story()
        );
        one.node.initiate_to(&other.node);
    }
}

/// Nothing passes, however hard both try.
fn silent(one: &Peer, other: &Peer) {
    for _ in 0..2 {
        one.node.initiate_to(&other.node);
        other.node.initiate_to(&one.node);
        assert!(!one.node.reaches(&other.node), "{}", one.node.story());
        assert!(!other.node.reaches(&one.node), "{}", other.node.story());
    }
}

fn story() {
    bridge();
    let rt = runtime();
    let (world, ca) = rt.block_on(async {
        let mut world = World::new().await;
        let ca = CaServer::start(&world).await;
        world
            .start_revoking_at("10.77.0.254:0", Some(&ca.url))
            .await;
        (world, ca)
    });
    let root = tempfile::tempdir().unwrap();
    let peers = start(&rt, &world, &ca, root.path());
    let [a, b, c] = &peers;
    for (one, other) in [(a, b), (a, c), (b, c)] {
        talk(one, other);
    }
    assert!(peers
        .iter()
        .all(|peer| peer.link.has_list() && peer.link.holds() == 0));

    let ended = a.link.ended();
    run(&["ip", "-n", &a.node.namespace, "link", "set", "eth0", "down"]);
    let others = rt.block_on(revoke_many(&world, &c.id));
    let story = |peer: &Peer| format!("{:?}\n{}", peer.link.sequences(), peer.node.log());
    wait_until("told", || story(b), || b.link.holds() == others);
    silent(b, c);
    // It hears nothing, and closes in time; its link is given up at both ends.
    wait_until(
        "closed",
        || story(a),
        || a.node.said("no fresh word of the verifier in time"),
    );
    wait_until("given up", || story(a), || a.link.ended() > ended);
    assert_eq!(a.link.holds(), 0);

    let begun = Instant::now();
    run(&["ip", "-n", &a.node.namespace, "link", "set", "eth0", "up"]);
    wait_until("told", || story(a), || a.link.holds() == others);
    println!(
        "{others} entries {:?} after the link was up",
        begun.elapsed()
    );
    for peer in [a, b] {
        assert_eq!(peer.link.sequences(), (1..=others).collect::<Vec<_>>());
        assert!(peer.link.refused().is_empty(), "{:?}", peer.link.refused());
    }
    let claims = a.node.claims();
    assert!(
        claims
            .iter()
            .all(|claim| claim.contains("revocations-stale")),
        "{claims:?}"
    );
    talk(a, b);
    silent(a, c);
    // The tenant sees that both have it.
    rt.block_on(acknowledged_ms(&world, others, 2));
}

fn start(rt: &Runtime, world: &World, ca: &CaServer, root: &std::path::Path) -> [Peer; 3] {
    let machines = ["a", "b", "c"].map(Machine::booted);
    let issued = machines
        .each_ref()
        .map(|machine| rt.block_on(identity(world, ca, &machine.node)));
    let plan = Plan {
        identities: issued.each_ref().map(|(identity, _)| identity.clone()),
        keys: &world.revocation_key.public_pem(),
        root,
    };
    [1u8, 2, 3].map(|number| {
        let index = usize::from(number) - 1;
        let (machine, serial) = (&machines[index], issued[index].1.clone());
        // The first closes without a fresh word.
        let node = Node::start(&plan, number, number == 1, None);
        rt.block_on(boot(world, machine, number, vec![serial]));
        let way = (world.node_tls.clone(), world.url.clone());
        let link = Link::start(Some(&node.namespace), way, running(machine), node.socket());
        rt.block_on(world.until(&machine.node, State::Trusted));
        let id = machine.node.clone();
        Peer { id, node, link }
    })
}
