//! From a violation to the acknowledgement of every peer: a real swtpm is violated again and again, real links, SQLite
//! on a disk. Prints figures when built for release; else it is a short test of the same way.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bootkeep_node::session::{event_queue, share_channel, Session};
use bootkeep_policy::RuntimePolicy;
use bootkeep_protocol::{
    link::Event,
    policy::PolicySource,
    registrar::{EkAssurance, NodeRecord},
    revocation::Revocations,
    verifier::{Enrolment, State},
    Bytes, NodeId, Phase,
};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{latch_digest, latched_pcr15};
use common::{
    host::{enrolment, Host},
    node::{running, Node},
    peer::Peer,
    World,
};
use sha2::{Digest, Sha256};

const VIOLATIONS: usize = if cfg!(debug_assertions) { 5 } else { 250 };
const PEERS: usize = 2;

/// Times of one kind (milliseconds).
struct Times(&'static str, Vec<f64>);

impl Times {
    fn print(&mut self) {
        self.1.sort_by(f64::total_cmp);
        let at = |part: f64| self.1[((self.1.len() - 1) as f64 * part).round() as usize];
        println!(
            "{:<38} p50 {:>7.1} ms   p99 {:>7.1} ms   longest {:>7.1} ms",
            self.0,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// From a moment to a time the verifier wrote down, which has whole milliseconds.
fn until_ms(from: SystemTime, at_ms: u64) -> f64 {
    at_ms as f64 + 1.0 - millis(from.duration_since(UNIX_EPOCH).unwrap())
}

fn register(world: &World, host: &Host) {
    let identity = &host.attester.identity;
    let record = NodeRecord {
        node_id: identity.node_id.clone(),
        generation: 1,
        ek_public: identity.ek_public.clone().into(),
        ek_certificate: None,
        assurance: EkAssurance::Approval {
            note: "test".into(),
        },
        ak_public: identity.ak_public.clone().into(),
        registered_at: 1,
    };
    let mut records = world.records.lock().unwrap();
    records.insert(identity.node_id.clone(), record);
}

/// In the initramfs: enrolled, appraised, latched.
async fn boot(world: &World, host: &Host) -> Enrolment {
    let node = host.attester.identity.node_id.clone();
    let digest = latch_digest("cryptroot", b"key");
    let urls = [world.url.clone()];
    let session = Session::open(&host.attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let served = session.serve(Some(&shares), &mut queue);
    let boot = async {
        let enrolment = enrolment(world, host, latched_pcr15(&digest)).await;
        world.enrol(&node, &enrolment).await.unwrap();
        let request = taken.recv().await.unwrap();
        request.answer(Ok(Some(Bytes(vec![8; 32]))));
        world.until(&node, State::BootTrusted).await;
        world.step(&node, "share-v-sent").await;
        drop(events);
        enrolment
    };
    let (_, enrolment) = tokio::join!(served, boot);
    host.extend(15, digest).await;
    enrolment
}

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

/// When the last peer had acknowledged the entry.
async fn acknowledged_ms(world: &World, sequence: u64) -> u64 {
    let url = format!("{}/v1/revocations?after={}", world.url, sequence - 1);
    loop {
        let log: Revocations = world.tenant.get(&url).await.unwrap();
        let acks = log.records[0].acknowledgements.iter();
        let times: Vec<u64> = acks.filter_map(|ack| ack.at_ms).collect();
        if times.len() == PEERS {
            return times.into_iter().max().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the owner does about a violation: the same machine under a policy that knows the file.
async fn provision(world: &World, node: &NodeId, mut enrolment: Enrolment, policy: &RuntimePolicy) {
    enrolment.runtime_policy = PolicySource::Document(policy.to_value().unwrap());
    world.enrol(node, &enrolment).await.unwrap();
    world.until(node, State::Trusted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_violation_to_the_last_acknowledgement() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let mut peers = Vec::new();
    for n in 0..PEERS {
        peers.push(peer(&world, &format!("peer-{n}")).await);
    }
    let mut host = Host::boot(Swtpm::certified().unwrap()).await;
    register(&world, &host);
    let enrolment = boot(&world, &host).await;
    let PolicySource::Document(document) = enrolment.runtime_policy.clone() else {
        panic!("a document");
    };
    let mut policy = RuntimePolicy::from_value(document).unwrap();
    host.attester.phase = Phase::Runtime;
    let attester = host.attester.clone();
    let node = attester.identity.node_id.clone();
    let urls = [world.url.clone()];
    let session = Session::open(&attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let served = session.serve(None, &mut queue);
    let mut verdict = Times("violation to verdict", Vec::new());
    let mut entry = Times("violation to entry at the last peer", Vec::new());
    let mut acknowledged = Times("violation to last acknowledgement", Vec::new());
    let violate = async {
        world.until(&node, State::Trusted).await;
        for n in 0..VIOLATIONS {
            let (path, contents) = (format!("/usr/bin/evil-{n}"), format!("evil {n}"));
            let sequence = 2 * n as u64 + 1;
            let (started, wall) = (Instant::now(), SystemTime::now());
            host.measure(&path, contents.as_bytes()).await;
            let count = 3 + n as u64;
            events.send(Event::ImaGrew { count }).await.unwrap();
            for (_, peer) in &peers {
                peer.holds(sequence).await;
            }
            let taken = peers.iter().map(|(_, peer)| peer.taken()[2 * n].1);
            entry.1.push(millis(taken.max().unwrap() - started));
            let acked = acknowledged_ms(&world, sequence).await;
            acknowledged.1.push(until_ms(wall, acked));
            let status = world.status(&node).await;
            assert_eq!(status.state, State::Untrusted);
            verdict.1.push(until_ms(wall, status.since_ms));
            let digest = Sha256::digest(contents.as_bytes()).into();
            policy.accept_file(&path, digest).unwrap();
            provision(&world, &node, enrolment.clone(), &policy).await;
            for (_, peer) in &peers {
                peer.holds(sequence + 1).await;
            }
        }
        drop(events);
    };
    let (_, ()) = tokio::join!(served, violate);
    if cfg!(debug_assertions) {
        return;
    }
    println!("{VIOLATIONS} violations on swtpm, {PEERS} peers, loopback, SQLite, every entry on disk first");
    for times in [&mut verdict, &mut entry, &mut acknowledged] {
        times.print();
    }
    println!(
        "Keylime 7.14, interval 0.5 s: 280 ms (median, to its verdict)   ACSAC'16 paper: 110 ms"
    );
}
