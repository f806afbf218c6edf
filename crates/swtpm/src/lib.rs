//! Test support: software TPMs.
//!
//! Every [`Swtpm`] has its own state folder, its own ports on loopback and, when made by a [`Manufacturer`], an EK
//! certificate of that manufacturer. It is shut down cleanly and its folder removed when it is dropped. It needs
//! `swtpm`, `swtpm_setup` and `swtpm_localca` on the path, and for [`Swtpm::certify_p256`] `tpm2-tools`.
//!
//! ```no_run
//! let mut swtpm = bootkeep_swtpm::Swtpm::certified()?;  // RSA-2048 EK with a certificate
//! let (port, roots) = (swtpm.port(), swtpm.roots());    // TCTI "swtpm:port=…"; folder of CA certificates (PEM)
//! swtpm.power_cycle()?;                                 // a new boot; close the TPM before
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod folder;
mod manufacturer;
mod process;
mod run;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use folder::Folder;
pub use manufacturer::Manufacturer;
use process::Process;

/// A running software TPM, started up (TPM2_Startup with CLEAR).
#[derive(Debug)]
pub struct Swtpm {
    // Dropped in this order: the process ends before its folder goes.
    process: Process,
    state: Folder,
    manufacturer: Option<Arc<Manufacturer>>,
}

impl Swtpm {
    /// A TPM nobody has certified: no EK certificate.
    ///
    /// # Errors
    /// When `swtpm` does not come up.
    pub fn bare() -> io::Result<Self> {
        Self::power_on(Folder::new("state")?, None)
    }

    /// A TPM with a manufacturer of its own.
    ///
    /// # Errors
    /// When `swtpm_setup` or `swtpm` fail.
    pub fn certified() -> io::Result<Self> {
        Self::made_by(&Arc::new(Manufacturer::new()?))
    }

    /// A TPM made by `manufacturer`: RSA-2048 EK, persistent at 0x81010001, certificate in NV 0x01c00002.
    ///
    /// # Errors
    /// When `swtpm_setup` or `swtpm` fail.
    pub fn made_by(manufacturer: &Arc<Manufacturer>) -> io::Result<Self> {
        let state = Folder::new("state")?;
        manufacturer.make_tpm(state.path())?;
        Self::power_on(state, Some(Arc::clone(manufacturer)))
    }

    fn power_on(state: Folder, manufacturer: Option<Arc<Manufacturer>>) -> io::Result<Self> {
        Ok(Self {
            process: Process::start(state.path())?,
            state,
            manufacturer,
        })
    }

    /// Its command port on 127.0.0.1; the control port is the next one. One connection at a time.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// Its TCTI, as `tpm2-tools` take it.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port())
    }

    /// Folder with the CA certificates (PEM) its EK certificate chains to; empty path when nobody certified it.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.manufacturer
            .as_ref()
            .map(|maker| maker.roots())
            .unwrap_or_default()
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Shuts down in order and starts anew, on new ports: PCRs, transient objects and sessions are gone, `resetCount`
    /// is one more. Every connection to the TPM must be closed before.
    ///
    /// # Errors
    /// When it does not end or does not come up.
    pub fn power_cycle(&mut self) -> io::Result<()> {
        self.process.shut_down()?;
        self.process = Process::start(self.state.path())?;
        Ok(())
    }

    /// Cuts the power without TPM2_Shutdown and starts anew: the next clock is not `safe`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_loss(&mut self) -> io::Result<()> {
        self.process.stop()?;
        self.process = Process::start(self.state.path())?;
        Ok(())
    }

    /// Gives it an EK certificate for the P-256 EK too (NV 0x01c0000a), by its manufacturer. `swtpm_setup` makes none.
    ///
    /// # Errors
    /// When nobody certified it, or a tool fails.
    pub fn certify_p256(&self) -> io::Result<()> {
        let maker = self
            .manufacturer
            .as_ref()
            .ok_or_else(|| io::Error::other("this TPM has no manufacturer"))?;
        maker.certify_p256(&self.tcti())
    }
}
