//! `bootkeep policy` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `bootkeep policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Make a policy from something known to be good.
    #[command(subcommand)]
    Create(PolicyCreate),
    /// Show what a policy accepts.
    Show {
        /// The policy.
        file: PathBuf,
    },
    /// Check that a policy can be used, and warn of what is too wide.
    Check {
        /// The policy.
        file: PathBuf,
    },
}

/// `bootkeep policy create`.
#[derive(Debug, Subcommand)]
pub enum PolicyCreate {
    /// From a boot known to be good.
    Boot(CreateBoot),
    /// From a root file system, a measurement list or a running node.
    Runtime(CreateRuntime),
}

/// `bootkeep policy create boot`.
#[derive(Debug, Args)]
pub struct CreateBoot {
    /// A node that waits in its initramfs, or runs, and is known to be good.
    #[arg(
        long,
        value_name = "NODE",
        required_unless_present = "evidence",
        conflicts_with = "evidence"
    )]
    pub node: Option<String>,
    /// Evidence that `bootkeep attest --save` wrote.
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
    /// PCRs left out because they differ from boot to boot, e.g. `1,5`.
    #[arg(long, value_name = "PCRS", value_delimiter = ',')]
    pub without: Vec<u8>,
    /// An earlier policy whose boots stay acceptable, e.g. of the last kernel; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub also: Vec<PathBuf>,
    /// The new policy [default: standard output].
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `bootkeep policy create runtime`.
#[derive(Debug, Args)]
pub struct CreateRuntime {
    /// A root file system; repeat for more.
    #[arg(long, alias = "root", value_name = "DIR", required_unless_present_any = ["initramfs", "node", "ima_list"])]
    pub rootfs: Vec<PathBuf>,
    /// An unpacked initramfs (lsinitrd --unpack, unmkinitramfs); repeat for more.
    #[arg(long, value_name = "DIR")]
    pub initramfs: Vec<PathBuf>,
    /// A running node known to be good.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// A measurement list, binary or ASCII; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub ima_list: Vec<PathBuf>,
    /// An earlier policy whose files stay acceptable; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub also: Vec<PathBuf>,
    /// Accept files that were measured while they could be written (ima_policy=tcb records some in every boot).
    #[arg(long)]
    pub accept_violations: bool,
    /// Accept files that exist only in memory.
    #[arg(long)]
    pub accept_memfd: bool,
    /// Paths that are not judged; repeat for more.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// The new policy [default: standard output].
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: Option<PathBuf>,
}
