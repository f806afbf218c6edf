//! The main job, before your eyes: a machine proves itself, is unlocked, configured, watched, caught, and cut off.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use bootkeep_vm_tests::{
    bay::Bay,
    command,
    guest::Guest,
    pair::{self, Pair},
    progress::Progress,
    revocations::Violation,
    serial::Line,
    stage::{Booted, Policies, Provisioned, Set, Stage, PATIENCE},
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
    heading("Two machines are switched on: software TPMs, roots in LUKS. You see the console of `a` (UEFI)");
    let bay = stage.further_bay(1)?;
    let a = stage.boot_in(&stage.bay, pair::on_wire(true), Box::new(console))?;
    let b = stage.boot_in(&bay, pair::on_wire(false), Box::new(|_| {}))?;
    let b = pair::begin(&stage, &bay, b, false)?;
    let node = stage.wait_until_waiting(&a)?;
    provision(&stage, &node, &policies)?;
    let a = up(&stage, a, node)?;
    let b = b.finish(&bay)?;
    let pair = Pair::of(&stage, bay, a, b)?;
    look_inside(&pair)?;
    speak(&pair)?;
    tamper(&pair)?;
    println!(
        "\nLogs and state of this run: {}",
        stage.directory.display()
    );
    Ok(())
}

fn provision(stage: &Stage<'_>, node: &str, policies: &Policies) -> Result<()> {
    heading(&format!(
        "bootkeep provision {} --ipsec ipsec.yaml ...",
        &node[..12.min(node.len())]
    ));
    let provision = stage.provision(node, policies);
    let mut command = stage.owner.provision_command(&provision)?;
    let status = command
        .args(pair::arguments(&stage.bay)?)
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "`bootkeep provision` ended with {status}");
    Ok(())
}

/// Waits for the booted system.
fn up(stage: &Stage<'_>, mut booted: Booted, node: String) -> Result<Provisioned> {
    let alive = || booted.vm.is_running();
    stage.bay.guest.wait_until_up(PATIENCE, alive)?;
    Ok(Provisioned {
        booted,
        node,
        report: serde_json::Value::Null,
    })
}

fn look_inside(pair: &Pair<'_>) -> Result<()> {
    heading("Inside `a`");
    for shell in [
        "findmnt --noheadings --output SOURCE,FSTYPE,TARGET /",
        "cloud-init status --wait; cat /etc/bootkeep-applied",
        "cat /sys/class/tpm/tpm0/pcr-sha256/15",
    ] {
        in_guest(&pair.stage.bay, shell)?;
    }
    heading("At the owner");
    show(pair.stage.owner.bootkeep().arg("nodes"))
}

fn speak(pair: &Pair<'_>) -> Result<()> {
    heading("`a` and `b` speak with each other, through IPsec and in no other way. Inside `b`");
    pair.meet()?;
    let a = pair.stage.bay.address();
    in_guest(&pair.second_bay, &format!("ping -n -i 0.2 -c 3 {a}"))?;
    in_guest(&pair.second_bay, "swanctl --list-sas")?;
    println!("seen on the wire: {}", pair.nothing_in_clear()?);
    Ok(())
}

fn tamper(pair: &Pair<'_>) -> Result<()> {
    heading("Somebody brings a program that is not in the policy to `a`, and starts it");
    let (stage, first) = (pair.stage, pair.first.as_ref());
    let node = &first.context("`a` is off")?.node;
    let violation = Violation::commit(&stage.owner, &stage.bay, node, &pair.second.node)?;
    for (at, event) in violation.timeline() {
        println!("  {at:>6} ms  {event}");
    }
    heading("At the owner");
    show(stage.owner.bootkeep().args(["status", node]))?;
    show(stage.owner.bootkeep().arg("revocations"))?;
    heading("`b` speaks with `a` no more. Inside `b`");
    let a = stage.bay.address();
    in_guest(&pair.second_bay, &format!("ping -n -i 0.2 -W 1 -c 3 {a}"))?;
    in_guest(&pair.second_bay, "swanctl --list-sas; ip xfrm state")?;
    println!("seen on the wire: {}", pair.nothing_in_clear()?);
    // The last words of the console come with a delay.
    thread::sleep(Duration::from_millis(300));
    Ok(())
}

fn in_guest(bay: &Bay, shell: &str) -> Result<()> {
    println!(
        "# {shell}\n{}",
        bay.guest.run(shell, PATIENCE)?.text().trim_end()
    );
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
