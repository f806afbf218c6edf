//! Systems that are not the owner's, on the owner's machine: each asks for the key, none gets it.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{ensure, Result};

use crate::{
    command,
    guest::Guest,
    image::VOLUME_UUID,
    reboots::Unattended,
    stage::{Boot, Set, GAVE_UP, OPEN, PATIENCE},
};

/// A shell instead of the system.
pub(super) fn init_shell(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    other_cmdline(set, guest, name, "init=/bin/sh")
}

/// A shell in the initramfs once the root is mounted.
pub(super) fn rd_break(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    other_cmdline(set, guest, name, "rd.break rd.shell=1")
}

/// A command line that starts a shell is in PCR 9: neither the verifier's policy knows it nor has the owner signed it.
fn other_cmdline(set: &Set, guest: &Guest, name: &str, cmdline: &str) -> Result<()> {
    let machine = Unattended::copied(set, guest, name, true)?;
    let word = machine.gets_nothing(Boot {
        cmdline,
        ..Boot::default()
    })?;
    ensure!(
        word.contains("PCR 9"),
        "the reason does not name the command line's PCR: {word}"
    );
    // The machine is the same as ever once it is booted as ever.
    machine.opens().map(drop)
}

/// The owner's disk is exchanged for one with its UUID whose key the attacker has chosen.
pub(super) fn disk(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let machine = Unattended::copied(set, guest, name, false)?;
    let disk = machine.stage.directory.join("rogue.img");
    make_disk(&disk)?;
    let mut booted = machine.boot_with(Boot {
        disk: Some(&disk),
        ..Boot::default()
    })?;
    // The initramfs is the owner's, so it does get the key. What it must not do is give the machine to that disk.
    let serial = &booted.vm.serial;
    let word = serial.wait_for_any(
        &[GAVE_UP, "Failed to start systemd-cryptsetup@"],
        &[OPEN],
        PATIENCE,
    )?;
    set.progress.say(&format!("    {}", word.text.trim()));
    ensure!(
        booted.vm.wait_until_off(Duration::from_secs(120)),
        "the machine waits with a key in its memory"
    );
    ensure!(
        booted.vm.serial.find(OPEN).is_none(),
        "the rogue root was opened"
    );
    machine.opens().map(drop)
}

fn make_disk(path: &Path) -> Result<()> {
    let key = path.with_extension("key");
    fs::write(&key, "the attacker knows this")?;
    fs::File::create(path)?.set_len(64 << 20)?;
    let mut format = Command::new("cryptsetup");
    format
        .args([
            "luksFormat",
            "--type",
            "luks2",
            "--batch-mode",
            "--uuid",
            VOLUME_UUID,
        ])
        .args([
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "--key-file",
        ])
        .arg(&key)
        .arg(path);
    command::output(&mut format).map(drop)
}
