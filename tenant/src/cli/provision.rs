//! The options of `bootkeep provision` and `bootkeep rotate`.

use std::{net::IpAddr, path::PathBuf};

use bootkeep_protocol::verifier::OnFailure;
use clap::{Args, ValueEnum};

use crate::{pcr_choice::PcrList, policies::PolicyChoice, provision::FileSpec};

/// Until when `provision` waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The booted system is attested and trusted.
    Trusted,
    /// The node has shown that it knows K (and, with --unattended, that it keeps its share).
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

/// What goes into the envelope beside keys.
#[derive(Debug, Default, Args)]
pub struct Payload {
    /// User-data for cloud-init: in clear (it is sealed for the node), or a sealed message with its --user-data-key.
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// Key file of `seal --new-key`: lets the node open user-data that reaches it through the cloud.
    #[arg(long, value_name = "FILE")]
    pub user_data_key: Vec<PathBuf>,
    /// A file to put in place, e.g. `id:/etc/app/id:0600:root:root`; repeat for more.
    #[arg(long, value_name = "SRC:DEST:MODE:OWNER:GROUP")]
    pub file: Vec<FileSpec>,
    /// The node's IPsec group: becomes /etc/bootkeep/ipsec.yaml there.
    #[arg(long, value_name = "FILE")]
    pub ipsec: Option<PathBuf>,
    /// Put no certificate of the node CA into the payload.
    #[arg(long)]
    pub no_certificate: bool,
}

/// How a node boots with nobody at the owner's desk.
#[derive(Debug, Args)]
pub struct Alone {
    /// The node keeps its share in its TPM and boots with nobody here, as long as the verifier finds its boot good.
    #[arg(long)]
    pub unattended: bool,
    /// PCRs that must have the values of this boot [default: those of 4,7,8,9,11,12 that its event log has events for].
    #[arg(long, value_name = "LIST", requires = "unattended")]
    pub pcrs: Option<PcrList>,
    /// Public key (PEM) whose PCR 11 signatures in unified kernel images count too; repeat for more, at most 3.
    #[arg(long, value_name = "FILE", requires = "unattended")]
    pub vendor_key: Vec<PathBuf>,
    /// Leave the image's LUKS key in its slot: give the volume no key of the node's own.
    #[arg(long, requires = "unattended")]
    pub keep_image_key: bool,
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
    /// What else the node is given.
    #[command(flatten)]
    pub payload: Payload,
    /// Boot policy: a file, or @NAME to follow a policy of `bootkeep policy publish`.
    #[arg(long, value_name = "FILE|@NAME")]
    pub boot_policy: PolicyChoice,
    /// Runtime policy: a file, or @NAME to follow a policy of `bootkeep policy publish`.
    #[arg(long, value_name = "FILE|@NAME")]
    pub runtime_policy: PolicyChoice,
    /// An address the node has in your network: its peers block it when it is revoked; repeat for more.
    #[arg(long, value_name = "IP")]
    pub address: Vec<IpAddr>,
    /// What is done when evidence of the node is refused.
    #[arg(long, default_value = "revoke")]
    pub on_failure: Failure,
    /// A name for people [default: the first digits of the id].
    #[arg(long)]
    pub label: Option<String>,
    /// Seconds between two attestations.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub interval: u32,
    /// How it boots later.
    #[command(flatten)]
    pub alone: Alone,
    /// How long to wait for everything (seconds).
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: u64,
    /// Until when to wait.
    #[arg(long, default_value = "trusted")]
    pub wait: Until,
}

/// `bootkeep rotate`. Policies stay as they are, and so does what is not given; but for the payload: this home keeps none
/// of it.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Which node. It must be running and trusted.
    pub node: String,
    /// File with the LUKS key; needed only for a node that has no key of its own (`--keep-image-key`).
    #[arg(long, value_name = "FILE")]
    pub luks_key: Option<PathBuf>,
    /// What else the node is given.
    #[command(flatten)]
    pub payload: Payload,
    /// An address the node has in your network; repeat for more [default: as before].
    #[arg(long, value_name = "IP")]
    pub address: Vec<IpAddr>,
    /// What is done when evidence of the node is refused [default: as before].
    #[arg(long)]
    pub on_failure: Option<Failure>,
    /// A name for people [default: as before].
    #[arg(long)]
    pub label: Option<String>,
    /// Seconds between two attestations [default: as before].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub interval: Option<u32>,
    /// Make no new K: wait until the node has used the one of an earlier `rotate`, then revoke its older certificates.
    #[arg(long, conflicts_with_all = ["luks_key", "user_data", "user_data_key", "file", "ipsec", "no_certificate", "address", "on_failure", "label", "interval"])]
    pub finish: bool,
    /// How long to wait for everything (seconds).
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: u64,
}
