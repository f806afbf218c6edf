//! Kinds of machine: what makes the initramfs, and how the owner's services are found.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::{base, product};
use crate::{command, owner::OWNER_NAME};

/// Where the guest finds the host, and the owner's services.
const ADDRESS: &str = "10.0.2.2";

/// One kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// dracut with systemd-networkd; services at an IPv4 address.
    Usual,
    /// The same; services by name, which a name service at the host resolves, or at an IPv6 address.
    Names,
    /// dracut with NetworkManager.
    NetworkManager,
    /// initramfs-tools with cryptsetup-initramfs, as Debian and Ubuntu install them.
    InitramfsTools,
}

impl Kind {
    /// The name of something that is kept of each kind.
    #[must_use]
    pub fn named(self, what: &str) -> String {
        let suffix = match self {
            Self::Usual => return what.to_owned(),
            // Its packages are the usual ones.
            Self::Names if what == "base" => return what.to_owned(),
            Self::Names => "names",
            Self::NetworkManager => "network-manager",
            Self::InitramfsTools => "initramfs-tools",
        };
        format!("{what}-{suffix}")
    }

    /// Its Debian packages.
    #[must_use]
    pub fn packages(self) -> Vec<&'static str> {
        let usual = base::PACKAGES.iter().copied();
        match self {
            Self::Usual | Self::Names => usual.collect(),
            Self::NetworkManager => usual.chain(["network-manager"]).collect(),
            Self::InitramfsTools => usual
                .filter(|package| !package.starts_with("dracut"))
                .chain(["busybox", "cryptsetup-initramfs", "initramfs-tools"])
                .collect(),
        }
    }

    /// What makes the initramfs; the file and the kernel's version follow.
    #[must_use]
    pub fn maker(self) -> &'static [&'static str] {
        match self {
            Self::InitramfsTools => &["mkinitramfs", "-o"],
            _ => &["dracut", "--force"],
        }
    }

    /// Changes the root file system, before the initramfs is made of it.
    pub(super) fn change(self, root: &Path) -> Result<()> {
        match self {
            Self::Usual | Self::InitramfsTools => Ok(()),
            Self::Names => names(root),
            Self::NetworkManager => network_manager(root),
        }
    }
}

/// The owner's services by name and at their IPv6 address, and who resolves names once the machine has booted.
fn names(root: &Path) -> Result<()> {
    let path = root.join("etc/bootkeep/agent.yaml");
    let mut changed = String::new();
    for line in fs::read_to_string(&path)?.lines() {
        let hosts: &[&str] = match line.contains(ADDRESS) {
            true => &[OWNER_NAME, "[fec0::2]"],
            false => &[ADDRESS],
        };
        for host in hosts {
            changed += &line.replace(ADDRESS, host);
            changed.push('\n');
        }
    }
    fs::write(&path, changed)?;
    let servers = "nameserver 10.0.2.2\nnameserver fec0::2\n";
    let file = root.join("etc/resolv.conf");
    let _ = fs::remove_file(&file);
    Ok(fs::write(file, servers)?)
}

/// NetworkManager in the initramfs only: the booted system keeps systemd-networkd.
fn network_manager(root: &Path) -> Result<()> {
    let choice = root.join("etc/dracut.conf.d/60-network.conf");
    fs::write(choice, "bootkeep_network=network-manager\n")?;
    let mut mask = Command::new("systemctl");
    mask.arg("--root")
        .arg(root)
        .args(["--quiet", "mask", "NetworkManager.service"]);
    command::output(&mut mask)?;
    product::enable(root, "systemd-networkd.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initramfs_tools_and_dracut_exclude_each_other() {
        let packages = Kind::InitramfsTools.packages();
        assert!(packages.contains(&"initramfs-tools"));
        assert!(!packages.iter().any(|name| name.contains("dracut")));
        assert_eq!(Kind::Usual.named("image"), "image");
        assert_eq!(Kind::Names.named("base"), "base");
        assert_ne!(Kind::Names.named("image"), "image");
    }
}
