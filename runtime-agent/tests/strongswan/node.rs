//! One node: a network namespace with a charon, and the enforcer with folders of its own in the place of the system's.

#![allow(dead_code)]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use bootkeep_pki::node::{new_key_and_csr, NodeAuthority, NodeCertificateTerms};
use bootkeep_protocol::{
    link::{Outcome, Reply},
    revocation::{RevocationsCall, RevocationsReply},
    NodeId,
};

use crate::{
    charon::Charon,
    enforcer::Client,
    inside::{in_namespace, run},
};

const PORT: u16 = 7700;

pub(crate) struct Node {
    pub(crate) namespace: String,
    pub(crate) folder: PathBuf,
    outer: IpAddr,
    inner: IpAddr,
    charon: Charon,
    enforcer: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.enforcer.kill();
        let _ = self.enforcer.wait();
    }
}

/// What a node shows in IKE, PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id: NodeId,
    pub(crate) certificate: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new(authority: &NodeAuthority, id: &NodeId) -> Self {
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
        Self {
            id: id.clone(),
            certificate: issued.certificate_pem,
            chain: authority.certificate_pem().to_owned(),
            key: key.to_string(),
        }
    }
}

/// Nodes that know each other, numbered from 1.
pub(crate) struct Plan<'a> {
    pub(crate) identities: [Identity; 3],
    /// Public keys of the revocation log, PEM.
    pub(crate) keys: &'a str,
    pub(crate) root: &'a Path,
}

/// The network they are in.
pub(crate) fn bridge() {
    fs::create_dir("/run/netns").unwrap();
    run(&["ip", "link", "set", "lo", "up"]);
    run(&["ip", "link", "add", "switch", "type", "bridge"]);
    run(&["ip", "addr", "add", "10.77.0.254/24", "dev", "switch"]);
    run(&["ip", "link", "set", "switch", "up"]);
}

impl Node {
    /// With the CA's list of before, if there is one.
    pub(crate) fn start(plan: &Plan<'_>, number: u8, closes: bool, list: Option<&[u8]>) -> Self {
        let namespace = format!("n{number}");
        let folder = folders(plan.root, &namespace);
        network(number, &namespace);
        let etc = folder.join("etc/bootkeep");
        let own = &plan.identities[usize::from(number) - 1];
        for (name, text) in [
            ("identity/certificate.pem", &own.certificate),
            ("identity/chain.pem", &own.chain),
            ("identity/key.pem", &own.key),
            ("revocation.pem", &plan.keys.to_owned()),
            ("ipsec.yaml", &group(plan, number, &folder)),
        ] {
            fs::write(etc.join(name), text).unwrap();
        }
        if let Some(list) = list {
            fs::write(folder.join("var/bootkeep/crl.der"), list).unwrap();
        }
        let limit = if closes {
            "fail_closed_after_seconds: 15"
        } else {
            ""
        };
        let agent =
            format!("registrar: [https://r]\nverifier: [https://v]\nrevocation: {{{limit}}}\n");
        fs::write(etc.join("agent.yaml"), agent).unwrap();
        let charon = Charon::start(&namespace, &folder);
        let enforcer = enforce(&namespace, &folder);
        let (outer, inner) = (outer(number), inner(number));
        let node = Self {
            namespace,
            folder,
            outer,
            inner,
            charon,
            enforcer,
        };
        node.wait_for_socket();
        node
    }

    /// Both at once, without a farewell.
    pub(crate) fn kill_both(&mut self) {
        self.enforcer.kill().unwrap();
        self.enforcer.wait().unwrap();
        self.charon.end();
        fs::remove_file(self.socket()).unwrap();
    }

    pub(crate) fn start_both(&mut self) {
        self.enforcer = enforce(&self.namespace, &self.folder);
        self.charon = Charon::start(&self.namespace, &self.folder);
        self.wait_for_socket();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("run/bootkeep-enforce/socket")
    }

    fn wait_for_socket(&self) {
        let begun = Instant::now();
        while !self.socket().exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn tell(&self, call: &RevocationsCall) -> RevocationsReply {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let telling = async { Client::at(&self.socket()).await.unwrap().tell(call).await };
        match runtime.block_on(telling) {
            Outcome::Ok(Reply::Revocations(reply)) => reply,
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    /// Whether a packet gets there now.
    pub(crate) fn reaches(&self, other: &Self) -> bool {
        let bind = |node: &Self, port: u16| {
            in_namespace(&node.namespace, || {
                UdpSocket::bind((node.inner, port)).unwrap()
            })
        };
        let (from, to) = (bind(self, 0), bind(other, PORT));
        to.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        (0..3).any(|_| {
            // One that cannot be sent does not arrive.
            let _ = from.send_to(b"packet", (other.inner, PORT));
            matches!(to.recv_from(&mut [0; 16]), Ok((6, _)))
        })
    }

    pub(crate) fn initiate_to(&self, other: &Self) {
        let name = format!(
            "bootkeep-test-{}",
            other.outer.to_string().replace('.', "-")
        );
        self.charon.swanctl(&[
            "--initiate",
            "--child",
            &name,
            "--ike",
            &name,
            "--timeout",
            "1",
        ]);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("enforcer.log")).unwrap_or_default()
    }

    /// Since the enforcer was started last.
    pub(crate) fn said(&self, text: &str) -> bool {
        let log = self.log();
        let last = log.rsplit("the revocation log as it was left").next();
        last.is_some_and(|last| last.contains(text))
    }

    pub(crate) fn story(&self) -> String {
        let associations = self.charon.swanctl(&["--list-sas"]);
        let policies = run(&["ip", "-n", &self.namespace, "xfrm", "policy"]);
        format!(
            "{}\n{}\n{}\n{associations}\n{policies}",
            self.namespace,
            self.log(),
            self.charon.log()
        )
    }

    pub(crate) fn claims(&self) -> Vec<String> {
        let claims = self.folder.join("run/bootkeep/claims");
        fs::read_dir(claims)
            .into_iter()
            .flatten()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect()
    }

    pub(crate) fn memory(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.enforcer.id())).unwrap();
        let lines = status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
        lines.collect::<Vec<_>>().join(", ")
    }
}

/// What a node has, empty.
pub(crate) fn folders(root: &Path, namespace: &str) -> PathBuf {
    let folder = root.join(namespace);
    for name in [
        "etc/bootkeep/identity",
        "run/bootkeep-enforce",
        "var/bootkeep",
    ] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    folder
}

/// The program finds its files where a node has them.
pub(crate) fn enforce(namespace: &str, folder: &Path) -> Child {
    let script =
        "mount --bind $0/etc /etc && mount --bind $0/run /run && mkdir -p /var/lib/bootkeep \
         && mount --bind $0/var/bootkeep /var/lib/bootkeep && exec $1 enforce";
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("enforcer.log"))
        .unwrap();
    Command::new("ip")
        .args(["netns", "exec", namespace, "sh", "-c", script])
        .args([folder, Path::new(env!("CARGO_BIN_EXE_bootkeep-agent"))])
        .stderr(log)
        .spawn()
        .unwrap()
}

pub(crate) fn outer(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, number).into()
}

fn inner(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 78, number, 1).into()
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
    inside(&["link", "set", "eth0", "up"]);
    inside(&["addr", "add", &format!("{}/32", inner(number)), "dev", "lo"]);
}

/// ESP in user space knows tunnel mode only, no extended sequence numbers, and no policies that wait for traffic.
fn group(plan: &Plan<'_>, number: u8, folder: &Path) -> String {
    let peer = |other: u8| {
        let id = &plan.identities[usize::from(other) - 1].id;
        let (outer, inner) = (outer(other), inner(other));
        format!("  - {{ addresses: [{outer}], node_id: {id}, subnets: [{inner}] }}\n")
    };
    let peers: String = (1..=3).filter(|other| *other != number).map(peer).collect();
    let (outer, inner, folder) = (outer(number), inner(number), folder.display());
    format!(
        "group: test\nmode: tunnel\nstart: at-once\naddresses: [{outer}]\nsubnets: [{inner}]\nvici: {folder}/vici\nproposals: {{ esp: [aes256gcm16-ecp384-noesn] }}\npeers:\n{peers}"
    )
}
