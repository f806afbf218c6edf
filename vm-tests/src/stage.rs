//! Everything that one scenario needs, in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use crate::{
    bay::Bay,
    cache::{remove, Cache},
    command::{self, Background},
    guest::{Guest, Seed},
    image::{initramfs, Image, Kind, Product, VOLUME_UUID},
    owner::{Owner, Provision, Provisioning, EXCLUDES},
    progress::Progress,
    qemu::{Disk, Firmware, Machine, Vm},
    reboots::Enrolled,
    serial::Watcher,
    services::Services,
    swtpm::{self, Manufacturer},
};

/// How long one phase of a boot may take under emulation on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What all scenarios share.
#[derive(Debug)]
pub struct Set {
    /// Built things.
    pub cache: Cache,
    /// What is installed on the machine.
    pub product: Product,
    /// The machine.
    pub image: Image,
    /// The manufacturer of honest TPMs.
    pub maker: Manufacturer,
    /// The owner, before the first node.
    pub owner: Owner,
    /// Nodes that reboot without their owner.
    pub enrolled: Enrolled,
    /// The time line.
    pub progress: Progress,
}

/// Where the built programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The work tree.
    pub tree: PathBuf,
    /// Where built things are kept.
    pub cache: PathBuf,
    /// Services and the owner's command line.
    pub host: PathBuf,
    /// The node's programs, built small.
    pub node: PathBuf,
}

impl Set {
    /// Makes or takes everything that is kept.
    ///
    /// # Errors
    /// When a part cannot be built.
    pub fn prepare(programs: &Programs, progress: Progress) -> Result<Self> {
        let cache = Cache::at(&programs.cache)?;
        let maker = swtpm::manufacturer(&cache)?;
        let owner = Owner::template(&cache, &programs.host, &programs.tree, &maker)?;
        let product = Product {
            tree: programs.tree.clone(),
            programs: programs.node.clone(),
            services: programs.host.clone(),
            node: owner.node_files(),
        };
        let image = Image::build(&cache, &product, progress)?;
        Ok(Self {
            cache,
            product,
            image,
            maker,
            owner,
            enrolled: Enrolled::default(),
            progress,
        })
    }

    /// The same with another kind of machine, whose image is made when it is not at hand. It has no policies yet.
    ///
    /// # Errors
    /// When the image cannot be built.
    pub fn of_kind(&self, kind: Kind) -> Result<Self> {
        Ok(Self {
            cache: self.cache.clone(),
            product: self.product.clone(),
            image: Image::build_kind(&self.cache, &self.product, kind, self.progress)?,
            maker: swtpm::manufacturer(&self.cache)?,
            owner: self.owner.clone(),
            enrolled: Enrolled::default(),
            progress: self.progress,
        })
    }

    /// Boots the image once on each firmware and makes policies of that known-good boot; kept with the image.
    /// To be called before the first stage.
    ///
    /// # Errors
    /// When a boot or `bootkeep policy create` fails.
    pub fn learn_policies(&self, guest: &Guest) -> Result<()> {
        for measured in [false, true] {
            let name = known_good(measured);
            let recipe = self
                .image
                .recipe()?
                .text(name)
                .text(include_str!("owner.rs"))
                .text(include_str!("qemu.rs"));
            self.cache.once(name, &recipe, |path| {
                self.progress
                    .step(&format!("policies of a known-good boot ({name})"), || {
                        self.learn(guest, name, measured, path)
                    })
            })?;
        }
        Ok(())
    }

    /// The policies of the known-good boot on this firmware.
    #[must_use]
    pub fn policies(&self, measured: bool) -> Policies {
        let directory = self.cache.root().join(known_good(measured));
        Policies {
            boot: directory.join("boot.json"),
            runtime: directory.join("runtime.json"),
        }
    }

    fn learn(&self, guest: &Guest, name: &str, measured: bool, path: &Path) -> Result<()> {
        let stage = self.stage(name, guest)?;
        let booted = stage.boot(Boot {
            measured,
            ..Boot::default()
        })?;
        let node = stage.wait_until_waiting(&booted)?;
        stage.owner.boot_policy(&node, &path.join("boot.json"))?;
        stage
            .owner
            .runtime_policy(&self.image, &node, &path.join("runtime.json"))
    }

    /// A stage for this scenario, with services running.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn stage(&self, name: &str, guest: &Guest) -> Result<Stage<'_>> {
        self.stage_of(&self.owner, name, guest)
    }

    /// The same with a copy of this owner, whose services are off.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn stage_of(&self, owner: &Owner, name: &str, guest: &Guest) -> Result<Stage<'_>> {
        let directory = self.cache.root().join("runs").join(name);
        remove(&directory)?;
        fs::create_dir_all(&directory)?;
        let owner = owner.copy_to(&directory.join("home"))?;
        let services = Services::start(&owner, &directory)?;
        let bay = Bay::first(&directory, &self.maker, guest)?;
        Ok(Stage {
            set: self,
            directory,
            owner,
            services,
            bay,
        })
    }
}

fn known_good(measured: bool) -> &'static str {
    if measured {
        "known-good-ovmf"
    } else {
        "known-good-seabios"
    }
}

/// One scenario's world.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What is shared.
    pub set: &'a Set,
    /// Logs and state.
    pub directory: PathBuf,
    /// The owner.
    pub owner: Owner,
    /// The owner's services.
    pub services: Services,
    /// Where the machine stands.
    pub bay: Bay,
}

/// How a machine is switched on.
#[derive(Debug, Default)]
pub struct Boot<'a> {
    /// OVMF instead of SeaBIOS.
    pub measured: bool,
    /// Added to the kernel command line.
    pub cmdline: &'a str,
    /// Laid over the initramfs.
    pub overlay: Vec<(&'a str, Vec<u8>, u32)>,
    /// What the cloud's metadata service says.
    pub seed: Seed,
    /// A disk that keeps what is written to it; without one it is the image's, and what is written is thrown away.
    pub disk: Option<&'a Path>,
    /// A further disk.
    pub second_disk: Option<PathBuf>,
    /// What QEMU's user network is to be, as its own options (`ipv4=off`).
    pub network: &'a str,
    /// A further network interface that nobody answers on.
    pub idle_nic: bool,
    /// An interface to the other machines.
    pub on_wire: bool,
    /// Ports of the host's loopback interface, and which ports of the machine they lead to.
    pub forwards: &'a [(u16, u16)],
    /// Another initramfs than the image's.
    pub initrd: Option<PathBuf>,
}

/// Policies of a known-good boot.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Of firmware, kernel, command line, initramfs.
    pub boot: PathBuf,
    /// Of the programs that may run.
    pub runtime: PathBuf,
}

/// A node that is being provisioned.
#[derive(Debug)]
pub struct UnderWay {
    booted: Booted,
    node: String,
    provisioning: Provisioning,
}

impl UnderWay {
    /// The machine.
    #[must_use]
    pub fn booted(&self) -> &Booted {
        &self.booted
    }

    /// Waits until the owner has been told that the node is trusted; nothing is asked of the booted system.
    ///
    /// # Errors
    /// When `bootkeep provision` fails.
    pub fn trusted(self) -> Result<(Booted, String)> {
        self.provisioning.succeed()?;
        Ok((self.booted, self.node))
    }

    /// Waits until the node is trusted and can be spoken to.
    ///
    /// # Errors
    /// When `bootkeep provision` fails or the booted system does not come up.
    pub fn finish(mut self, bay: &Bay) -> Result<Provisioned> {
        let output = self.provisioning.succeed()?;
        bay.guest
            .wait_until_up(PATIENCE, || self.booted.vm.is_running())?;
        let report = serde_json::from_slice(&output.stdout)
            .context("`bootkeep provision` printed no JSON")?;
        Ok(Provisioned {
            booted: self.booted,
            node: self.node,
            report,
        })
    }
}

/// A node that was provisioned and is trusted.
#[derive(Debug)]
pub struct Provisioned {
    /// The machine.
    pub booted: Booted,
    /// Its id.
    pub node: String,
    /// What `bootkeep provision` printed.
    pub report: Value,
}

/// A machine that was switched on, with its TPM.
#[derive(Debug)]
pub struct Booted {
    /// The machine.
    pub vm: Vm,
    tpm: Background,
}

impl Drop for Booted {
    /// Cuts the machine's power. Its TPM then ends by itself: one that is killed falls back in time.
    fn drop(&mut self) {
        self.vm.switch_off();
        self.tpm.wait_until_gone(Duration::from_secs(10));
    }
}

impl Booted {
    /// Cuts the machine's power at once. Its TPM gets no TPM2_Shutdown.
    pub fn cut_power(self) {}

    /// Has the running system switch the machine off.
    ///
    /// # Errors
    /// When it does not.
    pub fn switch_off(mut self, bay: &Bay) -> Result<()> {
        bay.guest.ok("systemctl poweroff --no-block")?;
        ensure!(
            self.vm.wait_until_off(PATIENCE),
            "the machine did not switch itself off"
        );
        Ok(())
    }

    /// Waits until its console says that it is refused, waits for its owner or has given up, and watches it for a while: its
    /// root must not open. Gives the last of its words.
    ///
    /// # Errors
    /// When it says nothing of that, or its root is open.
    pub fn last_word(&self) -> Result<String> {
        const OURS: &str = "bootkeep: ";
        let serial = &self.vm.serial;
        serial.wait_for_any(&[REFUSED, GAVE_UP, WAITING], &[OPEN], PATIENCE)?;
        self.stays_locked()?;
        let said = serial
            .find_last(OURS)
            .context("the agent said nothing")?
            .text;
        let from = said.find(OURS).unwrap_or(0);
        Ok(said[from..].to_owned())
    }

    /// Watches the machine for a while: its root must not open.
    ///
    /// # Errors
    /// When it does.
    pub fn stays_locked(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end && !self.vm.serial.has_ended() {
            thread::sleep(Duration::from_millis(100));
        }
        match self
            .vm
            .serial
            .find(OPEN)
            .or_else(|| self.vm.serial.find("Found device dev-mapper-cr"))
        {
            Some(line) => bail!("the root was opened: {}", line.text),
            None => Ok(()),
        }
    }
}

/// The kernel command line of the image.
#[must_use]
pub fn cmdline(more: &str) -> String {
    format!(
        "console=ttyS0 root=/dev/mapper/cryptroot ro rd.luks.name={VOLUME_UUID}=cryptroot ima_policy=tcb rd.emergency=poweroff panic=5 systemd.show_status=1 {more}"
    )
    .trim_end()
    .to_owned()
}

impl Stage<'_> {
    /// Switches the machine on.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot(&self, boot: Boot<'_>) -> Result<Booted> {
        self.boot_watched(boot, Box::new(|_| {}))
    }

    /// Switches the machine on while someone watches its console.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot_watched(&self, boot: Boot<'_>, watcher: Watcher) -> Result<Booted> {
        self.boot_in(&self.bay, boot, watcher)
    }

    /// One more place for a machine that runs at the same time as others.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn further_bay(&self, number: u8) -> Result<Bay> {
        let directory = self.directory.join(format!("machine-{number}"));
        Bay::further(number, directory, &self.set.maker)
    }

    /// Switches the machine in this bay on while someone watches its console.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot_in(&self, bay: &Bay, boot: Boot<'_>, watcher: Watcher) -> Result<Booted> {
        bay.guest.reset(boot.seed);
        let image = &self.set.image;
        let plain = boot.initrd.unwrap_or_else(|| image.initrd());
        let initrd = match boot.overlay.as_slice() {
            [] => plain,
            overlay => initramfs::overlaid(&plain, overlay, &bay.directory)?,
        };
        let image_disk = image.disk();
        let tpm = bay.tpm.start()?;
        let machine = Machine {
            firmware: if boot.measured {
                Firmware::Ovmf
            } else {
                Firmware::SeaBios
            },
            kernel: &image.kernel(),
            initrd: &initrd,
            cmdline: &cmdline(boot.cmdline),
            disk: boot.disk.map_or(Disk::Fresh(&image_disk), Disk::Own),
            second_disk: boot.second_disk.as_deref(),
            network: boot.network,
            idle_nic: boot.idle_nic,
            number: bay.number,
            on_wire: boot.on_wire,
            forwards: boot.forwards,
        };
        let vm = machine.start(&bay.tpm, &bay.directory, watcher)?;
        Ok(Booted { vm, tpm })
    }

    /// The ids of all registered nodes.
    ///
    /// # Errors
    /// When `bootkeep nodes` fails.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let nodes = self.owner.json(&["nodes"])?;
        let list = nodes
            .as_array()
            .or_else(|| nodes["nodes"].as_array())
            .map_or(&[][..], Vec::as_slice);
        Ok(list
            .iter()
            .filter_map(|node| node["node_id"].as_str().map(String::from))
            .collect())
    }

    /// Waits until the node is registered and its link is open; gives its id.
    ///
    /// # Errors
    /// When the console says that it failed, or it takes too long.
    pub fn wait_until_waiting(&self, booted: &Booted) -> Result<String> {
        let serial = &booted.vm.serial;
        serial.wait(WAITING, &[GAVE_UP, REFUSED], PATIENCE)?;
        self.wait_until_registered(booted)
    }

    /// Waits until the node is registered, whatever the verifier thinks of it; gives its id.
    ///
    /// # Errors
    /// When the console says that it gave up, or it takes too long.
    pub fn wait_until_registered(&self, booted: &Booted) -> Result<String> {
        let serial = &booted.vm.serial;
        let said = serial.wait(REGISTERED, &[GAVE_UP], PATIENCE)?.text;
        let short = said
            .split_once(REGISTERED)
            .map_or("", |(_, id)| id.trim())
            .to_owned();
        let mut nodes = self.nodes()?;
        nodes.retain(|id| !short.is_empty() && id.starts_with(&short));
        match nodes.as_slice() {
            [id] => Ok(id.clone()),
            other => bail!("the console said {said:?}, the registrar knows {other:?}"),
        }
    }

    /// Boots, provisions with the policies of a known-good boot, and waits until the node is trusted and can be spoken to.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn provisioned(&self, boot: Boot<'_>) -> Result<Provisioned> {
        self.provisioned_with(boot, |_| {})
    }

    /// The same with other arguments of `bootkeep provision`.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn provisioned_with(
        &self,
        boot: Boot<'_>,
        change: impl FnOnce(&mut Provision<'_>),
    ) -> Result<Provisioned> {
        let policies = self.set.policies(boot.measured);
        let booted = self.boot(boot)?;
        self.begin_provisioning(booted, &policies, change)?
            .finish(&self.bay)
    }

    /// Boots, makes policies of this very boot while it waits for its key, provisions, and waits until the node is trusted
    /// and can be spoken to.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn provisioned_as_booted(&self, boot: Boot<'_>) -> Result<Provisioned> {
        self.begin_as_booted(boot)?.finish(&self.bay)
    }

    /// The same, up to the start of the provisioning.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn begin_as_booted(&self, boot: Boot<'_>) -> Result<UnderWay> {
        let booted = self.boot(boot)?;
        let node = self.wait_until_waiting(&booted)?;
        let policies = Policies {
            boot: self.directory.join("boot.json"),
            runtime: self.directory.join("runtime.json"),
        };
        self.owner.boot_policy(&node, &policies.boot)?;
        self.runtime_policy_of_this_boot(&node, &policies.runtime)?;
        self.begin_provisioning(booted, &policies, |_| {})
    }

    /// As the owner's, and without what initramfs-tools reads of the root that it has mounted at `/root`.
    fn runtime_policy_of_this_boot(&self, node: &str, policy: &Path) -> Result<()> {
        let image = &self.set.image;
        let mut create = self.owner.bootkeep();
        create
            .args(["policy", "create", "runtime", "--node", node, "--rootfs"])
            .arg(image.rootfs())
            .arg("--initramfs")
            .arg(image.initramfs())
            .arg("-o")
            .arg(policy);
        for glob in EXCLUDES.iter().chain(["/root/etc/fstab"].iter()) {
            create.args(["--exclude", glob]);
        }
        command::output(&mut create).map(drop)
    }

    /// Waits until the machine asks for its key, and starts to provision it.
    ///
    /// # Errors
    /// When it does not ask, or `bootkeep provision` cannot start.
    pub fn begin_provisioning(
        &self,
        booted: Booted,
        policies: &Policies,
        change: impl FnOnce(&mut Provision<'_>),
    ) -> Result<UnderWay> {
        let node = self.wait_until_waiting(&booted)?;
        self.begin_provisioning_of(node, booted, policies, change)
    }

    /// Starts to provision the machine that has this id.
    ///
    /// # Errors
    /// When `bootkeep provision` cannot start.
    pub fn begin_provisioning_of(
        &self,
        node: String,
        booted: Booted,
        policies: &Policies,
        change: impl FnOnce(&mut Provision<'_>),
    ) -> Result<UnderWay> {
        let mut provision = self.provision(&node, policies);
        change(&mut provision);
        let provisioning = self.owner.provision(&provision)?;
        Ok(UnderWay {
            booted,
            node,
            provisioning,
        })
    }

    /// What `bootkeep provision` is given for this machine.
    #[must_use]
    pub fn provision<'b>(&self, node: &'b str, policies: &'b Policies) -> Provision<'b> {
        Provision {
            node,
            luks_key: self.set.image.luks_key(),
            user_data: Some(USER_DATA),
            user_data_key: None,
            policies,
            timeout: 300,
            reinstate: false,
            more: Vec::new(),
        }
    }

    /// Waits until the verifier tells this state.
    ///
    /// # Errors
    /// When it does not in this time.
    pub fn wait_for_state(&self, node: &str, state: &str, limit: Duration) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            let status = self.status(node)?;
            if status["state"] == state {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "the node did not become {state} within {} s: {status}",
                    limit.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The node's state and reasons as the verifier tells them.
    ///
    /// # Errors
    /// When `bootkeep status` fails.
    pub fn status(&self, node: &str) -> Result<Value> {
        let output = self.owner.finish(&["--output", "json", "status", node])?;
        let value: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`bootkeep status` said {}", crate::owner::said(&output)))?;
        Ok(value["verifier"].clone())
    }
}

/// What the initramfs says before the first digits of its id.
const REGISTERED: &str = "bootkeep: registered as ";
/// What the initramfs says when it has registered and its link is open.
pub const WAITING: &str = "link to the verifier is open";
/// What it says when a service refuses it.
pub const REFUSED: &str = "bootkeep: refused";
/// What it says when it ends without a key.
pub const GAVE_UP: &str = "bootkeep: gave up";
/// What it says when the volume is open.
pub const OPEN: &str = "the volume cryptroot is open";

/// The user-data of the scenarios: its file is the proof that cloud-init applied it.
pub const USER_DATA: &str =
    "#cloud-config\nwrite_files:\n  - path: /etc/bootkeep-applied\n    content: sealed\n";
