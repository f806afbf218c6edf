//! One node: a namespace, a charon, and the library at work in it.

use std::{
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Mutex,
};

use bootkeep_ipsec::{Ipsec, Outcome, Peer};
use bootkeep_pki::node::{new_key_and_csr, NodeAuthority, NodeCertificate, NodeCertificateTerms};
use bootkeep_protocol::NodeId;

use crate::{
    charon::{Charon, Esp},
    inside::{enter, in_namespace, run},
};

/// What the group's file says.
#[derive(Clone, Copy)]
pub(crate) enum Group {
    /// Tunnels between listed peers, with their ids.
    Listed,
    /// The same without ids.
    Nameless,
    /// Transport mode with whoever is in the network.
    Network,
}

pub(crate) struct Node {
    pub(crate) namespace: String,
    pub(crate) id: NodeId,
    pub(crate) outer: IpAddr,
    pub(crate) inner: IpAddr,
    pub(crate) charon: Mutex<Charon>,
    pub(crate) ipsec: Ipsec,
    pub(crate) certificate: NodeCertificate,
}

impl Group {
    fn esp(self) -> Esp {
        match self {
            Self::Listed | Self::Nameless => Esp::UserSpace,
            Self::Network => Esp::Kernel,
        }
    }
}

impl Node {
    /// The node of this number, of three; connected to the bridge `switch`.
    pub(crate) fn start(number: u8, shape: Group, authority: &NodeAuthority, root: &Path) -> Self {
        let namespace = format!("n{number}");
        let folder = root.join(&namespace);
        fs::create_dir(&folder).unwrap();
        network(number, &namespace);
        let id = id_of(number);
        let certificate = identity(&id, authority, &folder);
        fs::write(folder.join("ipsec.yaml"), group(number, shape, &folder)).unwrap();
        let ipsec = Ipsec::load(&folder.join("ipsec.yaml"), &folder)
            .unwrap()
            .unwrap();
        let charon = Mutex::new(Charon::start(&namespace, shape.esp(), &folder));
        let node = Self {
            namespace,
            id,
            outer: outer(number),
            inner: inner(number),
            charon,
            ipsec,
            certificate,
        };
        node.watch();
        node
    }

    fn watch(&self) {
        let (namespace, ipsec) = (self.namespace.clone(), self.ipsec.clone());
        std::thread::spawn(move || {
            enter(&namespace);
            runtime().block_on(ipsec.watch());
        });
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer {
            host_name: self.id.host_name(),
            addresses: vec![self.outer],
        }
    }

    /// Asks the library of this node.
    pub(crate) fn ask<T: Send, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Ipsec) -> F + Send,
    ) -> T {
        let ipsec = self.ipsec.clone();
        in_namespace(&self.namespace, || runtime().block_on(work(ipsec)))
    }

    pub(crate) fn revoke(&self, peer: &Peer) -> Outcome {
        self.ask(|ipsec| async move { ipsec.revoke(peer).await })
    }

    pub(crate) fn reinstate(&self, peer: &Peer) -> Outcome {
        self.ask(|ipsec| async move { ipsec.reinstate(peer).await })
    }

    pub(crate) fn has_association_with(&self, other: &Self) -> bool {
        let list = self.charon.lock().unwrap().swanctl(&["--list-sas"]);
        list.contains(&other.id.host_name())
    }

    /// Tries to make an association, whatever the other side thinks of it.
    pub(crate) fn initiate_to(&self, other: &Self) {
        let name = format!(
            "bootkeep-test-{}",
            other.outer.to_string().replace('.', "-")
        );
        let arguments = [
            "--initiate",
            "--child",
            &name,
            "--ike",
            &name,
            "--timeout",
            "1",
        ];
        self.charon.lock().unwrap().swanctl(&arguments);
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn outer(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, number).into()
}

fn inner(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 78, number, 1).into()
}

fn id_of(number: u8) -> NodeId {
    NodeId::of_ek_public(&[number])
}

fn network(number: u8, namespace: &str) {
    let port = format!("port{number}");
    run(&["ip", "netns", "add", namespace]);
    run(&[
        "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", namespace,
    ]);
    run(&["ip", "link", "set", &port, "master", "switch", "up"]);
    let inside = |words: &[&str]| run(&[&["ip", "-n", namespace], words].concat());
    inside(&["link", "set", "lo", "up"]);
    inside(&[
        "addr",
        "add",
        &format!("{}/24", outer(number)),
        "dev",
        "eth0",
    ]);
    let v6 = format!("fd77::{number}/64");
    inside(&["addr", "add", &v6, "dev", "eth0", "nodad"]);
    inside(&["link", "set", "eth0", "up"]);
    inside(&["addr", "add", &format!("{}/32", inner(number)), "dev", "lo"]);
}

fn identity(id: &NodeId, authority: &NodeAuthority, folder: &Path) -> NodeCertificate {
    let (key, csr) = new_key_and_csr("node").unwrap();
    let terms = NodeCertificateTerms {
        node: id,
        label: "node",
        days: 1,
        crl_url: "http://192.0.2.1/crl.der",
        ocsp_url: None,
        ca_url: None,
    };
    let issued = authority.issue(&csr, &terms).unwrap();
    fs::write(folder.join("certificate.pem"), &issued.certificate_pem).unwrap();
    fs::write(folder.join("chain.pem"), authority.certificate_pem()).unwrap();
    fs::write(folder.join("key.pem"), key.as_bytes()).unwrap();
    issued
}

/// ESP in user space knows tunnel mode only, no policies that wait for traffic, no extended sequence numbers.
fn group(number: u8, shape: Group, folder: &Path) -> String {
    if let Group::Network = shape {
        return network_group(number, folder);
    }
    let peer = |other: u8| {
        let id = match shape {
            Group::Listed => format!(" node_id: {},", id_of(other)),
            _ => String::new(),
        };
        format!(
            "  - {{ addresses: [{}],{id} subnets: [{}] }}\n",
            outer(other),
            inner(other)
        )
    };
    let peers: String = (1..=3).filter(|other| *other != number).map(peer).collect();
    format!(
        "group: test\nmode: tunnel\nstart: at-once\naddresses: [{}]\nsubnets: [{}]\nvici: {}/vici\n\
         proposals: {{ esp: [aes256gcm16-ecp384] }}\npeers:\n{peers}",
        outer(number),
        inner(number),
        folder.display(),
    )
}

/// The third serves the others, and is in another group.
fn network_group(number: u8, folder: &Path) -> String {
    let networks = match number {
        3 => "10.99.0.0/24",
        _ => "10.77.0.0/24, 'fd77::/64'",
    };
    format!(
        "group: net\nnetworks: [{networks}]\nvici: {}/vici\n\
         clear: [{{ network: 10.77.0.3, protocol: tcp, port: 8894 }}]\n",
        folder.display(),
    )
}
