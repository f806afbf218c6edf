//! Nodes that follow the revocation log, and the real CA.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;

use bootkeep_ca::{Ca, Lifetimes, Urls};
use bootkeep_link::HttpClient;
use bootkeep_pki::{node::new_key_and_csr, state_key::StateKey};
use bootkeep_protocol::{
    ca::{CertificateRecord, IssueRequest, Issued},
    verifier::{Enrolment, State},
    NodeId, Role,
};
use tokio::task::JoinHandle;

use crate::common::{
    enrolment,
    machine::Machine,
    node::{running, Node},
    peer::Peer,
    World,
};

/// A real CA on a port that stays its own.
pub struct CaServer {
    folder: tempfile::TempDir,
    pub url: String,
    serving: Option<JoinHandle<()>>,
}

impl CaServer {
    pub async fn start(world: &World) -> Self {
        let mut server = Self {
            folder: tempfile::tempdir().unwrap(),
            url: String::new(),
            serving: None,
        };
        server.up(world).await;
        server
    }

    pub async fn up(&mut self, world: &World) {
        let database = format!("sqlite://{}/ca.db", self.folder.path().display());
        let urls = Urls {
            crl: "http://crl.example/crl.der".into(),
            ocsp: None,
            ca: None,
        };
        let key = StateKey::from_bytes([7; 32]);
        let ca = Ca::open(&database, &key, urls, Lifetimes::default());
        let ca: Arc<Ca> = ca.await.unwrap();
        let address = self.url.strip_prefix("https://").unwrap_or("127.0.0.1:0");
        let (url, serving) = world.serve_at(address, Role::Ca, ca.router()).await;
        self.url = url;
        self.serving = Some(serving);
    }

    pub async fn down(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        assert!(serving.await.is_err());
    }

    pub fn client(&self, world: &World) -> HttpClient {
        world.client_for(Role::Tenant, Role::Ca)
    }

    pub async fn issue(&self, world: &World, node: &NodeId) -> String {
        let (_, csr) = new_key_and_csr("web").unwrap();
        let request = IssueRequest {
            node_id: node.clone(),
            label: "web".into(),
            csr: csr.into(),
        };
        let url = format!("{}/v1/certificates", self.url);
        let issued: Issued = self.client(world).post(&url, &request).await.unwrap();
        issued.serial
    }

    pub async fn is_revoked(&self, world: &World, serial: &str) -> bool {
        let url = format!("{}/v1/certificates", self.url);
        let all: Vec<CertificateRecord> = self.client(world).get(&url).await.unwrap();
        let record = all.into_iter().find(|record| record.serial == serial);
        record.unwrap().revoked_at.is_some()
    }
}

/// A node of the fleet with its part that follows the log.
pub struct Member {
    pub machine: Machine,
    pub enrolment: Enrolment,
    pub peer: Peer,
}

impl Member {
    pub async fn enrolled(world: &World, name: &str, serial: &str) -> Self {
        let machine = Machine::booted(name);
        world.register(&machine, 1);
        let enrolment = Enrolment {
            label: name.into(),
            serials: vec![serial.into()],
            addresses: vec!["10.1.0.7".parse().unwrap()],
            ..enrolment(&machine)
        };
        world.enrol(&machine.node, &enrolment).await.unwrap();
        Self {
            machine,
            enrolment,
            peer: Peer::new(world.revocation_keys()),
        }
    }

    pub fn id(&self) -> &NodeId {
        &self.machine.node
    }

    /// Boots, gets V, and runs.
    pub async fn run(&self, world: &World) -> Node {
        let mut boot = Node::connect(&world.node_tls, &world.url, &self.machine)
            .await
            .unwrap();
        boot.share().await;
        world.until(self.id(), State::BootTrusted).await;
        let node = self.link(world).await;
        world.until(self.id(), State::Trusted).await;
        node
    }

    /// Only the link of the running system.
    pub async fn link(&self, world: &World) -> Node {
        let machine = running(&self.machine);
        Node::connect_as(&world.node_tls, &world.url, &machine, &self.peer)
            .await
            .unwrap()
    }

    pub fn sequences(&self) -> Vec<u64> {
        let taken = self.peer.taken();
        taken.iter().map(|(entry, _)| entry.sequence).collect()
    }
}
