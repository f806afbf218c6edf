//! Policies of our own, among those of charon.
//!
//! For the kernel two policies with equal selectors are one, whatever their priorities: a block with charon's selector would
//! replace the policy that demands IPsec, and be replaced by it. Ours have a number in the field `user`, which no lookup
//! compares: they stand beside charon's, and it is how we recognise them.

use std::{collections::BTreeSet, io, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    message::{family, Body, Fields, DELPOLICY, GETPOLICY, NEWPOLICY},
    socket::Socket,
    KernelError, Wanted,
};
use crate::config::Clear;

/// What a policy of ours is for. The number stands in `xfrm_selector.user`: one for each purpose, so that policies for
/// different purposes stand beside each other as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// Block a node.
    Node = 0x0b00_7d01,
    /// Pass what goes in clear while a group is blocked.
    Clear = 0x0b00_7d02,
    /// Block a group.
    Group = 0x0b00_7d03,
    /// Pass what goes in clear while charon's policies are not there.
    GuardClear = 0x0b00_7d04,
    /// Block what charon's policies do not speak of, because they are not there.
    Guard = 0x0b00_7d05,
}

impl Purpose {
    fn of(user: u32) -> Option<Self> {
        let all = [
            Self::Node,
            Self::Clear,
            Self::Group,
            Self::GuardClear,
            Self::Guard,
        ];
        all.into_iter().find(|purpose| *purpose as u32 == user)
    }

    /// Smaller comes first. strongSwan's own are between 100,000 and 400,000.
    fn priority(self) -> u32 {
        match self {
            Self::Node => 2001,
            Self::Clear => 2002,
            Self::Group => 2003,
            Self::GuardClear => 0x7fff_0001,
            Self::Guard => 0x7fff_0002,
        }
    }

    fn action(self) -> u8 {
        match self {
            Self::Clear | Self::GuardClear => ALLOW,
            Self::Node | Self::Group | Self::Guard => BLOCK,
        }
    }
}

const ALLOW: u8 = 0;
const BLOCK: u8 = 1;
const ICMPV6: u8 = 58;
/// RFC 4861: without them no IPv6 address of the link is found.
const NEIGHBOUR: [u16; 4] = [133, 134, 135, 136];

const EEXIST: i32 = 17;
const ENOENT: i32 = 2;

/// Offsets in `struct xfrm_userpolicy_info`, which begins with the selector.
const USER: usize = 52;
const DIRECTION: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    In = 0,
    Out = 1,
    Forward = 2,
}

/// `struct xfrm_selector`, as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Selector {
    source: IpNet,
    destination: IpNet,
    protocol: u8,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

/// A policy of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Policy {
    selector: Selector,
    direction: Direction,
    purpose: Purpose,
}

impl Policy {
    /// All that are wanted.
    pub(super) fn of(wanted: &Wanted) -> BTreeSet<Self> {
        let mut all = BTreeSet::new();
        let nodes = wanted.nodes.iter();
        all.extend(nodes.flat_map(|node| blocks(*node, Purpose::Node)));
        let group = wanted.group.iter();
        all.extend(group.flat_map(|network| blocks(*network, Purpose::Group)));
        if !wanted.group.is_empty() {
            all.extend(exceptions(&wanted.clear, Purpose::Clear));
        }
        if !wanted.guard.is_empty() {
            let guard = wanted.guard.iter();
            let blocks = guard.flat_map(|network| blocks(*network, Purpose::Guard));
            // What is forwarded is not between hosts of the group: charon has no policies for it either.
            all.extend(blocks.filter(|policy| policy.direction != Direction::Forward));
            all.extend(exceptions(&wanted.clear, Purpose::GuardClear));
        }
        all
    }

    /// The network that a blocking policy is about.
    pub(super) fn blocks(&self) -> Option<IpNet> {
        let network = match self.direction {
            Direction::Out => self.selector.destination,
            _ => self.selector.source,
        };
        let is_block = matches!(self.purpose, Purpose::Node | Purpose::Group);
        (is_block && self.direction != Direction::Forward).then_some(network)
    }
}

/// Everything to it, from it, and forwarded either way.
fn blocks(network: IpNet, purpose: Purpose) -> [Policy; 4] {
    let policy = |source, destination, direction| Policy {
        selector: Selector {
            source,
            destination,
            protocol: 0,
            source_port: None,
            destination_port: None,
        },
        direction,
        purpose,
    };
    let any = everything(network);
    [
        policy(any, network, Direction::Out),
        policy(network, any, Direction::In),
        policy(network, any, Direction::Forward),
        policy(any, network, Direction::Forward),
    ]
}

fn exceptions(clear: &[Clear], purpose: Purpose) -> Vec<Policy> {
    let passes = clear.iter().flat_map(|one| passes(one, purpose));
    let neighbours = NEIGHBOUR
        .into_iter()
        .flat_map(|kind| neighbour(kind, purpose));
    passes.chain(neighbours).collect()
}

fn passes(clear: &Clear, purpose: Purpose) -> [Policy; 2] {
    let any = everything(clear.network);
    let protocol = clear.protocol.map_or(0, |protocol| protocol.number());
    let policy = |source, destination, ports: (Option<u16>, Option<u16>), direction| Policy {
        selector: Selector {
            source,
            destination,
            protocol,
            source_port: ports.0,
            destination_port: ports.1,
        },
        direction,
        purpose,
    };
    [
        policy(any, clear.network, (None, clear.port), Direction::Out),
        policy(clear.network, any, (clear.port, None), Direction::In),
    ]
}

/// For ICMPv6, the field of the source port holds the type.
fn neighbour(kind: u16, purpose: Purpose) -> [Policy; 2] {
    let any = IpNet::V6(Ipv6Net::default());
    [Direction::Out, Direction::In].map(|direction| Policy {
        selector: Selector {
            source: any,
            destination: any,
            protocol: ICMPV6,
            source_port: Some(kind),
            destination_port: None,
        },
        direction,
        purpose,
    })
}

fn everything(like: IpNet) -> IpNet {
    match like {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// Those that carry our number.
pub(super) fn own(socket: &mut Socket) -> Result<BTreeSet<Policy>, KernelError> {
    let list = socket.list("list policies", GETPOLICY, &Body::default())?;
    let mut own = BTreeSet::new();
    for body in list {
        own.extend(read(&body)?);
    }
    Ok(own)
}

pub(super) fn add(socket: &mut Socket, policy: &Policy) -> Result<(), KernelError> {
    let unlimited = (0..4)
        .fold(Body::default(), |body, _| body.u64(u64::MAX))
        .zeros(32);
    let body = selector(policy)
        .bytes(&unlimited.0)
        .zeros(32)
        .u32(policy.purpose.priority())
        .u32(0)
        .u8(policy.direction as u8)
        .u8(policy.purpose.action())
        .zeros(6);
    match socket.change("add a policy", NEWPOLICY, &body) {
        Err(KernelError::Refused { source, .. }) if source.raw_os_error() == Some(EEXIST) => Ok(()),
        other => other,
    }
}

pub(super) fn remove(socket: &mut Socket, policy: &Policy) -> Result<(), KernelError> {
    let body = selector(policy).u32(0).u8(policy.direction as u8).zeros(3);
    match socket.change("remove a policy", DELPOLICY, &body) {
        Err(KernelError::Refused { source, .. }) if is_gone(&source) => Ok(()),
        other => other,
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ENOENT)
}

/// Ports are in network byte order.
fn selector(policy: &Policy) -> Body {
    let selector = &policy.selector;
    let port = |port: Option<u16>| {
        let mask = if port.is_some() { u16::MAX } else { 0 };
        [port.unwrap_or(0).to_be_bytes(), mask.to_be_bytes()].concat()
    };
    Body::default()
        .address(selector.destination.addr())
        .address(selector.source.addr())
        .bytes(&port(selector.destination_port))
        .bytes(&port(selector.source_port))
        .u16(family(selector.source.addr()))
        .u8(selector.destination.prefix_len())
        .u8(selector.source.prefix_len())
        .u8(selector.protocol)
        .zeros(3)
        .u32(0)
        .u32(policy.purpose as u32)
}

/// One of ours, or none.
fn read(body: &[u8]) -> Result<Option<Policy>, KernelError> {
    let fields = Fields(body);
    let Some(purpose) = Purpose::of(fields.u32(USER)?) else {
        return Ok(None);
    };
    let direction = match fields.u8(DIRECTION)? {
        0 => Direction::In,
        1 => Direction::Out,
        2 => Direction::Forward,
        _ => return Ok(None),
    };
    Ok(Some(Policy {
        selector: read_selector(fields)?,
        direction,
        purpose,
    }))
}

fn read_selector(fields: Fields<'_>) -> Result<Selector, KernelError> {
    let family = fields.u16(40)?;
    let port = |at: usize| -> Result<Option<u16>, KernelError> {
        let is_set = fields.u16(at + 2)? != 0;
        Ok(is_set.then_some(u16::from_be_bytes(fields.array(at)?)))
    };
    Ok(Selector {
        destination: network(fields.address(0, family)?, fields.u8(42)?)?,
        source: network(fields.address(16, family)?, fields.u8(43)?)?,
        protocol: fields.u8(44)?,
        destination_port: port(32)?,
        source_port: port(36)?,
    })
}

fn network(address: IpAddr, prefix: u8) -> Result<IpNet, KernelError> {
    IpNet::new(address, prefix).map_err(|_| KernelError::Malformed("a prefix that is too long"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_read_as_it_was_written() {
        for network in ["10.0.0.1/32", "10.0.0.0/8", "fd00::1/128", "fd00::/64"] {
            let clear = Clear {
                network: network.parse().unwrap(),
                protocol: Some(crate::config::Protocol::Tcp),
                port: Some(8894),
            };
            let pass = passes(&clear, Purpose::Clear);
            let blocked = blocks(network.parse().unwrap(), Purpose::Group);
            for policy in pass
                .iter()
                .chain(&blocked)
                .chain(&neighbour(135, Purpose::Clear))
            {
                let bytes = selector(policy).0;
                assert_eq!(bytes.len(), 56, "the size in linux/xfrm.h");
                assert_eq!(read_selector(Fields(&bytes)).unwrap(), policy.selector);
            }
        }
    }

    #[test]
    fn policies_for_different_purposes_have_different_selectors() {
        let network: IpNet = "10.0.0.1/32".parse().unwrap();
        let clear = Clear {
            network,
            protocol: None,
            port: None,
        };
        let wanted = Wanted {
            nodes: [network].into(),
            group: [network].into(),
            guard: [network].into(),
            clear: vec![clear],
        };
        let policies = Policy::of(&wanted);
        let key = |policy: &Policy| (selector(policy).0, policy.direction);
        let keys: BTreeSet<_> = policies.iter().map(key).collect();
        assert_eq!(keys.len(), policies.len());
    }
}
