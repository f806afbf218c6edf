//! A node on a real swtpm that runs foreign programs again and again, and is provisioned anew each time.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

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
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::common::{
    host::{enrolment, Host},
    World,
};

/// Times of one kind (milliseconds).
pub struct Times(pub &'static str, pub Vec<f64>);

impl Times {
    pub fn new(what: &'static str) -> Self {
        Self(what, Vec::new())
    }

    pub fn print(&mut self) {
        self.1.sort_by(f64::total_cmp);
        let at = |part: f64| self.1[((self.1.len() - 1) as f64 * part).round() as usize];
        println!(
            "{:<44} p50 {:>7.1} ms   p99 {:>7.1} ms   longest {:>7.1} ms",
            self.0,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// When a violation began, by both clocks.
#[derive(Clone, Copy)]
pub struct Begun {
    pub instant: Instant,
    wall: SystemTime,
}

impl Begun {
    /// To a time the verifier wrote down, which has whole milliseconds.
    pub fn until_ms(&self, at_ms: u64) -> f64 {
        at_ms as f64 + 1.0 - millis(self.wall.duration_since(UNIX_EPOCH).unwrap())
    }
}

pub struct Violator {
    host: Host,
    pub node: NodeId,
    enrolment: Enrolment,
    policy: RuntimePolicy,
    events: mpsc::Sender<Event>,
    /// Violations so far.
    done: u64,
    /// The last one's file.
    last: (String, [u8; 32]),
}

/// Firmware and kernel have measured; the registrar knows it.
pub async fn machine(world: &World) -> Host {
    let host = Host::boot(Swtpm::certified().unwrap()).await;
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
    drop(records);
    host
}

/// In the initramfs: enrolled, appraised, latched.
async fn boot(world: &World, host: &Host, addresses: Vec<IpAddr>) -> Enrolment {
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
        let enrolment = Enrolment {
            addresses,
            ..enrolment(world, host, latched_pcr15(&digest)).await
        };
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

impl Violator {
    /// Boots it, and has it run until the process ends.
    pub async fn run(world: &World, mut host: Host, addresses: Vec<IpAddr>) -> Self {
        let enrolment = boot(world, &host, addresses).await;
        let PolicySource::Document(document) = enrolment.runtime_policy.clone() else {
            panic!("a document");
        };
        host.attester.phase = Phase::Runtime;
        let attester = host.attester.clone();
        let (urls, tls) = ([world.url.clone()], world.node_tls.clone());
        let (events, mut queue) = event_queue();
        tokio::spawn(async move {
            let session = Session::open(&attester, &tls, &urls).await.unwrap();
            session.serve(None, &mut queue).await
        });
        let node = host.attester.identity.node_id.clone();
        world.until(&node, State::Trusted).await;
        Self {
            host,
            node,
            enrolment,
            policy: RuntimePolicy::from_value(document).unwrap(),
            events,
            done: 0,
            last: (String::new(), [0; 32]),
        }
    }

    /// Runs a program that is on no list.
    pub async fn violate(&mut self) -> Begun {
        let (path, contents) = (
            format!("/usr/bin/evil-{}", self.done),
            format!("evil {}", self.done),
        );
        let begun = Begun {
            instant: Instant::now(),
            wall: SystemTime::now(),
        };
        self.host.measure(&path, contents.as_bytes()).await;
        let count = 3 + self.done;
        self.events.send(Event::ImaGrew { count }).await.unwrap();
        self.done += 1;
        self.last = (path, Sha256::digest(contents.as_bytes()).into());
        begun
    }

    /// What the owner does about it: the same machine under a policy that knows the file.
    pub async fn provision(&mut self, world: &World) {
        let (path, digest) = &self.last;
        self.policy.accept_file(path, *digest).unwrap();
        let mut enrolment = self.enrolment.clone();
        enrolment.runtime_policy = PolicySource::Document(self.policy.to_value().unwrap());
        world.enrol(&self.node, &enrolment).await.unwrap();
        world.until(&self.node, State::Trusted).await;
    }
}

/// When so many peers had acknowledged the entry.
pub async fn acknowledged_ms(world: &World, sequence: u64, peers: usize) -> u64 {
    let url = format!("{}/v1/revocations?after={}", world.url, sequence - 1);
    loop {
        let log: Revocations = world.tenant.get(&url).await.unwrap();
        let acks = log.records[0].acknowledgements.iter();
        let times: Vec<u64> = acks.filter_map(|ack| ack.at_ms).collect();
        if times.len() == peers {
            return times.into_iter().max().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
