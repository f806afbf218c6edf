//! The initramfs of Debian and Ubuntu: initramfs-tools and cryptsetup-initramfs instead of dracut and systemd.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::{happy, outage};
use crate::{
    guest::Guest,
    image::{initramfs, Kind},
    stage::{Boot, Set, GAVE_UP, OPEN, PATIENCE},
};

/// How cryptsetup's askpass asks, with the keyscript's words.
const PROMPT: &str = "Passphrase or recovery key";
/// How a shell of the initramfs shows itself.
const SHELL: &str = "(initramfs)";

/// From registration to a booted system that is trusted, as with dracut.
pub(super) fn prove(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let set = set.of_kind(Kind::InitramfsTools)?;
    let stage = set.stage(name, guest)?;
    let provisioned = stage.provisioned_as_booted(Boot::default())?;
    happy::holds(&stage, &provisioned)?;
    // What there is of a network was made by the booted system.
    guest.ok("! test -e /run/bootkeep-initramfs")?;
    hooks(guest)
}

/// An installation of a kernel or of an initramfs is never held up, whatever becomes of the report.
fn hooks(guest: &Guest) -> Result<()> {
    for hook in [
        "/etc/kernel/postinst.d/zzz-bootkeep 6.1.0-test /boot/vmlinuz-6.1.0-test",
        "/etc/kernel/postrm.d/zzz-bootkeep 6.1.0-test /boot/vmlinuz-6.1.0-test",
        "/etc/initramfs/post-update.d/zz-bootkeep 6.1.0-test /boot/initrd.img-6.1.0-test",
        "/usr/lib/kernel/install.d/95-bootkeep.install add 6.1.0-test /boot/x /boot/y",
    ] {
        guest.ok(hook)?;
    }
    Ok(())
}

/// Nobody answers: without leave for a passphrase the machine reboots, locked, and shows no shell.
pub(super) fn dead_services(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let set = set.of_kind(Kind::InitramfsTools)?;
    let mut stage = set.stage(name, guest)?;
    outage::stop_all(&mut stage.services);
    let config = outage::configuration(&stage, "deadline_seconds: 20\n")?;
    let overlay = vec![("etc/bootkeep/agent.yaml", config.into_bytes(), 0o644)];
    let mut booted = stage.boot(Boot {
        overlay,
        idle_nic: true,
        ..Boot::default()
    })?;
    booted.vm.serial.wait(GAVE_UP, &[OPEN], PATIENCE)?;
    ensure!(
        booted.vm.wait_until_off(Duration::from_secs(60)),
        "the machine hangs"
    );
    for bad in [OPEN, PROMPT, SHELL] {
        ensure!(booted.vm.serial.find(bad).is_none(), "it said {bad:?}");
    }
    Ok(())
}

/// Nobody answers, a person may type a passphrase and does not wait for the deadline: PCR 15 is closed by then.
pub(super) fn recovery_key(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let set = set.of_kind(Kind::InitramfsTools)?;
    let mut stage = set.stage(name, guest)?;
    outage::stop_all(&mut stage.services);
    let config = outage::configuration(&stage, outage::IMPATIENT)?;
    let initrd = initramfs::rebuilt(
        &set.cache,
        &set.image,
        Kind::InitramfsTools,
        "initramfs-tools-passphrase",
        &[("etc/bootkeep/agent.yaml", &config)],
    )?;
    let booted = stage.boot(Boot {
        initrd: Some(initrd),
        ..Boot::default()
    })?;
    outage::not_waiting(guest, booted, PROMPT)
}
