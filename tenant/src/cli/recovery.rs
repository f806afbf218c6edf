//! `bootkeep recovery` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `bootkeep recovery`.
#[derive(Debug, Subcommand)]
pub enum Recovery {
    /// Make the owner's offline key; from then on each node with a LUKS key of its own gets a recovery key sealed to it.
    Keygen(Keygen),
    /// Open a node's recovery key with the offline key and print it, to be typed at the node's console. Needs no service.
    Show(ShowRecovery),
}

/// `bootkeep recovery keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The private half, a new file of mode 0600: move it to where no service and no thief of this home finds it.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `bootkeep recovery show`.
#[derive(Debug, Args)]
pub struct ShowRecovery {
    /// Which node.
    pub node: String,
    /// The offline key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Show it though it was shown before.
    #[arg(long)]
    pub again: bool,
}
