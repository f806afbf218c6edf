//! The owner of the machine, at the command line `bootkeep`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{bail, Context, Result};
use serde_json::Value;

use crate::{
    cache::{Cache, Recipe},
    command,
    image::Image,
    stage::Policies,
    swtpm::Manufacturer,
};

/// What dracut, sysusers and cloud-init write at each boot, so that no digest can be known before: data and hooks of the
/// initramfs, and the scripts that cloud-init makes of sealed user-data.
pub const EXCLUDES: &[&str] = &[
    "/etc/machine-id",
    "/dracut-state.sh",
    "/etc/udev/rules.d/70-luks.rules",
    "/usr/lib/dracut/hooks/initqueue/**",
    "/etc/systemd/system/*.device.d/timeout.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/.#*",
    "/var/lib/cloud/instances/*/scripts/*",
];

/// The name of the owner's services; only some scenarios have a name service that knows it.
pub const OWNER_NAME: &str = "owner.bootkeep.test";

/// An owner: the programs, and a home with keys, configuration and the services' state.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The folder of the built programs `bootkeep`, `bootkeep-registrar`, ...
    pub programs: PathBuf,
    /// `--home`.
    pub home: PathBuf,
}

impl Owner {
    /// The owner as `bootkeep init` makes one, trusting this manufacturer. Kept, so that an image made for its nodes is too.
    ///
    /// # Errors
    /// When `bootkeep init` fails.
    pub fn template(
        cache: &Cache,
        programs: &Path,
        tree: &Path,
        maker: &Manufacturer,
    ) -> Result<Self> {
        let roots = maker.roots();
        let recipe = Recipe::default()
            .path(&tree.join("tenant/src/init"))?
            .path(&tree.join("crates/pki/src"))?
            .path(&roots)?
            .text(include_str!("owner.rs"));
        let directory = cache.once("owner", &recipe, |path| {
            let owner = Self {
                programs: programs.into(),
                home: path.join("home"),
            };
            owner.init(&roots)
        })?;
        Ok(Self {
            programs: programs.into(),
            home: directory.join("home"),
        })
    }

    fn init(&self, roots: &Path) -> Result<()> {
        // The guest sees the host at 10.0.2.2 and fec0::2, and in some scenarios knows it by name.
        let mut init = Command::new(self.programs.join("bootkeep"));
        init.arg("init")
            .arg(&self.home)
            .args(["--host", "10.0.2.2", "--host", "127.0.0.1"])
            .args(["--host", "fec0::2", "--host", OWNER_NAME, "--ek-roots"])
            .arg(roots);
        command::output(&mut init).map(drop)
    }

    /// The same owner with a home of its own: same keys, no nodes yet.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy_to(&self, home: &Path) -> Result<Self> {
        crate::cache::remove(home)?;
        command::output(
            Command::new("cp")
                .args(["--archive"])
                .args([&self.home, home]),
        )?;
        for service in ["registrar", "verifier", "ca"] {
            let config = home.join(service).join(format!("{service}.yaml"));
            let text = fs::read_to_string(&config)?;
            let moved = text.replace(
                &self.home.display().to_string(),
                &home.display().to_string(),
            );
            fs::write(&config, moved)?;
        }
        Ok(Self {
            programs: self.programs.clone(),
            home: home.into(),
        })
    }

    /// What `bootkeep init` made for the nodes.
    #[must_use]
    pub fn node_files(&self) -> PathBuf {
        self.home.join("node")
    }

    /// `bootkeep` with the home set.
    #[must_use]
    pub fn bootkeep(&self) -> Command {
        let mut command = Command::new(self.programs.join("bootkeep"));
        command.arg("--home").arg(&self.home);
        command
    }

    /// Runs `bootkeep` with JSON output.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = command::output(self.bootkeep().args(["--output", "json"]).args(arguments))?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed {text:?}"))
    }

    /// Runs `bootkeep` whatever its exit code.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn finish(&self, arguments: &[&str]) -> Result<Output> {
        command::finish(self.bootkeep().args(arguments))
    }

    /// Makes the runtime policy from the root file system and the initramfs, with what a known-good node has measured.
    ///
    /// # Errors
    /// When `bootkeep` fails.
    pub fn runtime_policy(&self, image: &Image, node: &str, policy: &Path) -> Result<()> {
        let mut command = self.bootkeep();
        command
            .args(["policy", "create", "runtime", "--node", node, "--rootfs"])
            .arg(image.rootfs());
        command
            .arg("--initramfs")
            .arg(image.initramfs())
            .arg("-o")
            .arg(policy);
        EXCLUDES.iter().for_each(|glob| {
            command.args(["--exclude", glob]);
        });
        command::output(&mut command).map(drop)
    }

    /// Makes the boot policy from what a node that waits in its initramfs has booted.
    ///
    /// # Errors
    /// When `bootkeep` fails.
    pub fn boot_policy(&self, node: &str, policy: &Path) -> Result<()> {
        let create = ["policy", "create", "boot", "--node", node, "-o"];
        command::output(self.bootkeep().args(create).arg(policy)).map(drop)
    }

    /// Seals user-data for a group of nodes, as the body of a part of the cloud's user-data; gives it and its key's file.
    ///
    /// # Errors
    /// When `bootkeep seal` fails.
    pub fn seal(&self, user_data: &str) -> Result<(String, PathBuf)> {
        let (plain, key) = (self.home.join("plain"), self.home.join("user-data.key"));
        fs::write(&plain, user_data)?;
        let mut seal = self.bootkeep();
        seal.args(["seal", "--audience", "test-nodes", "--body", "--new-key"]);
        let body = command::output(seal.arg(&key).arg(&plain))?;
        Ok((body, key))
    }

    /// Starts `bootkeep provision` in a thread of its own.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn provision(&self, provision: &Provision<'_>) -> Result<Provisioning> {
        let mut command = self.provision_command(provision)?;
        command.args(["--output", "json"]);
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _ = sender.send(command::finish(&mut command));
        });
        Ok(Provisioning {
            receiver,
            _thread: thread,
        })
    }

    /// `bootkeep provision` with its arguments.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn provision_command(&self, provision: &Provision<'_>) -> Result<Command> {
        let mut command = self.bootkeep();
        let verb = if provision.reinstate {
            "reinstate"
        } else {
            "provision"
        };
        command.args([verb, provision.node, "--luks-key"]);
        command
            .arg(&provision.luks_key)
            .arg("--boot-policy")
            .arg(&provision.policies.boot);
        command
            .arg("--runtime-policy")
            .arg(&provision.policies.runtime);
        command.args([
            "--interval",
            "2",
            "--timeout",
            &provision.timeout.to_string(),
        ]);
        if let Some(user_data) = provision.user_data {
            let file = self.home.join("user-data");
            fs::write(&file, user_data)?;
            command.arg("--user-data").arg(file);
        }
        if let Some(key) = &provision.user_data_key {
            command.arg("--user-data-key").arg(key);
        }
        command.args(&provision.more);
        Ok(command)
    }
}

/// What `bootkeep provision` is given.
#[derive(Clone, Debug)]
pub struct Provision<'a> {
    /// Which node.
    pub node: &'a str,
    /// File with the volume's key.
    pub luks_key: PathBuf,
    /// What cloud-init is to apply.
    pub user_data: Option<&'a str>,
    /// The key of user-data that comes through the cloud.
    pub user_data_key: Option<PathBuf>,
    /// What is good.
    pub policies: &'a Policies,
    /// How long to try (seconds).
    pub timeout: u64,
    /// Whether the node is revoked and is to be given back its place.
    pub reinstate: bool,
    /// Further arguments.
    pub more: Vec<String>,
}

/// A running `bootkeep provision`.
#[derive(Debug)]
pub struct Provisioning {
    receiver: mpsc::Receiver<Result<Output>>,
    _thread: JoinHandle<()>,
}

impl Provisioning {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it could not run.
    pub fn wait(&self) -> Result<Output> {
        self.receiver
            .recv()
            .context("`bootkeep provision` got lost")?
    }

    /// Waits for its success.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn succeed(&self) -> Result<Output> {
        let output = self.wait()?;
        if !output.status.success() {
            bail!(
                "`bootkeep provision` ended with {}:\n{}",
                output.status,
                said(&output)
            );
        }
        Ok(output)
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When it could not run.
    pub fn poll(&self) -> Result<Option<Output>> {
        self.receiver.try_recv().ok().transpose()
    }
}

/// Both streams of a program as text.
#[must_use]
pub fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}
