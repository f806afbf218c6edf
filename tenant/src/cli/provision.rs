//! The options of `bootkeep provision`.

use std::{net::IpAddr, path::PathBuf};

use bootkeep_protocol::verifier::OnFailure;
use clap::{Args, ValueEnum};

use crate::{policies::PolicyChoice, provision::FileSpec};

/// Until when `provision` waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The booted system is attested and trusted.
    Trusted,
    /// The node has shown that it knows K.
    Combined,
}

/// What is done when evidence of a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Failure {
    /// Its certificates are revoked and its peers drop it, at once.
    Revoke,
    /// Status and webhooks tell, nothing else happens.
    Report,
}

impl From<Failure> for OnFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Revoke => Self::Revoke,
            Failure::Report => Self::Report,
        }
    }
}

/// `bootkeep provision`, and `bootkeep reinstate`.
#[derive(Debug, Args)]
pub struct Provision {
    /// Which node. It need not be registered yet.
    pub node: String,
    /// File with the LUKS key; its bytes are taken as they are.
    #[arg(long, value_name = "FILE")]
    pub luks_key: PathBuf,
    /// Name of the LUKS volume.
    #[arg(long, value_name = "NAME", default_value = "cryptroot")]
    pub volume: String,
    /// User-data for cloud-init: in clear (it is sealed for the node), or a sealed message with its --user-data-key.
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// Key file of `seal --new-key`: lets the node open user-data that reaches it through the cloud.
    #[arg(long, value_name = "FILE")]
    pub user_data_key: Vec<PathBuf>,
    /// A file to put in place, e.g. `id:/etc/app/id:0600:root:root`; repeat for more.
    #[arg(long, value_name = "SRC:DEST:MODE:OWNER:GROUP")]
    pub file: Vec<FileSpec>,
    /// Boot policy: a file, or @NAME to follow a policy of `bootkeep policy publish`.
    #[arg(long, value_name = "FILE|@NAME")]
    pub boot_policy: PolicyChoice,
    /// Runtime policy: a file, or @NAME to follow a policy of `bootkeep policy publish`.
    #[arg(long, value_name = "FILE|@NAME")]
    pub runtime_policy: PolicyChoice,
    /// An address the node has in your network: its peers block it when it is revoked; repeat for more.
    #[arg(long, value_name = "IP")]
    pub address: Vec<IpAddr>,
    /// The node's IPsec group: becomes /etc/bootkeep/ipsec.yaml there.
    #[arg(long, value_name = "FILE")]
    pub ipsec: Option<PathBuf>,
    /// What is done when evidence of the node is refused.
    #[arg(long, default_value = "revoke")]
    pub on_failure: Failure,
    /// A name for people [default: the first digits of the id].
    #[arg(long)]
    pub label: Option<String>,
    /// Seconds between two attestations.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub interval: u32,
    /// Put no certificate of the node CA into the payload.
    #[arg(long)]
    pub no_certificate: bool,
    /// How long to wait for everything (seconds).
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: u64,
    /// Until when to wait.
    #[arg(long, default_value = "trusted")]
    pub wait: Until,
}
