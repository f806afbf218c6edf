//! The TPM 2.0 as Bootkeep needs it, on `tss-esapi`.
//!
//! Every function leaves the TPM as it found it: what it loads it flushes, on the way of errors too (see `scope`).
//! Keys and their places follow the TCG TPM v2.0 Provisioning Guidance: EK from its default template, SRK at
//! 0x81000001, AK as a child of the SRK, persistent in the owner's range so that an initramfs needs no disk.

mod credential;
mod ek;
mod error;
mod keys;
mod nv;
mod pcr;
mod quote;
mod scope;
mod seal;

use std::{path::PathBuf, str::FromStr};

use tss_esapi::{
    constants::CapabilityType,
    structures::CapabilityData,
    tcti_ldr::{DeviceConfig, NetworkTPMConfig, TctiNameConf},
    Context,
};

pub use ek::{Ek, EkKind};
pub use error::TpmError;
pub use keys::Ak;
pub use quote::TpmQuote;
pub use seal::Sealed;

/// How to reach a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcti {
    /// A kernel device; `/dev/tpmrm0`, the one with the resource manager.
    Device(PathBuf),
    /// A software TPM's TCP port on this machine. Already started up.
    Swtpm {
        /// Its command port; the control port is the next one.
        port: u16,
    },
}

impl Tcti {
    fn configuration(&self) -> Result<TctiNameConf, TpmError> {
        Ok(match self {
            Self::Device(path) => {
                TctiNameConf::Device(DeviceConfig::from_str(&path.to_string_lossy())?)
            }
            Self::Swtpm { port } => TctiNameConf::Swtpm(NetworkTPMConfig::from_str(&format!(
                "host=127.0.0.1,port={port}"
            ))?),
        })
    }
}

/// An open TPM.
#[derive(Debug)]
pub struct Tpm {
    context: Context,
    ek_kind: Option<EkKind>,
}

/// Handles in use, to see that none is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleCount {
    /// Transient objects.
    pub transient: usize,
    /// Loaded sessions.
    pub sessions: usize,
}

impl Tpm {
    /// Opens the TPM.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when there is none or it is in use.
    pub fn open(tcti: &Tcti) -> Result<Self, TpmError> {
        Ok(Self {
            context: Context::new(tcti.configuration()?)?,
            ek_kind: None,
        })
    }

    /// Counts the transient objects and sessions that are loaded now (through a resource manager: our own).
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn count_handles(&mut self) -> Result<HandleCount, TpmError> {
        // TPM 2.0 Part 2 §7.2: handle types.
        const TRANSIENT_FIRST: u32 = 0x8000_0000;
        const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
        Ok(HandleCount {
            transient: self.count_from(TRANSIENT_FIRST)?,
            sessions: self.count_from(LOADED_SESSION_FIRST)?,
        })
    }

    fn count_from(&mut self, first: u32) -> Result<usize, TpmError> {
        let (data, _) = self
            .context
            .get_capability(CapabilityType::Handles, first, 64)?;
        match data {
            CapabilityData::Handles(handles) => Ok(handles.into_inner().len()),
            _ => Err(TpmError::Unexpected("capability data of another type")),
        }
    }
}
