//! What is proved, one function each.

mod boot_policy;
mod ca_node;
mod cloud;
mod happy;
mod initramfs_tools;
mod ipsec;
mod locked;
mod network;
mod one_says_no;
mod outage;
mod rogue;
mod rotation;
mod runtime;
mod unattended;
mod update;
mod wrong_ek_root;

use anyhow::Result;

use crate::{cache::remove_disks, guest::Guest, image::Kind, stage::Set};

/// One promise, and the function that proves it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it proves.
    pub promise: &'static str,
    prove: fn(&Set, &Guest, &str) -> Result<()>,
}

impl Scenario {
    /// Proves it. The machines' disks are kept only when it does not hold.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn run(&self, set: &Set, guest: &Guest) -> Result<()> {
        (self.prove)(set, guest, self.name)?;
        remove_disks(&set.cache.root().join("runs").join(self.name))
    }

    /// Whether it needs the policies of a known-good boot of the usual machine: others need none, or make their own.
    #[must_use]
    pub fn needs_policies(&self) -> bool {
        const NEED_NONE: [&str; 4] = [
            "network-",
            "initramfs-tools",
            "recovery-key",
            "dead-services",
        ];
        !NEED_NONE.iter().any(|start| self.name.starts_with(start))
    }
}

/// All of them, in the order they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "happy-path",
        promise: "a node proves itself, unlocks, applies sealed user-data and is trusted (SeaBIOS)",
        prove: happy::quick,
    },
    Scenario {
        name: "measured-boot",
        promise: "the same with UEFI and its event log appraised (OVMF)",
        prove: happy::measured,
    },
    Scenario {
        name: "wrong-ek-root",
        promise: "a TPM of an unknown maker is not registered, the root stays locked, the console says why",
        prove: wrong_ek_root::prove,
    },
    Scenario {
        name: "modified-cmdline",
        promise: "with another kernel command line neither share leaves and the root stays locked",
        prove: boot_policy::modified_cmdline,
    },
    Scenario {
        name: "modified-initramfs",
        promise: "with another initramfs neither share leaves and the root stays locked",
        prove: boot_policy::modified_initramfs,
    },
    Scenario {
        name: "verifier-says-no",
        promise: "when only the verifier refuses, K never forms",
        prove: one_says_no::verifier,
    },
    Scenario {
        name: "tenant-says-no",
        promise: "when only the tenant refuses, K never forms",
        prove: one_says_no::tenant,
    },
    Scenario {
        name: "foreign-user-data",
        promise: "user-data, vendor-data and a disk that the cloud adds are refused and reported",
        prove: cloud::foreign_user_data,
    },
    Scenario {
        name: "foreign-part",
        promise: "sealed user-data through the cloud is applied, parts that the cloud puts beside it are refused and reported",
        prove: cloud::foreign_part,
    },
    Scenario {
        name: "unlisted-program",
        promise: "a program that is not in the policy makes the node untrusted, by name, at once",
        prove: runtime::unlisted_program,
    },
    Scenario {
        name: "shares-again",
        promise: "after the boot nobody gets shares again: the latch",
        prove: runtime::shares_again,
    },
    Scenario {
        name: "ipsec-revocation",
        promise: "a node that fails loses its IPsec associations at its peer, also while the peer's charon hangs, and gets them back",
        prove: ipsec::revocation,
    },
    Scenario {
        name: "ca-node",
        promise: "registrar and CA run on an attested machine whose envelope brought their keys, and certify the next node",
        prove: ca_node::prove,
    },
    Scenario {
        name: "restarts",
        promise: "services that crash in the middle of a provisioning lose nothing",
        prove: outage::restarts,
    },
    Scenario {
        name: "dead-services",
        promise: "with nobody to answer, and one network interface dead, the boot ends at its deadline, locked",
        prove: outage::dead_services,
    },
    Scenario {
        name: "recovery-key",
        promise: "where the owner allows it, a person at the console opens the root when the agent has given up",
        prove: outage::recovery_key,
    },
    Scenario {
        name: "recovery-key-at-once",
        promise: "that person need not wait for the deadline",
        prove: outage::at_once,
    },
    Scenario {
        name: "network-static",
        promise: "static address, bond and VLAN from files; services by name, some of whose addresses are dead, IPv4 and IPv6",
        prove: network::fixed,
    },
    Scenario {
        name: "network-ipv6",
        promise: "no IPv4 at all: addresses by router advertisements, services by name",
        prove: network::v6,
    },
    Scenario {
        name: "initramfs-tools",
        promise: "the same machine with initramfs-tools and cryptsetup-initramfs instead of dracut; hooks of kernel packages never fail",
        prove: initramfs_tools::prove,
    },
    Scenario {
        name: "unattended-reboot",
        promise: "a node reboots with nobody at the owner's desk, its shares are made anew each time, old ones open nothing",
        prove: unattended::reboots,
    },
    Scenario {
        name: "power-cuts",
        promise: "the power is cut at each step of an unattended boot, the verifier killed at each of its writes: the next boot opens",
        prove: unattended::power_cuts,
    },
    Scenario {
        name: "revoked-stays-locked",
        promise: "a revoked node, a cleared TPM, a disk with another TPM or in another node: the root stays locked",
        prove: locked::stays_locked,
    },
    Scenario {
        name: "rogue-disk",
        promise: "a disk with the owner's UUID and the attacker's key is not opened, and the machine does not wait",
        prove: rogue::disk,
    },
    Scenario {
        name: "init-shell",
        promise: "with init=/bin/sh on the command line nothing is released",
        prove: rogue::init_shell,
    },
    Scenario {
        name: "emergency-shell",
        promise: "whoever has the shell of an emergency gets nothing by asking again",
        prove: rogue::emergency_shell,
    },
];

/// Builds the images of other kinds of machine that these scenarios boot, all of them where none is named. The network is
/// needed for this, and for nothing after it.
///
/// # Errors
/// When an image cannot be built.
pub fn prepare(set: &Set, names: &[String]) -> Result<()> {
    for (kind, prefixes) in [
        (Kind::Names, ["network-static", "network-ipv6"]),
        (Kind::NetworkManager, ["network-manager"; 2]),
        (Kind::InitramfsTools, ["initramfs-tools"; 2]),
    ] {
        let boots = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if names.is_empty() || names.iter().any(boots) {
            set.of_kind(kind)?;
        }
    }
    Ok(())
}

/// They pass, and run when they are named: each has a sibling among [`SCENARIOS`], and a run of all must end in time.
pub const SIBLINGS: &[Scenario] = &[
    Scenario {
        name: "rd-break",
        promise: "with rd.break on the command line nothing is released",
        prove: rogue::rd_break,
    },
    Scenario {
        name: "network-ipv6-static",
        promise: "no IPv4 at all: a static address, services at an IPv6 address, no name service",
        prove: network::v6_fixed,
    },
    Scenario {
        name: "network-manager",
        promise: "NetworkManager in the initramfs instead of systemd-networkd",
        prove: network::network_manager,
    },
    Scenario {
        name: "initramfs-tools-dead-services",
        promise: "there, too, the boot ends at its deadline, locked, without a shell",
        prove: initramfs_tools::dead_services,
    },
    Scenario {
        name: "initramfs-tools-recovery-key",
        promise: "there, too, a person may open the root, without waiting for the deadline, where the owner allows it",
        prove: initramfs_tools::recovery_key,
    },
];

/// Not among those that must pass yet: they run when they are named.
pub const PENDING: &[Scenario] = &[
    Scenario {
        name: "second-request",
        promise: "whoever has all rights in the running system gets nothing by asking as the initramfs does",
        prove: rogue::second_request,
    },
    Scenario {
        name: "rotate",
        promise: "a running node gets a new K, LUKS key and certificate, also when the power is cut while the volume is re-keyed",
        prove: rotation::rotate,
    },
    Scenario {
        name: "update",
        promise: "a new initramfs is signed before the node reboots into it by itself, without an alarm; the old one is then refused",
        prove: update::prove,
    },
    Scenario {
        name: "recovery",
        promise: "with all services gone a person types the recovery key, and the owner is told of it afterwards",
        prove: rotation::recovery,
    },
];
