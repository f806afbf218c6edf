//! Services that go away.

use std::{thread, time::Duration};

use anyhow::{ensure, Context, Result};

use crate::{
    guest::Guest,
    image::{initramfs, Kind, LUKS_KEY},
    services::{Service, Services},
    stage::{Boot, Booted, Set, Stage, GAVE_UP, OPEN, PATIENCE},
};

/// A deadline that no scenario sees, for a person who does not want to either.
pub(super) const IMPATIENT: &str = "deadline_seconds: 3600\npassphrase: true\n";
/// What the agent says where a person need not wait.
const OFFER: &str = "type p and Enter";
/// What the agent says first.
const STARTED: &str = "bootkeep: this node is";
/// `deadline_seconds` where a person is to be asked.
const SHORT: Duration = Duration::from_secs(10);
/// From the deadline to the prompt, as docs/initramfs.md has it.
const CLOSING: Duration = Duration::from_secs(5);
/// What an emulated machine may take longer.
const EMULATION: Duration = Duration::from_secs(15);
/// How systemd asks a person.
pub(super) const PROMPT: &str = "enter passphrase for disk";

pub(super) fn restarts(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let policies = set.policies(false);
    let mut stage = set.stage(name, guest)?;
    let booted = stage.boot(Boot::default())?;
    let node = stage.wait_until_waiting(&booted)?;
    let provisioning = stage.owner.provision(&stage.provision(&node, &policies))?;
    // In the middle of the exchange of shares, or just before or after: each must do.
    thread::sleep(Duration::from_millis(300));
    stage.services.crash(Service::Verifier)?;
    stage.services.crash(Service::Registrar)?;
    booted.vm.serial.wait(OPEN, &[GAVE_UP], PATIENCE)?;
    stage.services.restart(Service::Verifier)?;
    stage.services.restart(Service::Registrar)?;
    stage.services.restart(Service::Ca)?;
    provisioning.succeed()?;
    ensure!(
        stage.status(&node)?["state"] == "trusted",
        "not trusted after the restarts"
    );
    Ok(())
}

pub(super) fn dead_services(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut stage = set.stage(name, guest)?;
    stop_all(&mut stage.services);
    let config = configuration(&stage, "deadline_seconds: 20\n")?;
    let overlay = vec![("etc/bootkeep/agent.yaml", config.into_bytes(), 0o644)];
    let mut booted = stage.boot(Boot {
        overlay,
        idle_nic: true,
        ..Boot::default()
    })?;
    booted.vm.serial.wait(GAVE_UP, &[OPEN], PATIENCE)?;
    // The test's command line says poweroff where the module says reboot.
    ensure!(
        booted.vm.wait_until_off(Duration::from_secs(120)),
        "the machine hangs"
    );
    ensure!(booted.vm.serial.find(OPEN).is_none(), "the root was opened");
    Ok(())
}

pub(super) fn recovery_key(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut stage = set.stage(name, guest)?;
    stop_all(&mut stage.services);
    let config = configuration(&stage, "deadline_seconds: 10\npassphrase: true\n")?;
    let initrd = initramfs::configured(&set.cache, &set.image, &config)?;
    let booted = stage.boot(Boot {
        initrd: Some(initrd),
        ..Boot::default()
    })?;
    by_hand(guest, booted, PROMPT, LUKS_KEY).map(drop)
}

/// A person who does not wait for the deadline says so, and is asked.
pub(super) fn at_once(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut stage = set.stage(name, guest)?;
    stop_all(&mut stage.services);
    let config = configuration(&stage, IMPATIENT)?;
    let file = ("etc/bootkeep/agent.yaml", config.as_str());
    let initrd = initramfs::rebuilt(&set.cache, &set.image, Kind::Usual, "impatient", &[file])?;
    let booted = stage.boot(Boot {
        initrd: Some(initrd),
        ..Boot::default()
    })?;
    not_waiting(guest, booted, PROMPT)
}

/// Types the word at the console, then as in [`by_hand`].
pub(super) fn not_waiting(guest: &Guest, mut booted: Booted, prompt: &str) -> Result<()> {
    booted.vm.serial.wait(OFFER, &[], PATIENCE)?;
    booted.vm.serial.wait(STARTED, &[], PATIENCE)?;
    booted.vm.type_line(b"p")?;
    by_hand(guest, booted, prompt, LUKS_KEY).map(drop)
}

/// A person is asked once the agent has given up, opens the root with this key, and PCR 15 is closed.
pub(super) fn by_hand(
    guest: &Guest,
    mut booted: Booted,
    prompt: &str,
    key: &[u8],
) -> Result<Booted> {
    let asked = booted.vm.serial.wait(prompt, &[], PATIENCE)?;
    let started = booted
        .vm
        .serial
        .find(STARTED)
        .context("the console does not name the node")?;
    let took = asked.at.saturating_sub(started.at);
    ensure!(
        took <= SHORT + CLOSING + EMULATION,
        "a person was asked only after {} s",
        took.as_secs()
    );
    ensure!(
        booted.vm.serial.find(GAVE_UP).is_some(),
        "a person was asked before the agent gave up"
    );
    booted.vm.type_line(key)?;
    guest.wait_until_up(PATIENCE, || booted.vm.is_running())?;
    let root = guest.ok("findmnt --noheadings --output SOURCE /")?;
    ensure!(root.trim() == "/dev/mapper/cryptroot", "the root is {root}");
    let pcr = guest.ok("cat /sys/class/tpm/tpm0/pcr-sha256/15")?;
    ensure!(
        pcr.trim().chars().any(|digit| digit != '0'),
        "PCR 15 is not latched: shares could still be asked for"
    );
    Ok(booted)
}

pub(super) fn stop_all(services: &mut Services) {
    for service in [Service::Verifier, Service::Registrar, Service::Ca] {
        services.stop(service);
    }
}

/// The node's configuration with other values.
pub(super) fn configuration(stage: &Stage<'_>, other: &str) -> Result<String> {
    let config = std::fs::read_to_string(stage.owner.node_files().join("agent.yaml"))?;
    let kept = config
        .lines()
        .filter(|line| !line.starts_with("deadline_seconds") && !line.starts_with("passphrase"))
        .collect::<Vec<_>>()
        .join("\n");
    Ok(format!("{kept}\n{other}"))
}
