//! Three nodes on one switch.

use std::{
    future::Future,
    thread::sleep,
    time::{Duration, Instant},
};

use bootkeep_ipsec::{Ipsec, Peer};
use bootkeep_pki::node::{NodeAuthority, RevokedSerial};

use crate::{
    inside::run,
    node::{Group, Node},
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    authority: NodeAuthority,
    _root: tempfile::TempDir,
}

impl World {
    pub(crate) fn of_three() -> Self {
        Self::new(Group::Listed)
    }

    pub(crate) fn of_three_without_ids() -> Self {
        Self::new(Group::Nameless)
    }

    pub(crate) fn of_a_network() -> Self {
        Self::new(Group::Network)
    }

    fn new(shape: Group) -> Self {
        std::fs::create_dir("/run/netns").unwrap();
        run(&["ip", "link", "add", "switch", "type", "bridge"]);
        run(&["ip", "link", "set", "switch", "up"]);
        let root = tempfile::tempdir().unwrap();
        let authority = NodeAuthority::generate("nodes").unwrap();
        let nodes: Vec<Node> = (1..=3)
            .map(|number| Node::start(number, shape, &authority, root.path()))
            .collect();
        let world = Self {
            nodes,
            authority,
            _root: root,
        };
        let nothing = world.revocation_list(1, &[]);
        world.at_each(&[0, 1, 2], |ipsec| {
            let list = nothing.clone();
            async move { ipsec.set_crl(&list).await.unwrap() }
        });
        world
    }

    /// With the certificates of these nodes on it.
    pub(crate) fn revocation_list(&self, number: u64, nodes: &[usize]) -> Vec<u8> {
        let entry = |node: &usize| RevokedSerial {
            serial: self.nodes[*node].certificate.serial.clone(),
            revoked_at: 1_700_000_000,
        };
        let revoked: Vec<RevokedSerial> = nodes.iter().map(entry).collect();
        let day = Duration::from_secs(86_400);
        self.authority.crl(number, &revoked, day).unwrap()
    }

    pub(crate) fn peer(&self, node: usize) -> Peer {
        self.nodes[node].peer()
    }

    /// The same at several nodes, at the same time.
    pub(crate) fn at_each<T: Send, F: Future<Output = T>>(
        &self,
        nodes: &[usize],
        work: impl Fn(Ipsec) -> F + Sync,
    ) -> Vec<T> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = nodes
                .iter()
                .map(|node| scope.spawn(|| self.nodes[*node].ask(&work)))
                .collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        })
    }

    /// What each charon has to say, for a test that fails.
    pub(crate) fn story(&self) -> String {
        let of = |node: &Node| {
            let charon = node.charon.lock().unwrap();
            format!(
                "{}\n{}\n{}\n",
                node.namespace,
                charon.log(),
                charon.swanctl(&["--list-sas"])
            )
        };
        self.nodes.iter().map(of).collect()
    }

    pub(crate) fn wait_until_all_talk(&self) {
        let pairs = [(0, 1), (0, 2), (1, 2)];
        for (one, other) in pairs {
            let begun = Instant::now();
            let (one, other) = (&self.nodes[one], &self.nodes[other]);
            while !(one.has_association_with(other) && other.has_association_with(one)) {
                let log = || one.charon.lock().unwrap().log();
                assert!(begun.elapsed() < PATIENCE, "no association: {}", log());
                one.initiate_to(other);
                sleep(Duration::from_millis(100));
            }
        }
    }
}
