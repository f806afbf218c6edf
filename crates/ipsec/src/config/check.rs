//! From the document to a configuration: bounds, and what fits together.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    document::{Document, DocumentClear, DocumentPeer, Net},
    Clear, Config, ConfigError, GroupPeer, Mode, MAX_LIST, MAX_PEERS,
};

/// Algorithms that RFC 8221 and RFC 8247 say must or should not be used, and encryption with none.
const WEAK: &[&str] = &[
    "null",
    "des",
    "3des",
    "cast128",
    "blowfish",
    "md5",
    "md5_128",
    "sha",
    "sha1",
    "sha1_160",
    "prfmd5",
    "prfsha1",
    "modp768",
    "modp1024",
    "modp1024s160",
    "modp1536",
    "modp2048s224",
    "modpnull",
    "default",
];

pub(super) fn checked(document: Document) -> Result<Config, ConfigError> {
    name(&document.group)?;
    let config = Config {
        group: document.group,
        mode: document.mode,
        start: document.start,
        addresses: addresses("addresses", document.addresses)?,
        subnets: networks("subnets", &document.subnets)?,
        peers: peers(document.peers, document.mode)?,
        networks: networks("networks", &document.networks)?,
        clear: clear(document.clear)?,
        ike_proposals: proposals("proposals.ike", document.proposals.ike)?,
        esp_proposals: proposals("proposals.esp", document.proposals.esp)?,
        revocation: document.revocation,
        vici: document.vici,
    };
    whole(&config)?;
    Ok(config)
}

fn value(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        field,
        problem: problem.into(),
    }
}

fn bounded<T>(field: &'static str, list: &[T], most: usize) -> Result<(), ConfigError> {
    if list.len() > most {
        return Err(value(field, format!("at most {most}, not {}", list.len())));
    }
    Ok(())
}

fn name(group: &str) -> Result<(), ConfigError> {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if group.is_empty() || group.len() > 32 || !group.bytes().all(good) {
        return Err(value(
            "group",
            "1 to 32 lower-case letters, digits and dashes",
        ));
    }
    Ok(())
}

fn addresses(field: &'static str, list: Vec<IpAddr>) -> Result<Vec<IpAddr>, ConfigError> {
    bounded(field, &list, MAX_LIST)?;
    match list.iter().find(|address| !is_of_a_host(**address)) {
        Some(address) => Err(value(field, format!("{address} is no address of a host"))),
        None => Ok(list),
    }
}

/// Whether a node can have this address in a network.
pub(crate) fn is_of_a_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

fn networks(field: &'static str, list: &[Net]) -> Result<Vec<IpNet>, ConfigError> {
    bounded(field, list, MAX_LIST)?;
    list.iter().map(|net| network(field, *net)).collect()
}

/// Bits of host in `10.1.0.7/24` are most likely an address where a network was meant, or the other way round.
fn network(field: &'static str, Net(net): Net) -> Result<IpNet, ConfigError> {
    if net.addr() != net.network() {
        return Err(value(
            field,
            format!("{net} has bits of a host; write {}", net.trunc()),
        ));
    }
    Ok(net)
}

fn peers(list: Vec<DocumentPeer>, mode: Mode) -> Result<Vec<GroupPeer>, ConfigError> {
    bounded("peers", &list, MAX_PEERS)?;
    list.into_iter().map(|each| peer(each, mode)).collect()
}

fn peer(document: DocumentPeer, mode: Mode) -> Result<GroupPeer, ConfigError> {
    let peer = GroupPeer {
        addresses: addresses("peers.addresses", document.addresses)?,
        label: document.label,
        node_id: document.node_id,
        subnets: networks("peers.subnets", &document.subnets)?,
    };
    if peer.addresses.is_empty() {
        return Err(value("peers.addresses", "a peer has at least one address"));
    }
    if (mode == Mode::Tunnel) == peer.subnets.is_empty() {
        return Err(value(
            "peers.subnets",
            "each peer has some in tunnel mode, none in transport mode",
        ));
    }
    Ok(peer)
}

fn clear(list: Vec<DocumentClear>) -> Result<Vec<Clear>, ConfigError> {
    bounded("clear", &list, MAX_LIST)?;
    list.into_iter().map(one_clear).collect()
}

fn one_clear(document: DocumentClear) -> Result<Clear, ConfigError> {
    if document.port.is_some() && document.protocol.is_none() {
        return Err(value("clear.port", "needs `protocol: tcp` or `udp`"));
    }
    Ok(Clear {
        network: network("clear.network", document.network)?,
        protocol: document.protocol,
        port: document.port,
    })
}

fn proposals(field: &'static str, list: Vec<String>) -> Result<Vec<String>, ConfigError> {
    bounded(field, &list, 8)?;
    if list.is_empty() {
        return Err(value(field, "at least one, or leave it out"));
    }
    for proposal in &list {
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_".contains(&c);
        if proposal.is_empty() || proposal.len() > 128 || !proposal.bytes().all(good) {
            return Err(value(
                field,
                format!("`{proposal}` is no proposal of strongSwan"),
            ));
        }
        if let Some(weak) = proposal.split('-').find(|word| WEAK.contains(word)) {
            return Err(value(field, format!("`{weak}` protects nothing any more")));
        }
    }
    Ok(list)
}

fn whole(config: &Config) -> Result<(), ConfigError> {
    if config.peers.is_empty() && config.networks.is_empty() {
        return Err(value("peers", "a group has `peers`, `networks`, or both"));
    }
    let tunnel = config.mode == Mode::Tunnel;
    if tunnel == config.subnets.is_empty() {
        return Err(value(
            "subnets",
            "what is behind this node: some in tunnel mode, none in transport mode",
        ));
    }
    if tunnel && !config.networks.is_empty() {
        return Err(value("networks", "only in transport mode; list `peers`"));
    }
    if !config.vici.is_absolute() {
        return Err(value("vici", "an absolute path"));
    }
    Ok(())
}
