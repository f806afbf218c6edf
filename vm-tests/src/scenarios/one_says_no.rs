//! Only one of the two holders of shares refuses.
//!
//! The owner gives both the same policies. Here the copy that the verifier is to get is exchanged on the owner's disk,
//! between a first try while the machine is off and a second while it waits, so that the two disagree.

use std::{fs, path::Path};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::{
    guest::Guest,
    owner::said,
    stage::{Boot, Policies, Set, Stage},
};

/// The verifier's copy does not fit this boot, the tenant's does.
pub(super) fn verifier(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let (good, bad) = (set.policies(false), set.policies(true));
    let told = disagree(&set.stage(name, guest)?, &good, &bad.boot)?;
    ensure!(!told.contains("share-v-sent"), "V left: {told}");
    ensure!(
        told.contains("verifier"),
        "it is not said that the verifier refused: {told}"
    );
    Ok(())
}

/// The tenant's copy does not fit this boot, the verifier's does.
pub(super) fn tenant(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let (good, bad) = (set.policies(false), set.policies(true));
    let mixed = Policies {
        boot: bad.boot,
        runtime: good.runtime,
    };
    let told = disagree(&set.stage(name, guest)?, &mixed, &good.boot)?;
    ensure!(!told.contains("share-u-sent"), "U left: {told}");
    Ok(())
}

/// Provisions with `own` while the verifier is given `verifiers` as its boot policy; gives what was said.
fn disagree(stage: &Stage<'_>, own: &Policies, verifiers: &Path) -> Result<String> {
    let node = {
        let booted = stage.boot(Boot::default())?;
        stage.wait_until_waiting(&booted)?
    };
    let mut provision = stage.provision(&node, own);
    provision.timeout = 5;
    let off = stage.owner.provision(&provision)?.wait()?;
    ensure!(
        !off.status.success(),
        "a machine that is off was provisioned"
    );
    exchange_boot_policy(stage, &node, verifiers)?;
    let booted = stage.boot(Boot::default())?;
    provision.timeout = 120;
    let output = stage.owner.provision(&provision)?.wait()?;
    ensure!(!output.status.success(), "K was formed: {}", said(&output));
    booted.stays_locked()?;
    Ok(said(&output))
}

fn exchange_boot_policy(stage: &Stage<'_>, node: &str, policy: &Path) -> Result<()> {
    let journal = stage
        .owner
        .home
        .join("nodes")
        .join(node)
        .join("provisioning.json");
    let text = fs::read(&journal)
        .with_context(|| format!("no provisioning under way: {}", journal.display()))?;
    let mut value: Value = serde_json::from_slice(&text)?;
    value["enrolment"]["boot_policy"] = serde_json::from_slice(&fs::read(policy)?)?;
    Ok(fs::write(&journal, value.to_string())?)
}
