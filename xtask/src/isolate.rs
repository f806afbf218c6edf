//! A network namespace of its own for the machines: their ports meet nobody's, nothing leaves this computer.

use std::process::{self, Command, ExitCode};

use anyhow::{Context, Result};

/// Runs `cargo xtask inside ...` in a new network namespace that has only a loopback interface.
pub(crate) fn again(arguments: &[&str]) -> Result<ExitCode> {
    let status = Command::new("unshare")
        .args([
            "--net",
            "--",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\" inside \"$@\"",
        ])
        // Not by its path: a build of the whole workspace, as tests make one, puts another file there.
        .arg(format!("/proc/{}/exe", process::id()))
        .args(arguments)
        .status()
        .context("cannot run unshare (util-linux)")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
