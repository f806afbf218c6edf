//! Disks that move, TPMs that are cleared, nodes that are revoked: locked.

use anyhow::{ensure, Context, Result};

use crate::{
    bay::Bay,
    guest::Guest,
    owner::said,
    reboots::{Steps, Unattended, SENT, UNATTENDED},
    stage::{Boot, Set, Stage},
    swtpm::SoftTpm,
};

/// One node, its disk in other machines; another node, which is revoked.
pub(super) fn stays_locked(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let say = |text: &str| set.progress.say(&format!("  {text}"));
    let mut one = Unattended::copied(set, guest, name, false)?;
    let bay = one.stage.further_bay(1)?;
    let other = enrol(&one.stage, &bay)?;

    say("the disk of one node in another that is enrolled:");
    let clone = one.clone_disk("clone.img")?;
    locked(
        &one.stage,
        &bay,
        &Boot {
            disk: Some(&clone),
            ..Boot::default()
        },
    )?;

    say("the other node, revoked:");
    let revoked = one
        .stage
        .owner
        .finish(&["revoke", &other, "--reason", "the test says so"])?;
    ensure!(
        revoked.status.success(),
        "`bootkeep revoke` said {}",
        said(&revoked)
    );
    let steps = Steps::from_now(&one.stage.services);
    let own = bay.directory.join("disk.img");
    locked(
        &one.stage,
        &bay,
        &Boot {
            disk: Some(&own),
            ..Boot::default()
        },
    )?;
    steps.lack(&one.stage.services, SENT)?;

    say("the disk with another TPM:");
    let tpm = one.stage.bay.tpm.clone();
    one.stage.bay.tpm = SoftTpm::made_by(&set.maker, &one.stage.directory.join("another-tpm"))?;
    one.gets_nothing(Boot::default())?;

    say("the TPM cleared:");
    tpm.clear().context("clearing the TPM")?;
    one.stage.bay.tpm = tpm;
    one.gets_nothing(Boot::default()).map(drop)
}

/// A second node of the same owner, switched off again.
fn enrol(stage: &Stage<'_>, bay: &Bay) -> Result<String> {
    let disk = bay.own_disk(&stage.set.image)?;
    let boot = Boot {
        disk: Some(&disk),
        ..Boot::default()
    };
    let booted = stage.boot_in(bay, boot, Box::new(|_| {}))?;
    let policies = stage.set.policies(false);
    let under_way = stage.begin_provisioning(booted, &policies, |provision| {
        provision.more.push(UNATTENDED.into());
    })?;
    let provisioned = under_way.finish(bay)?;
    provisioned.booted.switch_off(bay)?;
    Ok(provisioned.node)
}

fn locked(stage: &Stage<'_>, bay: &Bay, boot: &Boot<'_>) -> Result<()> {
    let boot = Boot {
        disk: boot.disk,
        ..Boot::default()
    };
    let booted = stage.boot_in(bay, boot, Box::new(|_| {}))?;
    let word = booted.last_word()?;
    stage.set.progress.say(&format!("    {word}"));
    Ok(())
}
