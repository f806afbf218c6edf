//! Everything that one scenario needs, in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{bail, Context, Result};
use serde_json::Value;

use crate::{
    cache::{remove, Cache},
    command::Background,
    guest::{Guest, Seed},
    image::{initramfs, Image, Product, VOLUME_UUID},
    owner::{Owner, Provision},
    progress::Progress,
    qemu::{Firmware, Machine, Vm},
    serial::Watcher,
    services::Services,
    swtpm::{Manufacturer, SoftTpm},
};

/// How long one phase of a boot may take under emulation on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What all scenarios share.
#[derive(Clone, Debug)]
pub struct Set {
    /// Built things.
    pub cache: Cache,
    /// The machine.
    pub image: Image,
    /// The manufacturer of honest TPMs.
    pub maker: Manufacturer,
    /// The owner, before the first node.
    pub owner: Owner,
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
        let maker = Manufacturer::kept(&cache, "manufacturer")?;
        let owner = Owner::template(&cache, &programs.host, &programs.tree, &maker)?;
        let product = Product {
            tree: programs.tree.clone(),
            programs: programs.node.clone(),
            node: owner.node_files(),
        };
        let image = Image::build(&cache, &product, progress)?;
        Ok(Self {
            cache,
            image,
            maker,
            owner,
            progress,
        })
    }

    /// A stage for this scenario, with services running.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn stage<'a>(&'a self, name: &str, guest: &'a Guest) -> Result<Stage<'a>> {
        let directory = self.cache.root().join("runs").join(name);
        remove(&directory)?;
        fs::create_dir_all(&directory)?;
        let owner = self.owner.copy_to(&directory.join("home"))?;
        let services = Services::start(&owner, &directory)?;
        let tpm = self.maker.make_tpm(&directory.join("tpm"))?;
        Ok(Stage {
            set: self,
            guest,
            directory,
            owner,
            services,
            tpm,
        })
    }
}

/// One scenario's world.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What is shared.
    pub set: &'a Set,
    /// The guest's view of the host.
    pub guest: &'a Guest,
    /// Logs and state.
    pub directory: PathBuf,
    /// The owner.
    pub owner: Owner,
    /// The owner's services.
    pub services: Services,
    /// The machine's TPM.
    pub tpm: SoftTpm,
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
    /// A further disk.
    pub second_disk: Option<PathBuf>,
}

/// A machine that was switched on, with its TPM.
#[derive(Debug)]
pub struct Booted {
    /// The machine.
    pub vm: Vm,
    _tpm: Background,
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
        self.guest.reset(boot.seed);
        let image = &self.set.image;
        let initrd = match boot.overlay.as_slice() {
            [] => image.initrd(),
            overlay => initramfs::overlaid(&image.initrd(), overlay, &self.directory)?,
        };
        let tpm = self.tpm.start()?;
        let machine = Machine {
            firmware: if boot.measured {
                Firmware::Ovmf
            } else {
                Firmware::SeaBios
            },
            kernel: &image.kernel(),
            initrd: &initrd,
            cmdline: &cmdline(boot.cmdline),
            disk: &image.disk(),
            second_disk: boot.second_disk.as_deref(),
        };
        let vm = machine.start(&self.tpm, &self.directory, watcher)?;
        Ok(Booted { vm, _tpm: tpm })
    }

    /// The one node that has registered.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn node(&self) -> Result<String> {
        let nodes = self.owner.json(&["nodes"])?;
        let ids: Vec<&str> = nodes_of(&nodes)
            .iter()
            .filter_map(|node| node["node_id"].as_str())
            .collect();
        match ids.as_slice() {
            [id] => Ok((*id).to_owned()),
            _ => bail!("expected one node, got {nodes}"),
        }
    }

    /// Waits until the node is registered and its link is open.
    ///
    /// # Errors
    /// When the console says that it failed, or it takes too long.
    pub fn wait_until_waiting(&self, booted: &Booted) -> Result<String> {
        booted.vm.serial.wait(WAITING, &[GAVE_UP], PATIENCE)?;
        self.node()
    }

    /// The arguments of a provisioning of this machine.
    #[must_use]
    pub fn provision<'b>(
        &self,
        node: &'b str,
        boot: &'b Path,
        runtime: &'b Path,
        key: &'b Path,
    ) -> Provision<'b> {
        Provision {
            node,
            luks_key: key,
            user_data: Some(USER_DATA),
            boot_policy: boot,
            runtime_policy: runtime,
            wait: "trusted",
            more: &[],
        }
    }

    /// The node's state and reasons as the verifier tells them.
    ///
    /// # Errors
    /// When `bootkeep status` fails.
    pub fn status(&self, node: &str) -> Result<Value> {
        let output = self.owner.finish(&["--output", "json", "status", node])?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`bootkeep status` said {}", crate::owner::said(&output)))
    }
}

fn nodes_of(value: &Value) -> &[Value] {
    value
        .as_array()
        .or_else(|| value["nodes"].as_array())
        .map_or(&[], Vec::as_slice)
}

/// What the initramfs says when it has registered and its link is open.
pub const WAITING: &str = "waiting for shares";
/// What it says when it ends without a key.
pub const GAVE_UP: &str = "gave up";
/// What it says when the volume is open.
pub const OPEN: &str = "the volume cryptroot is open";

/// The user-data of the scenarios: its file is the proof that cloud-init applied it.
pub const USER_DATA: &str =
    "#cloud-config\nwrite_files:\n  - path: /etc/bootkeep-applied\n    content: sealed\n";
