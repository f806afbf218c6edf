//! Building.

use anyhow::Result;
use bootkeep_vm_tests::{command, image::product::PROGRAMS, progress::Progress};

use crate::workspace::Workspace;

/// The packages of the node's programs.
const NODE: [&str; 3] = [
    "bootkeep-initrd-agent",
    "bootkeep-runtime-agent",
    "bootkeep-cloud-init-handler",
];
/// The packages of the owner's programs.
const OWNER: [&str; 4] = [
    "bootkeep-registrar",
    "bootkeep-verifier",
    "bootkeep-ca",
    "bootkeep-tenant",
];

/// Builds all programs: the owner's quickly, the node's small.
pub(crate) fn everything(workspace: &Workspace, progress: Progress) -> Result<()> {
    progress.step("services and bootkeep (dev profile)", || {
        build(workspace, &OWNER, "dev")
    })?;
    node(workspace, progress)
}

/// As [`everything`], with the owner's programs that `cargo test` has just built: the same features, so nothing is
/// compiled twice.
pub(crate) fn everything_tested(workspace: &Workspace, progress: Progress) -> Result<()> {
    progress.step("services and bootkeep (as tested)", || {
        let as_tested = [
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
        ];
        command::output(workspace.cargo().args(as_tested)).map(drop)
    })?;
    node(workspace, progress)
}

/// Builds all programs as they are to be used.
pub(crate) fn release(workspace: &Workspace, progress: Progress) -> Result<()> {
    progress.step("services and bootkeep (release profile)", || {
        build(workspace, &OWNER, "release")
    })?;
    node(workspace, progress)
}

fn node(workspace: &Workspace, progress: Progress) -> Result<()> {
    progress.step("the node's programs (for size)", || {
        build(workspace, &NODE, "release-small")
    })?;
    for program in PROGRAMS {
        let size = workspace.programs().node.join(program).metadata()?.len();
        progress.say(&format!("  {program}: {:.2} MB", size as f64 / 1e6));
    }
    Ok(())
}

fn build(workspace: &Workspace, packages: &[&str], profile: &str) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--bins",
        "--profile",
        profile,
    ]);
    packages.iter().for_each(|package| {
        cargo.args(["--package", package]);
    });
    command::output(&mut cargo).map(drop)
}
