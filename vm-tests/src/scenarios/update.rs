//! An update of what is booted, signed before it happens; then no way back.

use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};

use crate::{
    command,
    guest::Guest,
    image::initramfs,
    owner::said,
    reboots::{Steps, Unattended},
    stage::{Boot, Policies, Set, Stage},
};

/// The name of the boot policy.
const NAME: &str = "boots";
/// The machine's memory (MiB): QEMU writes the place of the initramfs into the kernel.
const MEMORY: &str = "1024";

/// A new initramfs is foretold, signed, booted with nobody at the desk; the old one is retired and refused.
pub(super) fn prove(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let say = |text: &str| set.progress.say(&format!("  {text}"));
    let stage = set.stage(name, guest)?;
    let policies = published(&stage, &set.policies(true))?;
    let machine = Unattended::provisioned_with(stage, true, &policies)?;
    let updated = initramfs::overlaid(
        &set.image.initrd(),
        &[("etc/updated", b"2\n".to_vec(), 0o644)],
        &machine.stage.directory,
    )?;

    let steps = Steps::from_now(&machine.stage.services);
    let booted = machine.comes_up()?;
    authorize(&machine, &updated)?;
    booted.switch_off(&machine.stage.bay)?;
    say("the new initramfs is signed; the machine reboots into it:");
    let shares = machine.shares()?;
    let booted = machine.comes_up_with(Boot {
        initrd: Some(updated),
        ..Boot::default()
    })?;
    machine.rotated(&shares)?;
    steps.lack(&machine.stage.services, "step=\"untrusted\"")?;
    say("trusted, and no alarm on the way");

    retire_old(&machine)?;
    booted.switch_off(&machine.stage.bay)?;
    say("the old boot is retired:");
    machine.gets_nothing(Boot::default()).map(drop)
}

/// Gives the verifier the boot policy under its name.
fn published(stage: &Stage<'_>, policies: &Policies) -> Result<Policies> {
    let mut publish = stage.owner.bootkeep();
    publish.args(["policy", "publish", "--name", NAME]);
    command::output(publish.arg(&policies.boot))?;
    Ok(Policies {
        boot: PathBuf::from(format!("@{NAME}")),
        runtime: policies.runtime.clone(),
    })
}

fn authorize(machine: &Unattended<'_>, initrd: &Path) -> Result<()> {
    let mut authorize = machine.stage.owner.bootkeep();
    authorize
        .args(["policy", "authorize", NAME, "--node", &machine.node])
        .args(["--push", "--qemu-memory", MEMORY, "--kernel"])
        .arg(machine.stage.set.image.kernel())
        .arg("--initrd")
        .arg(initrd);
    command::output(&mut authorize).map(drop)
}

/// Only the boot the machine is in now counts any more.
fn retire_old(machine: &Unattended<'_>) -> Result<()> {
    let owner = &machine.stage.owner;
    for arguments in [
        &[
            "policy",
            "authorize",
            NAME,
            "--node",
            &machine.node,
            "--fresh",
            "--retire-older",
            "--push",
        ][..],
        &["policy", "retire", "boot", NAME, "2"],
    ] {
        let done = owner.finish(arguments)?;
        ensure!(done.status.success(), "{arguments:?}: {}", said(&done));
    }
    Ok(())
}
