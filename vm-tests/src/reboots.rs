//! A machine that is switched on again and again, and opens its root without its owner.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use crate::{
    bay::copy_disk,
    cache::remove,
    command,
    guest::Guest,
    owner::Owner,
    serial::Watcher,
    services::{Service, Services},
    stage::{Boot, Booted, Policies, Set, Stage, GAVE_UP, OPEN, PATIENCE},
    swtpm::SoftTpm,
};

/// What `bootkeep provision` is told beside what every machine is.
pub const UNATTENDED: &str = "--unattended";

/// The step that the verifier logs when a node has taken V.
pub const SENT: &str = "step=\"share-v-sent\"";
/// What it logs when it has sent V and the node did not take it.
const NOT_TAKEN: &str = "share V was not taken";
/// How long the acknowledgement of a new U may take after the root is open.
const ACKNOWLEDGED: Duration = Duration::from_secs(60);

fn offline_key(owner: &Owner) -> PathBuf {
    owner.home.join("offline.key")
}

/// Makes the key that recovery keys are sealed to.
fn make_recovery_keys(owner: &Owner) -> Result<()> {
    let mut keygen = owner.bootkeep();
    keygen.args(["recovery", "keygen", "--out"]);
    command::output(keygen.arg(offline_key(owner))).map(drop)
}

/// Nodes that were provisioned for unattended reboots and switched off in order, one for each firmware. Scenarios go on
/// from copies of them.
#[derive(Debug, Default)]
pub struct Enrolled {
    seabios: OnceCell<Asleep>,
    ovmf: OnceCell<Asleep>,
}

/// A node that is off.
#[derive(Clone, Debug)]
struct Asleep {
    owner: Owner,
    tpm: SoftTpm,
    disk: PathBuf,
    node: String,
}

impl Enrolled {
    fn of(&self, set: &Set, guest: &Guest, measured: bool) -> Result<&Asleep> {
        let (cell, name) = if measured {
            (&self.ovmf, "unattended-ovmf")
        } else {
            (&self.seabios, "unattended-seabios")
        };
        if cell.get().is_none() {
            let text = format!("a node for unattended reboots ({name})");
            let asleep = set
                .progress
                .step(&text, || enrol(set, guest, name, measured))?;
            let _ = cell.set(asleep);
        }
        cell.get().context("no node was enrolled")
    }
}

fn enrol(set: &Set, guest: &Guest, name: &str, measured: bool) -> Result<Asleep> {
    let machine = Unattended::provisioned(set.stage(name, guest)?, measured)?;
    let Unattended {
        stage, disk, node, ..
    } = machine;
    Ok(Asleep {
        owner: stage.owner.clone(),
        tpm: stage.bay.tpm.clone(),
        disk,
        node,
    })
}

/// One machine with its own disk and TPM, enrolled for unattended reboots, switched off.
#[derive(Debug)]
pub struct Unattended<'a> {
    /// Its owner, and where it stands.
    pub stage: Stage<'a>,
    /// Its id.
    pub node: String,
    /// Its disk.
    pub disk: PathBuf,
    measured: bool,
}

impl<'a> Unattended<'a> {
    /// Provisions a new machine and switches it off.
    ///
    /// # Errors
    /// When it does not become trusted.
    pub fn provisioned(stage: Stage<'a>, measured: bool) -> Result<Self> {
        let policies = stage.set.policies(measured);
        Self::provisioned_with(stage, measured, &policies)
    }

    /// The same with other policies.
    ///
    /// # Errors
    /// When it does not become trusted.
    pub fn provisioned_with(stage: Stage<'a>, measured: bool, policies: &Policies) -> Result<Self> {
        make_recovery_keys(&stage.owner)?;
        let disk = stage.bay.own_disk(&stage.set.image)?;
        let boot = Boot {
            measured,
            disk: Some(&disk),
            ..Boot::default()
        };
        let booted = stage.boot(boot)?;
        let under_way = stage.begin_provisioning(booted, policies, |provision| {
            provision.more.push(UNATTENDED.into());
        })?;
        let provisioned = under_way.finish(&stage.bay)?;
        provisioned.booted.switch_off(&stage.bay)?;
        Ok(Self {
            node: provisioned.node,
            stage,
            disk,
            measured,
        })
    }

    /// A copy of the machine that this run has provisioned, with a copy of its owner.
    ///
    /// # Errors
    /// When there is none and none can be provisioned.
    pub fn copied(set: &'a Set, guest: &Guest, name: &str, measured: bool) -> Result<Self> {
        let asleep = set.enrolled.of(set, guest, measured)?;
        let mut stage = set.stage_of(&asleep.owner, name, guest)?;
        stage.bay.tpm = asleep.tpm.copy_to(&stage.bay.directory.join("tpm"))?;
        let disk = stage.bay.directory.join("disk.img");
        copy_disk(&asleep.disk, &disk)?;
        Ok(Self {
            stage,
            node: asleep.node.clone(),
            disk,
            measured,
        })
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot(&self) -> Result<Booted> {
        self.boot_with(Boot::default())
    }

    /// Switches it on otherwise: its firmware and, where nothing else is said, its disk are its own.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot_with(&self, boot: Boot<'_>) -> Result<Booted> {
        let silent: Watcher = Box::new(|_| {});
        let boot = Boot {
            measured: self.measured,
            disk: boot.disk.or(Some(&self.disk)),
            ..boot
        };
        self.stage.boot_in(&self.stage.bay, boot, silent)
    }

    /// Switches it on and waits until its root is open, with nobody's help.
    ///
    /// # Errors
    /// When it does not open.
    pub fn opens(&self) -> Result<Booted> {
        let booted = self.boot()?;
        booted.vm.serial.wait(OPEN, &[GAVE_UP], PATIENCE)?;
        Ok(booted)
    }

    /// The same, and waits until it is trusted and can be spoken to.
    ///
    /// # Errors
    /// When it is not.
    pub fn comes_up(&self) -> Result<Booted> {
        self.comes_up_with(Boot::default())
    }

    /// The same, switched on otherwise.
    ///
    /// # Errors
    /// When it is not.
    pub fn comes_up_with(&self, boot: Boot<'_>) -> Result<Booted> {
        let mut booted = self.boot_with(boot)?;
        booted.vm.serial.wait(OPEN, &[GAVE_UP], PATIENCE)?;
        let alive = || booted.vm.is_running();
        self.stage.bay.guest.wait_until_up(PATIENCE, alive)?;
        self.stage
            .wait_for_state(&self.node, "trusted", PATIENCE)
            .context("after an unattended reboot")?;
        Ok(booted)
    }

    /// Ids of the splits of K whose V the verifier holds, newest first.
    ///
    /// # Errors
    /// When `bootkeep status` does not tell.
    pub fn shares(&self) -> Result<Vec<String>> {
        let status = self.stage.status(&self.node)?;
        let shares = status["unattended"]["shares"].as_array();
        let ids = shares.with_context(|| format!("no shares are told: {status}"))?;
        Ok(ids
            .iter()
            .filter_map(|id| id.as_str().map(String::from))
            .collect())
    }

    /// Waits until the verifier holds one share, and none of these.
    ///
    /// # Errors
    /// When the node does not acknowledge a new one in a minute.
    pub fn rotated(&self, old: &[String]) -> Result<Vec<String>> {
        let end = Instant::now() + ACKNOWLEDGED;
        loop {
            let shares = self.shares()?;
            if matches!(shares.as_slice(), [one] if !old.contains(one)) {
                return Ok(shares);
            }
            ensure!(
                Instant::now() < end,
                "V was not made anew: before {old:?}, now {shares:?}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Switches it on: its root must stay locked, and the verifier must send nothing. Gives the console's words on it.
    ///
    /// # Errors
    /// When its root opens, or V left.
    pub fn gets_nothing(&self, boot: Boot<'_>) -> Result<String> {
        let steps = Steps::from_now(&self.stage.services);
        let said = self.stays_locked(boot)?;
        for sent in [SENT, NOT_TAKEN] {
            steps.lack(&self.stage.services, sent)?;
        }
        Ok(said)
    }

    /// Switches it on: its root must stay locked. Gives the console's words on it.
    ///
    /// # Errors
    /// When its root opens.
    pub fn stays_locked(&self, boot: Boot<'_>) -> Result<String> {
        let booted = self.boot_with(boot)?;
        let said = booted.last_word()?;
        self.stage.set.progress.say(&format!("    {said}"));
        Ok(said)
    }

    /// A copy of the verifier's state as it is now.
    ///
    /// # Errors
    /// When it cannot be copied or the verifier does not come up again.
    pub fn keep_verifier(&mut self) -> Result<PathBuf> {
        let kept = self.stage.directory.join("verifier-kept");
        self.exchange(&self.verifier(), &kept)?;
        Ok(kept)
    }

    /// The verifier falls back to such a copy.
    ///
    /// # Errors
    /// As [`Unattended::keep_verifier`].
    pub fn put_back_verifier(&mut self, kept: &Path) -> Result<()> {
        let state = self.verifier();
        self.exchange(kept, &state)
    }

    fn verifier(&self) -> PathBuf {
        self.stage.owner.home.join(Service::Verifier.name())
    }

    fn exchange(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.stage.services.stop(Service::Verifier);
        remove(to)?;
        command::output(Command::new("cp").arg("--archive").args([from, to]))?;
        self.stage.services.start_one(Service::Verifier)
    }

    /// The recovery key of its volume, read out with the owner's offline key.
    ///
    /// # Errors
    /// When `bootkeep recovery show` does not tell.
    pub fn recovery_key(&self) -> Result<String> {
        let key = offline_key(&self.stage.owner).display().to_string();
        let show = ["recovery", "show", &self.node, "--key", &key];
        let shown = self.stage.owner.json(&show)?;
        let key = shown["keys"][0]["key"].as_str();
        Ok(key.context("no recovery key is told")?.to_owned())
    }

    /// Waits until the node has told the verifier this; gives the words.
    ///
    /// # Errors
    /// When it does not in a minute.
    pub fn claims(&self, code: &str) -> Result<String> {
        let end = Instant::now() + ACKNOWLEDGED;
        loop {
            let status = self.stage.status(&self.node)?;
            let claims = status["claims"].as_array().map_or(&[][..], Vec::as_slice);
            if let Some(claim) = claims.iter().find(|claim| claim["code"] == code) {
                return Ok(claim["detail"].as_str().unwrap_or_default().to_owned());
            }
            ensure!(Instant::now() < end, "no claim {code}: {status}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// A disk like its own, for another machine.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn clone_disk(&self, name: &str) -> Result<PathBuf> {
        let disk = self.stage.directory.join(name);
        copy_disk(&self.disk, &disk)?;
        Ok(disk)
    }
}

/// What the verifier logs from some time on.
#[derive(Clone, Copy, Debug)]
pub struct Steps(usize);

impl Steps {
    /// From now on.
    #[must_use]
    pub fn from_now(services: &Services) -> Self {
        Self(services.log(Service::Verifier).len())
    }

    /// Waits until this step is logged.
    ///
    /// # Errors
    /// When it is not in this time.
    pub fn wait(self, services: &Services, step: &str, limit: Duration) -> Result<()> {
        let step = format!("step={step:?}");
        let end = Instant::now() + limit;
        while self.count(services, &step) == 0 {
            ensure!(Instant::now() < end, "the verifier has not logged {step}");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// How many lines with this were logged.
    #[must_use]
    pub fn count(self, services: &Services, wanted: &str) -> usize {
        let log = services.log(Service::Verifier);
        let new = log.get(self.0..).unwrap_or_default();
        new.lines().filter(|line| line.contains(wanted)).count()
    }

    /// Nothing like this was logged.
    ///
    /// # Errors
    /// When it was.
    pub fn lack(self, services: &Services, unwanted: &str) -> Result<()> {
        ensure!(
            self.count(services, unwanted) == 0,
            "the verifier logged {unwanted}"
        );
        Ok(())
    }
}
