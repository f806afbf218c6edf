//! Reboots with nobody at the owner's desk, also when the power goes at the worst moments.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use crate::{
    guest::Guest,
    reboots::{Steps, Unattended},
    services::Service,
    stage::{Boot, Booted, Set, GAVE_UP, OPEN, PATIENCE},
    tpm_tap::{self, Asked, TpmTap},
};

/// Most shares of one K that the verifier holds.
const MOST_SHARES: usize = 4;
/// The PCR that is extended before the key leaves the agent.
const LATCH: u32 = 15;

/// Two reboots; then the verifier falls back to an old copy of its store.
pub(super) fn reboots(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut machine = Unattended::copied(set, guest, name, false)?;
    let mut shares = machine.shares()?;
    ensure!(
        shares.len() == 1,
        "after provisioning the verifier holds {shares:?}"
    );
    let old = machine.keep_verifier()?;
    for reboot in 1..=2 {
        let begun = Instant::now();
        let booted = machine.comes_up()?;
        shares = machine.rotated(&shares)?;
        latched(guest)?;
        set.progress.say(&format!(
            "  reboot {reboot}: trusted after {} s, share {}",
            begun.elapsed().as_secs(),
            shares.concat()
        ));
        booted.switch_off(&machine.stage.bay)?;
    }
    // Whoever has a copy of an old V has nothing: the U that it fitted is gone.
    machine.put_back_verifier(&old)?;
    set.progress
        .say("  the verifier has an old copy of its store:");
    machine.stays_locked(Boot::default()).map(drop)
}

fn latched(guest: &Guest) -> Result<()> {
    let pcr = guest.ok("cat /sys/class/tpm/tpm0/pcr-sha256/15")?;
    ensure!(
        pcr.trim().chars().any(|digit| digit != '0'),
        "PCR 15 is not latched"
    );
    Ok(())
}

/// When the power goes.
enum Cut {
    /// The TPM has answered a command like this for the nth time, from 1, since U was first read.
    Tpm(fn(Asked) -> bool, u32),
    /// The console says this.
    Console(&'static str),
    /// The verifier logs this step.
    Step(&'static str),
}

/// Each boot gets to its cut only if the cuts before it have left a pair of shares that fits: PCR 15 is extended, and all
/// that follows is done, only once K is formed.
const CUTS: &[(&str, Cut)] = &[
    (
        "V had come",
        Cut::Console("share V of the verifier received"),
    ),
    ("U was read from NV", Cut::Tpm(reads_nv, 1)),
    ("PCR 15 was extended", Cut::Tpm(latches, 1)),
    ("the volume was open", Cut::Console(OPEN)),
    ("the new U was in NV", Cut::Tpm(writes_nv, 1)),
    ("the new U was acknowledged", Cut::Step("share-kept")),
    ("the initramfs had ended", Cut::Console("Switch Root")),
];

fn reads_nv(asked: Asked) -> bool {
    asked.code == tpm_tap::NV_READ
}

fn writes_nv(asked: Asked) -> bool {
    asked.code == tpm_tap::NV_WRITE
}

fn latches(asked: Asked) -> bool {
    asked.code == tpm_tap::PCR_EXTEND && asked.handle == LATCH
}

pub(super) fn power_cuts(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut machine = Unattended::copied(set, guest, name, false)?;
    for (when, cut) in CUTS {
        let steps = Steps::from_now(&machine.stage.services);
        let booted = machine.boot()?;
        cut.wait(&machine, &booted, steps)
            .with_context(|| format!("no power cut when {when}"))?;
        booted.cut_power();
        let shares = machine.shares()?;
        ensure!(
            (1..=MOST_SHARES).contains(&shares.len()),
            "the verifier holds {shares:?}"
        );
        set.progress.say(&format!(
            "  the power was cut when {when}; the verifier holds {} share(s)",
            shares.len()
        ));
    }
    let crashes = crashes(&mut machine)?;
    set.progress.say(&format!(
        "  the verifier was killed at {crashes} of its writes while the machine booted"
    ));
    let shares = machine.shares()?;
    let booted = machine.comes_up()?;
    machine.rotated(&shares)?;
    booted.switch_off(&machine.stage.bay)
}

impl Cut {
    fn wait(&self, machine: &Unattended<'_>, booted: &Booted, steps: Steps) -> Result<()> {
        match self {
            Self::Console(text) => {
                let serial = &booted.vm.serial;
                serial.wait(text, &[GAVE_UP], PATIENCE).map(drop)
            }
            Self::Tpm(wanted, times) => {
                let mut tap = TpmTap::on(&machine.stage.bay.tpm)?;
                for _ in 0..*times {
                    tap.wait(wanted, PATIENCE)?;
                }
                Ok(())
            }
            Self::Step(step) => steps.wait(&machine.stage.services, step, PATIENCE),
        }
    }
}

/// Boots the machine while the verifier is killed at its first write, then at its second, and so on.
fn crashes(machine: &mut Unattended<'_>) -> Result<u32> {
    const QUIET: Duration = Duration::from_secs(5);
    let booted = machine.boot()?;
    let end = Instant::now() + PATIENCE;
    let (mut crashes, mut spared) = (0, 0);
    while booted.vm.serial.find(OPEN).is_none() {
        if Instant::now() > end || booted.vm.serial.has_ended() {
            bail!("the root did not open after {crashes} crashes of the verifier");
        }
        for _ in 0..spared {
            let _ = machine
                .stage
                .services
                .wait_for_write(Service::Verifier, QUIET);
        }
        if machine
            .stage
            .services
            .crash_at_write(Service::Verifier, QUIET)?
        {
            (crashes, spared) = (crashes + 1, spared + 1);
        }
    }
    ensure!(crashes > 0, "the verifier wrote nothing");
    Ok(crashes)
}
