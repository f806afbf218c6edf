//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::provision::FileSpec;

/// Provision nodes that prove what they are before they may read their own disks.
#[derive(Debug, Parser)]
#[command(name = "bootkeep", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 untrusted, 5 unreachable, 75 try again.\n\
                        NODE is a node id, the first 6 or more digits of one, or a label."
)]
pub struct Cli {
    /// The owner's home folder [default: $BOOTKEEP_HOME, ~/.config/bootkeep or /etc/bootkeep/tenant].
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// How results are printed on standard output.
    #[arg(long, global = true, value_name = "FORM", default_value = "human")]
    pub output: Form,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Human,
    /// One JSON document.
    Json,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an owner: PKI, identities and configurations of all services, node files.
    Init(Init),
    /// Make, show and check policies.
    #[command(subcommand)]
    Policy(Policy),
    /// Seal user-data so that a cloud carries only ciphertext.
    Seal(Seal),
    /// Give a node its key and payload once it has shown what it is; waits, run it again to go on.
    Provision(Provision),
    /// List nodes: registered, enrolled and waiting.
    Nodes,
    /// Show where one node stands.
    Status(OneNode),
    /// Look at one node now with own eyes: quote, own appraisal, verdict.
    Attest(Attest),
    /// Declare that a node is not to be trusted any more, and revoke its certificates.
    Revoke(Revoke),
    /// Forget a node.
    Remove(Remove),
    /// Accept an EK that has no certificate.
    Approve(Approve),
    /// List EKs accepted without a certificate.
    Approvals,
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder; made when missing.
        directory: PathBuf,
    },
}

/// `bootkeep init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The new home [default: the home folder].
    pub directory: Option<PathBuf>,
    /// Name or address under which the services are reached; repeat for more. localhost is always among them.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Which of them nodes dial; repeat for more [default: the first --host].
    #[arg(long, value_name = "NAME")]
    pub node_host: Vec<String>,
    /// Where this program and the verifier reach the services.
    #[arg(long, value_name = "NAME", default_value = "127.0.0.1")]
    pub tenant_host: String,
    /// Address the services listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen: std::net::IpAddr,
    /// Port of the registrar.
    #[arg(long, value_name = "PORT", default_value_t = 8890)]
    pub registrar_port: u16,
    /// Port of the verifier.
    #[arg(long, value_name = "PORT", default_value_t = 8891)]
    pub verifier_port: u16,
    /// Port of the CA.
    #[arg(long, value_name = "PORT", default_value_t = 8892)]
    pub ca_port: u16,
    /// Port of the revocation list (plain HTTP).
    #[arg(long, value_name = "PORT", default_value_t = 8893)]
    pub crl_port: u16,
    /// Folder with certificates of TPM makers, copied into the new home.
    #[arg(long, value_name = "DIR")]
    pub ek_roots: Option<PathBuf>,
    /// Name of the nodes' LUKS volume, as in rd.luks.name=UUID=NAME.
    #[arg(long, value_name = "NAME", default_value = "cryptroot")]
    pub volume: String,
}

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

/// `bootkeep seal`.
#[derive(Debug, Args)]
pub struct Seal {
    /// Who may read it: a node, or the name of a group of nodes that share the key.
    #[arg(long, value_name = "NODE-OR-GROUP")]
    pub audience: String,
    /// Key file of an earlier `--new-key`.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "new_key",
        conflicts_with = "new_key"
    )]
    pub key_file: Option<PathBuf>,
    /// Make a new key and keep it in this file (give it to nodes with `provision --user-data-key`).
    #[arg(long, value_name = "FILE")]
    pub new_key: Option<PathBuf>,
    /// The user-data, as a cloud would take it in clear; `-` for standard input.
    #[arg(value_name = "USER-DATA")]
    pub user_data: PathBuf,
    /// The sealed message [default: standard output].
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write only the body, to be put as a part of type text/x-bootkeep-sealed into a message of your own.
    #[arg(long)]
    pub body: bool,
}

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

/// A command about one node.
#[derive(Debug, Args)]
pub struct OneNode {
    /// Which node.
    pub node: String,
}

/// `bootkeep attest`.
#[derive(Debug, Args)]
pub struct Attest {
    /// Which node.
    pub node: String,
    /// Boot policy [default: the one the node was provisioned with].
    #[arg(long, value_name = "FILE")]
    pub boot_policy: Option<PathBuf>,
    /// Runtime policy [default: the one the node was provisioned with].
    #[arg(long, value_name = "FILE")]
    pub runtime_policy: Option<PathBuf>,
    /// Keep the evidence in a new file.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// `bootkeep revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Which node.
    pub node: String,
    /// Why, for whoever reads it later.
    #[arg(long)]
    pub reason: String,
}

/// `bootkeep remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Which node.
    pub node: String,
    /// Also forget its registration.
    #[arg(long)]
    pub registration: bool,
}

/// `bootkeep approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// SHA-256 of the EK's public area, 64 hex digits: the node's id.
    #[arg(value_name = "EK-HASH")]
    pub ek_hash: String,
    /// Why it is believed, for whoever reads it later.
    #[arg(long, required_unless_present = "withdraw")]
    pub note: Option<String>,
    /// Take the approval back.
    #[arg(long)]
    pub withdraw: bool,
}
