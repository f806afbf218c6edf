//! A network namespace of its own for the machines: their ports meet nobody's, nothing leaves this computer.

use std::{
    env,
    process::{Command, ExitCode},
};

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
        .arg(env::current_exe()?)
        .args(arguments)
        .status()
        .context("cannot run unshare (util-linux)")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
