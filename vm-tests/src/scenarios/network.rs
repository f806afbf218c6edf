//! Other networks than IPv4 by DHCP, and services by name where some of a name's addresses are dead.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

use anyhow::{ensure, Result};

use super::happy;
use crate::{
    dns::{Dns, Zone},
    guest::Guest,
    image::{initramfs, Kind},
    owner::OWNER_NAME,
    stage::{Boot, Set, PATIENCE},
};

/// Where the guest finds the host.
const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);
/// Nobody answers there, not even that there is nobody.
const DEAD_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
const DEAD_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x77);

/// What the initramfs says of its network.
const NETWORK: &str = "bootkeep: network: ";
/// An address that no DHCP server gives here.
const STATIC: &str = include_str!("../../../docs/examples/networkd/10-static.network");
const STATIC_V6: &str = include_str!("../../../docs/examples/networkd/10-static-v6.network");
/// The further interface in a VLAN on a bond.
const BOND: [(&str, &str); 4] = [
    (
        "20-bond0.netdev",
        include_str!("../../../docs/examples/networkd/20-bond0.netdev"),
    ),
    (
        "20-bond0.network",
        include_str!("../../../docs/examples/networkd/20-bond0.network"),
    ),
    (
        "20-bond0-members.network",
        include_str!("../../../docs/examples/networkd/20-bond0-members.network"),
    ),
    (
        "20-vlan.netdev",
        include_str!("../../../docs/examples/networkd/20-vlan.netdev"),
    ),
];

/// A static IPv4 address, and a VLAN on a bond beside it; the services by name, with dead addresses of both families.
pub(super) fn fixed(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let set = named(set)?;
    let _dns = Dns::serve(Zone {
        name: OWNER_NAME,
        v4: vec![DEAD_V4, HOST_V4],
        v6: vec![DEAD_V6],
    })?;
    let mut files = vec![("etc/bootkeep/networkd/10-static.network".to_owned(), STATIC)];
    for (file, text) in BOND {
        files.push((format!("etc/bootkeep/networkd/{file}"), text));
    }
    let files: Vec<_> = files.iter().map(|(p, t)| (p.as_str(), *t)).collect();
    let initrd = initramfs::rebuilt(&set.cache, &set.image, Kind::Names, name, &files)?;
    let stage = set.stage(name, guest)?;
    let provisioned = stage.provisioned_as_booted(Boot {
        initrd: Some(initrd),
        network: "ipv6=off",
        idle_nic: true,
        ..Boot::default()
    })?;
    let said = provisioned.booted.vm.serial.wait(NETWORK, &[], PATIENCE)?;
    ensure!(
        said.text.contains("10.0.2.99") && !said.text.contains("10.0.2.15"),
        "the address is not the static one: {}",
        said.text
    );
    let made = guest.ok("journalctl --boot --output cat --unit systemd-networkd")?;
    for link in ["bond0", "vlan40"] {
        ensure!(made.contains(link), "networkd made no {link}: {made}");
    }
    happy::holds(&stage, &provisioned)
}

/// No IPv4 at all, addresses by router advertisements; the services by name, with dead addresses of both families.
pub(super) fn v6(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let zone = Zone {
        name: OWNER_NAME,
        v4: vec![HOST_V4],
        v6: vec![DEAD_V6, HOST_V6],
    };
    only_v6(set, guest, name, Some(zone), None, "fec0:")
}

/// No IPv4 at all, a static address, no name service: the services at an IPv6 address.
pub(super) fn v6_fixed(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    only_v6(set, guest, name, None, Some(STATIC_V6), "fec0::99")
}

/// The metadata service and the test's own command channel are IPv4: what counts is what the verifier says.
fn only_v6(
    set: &Set,
    guest: &Guest,
    name: &str,
    zone: Option<Zone>,
    network: Option<&str>,
    address: &str,
) -> Result<()> {
    let set = named(set)?;
    let _dns = zone.map(Dns::serve).transpose()?;
    let initrd = network
        .map(|text| {
            let files = [("etc/bootkeep/networkd/10-static.network", text)];
            initramfs::rebuilt(&set.cache, &set.image, Kind::Names, name, &files)
        })
        .transpose()?;
    let stage = set.stage(name, guest)?;
    let under_way = stage.begin_as_booted(Boot {
        initrd,
        network: "ipv4=off",
        ..Boot::default()
    })?;
    let said = under_way.booted().vm.serial.wait(NETWORK, &[], PATIENCE)?;
    ensure!(
        said.text.contains(address) && !said.text.contains("10.0.2."),
        "the network is another: {}",
        said.text
    );
    let (_booted, node) = under_way.trusted()?;
    let status = stage.status(&node)?;
    ensure!(status["state"] == "trusted", "the node is {status}");
    Ok(())
}

/// NetworkManager brings the network of the initramfs up, as on Fedora and its kin.
pub(super) fn network_manager(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let set = set.of_kind(Kind::NetworkManager)?;
    for (path, wanted) in [
        ("usr/sbin/NetworkManager", true),
        ("usr/lib/systemd/systemd-networkd", false),
    ] {
        ensure!(
            set.image.initramfs().join(path).exists() == wanted,
            "{path} in the initramfs: not {wanted}"
        );
    }
    let stage = set.stage(name, guest)?;
    let provisioned = stage.provisioned_as_booted(Boot {
        idle_nic: true,
        ..Boot::default()
    })?;
    happy::holds(&stage, &provisioned)
}

/// Machines that know the services by name and IPv6 address, and an owner whose services listen on IPv6 too.
fn named(set: &Set) -> Result<Set> {
    let mut named = set.of_kind(Kind::Names)?;
    let home = set.cache.root().join("owner-names");
    named.owner = set.owner.copy_to(&home)?;
    for service in ["registrar", "verifier", "ca"] {
        let path = home.join(service).join(format!("{service}.yaml"));
        let text = fs::read_to_string(&path)?;
        ensure!(
            text.contains("0.0.0.0:"),
            "{} listens elsewhere",
            path.display()
        );
        fs::write(&path, text.replace("0.0.0.0:", "[::]:"))?;
    }
    Ok(named)
}
