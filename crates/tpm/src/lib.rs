//! The TPM 2.0 as Bootkeep needs it, on `tss-esapi`.
//!
//! Every function leaves the TPM as it found it: what it loads it flushes, on the way of errors too (see `scope`).
//! Keys and their places follow the TCG TPM v2.0 Provisioning Guidance: EK from its default template, SRK at
//! 0x81000001, AK as a child of the SRK, persistent in the owner's range so that an initramfs needs no disk.

mod credential;
mod ek;
mod error;
mod handles;
mod kept;
mod keys;
mod nv;
mod pcr;
mod quote;
mod scope;
mod seal;
mod template;

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use tss_esapi::{
    handles::KeyHandle,
    tcti_ldr::{DeviceConfig, NetworkTPMConfig, TctiNameConf},
    Context,
};

pub use ek::{Ek, EkKind};
pub use error::TpmError;
pub use handles::HandleCount;
pub use kept::{KeptError, KeptShare, KeptSlot};
pub use keys::{Ak, AkKind};
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
    ek: Option<ek::Chosen>,
    ak_kind: AkKind,
    checked_ak: Option<(AkKind, KeyHandle)>,
    persistent: BTreeMap<u32, KeyHandle>,
}

impl Tpm {
    /// Opens the TPM.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when there is none or it is in use.
    pub fn open(tcti: &Tcti) -> Result<Self, TpmError> {
        Ok(Self {
            context: Context::new(tcti.configuration()?)?,
            ek: None,
            ak_kind: AkKind::default(),
            checked_ak: None,
            persistent: BTreeMap::new(),
        })
    }
}
