//! `bootkeep policy` and its options.

use std::{path::PathBuf, time::Duration};

use bootkeep_protocol::policy::PolicyKind;
use clap::{Args, Subcommand, ValueEnum};

use crate::{clock, packages::PackageSpec, pcr_choice::PcrList, policies::PolicyChoice};

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
    /// Sign a policy as a generation of a name, with the home's policy key.
    Sign(Sign),
    /// Give the verifier a signed policy.
    Push {
        /// A file of `bootkeep policy sign`.
        file: PathBuf,
    },
    /// Sign a policy as the next generation of a name, and give it to the verifier.
    Publish(Publish),
    /// Accept the next boot of a node before it reboots: foretell it from the last boot and the new files, sign its PCR
    /// values for unattended reboots, and make the next generation of a boot policy that accepts it too.
    Authorize(Box<Authorize>),
    /// List the policies the verifier has.
    List,
    /// End a generation before its time: nodes that need it fail at their next attestation (see `policy explain`).
    Retire(Retire),
    /// Dry run: what would fail on a node under a policy, and which package owns it. Exit code 4 when something would.
    Explain(Explain),
}

/// About which evidence a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The boot.
    Boot,
    /// The running system.
    Runtime,
}

impl From<Kind> for PolicyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Boot => Self::Boot,
            Kind::Runtime => Self::Runtime,
        }
    }
}

/// When a generation counts.
#[derive(Clone, Copy, Debug, Args)]
pub struct Validity {
    /// It counts from then on, like 2026-01-31T12:00:00Z [default: now].
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    pub valid_from: Option<u64>,
    /// It counts for so long, like 12h, 30d or 26w.
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = clock::duration)]
    pub valid_for: Duration,
}

/// `bootkeep policy sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// Its name: 1 to 64 of a-z, 0-9, '-' and '.'.
    #[arg(long)]
    pub name: String,
    /// About which evidence it is [default: what the document is].
    #[arg(long)]
    pub kind: Option<Kind>,
    /// Number of the generation, from 1; a later one is newer.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub generation: u64,
    /// When it counts.
    #[command(flatten)]
    pub validity: Validity,
    /// The policy document, JSON or YAML.
    pub file: PathBuf,
    /// The signed policy [default: standard output].
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `bootkeep policy publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// Its name: 1 to 64 of a-z, 0-9, '-' and '.'.
    #[arg(long)]
    pub name: String,
    /// About which evidence it is [default: what the document is].
    #[arg(long)]
    pub kind: Option<Kind>,
    /// When it counts.
    #[command(flatten)]
    pub validity: Validity,
    /// Two generations may count at one time: retire all but the newest one first, so that this one fits beside it.
    #[arg(long)]
    pub retire_older: bool,
    /// The policy document, JSON or YAML.
    pub file: PathBuf,
}

/// `bootkeep policy retire`.
#[derive(Debug, Args)]
pub struct Retire {
    /// About which evidence it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Number of the generation.
    pub generation: u64,
}

/// `bootkeep policy authorize`.
#[derive(Debug, Args)]
pub struct Authorize {
    /// Name of the boot policy.
    pub name: String,
    /// A node whose present boot is known to be good; repeat for more.
    #[arg(long, value_name = "NODE", required_unless_present = "log")]
    pub node: Vec<String>,
    /// Evidence that `bootkeep attest --save` wrote, of a boot known to be good; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub log: Vec<PathBuf>,
    /// What changes.
    #[command(flatten)]
    pub files: BootFilesGiven,
    /// Take the digests that the node has reported, instead of files. A node says them, nobody has proved them.
    #[arg(long, requires = "node", conflicts_with_all = ["log", "kernel", "initrd", "cmdline", "uki", "loader", "config"])]
    pub reported: bool,
    /// PCRs whose values are signed, like 4,7,11 [default: those that identify loader, kernel, initramfs and command line].
    #[arg(long, value_name = "PCRS")]
    pub pcrs: Option<PcrList>,
    /// Accept only these boots, instead of adding them to what the live generation accepts.
    #[arg(long)]
    pub fresh: bool,
    /// Accept a boot again that only retired generations signed.
    #[arg(long)]
    pub allow_rollback: bool,
    /// When it counts.
    #[command(flatten)]
    pub validity: Validity,
    /// It counts until then, like 2026-12-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = clock::moment, conflicts_with = "valid_for")]
    pub valid_until: Option<u64>,
    /// Two generations may count at one time: retire all but the newest one first, so that this one fits beside it.
    #[arg(long, requires = "push")]
    pub retire_older: bool,
    /// Give it to the verifier.
    #[arg(long)]
    pub push: bool,
    /// The signed policy, for `bootkeep policy push` [default without --push: standard output].
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Files of the next boot. What is not named stays as it is.
#[derive(Debug, Default, Args)]
pub struct BootFilesGiven {
    /// The new kernel.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The new initramfs.
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// The new kernel's whole command line, without the kernel's path.
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// The new unified kernel image.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "initrd"])]
    pub uki: Option<PathBuf>,
    /// A new boot loader (shim, GRUB, systemd-boot), called as on the node; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub loader: Vec<PathBuf>,
    /// The new grub.cfg.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The new kernel's version (`uname -r`), as the names of its files have it [default: that in the name of --kernel].
    #[arg(long, value_name = "VERSION")]
    pub kernel_version: Option<String>,
    /// Memory of the machine (MiB), when QEMU is given the kernel with -kernel: QEMU writes the place of the initramfs into
    /// it.
    #[arg(long, value_name = "MIB", requires_all = ["kernel", "initrd"])]
    pub qemu_memory: Option<u32>,
}

/// `bootkeep policy explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Which node.
    pub node: String,
    /// Boot policy [default: the one the node was provisioned with].
    #[arg(long, value_name = "FILE|@NAME[:GENERATION]")]
    pub boot_policy: Option<PolicyChoice>,
    /// Runtime policy [default: the one the node was provisioned with].
    #[arg(long, value_name = "FILE|@NAME[:GENERATION]")]
    pub runtime_policy: Option<PolicyChoice>,
    /// Package index that `policy create runtime` wrote; repeat for more [default: the ones beside policy files, and
    /// those of published policies].
    #[arg(long, value_name = "FILE")]
    pub packages: Vec<PathBuf>,
}

/// `bootkeep policy create`.
#[derive(Debug, Subcommand)]
pub enum PolicyCreate {
    /// From a boot known to be good.
    Boot(CreateBoot),
    /// From root file systems, initramfs images, package repositories, measurement lists or a running node.
    Runtime(CreateRuntime),
}

/// Which rules a boot policy is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootRules {
    /// By signer where Secure Boot is on, else by digest: survives updates.
    Signers,
    /// By digest.
    Digests,
    /// By PCR value and event digest: a policy of version 1, of one boot.
    Values,
}

/// How a policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// `bootkeep policy create boot`.
#[derive(Debug, Args)]
pub struct CreateBoot {
    /// A node that waits in its initramfs, or runs, and is known to be good; repeat for more.
    #[arg(long, value_name = "NODE", required_unless_present = "evidence")]
    pub node: Vec<String>,
    /// Evidence that `bootkeep attest --save` wrote, of a boot known to be good; repeat for more.
    #[arg(long, value_name = "FILE")]
    pub evidence: Vec<PathBuf>,
    /// Which rules are chosen.
    #[arg(long, value_name = "RULES", default_value = "signers")]
    pub rules: BootRules,
    /// How the policy is written.
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub format: PolicyFormat,
    /// PCRs left out because they differ from boot to boot, e.g. `1,5`.
    #[arg(long, value_name = "PCRS", value_delimiter = ',')]
    pub without: Vec<u8>,
    /// An earlier policy of version 1 whose boots stay acceptable; only with `--rules values`; repeat for more.
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
    #[arg(long, alias = "root", value_name = "DIR", required_unless_present_any = ["initramfs", "node", "ima_list", "apt", "rpm"])]
    pub rootfs: Vec<PathBuf>,
    /// An initramfs: the image itself (cpio, plain or packed with gzip, zstd, xz or lz4), or a folder it was unpacked
    /// into; repeat for more.
    #[arg(long, value_name = "FILE|DIR")]
    pub initramfs: Vec<PathBuf>,
    /// Packages of an apt repository: its folder (with dists/ or Packages), or a Packages file; repeat for more. The
    /// .deb files are looked for where the index says, and by their names in the folder itself.
    #[arg(long, value_name = "DIR|FILE")]
    pub apt: Vec<PathBuf>,
    /// Release or InRelease of the apt repositories: each Packages must be listed in one; repeat for more.
    #[arg(long, value_name = "FILE", requires = "apt")]
    pub release: Vec<PathBuf>,
    /// Packages of an RPM repository: the folder with repodata/; repeat for more.
    #[arg(long, value_name = "DIR")]
    pub rpm: Vec<PathBuf>,
    /// Keyring of the repositories: signatures of --release files and of repomd.xml are then verified, by gpgv.
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    /// Only this package, NAME or NAME=VERSION; repeat for more [default: all that are there].
    #[arg(long, value_name = "PACKAGE")]
    pub package: Vec<PackageSpec>,
    /// Only the packages of a list, e.g. of `dpkg-query -W` on a node.
    #[arg(long, value_name = "FILE")]
    pub package_list: Option<PathBuf>,
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
