//! The main job, before your eyes: a machine proves itself, is unlocked, configured, watched, caught, and cut off.

use std::{fs, process::Stdio};

use anyhow::{ensure, Context, Result};
use bootkeep_vm_tests::{
    bay::Bay,
    command,
    guest::Guest,
    owner::said,
    pair::{self, Pair},
    progress::Progress,
    revocations::Violation,
    serial::Line,
    stage::{Booted, Policies, Provisioned, Set, Stage, PATIENCE},
};
use serde_json::Value;

use crate::workspace::Workspace;

/// What of the console tells the story: what stands before the words that matter, and how many of them.
const TOLD: &[(&str, usize)] = &[
    ("Linux version", 3),
    ("bootkeep: ", 40),
    ("Welcome to Debian", 8),
    ("charon is set up", 6),
];
/// Where a line on the screen should end.
const WIDTH: usize = 120;

/// `cargo xtask demo`.
pub(crate) fn run(workspace: &Workspace, progress: Progress) -> Result<()> {
    let set = Set::prepare(&workspace.programs(), progress)?;
    let (guest, _server) = Guest::serve(0)?;
    set.learn_policies(&guest)?;
    heading("1. The owner: keys, configuration, three services; policies of a known-good boot");
    let stage = set.stage("demo", &guest)?;
    println!("home: {}", stage.owner.home.display());
    let policies = set.policies(true);
    known_good(&policies)?;
    heading("2. Two machines are switched on: software TPMs, roots in LUKS. You see the console of `a` (UEFI)");
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

/// In a few words what the owner has said is good.
fn known_good(policies: &Policies) -> Result<()> {
    let boot: Value = serde_json::from_slice(&fs::read(&policies.boot)?)?;
    let runtime: Value = serde_json::from_slice(&fs::read(&policies.runtime)?)?;
    let count = |value: &Value| match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    println!(
        "boot policy: firmware, {} kernel, {} events of PCR 9 (command line, initramfs), {} more PCRs",
        count(&boot["boot_stages"]),
        count(&boot["events"]["9"]),
        count(&boot["pcrs"]),
    );
    println!("runtime policy: {} files", count(&runtime["files"]));
    Ok(())
}

fn provision(stage: &Stage<'_>, node: &str, policies: &Policies) -> Result<()> {
    heading(&format!(
        "3. bootkeep provision {} --ipsec ipsec.yaml ...\n   * this command, with its own look at the machine   v the verifier   n the node",
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
    heading(
        "4. Inside `a`: its root is open, what was sealed for it is in place, PCR 15 is latched",
    );
    for shell in [
        "findmnt --noheadings --output SOURCE,FSTYPE,TARGET /",
        "cloud-init status --wait | grep status; cat /etc/bootkeep-applied; echo",
        "cat /sys/class/tpm/tpm0/pcr-sha256/15",
    ] {
        in_guest(&pair.stage.bay, shell)?;
    }
    owners(pair.stage, &["nodes"])
}

fn speak(pair: &Pair<'_>) -> Result<()> {
    heading("5. `a` and `b` speak with each other, through IPsec and in no other way. Inside `b`");
    pair.meet()?;
    let a = pair.stage.bay.address();
    in_guest(&pair.second_bay, &format!("ping -n -i 0.2 -c 3 {a}"))?;
    in_guest(&pair.second_bay, ASSOCIATIONS)?;
    wire(pair)
}

fn tamper(pair: &Pair<'_>) -> Result<()> {
    heading("6. Somebody brings a program that is not in the policy to `a`, and starts it");
    let (stage, first) = (pair.stage, pair.first.as_ref());
    let node = &first.context("`a` is off")?.node;
    let violation = Violation::commit(&stage.owner, &stage.bay, node, &pair.second.node)?;
    for (at, event) in violation.timeline() {
        let event: String = event.chars().take(WIDTH).collect();
        println!("  {at:>6} ms  {event}");
    }
    owners(stage, &["status", node])?;
    owners(stage, &["revocations"])?;
    heading("7. `b` speaks with `a` no more. Inside `b`");
    let a = stage.bay.address();
    in_guest(&pair.second_bay, &format!("ping -n -i 0.2 -W 1 -c 3 {a}"))?;
    in_guest(&pair.second_bay, ASSOCIATIONS)?;
    wire(pair)
}

/// What of an association fits on a screen.
const ASSOCIATIONS: &str =
    "swanctl --list-sas 2>/dev/null | grep -E 'ESTABLISHED|INSTALLED|packets'; ip xfrm state count";

fn wire(pair: &Pair<'_>) -> Result<()> {
    let seen = pair.nothing_in_clear()?;
    println!(
        "seen on the wire: {} packets of ESP, {} of IKE, nothing in clear",
        seen["esp"], seen["ike"]
    );
    Ok(())
}

fn in_guest(bay: &Bay, shell: &str) -> Result<()> {
    println!(
        "# {shell}\n{}",
        bay.guest.run(shell, PATIENCE)?.text().trim_end()
    );
    Ok(())
}

/// Shows a line of the console if it belongs to the story: from the words that matter on.
fn console(line: &Line) {
    if let Some(text) = told(&line.text) {
        println!("    console {:>6.1} s | {text}", line.at.as_secs_f64());
    }
}

fn told(line: &str) -> Option<String> {
    let (mark, words) = TOLD.iter().find(|(mark, _)| line.contains(mark))?;
    let text = &line[line.find(mark)?..];
    // The kernel sometimes speaks into a line that is being written.
    let text = text.split('[').next().unwrap_or(text);
    let text = text.split_whitespace().take(*words);
    let text = text.collect::<Vec<_>>().join(" ");
    Some(text.chars().take(WIDTH).collect())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Runs `bootkeep` and shows what it prints. What it finds is not a failure of the demo.
fn owners(stage: &Stage<'_>, arguments: &[&str]) -> Result<()> {
    let output = command::finish(stage.owner.bootkeep().args(arguments))?;
    println!(
        "\n$ bootkeep {}\n{}",
        arguments.join(" "),
        said(&output).trim_end()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn the_console_is_shown_from_the_words_that_matter() {
        let cases = [
            (
                "[   43.28] bootkeep-initrd-agent[247]: bootkeep: the volume cryptroot is open",
                Some("bootkeep: the volume cryptroot is open"),
            ),
            (
                "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)",
                Some("Linux version 6.1.0-56-cloud-amd64"),
            ),
            (
                "[  OK  ] Listening on bootkeep-init...keep: key of the volume",
                None,
            ),
        ];
        for (line, wanted) in cases {
            assert_eq!(told(line).as_deref(), wanted, "{line}");
        }
    }
}
