//! Systems that are not the owner's, on the owner's machine: each asks for the key, none gets it.

use std::{fs, path::Path, process::Command};

use anyhow::{ensure, Context, Result};

use crate::{
    command,
    guest::Guest,
    image::VOLUME_UUID,
    reboots::{Steps, Unattended, SENT},
    stage::{Boot, Booted, Set, OPEN, PATIENCE},
};

/// A shell instead of the system.
pub(super) fn init_shell(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    other_cmdline(set, guest, name, "init=/bin/sh")
}

/// A shell in the initramfs once the root is mounted.
pub(super) fn rd_break(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    other_cmdline(set, guest, name, "rd.break rd.shell=1")
}

/// A command line that starts a shell is in PCR 9: neither the verifier's policy knows it nor has the owner signed it. The
/// node then stays refused until its owner reinstates it, also when it is booted as ever.
fn other_cmdline(set: &Set, guest: &Guest, name: &str, cmdline: &str) -> Result<()> {
    let machine = Unattended::copied(set, guest, name, true)?;
    machine.gets_nothing(Boot {
        cmdline,
        ..Boot::default()
    })?;
    let status = machine.stage.status(&machine.node)?;
    ensure!(
        status["reasons"].to_string().contains("PCR 9"),
        "the reason does not name the command line's PCR: {status}"
    );
    Ok(())
}

/// The owner's disk is exchanged for one with its UUID whose key the attacker has chosen.
pub(super) fn disk(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let machine = Unattended::copied(set, guest, name, false)?;
    let booted = opens_nothing(&machine, Vec::new())?;
    drop(booted);
    machine.opens().map(drop)
}

/// Whoever is at the shell of the emergency that such a disk leads to asks once more.
pub(super) fn emergency_shell(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    const HOOK: &str = "usr/lib/dracut/hooks/shutdown-emergency/50-rogue.sh";
    let machine = Unattended::copied(set, guest, name, false)?;
    let steps = Steps::from_now(&machine.stage.services);
    let booted = opens_nothing(&machine, vec![(HOOK, SHELL.into(), 0o755)])?;
    let serial = &booted.vm.serial;
    for wanted in [SHELL_BEGINS, LATCHED, SHELL_KEY] {
        let line = serial.find(wanted);
        let line = line.with_context(|| format!("the shell did not say {wanted:?}"))?;
        set.progress.say(&format!("    {}", line.text.trim()));
    }
    ensure!(
        steps.count(&machine.stage.services, SENT) == 1,
        "V was sent to a shell"
    );
    Ok(())
}

/// What the agent says that finds PCR 15 extended.
const LATCHED: &str = "PCR 15 shows that this boot has already opened its volume or given up";
const SHELL_BEGINS: &str = "rogue: a shell";
const SHELL_KEY: &str = "rogue: the key is \"\"";
/// Sourced by dracut in an emergency. The agent makes a socket of its own and is asked for what it has.
const SHELL: &str = r#"echo "rogue: a shell" > /dev/console
rm -f /run/cryptsetup-keys.d/cryptroot.key
/usr/lib/bootkeep/bootkeep-initrd-agent listen > /dev/console 2>&1 &
sleep 3
echo "rogue: the key is \"$(/usr/lib/bootkeep/bootkeep-initrd-agent key 2> /dev/null)\"" > /dev/console
"#;

/// Boots with a foreign disk: the initramfs is the owner's, so it does get the key. What it must not do is give the machine
/// to that disk, or wait with a key in its memory.
fn opens_nothing(machine: &Unattended<'_>, overlay: Overlay<'_>) -> Result<Booted> {
    let disk = machine.stage.directory.join("rogue.img");
    make_disk(&disk)?;
    let mut booted = machine.boot_with(Boot {
        disk: Some(&disk),
        overlay,
        ..Boot::default()
    })?;
    ensure!(
        booted.vm.wait_until_off(PATIENCE),
        "the machine waits with a key in its memory"
    );
    let serial = &booted.vm.serial;
    ensure!(serial.find(OPEN).is_none(), "the rogue root was opened");
    let latched = serial.find("closing PCR 15 for the rest of this boot");
    latched.context("PCR 15 was not extended before the key was used")?;
    Ok(booted)
}

type Overlay<'a> = Vec<(&'a str, Vec<u8>, u32)>;

/// Somebody with all rights in the running system asks as the initramfs does.
pub(super) fn second_request(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let machine = Unattended::copied(set, guest, name, false)?;
    let booted = machine.comes_up()?;
    let steps = Steps::from_now(&machine.stage.services);
    let again = guest.run(
        "cd / && timeout 60 /usr/lib/bootkeep/bootkeep-initrd-agent listen & \
         sleep 2; timeout 60 /usr/lib/bootkeep/bootkeep-initrd-agent key | wc -c; wait",
        PATIENCE,
    )?;
    let told = again.text();
    set.progress.say(&format!("    {}", told.trim()));
    ensure!(told.contains(LATCHED), "the latch is not named: {told}");
    ensure!(
        told.lines().any(|line| line == "0"),
        "the running system got a key: {told}"
    );
    steps.lack(&machine.stage.services, SENT)?;
    booted.switch_off(&machine.stage.bay)
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
