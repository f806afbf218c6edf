//! The command line.

mod init;
mod policy;
mod provision;
mod recovery;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::policies::PolicyChoice;

pub use init::Init;
pub use policy::{
    Authorize, BootFilesGiven, BootRules, CreateBoot, CreateRuntime, Explain, Kind, Policy,
    PolicyCreate, PolicyFormat, Publish, Retire, Sign, Validity,
};
pub use provision::{Alone, Failure, Payload, Provision, Rotate, Until};
pub use recovery::{Keygen, Recovery, ShowRecovery};

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
    /// Take a revoked node back: a fresh provisioning, with a new certificate; its peers hear of it once it is trusted.
    Reinstate(Provision),
    /// Give a running node that boots alone a new K, LUKS key and certificate; they count from its next boot on.
    Rotate(Rotate),
    /// Keys that open a node's volume when nothing else does.
    #[command(subcommand)]
    Recovery(Recovery),
    /// Show the revocation log: what happened, and which peers have acted on it since when.
    Revocations(Revocations),
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

/// A command about one node.
#[derive(Debug, Args)]
pub struct OneNode {
    /// Which node.
    pub node: String,
}

/// `bootkeep revocations`.
#[derive(Debug, Args)]
pub struct Revocations {
    /// Only entries about this node.
    pub node: Option<String>,
    /// Go on showing what is new, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// `bootkeep attest`.
#[derive(Debug, Args)]
pub struct Attest {
    /// Which node.
    pub node: String,
    /// Boot policy [default: the one the node was provisioned with].
    #[arg(long, value_name = "FILE|@NAME[:GENERATION]")]
    pub boot_policy: Option<PolicyChoice>,
    /// Runtime policy [default: the one the node was provisioned with].
    #[arg(long, value_name = "FILE|@NAME[:GENERATION]")]
    pub runtime_policy: Option<PolicyChoice>,
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
    /// Also forget its recovery keys: nothing here opens its disk then.
    #[arg(long)]
    pub recovery: bool,
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
