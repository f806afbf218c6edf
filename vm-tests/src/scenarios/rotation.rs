//! Keys that are changed while the node runs, and the key that a person types.

use std::{path::Path, thread, time::Duration};

use anyhow::{ensure, Result};

use crate::{
    guest::Guest,
    image::initramfs,
    luks,
    owner::said,
    reboots::Unattended,
    services::Service,
    stage::{Boot, Set},
};

use super::outage::{by_hand, configuration, stop_all, PROMPT};

/// Token of a key of the node's own.
const OWN: &str = "bootkeep";
/// When after the opening of the volume the power is cut: its keys are being exchanged.
const AMID: Duration = Duration::from_millis(400);

/// `bootkeep rotate`, a power cut while the volume gets its new key, and the boot after it.
pub(super) fn rotate(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let machine = Unattended::copied(set, guest, name, false)?;
    let bay = &machine.stage.bay;
    let before = own_key(&machine.disk)?;
    ensure!(
        !luks::opens(&machine.disk, &set.image.luks_key())?,
        "the image's key still opens the volume of a node that has its own"
    );
    let booted = machine.comes_up()?;
    let certificate = bay.serial()?;
    let user_data = machine.stage.owner.home.join("user-data");
    let user_data = user_data.display().to_string();
    let payload = ["--user-data", &user_data, "--timeout", "120"];
    owners(
        &machine,
        &[&["rotate", &machine.node], &payload[..]].concat(),
    )?;
    let shares = machine.shares()?;
    booted.switch_off(bay)?;
    let cut = machine.opens()?;
    thread::sleep(AMID);
    cut.cut_power();
    set.progress
        .say("  the power was cut while the volume got its new key");
    let booted = machine.comes_up()?;
    machine.rotated(&shares)?;
    ensure!(
        machine.stage.status(&machine.node)?["unattended"]["staged"] == false,
        "the new K is still staged"
    );
    ensure!(
        bay.serial()? != certificate,
        "the certificate is the old one"
    );
    owners(
        &machine,
        &["rotate", &machine.node, "--finish", "--timeout", "120"],
    )?;
    booted.switch_off(bay)?;
    let after = own_key(&machine.disk)?;
    ensure!(before != after, "the volume has the old key");
    set.progress.say(&format!(
        "  own key {before}, then {after}; certificate exchanged"
    ));
    Ok(())
}

fn own_key(disk: &Path) -> Result<String> {
    let ids = luks::key_ids(disk, OWN)?;
    match ids.as_slice() {
        [one] => Ok(one.clone()),
        other => anyhow::bail!("the volume has own keys {other:?}"),
    }
}

fn owners(machine: &Unattended<'_>, arguments: &[&str]) -> Result<String> {
    let output = machine.stage.owner.finish(arguments)?;
    ensure!(
        output.status.success(),
        "`bootkeep {}` said {}",
        arguments.join(" "),
        said(&output)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// All services are gone; the owner reads the recovery key out, a person types it; the owner learns of it afterwards.
pub(super) fn recovery(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut machine = Unattended::copied(set, guest, name, false)?;
    let key = machine.recovery_key()?;
    stop_all(&mut machine.stage.services);
    let config = configuration(&machine.stage, "deadline_seconds: 10\npassphrase: true\n")?;
    let initrd = initramfs::configured(&set.cache, &set.image, &config)?;
    let booted = machine.boot_with(Boot {
        initrd: Some(initrd),
        ..Boot::default()
    })?;
    let booted = by_hand(guest, booted, PROMPT, key.as_bytes())?;
    for service in [Service::Registrar, Service::Verifier, Service::Ca] {
        machine.stage.services.start_one(service)?;
    }
    let claimed = machine.claims("unlocked-by-passphrase")?;
    set.progress.say(&format!("  the owner is told: {claimed}"));
    booted.switch_off(&machine.stage.bay)
}
