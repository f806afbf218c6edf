//! The file as it is written.

use std::{net::IpAddr, path::PathBuf};

use bootkeep_protocol::NodeId;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// How packets are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Host to host.
    #[default]
    Transport,
    /// Networks behind hosts.
    Tunnel,
}

/// When an association is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At the first packet.
    #[default]
    OnTraffic,
    /// At once, and again when it ends. For peers that are listed.
    AtOnce,
}

/// strongSwan's `remote.revocation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationRule {
    /// A status must be known and good.
    Strict,
    /// As strict, for a certificate that says where its status is found. Certificates of the Bootkeep CA say so, and the
    /// verifier brings every node the CA's list.
    #[default]
    Ifuri,
    /// Only a certificate that is known to be revoked is refused.
    Relaxed,
}

impl RevocationRule {
    /// charon's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Ifuri => "ifuri",
            Self::Relaxed => "relaxed",
        }
    }
}

/// A protocol over IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// charon's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The number in IP headers.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) group: String,
    #[serde(default)]
    pub(super) mode: Mode,
    #[serde(default)]
    pub(super) start: Start,
    #[serde(default)]
    pub(super) addresses: Vec<IpAddr>,
    #[serde(default)]
    pub(super) subnets: Vec<Net>,
    #[serde(default)]
    pub(super) peers: Vec<DocumentPeer>,
    #[serde(default)]
    pub(super) networks: Vec<Net>,
    #[serde(default)]
    pub(super) clear: Vec<DocumentClear>,
    #[serde(default)]
    pub(super) proposals: Proposals,
    #[serde(default)]
    pub(super) revocation: RevocationRule,
    #[serde(default = "vici")]
    pub(super) vici: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentPeer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) label: Option<String>,
    pub(super) node_id: Option<NodeId>,
    #[serde(default)]
    pub(super) subnets: Vec<Net>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentClear {
    pub(super) network: Net,
    pub(super) protocol: Option<Protocol>,
    pub(super) port: Option<u16>,
}

/// RFC 9206's suite for ESP and IKEv2, then the same at the 128-bit level. Extended sequence numbers are demanded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Proposals {
    pub(super) ike: Vec<String>,
    pub(super) esp: Vec<String>,
}

impl Default for Proposals {
    fn default() -> Self {
        let owned = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        Self {
            ike: owned([
                "aes256gcm16-prfsha384-ecp384",
                "aes128gcm16-prfsha256-ecp256",
            ]),
            esp: owned(["aes256gcm16-ecp384-esn", "aes128gcm16-ecp256-esn"]),
        }
    }
}

fn vici() -> PathBuf {
    PathBuf::from("/run/charon.vici")
}

/// A network, or an address, which is a network of one.
#[derive(Clone, Copy)]
pub(super) struct Net(pub(super) IpNet);

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| {
            serde::de::Error::custom(format_args!(
                "`{text}` is no address and no network; write 10.1.0.0/24 or fd00::/64"
            ))
        })
    }
}
