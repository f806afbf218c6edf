//! The software TPM of a machine, and the manufacturer that certified it.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Result};
pub use bootkeep_swtpm::Manufacturer;

use crate::{
    cache::{remove, Cache, Recipe},
    command::{self, Background},
};

/// A manufacturer that is kept; its root certificate exists from the start.
///
/// # Errors
/// When its first TPM cannot be made.
pub fn manufacturer(cache: &Cache) -> Result<Manufacturer> {
    let recipe = Recipe::default().text("1");
    let directory = cache.once("manufacturer", &recipe, |path| {
        SoftTpm::made_by(&Manufacturer::at(path)?, &path.join("first")).map(drop)
    })?;
    Ok(Manufacturer::at(&directory)?)
}

/// How many were made in this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A TPM's state on disk.
#[derive(Clone, Debug)]
pub struct SoftTpm {
    state: PathBuf,
    number: u32,
}

impl SoftTpm {
    /// A new TPM with an EK certificate, in `directory`.
    ///
    /// # Errors
    /// When `swtpm_setup` fails.
    pub fn made_by(maker: &Manufacturer, directory: &Path) -> Result<Self> {
        remove(directory)?;
        fs::create_dir_all(directory)?;
        maker.make_tpm(directory)?;
        Ok(Self {
            state: directory.into(),
            number: MADE.fetch_add(1, Ordering::Relaxed),
        })
    }

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
            .arg(format!("dir={}", self.state.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            // Every command and its answer, for `TpmTap`.
            .arg("--log")
            .arg(format!(
                "file={},level=2,truncate",
                self.commands().display()
            ));
        let log = self.state.with_extension("log");
        let mut process = Background::start("swtpm", &mut command, &log)?;
        let end = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if !process.is_running() || Instant::now() > end {
                bail!("swtpm did not start; see {}", log.display());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// What an owner does who clears the TPM (TPM2_Clear): keys and NV of the owner's hierarchy are gone, the EK stays. It
    /// must be off.
    ///
    /// # Errors
    /// When `tpm2_clear` fails.
    pub fn clear(&self) -> Result<()> {
        const PORTS: [u16; 2] = [8390, 8391];
        let [commands, control] = PORTS;
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--server", &format!("type=tcp,port={commands}")])
            .args(["--ctrl", &format!("type=tcp,port={control}")])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.state.display()));
        let log = self.state.with_extension("log");
        let mut process = Background::start("swtpm", &mut command, &log)?;
        let tcti = format!("swtpm:host=127.0.0.1,port={commands}");
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", control)).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let cleared = command::output(Command::new("tpm2_clear").args(["-T", &tcti, "-c", "p"]));
        let _ = command::finish(Command::new("tpm2_shutdown").args(["-T", &tcti, "--clear"]));
        process.stop();
        cleared.map(drop)
    }

    /// Where every command since the last start is written, with its answer.
    pub(crate) fn commands(&self) -> PathBuf {
        self.state.with_extension("commands")
    }

    /// The same TPM once more, as it is now, in another folder. It must be off.
    ///
    /// # Errors
    /// When its state cannot be copied.
    pub fn copy_to(&self, directory: &Path) -> Result<Self> {
        remove(directory)?;
        command::output(
            Command::new("cp")
                .arg("--archive")
                .args([&self.state, directory]),
        )?;
        Ok(Self {
            state: directory.into(),
            number: MADE.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// What QEMU needs to have it.
    #[must_use]
    pub fn qemu_arguments(&self) -> Vec<String> {
        let socket = format!("socket,id=tpmsocket,path={}", self.socket().display());
        let device = [
            "-tpmdev",
            "emulator,id=tpm,chardev=tpmsocket",
            "-device",
            "tpm-tis,tpmdev=tpm",
        ];
        [&["-chardev", &socket][..], &device]
            .concat()
            .into_iter()
            .map(String::from)
            .collect()
    }

    /// A short path: the address of a socket has room for 107 bytes.
    fn socket(&self) -> PathBuf {
        let name = format!("bootkeep-tpm-{}-{}.socket", std::process::id(), self.number);
        std::env::temp_dir().join(name)
    }
}
