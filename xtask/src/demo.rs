//! The main job, before your eyes: a machine proves itself, is unlocked, configured, watched, and caught.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use bootkeep_vm_tests::{
    command,
    guest::Guest,
    progress::Progress,
    serial::Line,
    stage::{Boot, Booted, Policies, Set, Stage, PATIENCE, USER_DATA},
};

use crate::workspace::Workspace;

/// What of the console tells the story.
const TOLD: &[&str] = &[
    "Linux version",
    "bootkeep",
    "Cryptography Setup for cryptroot",
    "Switch Root",
    "Welcome to Debian",
    "cloud-init.service",
    "Reached target multi-user",
];
/// A program that nobody listed.
const UNLISTED: &str = "/usr/local/bin/miner";

/// `cargo xtask demo`.
pub(crate) fn run(workspace: &Workspace, progress: Progress) -> Result<()> {
    let set = Set::prepare(&workspace.programs(), progress)?;
    let (guest, _server) = Guest::serve(0)?;
    set.learn_policies(&guest)?;
    heading("The owner: keys, configuration, three services");
    let stage = set.stage("demo", &guest)?;
    println!("home: {}", stage.owner.home.display());
    heading("What is good: policies of a known-good boot");
    let policies = set.policies(true);
    show(
        stage
            .owner
            .bootkeep()
            .args(["policy", "show"])
            .arg(&policies.boot),
    )?;
    heading("The machine is switched on: UEFI, software TPM, root in LUKS");
    let mut booted = stage.boot_watched(
        Boot {
            measured: true,
            ..Boot::default()
        },
        Box::new(console),
    )?;
    let node = stage.wait_until_waiting(&booted)?;
    provision(&stage, &node, &policies)?;
    look_inside(&stage, &mut booted, &node)?;
    tamper(&stage, &node)?;
    println!(
        "\nLogs and state of this run: {}",
        stage.directory.display()
    );
    Ok(())
}

fn provision(stage: &Stage<'_>, node: &str, policies: &Policies) -> Result<()> {
    heading(&format!(
        "bootkeep provision {}",
        &node[..12.min(node.len())]
    ));
    let user_data = stage.owner.home.join("user-data");
    std::fs::write(&user_data, USER_DATA)?;
    let status = stage
        .owner
        .bootkeep()
        .args([
            "provision",
            node,
            "--label",
            "demo",
            "--interval",
            "2",
            "--timeout",
            "300",
            "--luks-key",
        ])
        .arg(stage.set.image.luks_key())
        .arg("--user-data")
        .arg(user_data)
        .arg("--boot-policy")
        .arg(&policies.boot)
        .arg("--runtime-policy")
        .arg(&policies.runtime)
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "`bootkeep provision` ended with {status}");
    Ok(())
}

fn look_inside(stage: &Stage<'_>, booted: &mut Booted, node: &str) -> Result<()> {
    stage
        .bay
        .guest
        .wait_until_up(PATIENCE, || booted.vm.is_running())?;
    heading("Inside the machine");
    for shell in [
        "findmnt --noheadings --output SOURCE,FSTYPE,TARGET /",
        "cloud-init status --wait; cat /etc/bootkeep-applied",
        "cat /sys/class/tpm/tpm0/pcr-sha256/15",
    ] {
        println!(
            "# {shell}\n{}",
            stage.bay.guest.run(shell, PATIENCE)?.text().trim_end()
        );
    }
    heading("At the owner");
    show(stage.owner.bootkeep().args(["status", node]))
}

fn tamper(stage: &Stage<'_>, node: &str) -> Result<()> {
    heading("Somebody brings a program that is not in the policy, and starts it");
    stage
        .bay
        .guest
        .ok(&format!("cp /bin/true {UNLISTED} && echo x >> {UNLISTED}"))?;
    println!("# {UNLISTED}");
    let begun = Instant::now();
    stage.bay.guest.ok(UNLISTED)?;
    let status = stage.wait_for_state(node, "untrusted", Duration::from_secs(60))?;
    let took = begun.elapsed();
    show(stage.owner.bootkeep().args(["status", node]))?;
    ensure!(
        status["reasons"].to_string().contains(UNLISTED),
        "the reason does not name the file"
    );
    println!(
        "untrusted {} ms after it was started in the (emulated) machine",
        took.as_millis()
    );
    // The last words of the console come with a delay.
    thread::sleep(Duration::from_millis(300));
    Ok(())
}

fn console(line: &Line) {
    if TOLD.iter().any(|told| line.text.contains(told)) {
        let text: String = line.text.trim().chars().take(140).collect();
        println!("    console {:>6.1} s | {text}", line.at.as_secs_f64());
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Runs a command of the owner, shows what it prints. What it finds is not a failure of the demo.
fn show(command: &mut Command) -> Result<()> {
    let output = command::finish(command).context("the owner's command line")?;
    print!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
