//! The software TPM of a machine, and the manufacturer that certified it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Result};

use crate::{
    cache::{remove, Cache, Recipe},
    command::{self, Background},
    image::product,
};

/// A manufacturer's CA: issues the EK certificates of its TPMs.
#[derive(Clone, Debug)]
pub struct Manufacturer(PathBuf);

impl Manufacturer {
    /// The manufacturer that lives in this folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn at(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let state = directory.display();
        fs::write(
            directory.join("localca.conf"),
            format!(
                "statedir = {state}\nsigningkey = {state}/signkey.pem\nissuercert = {state}/issuercert.pem\ncertserial = {state}/certserial\n"
            ),
        )?;
        fs::write(directory.join("localca.options"), "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version 2\n--platform-manufacturer Bootkeep\n--platform-version 1\n--platform-model test\n")?;
        fs::write(
            directory.join("setup.conf"),
            format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {state}/localca.conf\ncreate_certs_tool_options = {state}/localca.options\nactive_pcr_banks = sha256\n"
            ),
        )?;
        Ok(Self(directory))
    }

    /// A manufacturer that is kept; its root certificate exists from the start.
    ///
    /// # Errors
    /// When its first TPM cannot be made.
    pub fn kept(cache: &Cache, name: &str) -> Result<Self> {
        let recipe = Recipe::default().text(include_str!("swtpm.rs"));
        let directory = cache.once(name, &recipe, |path| {
            Self::at(path)?.make_tpm(&path.join("first")).map(drop)
        })?;
        Self::at(&directory)
    }

    /// Makes a TPM with an EK certificate, in `directory`.
    ///
    /// # Errors
    /// When `swtpm_setup` fails.
    pub fn make_tpm(&self, directory: &Path) -> Result<SoftTpm> {
        remove(directory)?;
        fs::create_dir_all(directory)?;
        let mut setup = Command::new("swtpm_setup");
        setup
            .args([
                "--tpm2",
                "--createek",
                "--create-ek-cert",
                "--create-platform-cert",
                "--lock-nvram",
            ])
            .args(["--pcr-banks", "sha256", "--config"])
            .arg(self.0.join("setup.conf"))
            .arg("--tpmstate")
            .arg(directory);
        command::logged(&mut setup, &directory.with_extension("setup.log"))?;
        Ok(SoftTpm(directory.into()))
    }

    /// Puts its root and issuing certificates into `roots`, as an owner who trusts it does.
    ///
    /// # Errors
    /// When it has not made a TPM yet.
    pub fn publish(&self, roots: &Path) -> Result<()> {
        for name in ["swtpm-localca-rootca-cert.pem", "issuercert.pem"] {
            product::copy(&self.0.join(name), &roots.join(name), 0o644)?;
        }
        Ok(())
    }
}

/// A TPM's state on disk.
#[derive(Clone, Debug)]
pub struct SoftTpm(PathBuf);

impl SoftTpm {
    /// Powers it. It ends when the machine it is in ends.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(&self) -> Result<Background> {
        let socket = self.socket();
        let _ = fs::remove_file(&socket);
        let mut command = Command::new("swtpm");
        command
            .args([
                "socket",
                "--tpm2",
                "--terminate",
                "--flags",
                "not-need-init",
                "--tpmstate",
            ])
            .arg(format!("dir={}", self.0.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()));
        let mut process = Background::start("swtpm", &mut command, &self.0.with_extension("log"))?;
        let end = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if !process.is_running() || Instant::now() > end {
                bail!(
                    "swtpm did not start; see {}",
                    self.0.with_extension("log").display()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// What QEMU needs to have it.
    #[must_use]
    pub fn qemu_arguments(&self) -> Vec<String> {
        let socket = format!("socket,id=tpmsocket,path={}", self.socket().display());
        [
            "-chardev",
            &socket,
            "-tpmdev",
            "emulator,id=tpm,chardev=tpmsocket",
            "-device",
            "tpm-tis,tpmdev=tpm",
        ]
        .map(String::from)
        .to_vec()
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}
