//! The options of `bootkeep provision`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::provision::FileSpec;

/// Until when `provision` waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The booted system is attested and trusted.
    Trusted,
    /// The node has shown that it knows K.
    Combined,
}

/// `bootkeep provision`.
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
    /// Boot policy.
    #[arg(long, value_name = "FILE")]
    pub boot_policy: PathBuf,
    /// Runtime policy.
    #[arg(long, value_name = "FILE")]
    pub runtime_policy: PathBuf,
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
