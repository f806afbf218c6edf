//! charon's connections for a configuration: what `swanctl.conf` would say.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    config::{Clear, Config, GroupPeer, Mode, Start},
    identity::{Identity, NODE_SUFFIX},
    vici::Message,
};

/// What the names of our connections begin with.
const PREFIX: &str = "bootkeep-";

/// ICMPv6 types 133 to 136 (RFC 4861), in the upper half of the port as charon has it.
const NEIGHBOUR: [u16; 4] = [133 << 8, 134 << 8, 135 << 8, 136 << 8];

/// Whether a connection of this name is one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Every connection, with its name.
pub(super) fn of(config: &Config, identity: &Identity) -> Vec<(String, Message)> {
    let peers = config.peers.iter().flat_map(|peer| {
        let to = |address: &IpAddr| to_peer(config, identity, peer, *address);
        peer.addresses.iter().map(to)
    });
    let networks = config
        .networks
        .iter()
        .map(|network| to_network(config, identity, *network));
    peers.chain(networks).chain(clear(config)).collect()
}

/// The name of the connection, and of its child, to a listed peer.
pub(super) fn name_of(config: &Config, address: IpAddr) -> String {
    name(config, &address.to_string())
}

/// charon's tools read dots, slashes and colons as something else.
fn name(config: &Config, what: &str) -> String {
    let what = what.replace(['.', '/', ':'], "-");
    format!("{PREFIX}{}-{what}", config.group)
}

fn to_peer(
    config: &Config,
    identity: &Identity,
    peer: &GroupPeer,
    address: IpAddr,
) -> (String, Message) {
    let any = || format!("*{NODE_SUFFIX}");
    let who = peer.node_id.as_ref().map_or_else(any, |id| id.host_name());
    let name = name_of(config, address);
    let child = child(config)
        .with_list("local_ts", texts(&config.subnets))
        .with_list("remote_ts", texts(&peer.subnets));
    let connection = connection(config, identity, &who)
        .with_list("local_addrs", local_addresses(config, address))
        .with_list("remote_addrs", [address.to_string()])
        .with_section("children", Message::new().with_section(&name, child));
    (name, connection)
}

/// strongSwan's "trap any": the peer is whoever the packet is for.
fn to_network(config: &Config, identity: &Identity, network: IpNet) -> (String, Message) {
    let name = name(config, &network.to_string());
    let child = child(config).with_list("remote_ts", [network.to_string()]);
    // For a network, charon takes an IPv4 peer for granted and then installs nothing: IPv6 would pass in clear.
    let remote = match network {
        IpNet::V4(_) => network.to_string(),
        IpNet::V6(_) => "%any6".to_owned(),
    };
    let connection = connection(config, identity, &format!("*{NODE_SUFFIX}"))
        .with_list("local_addrs", local_addresses(config, network.addr()))
        .with_list("remote_addrs", [remote])
        .with_section("children", Message::new().with_section(&name, child));
    (name, connection)
}

/// Those of the family of the other end; whatever this node has when the configuration names none.
fn local_addresses(config: &Config, other: IpAddr) -> Vec<String> {
    let same = config
        .addresses
        .iter()
        .filter(|a| a.is_ipv4() == other.is_ipv4());
    let mut addresses: Vec<String> = same.map(IpAddr::to_string).collect();
    if addresses.is_empty() {
        let any = if other.is_ipv4() { "%any4" } else { "%any6" };
        addresses.push(any.to_owned());
    }
    addresses
}

fn texts(networks: &[IpNet]) -> impl Iterator<Item = String> + '_ {
    networks.iter().map(ToString::to_string)
}

fn connection(config: &Config, identity: &Identity, who: &str) -> Message {
    let local = Message::new()
        .with("auth", "pubkey")
        .with("id", &identity.host_name)
        .with_list("certs", [&identity.certificate]);
    let remote = Message::new()
        .with("auth", "pubkey")
        .with("id", who)
        .with("revocation", config.revocation.word())
        .with_list("cacerts", &identity.authorities);
    Message::new()
        .with("version", "2")
        .with("mobike", "no")
        .with("send_cert", "always")
        .with("dpd_delay", "10s")
        .with_list("proposals", &config.ike_proposals)
        .with_list(
            "local_addrs",
            config.addresses.iter().map(IpAddr::to_string),
        )
        .with_section("local", local)
        .with_section("remote", remote)
}

fn child(config: &Config) -> Message {
    let mode = match config.mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    };
    let (begin, again) = match config.start {
        Start::OnTraffic => ("trap", "trap"),
        Start::AtOnce => ("trap|start", "start"),
    };
    Message::new()
        .with("mode", mode)
        .with("start_action", begin)
        .with("close_action", again)
        .with("dpd_action", again)
        .with_list("esp_proposals", &config.esp_proposals)
}

/// Traffic that is not protected. The connection has no peer: charon uses its children alone.
fn clear(config: &Config) -> Option<(String, Message)> {
    let mut children: Vec<Message> = config.clear.iter().map(pass).collect();
    if config.members().iter().any(|net| net.addr().is_ipv6()) {
        children.extend(NEIGHBOUR.map(neighbour));
    }
    if children.is_empty() {
        return None;
    }
    let name = name(config, "clear");
    let sections = children.into_iter().enumerate();
    let children = sections.fold(Message::new(), |all, (number, child)| {
        all.with_section(&format!("{name}-{number}"), child)
    });
    let connection = Message::new()
        .with_list("remote_addrs", ["127.0.0.1"])
        .with_section("children", children);
    Some((name, connection))
}

fn pass(clear: &Clear) -> Message {
    let everything = match clear.network {
        IpNet::V4(_) => "0.0.0.0/0",
        IpNet::V6(_) => "::/0",
    };
    let (here, there) = match (clear.protocol, clear.port) {
        (None, _) => (String::new(), String::new()),
        (Some(protocol), None) => {
            let only = format!("[{}]", protocol.word());
            (only.clone(), only)
        }
        (Some(protocol), Some(port)) => (
            format!("[{}]", protocol.word()),
            format!("[{}/{port}]", protocol.word()),
        ),
    };
    shunt(
        format!("{everything}{here}"),
        format!("{}{there}", clear.network),
    )
}

fn neighbour(kind: u16) -> Message {
    shunt(
        format!("::/0[ipv6-icmp/{kind}]"),
        format!("::/0[ipv6-icmp/{kind}]"),
    )
}

fn shunt(here: String, there: String) -> Message {
    Message::new()
        .with("mode", "pass")
        .with("start_action", "trap")
        .with_list("local_ts", [here])
        .with_list("remote_ts", [there])
}
