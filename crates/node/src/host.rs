//! What the kernel says of this boot.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
};

use bootkeep_protocol::{
    limits::{MAX_EVENT_LOG, MAX_IMA_SLICE, MAX_PCR_SIGNATURES},
    BootId,
};
use nix::time::{clock_gettime, ClockId};

/// Where the kernel's logs are. A real node uses [`KernelFiles::default`].
#[derive(Clone, Debug)]
pub struct KernelFiles {
    /// Crypto-agile boot event log.
    pub event_log: PathBuf,
    /// Binary IMA list.
    pub ima: PathBuf,
    /// Number of IMA entries, as text.
    pub ima_count: PathBuf,
    /// Random id of this boot.
    pub boot_id: PathBuf,
    /// Where the signatures of PCR 11 may be that a unified kernel image carries: the first that is there counts.
    pub pcr_signatures: Vec<PathBuf>,
}

impl Default for KernelFiles {
    fn default() -> Self {
        Self {
            event_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            ima: "/sys/kernel/security/ima/binary_runtime_measurements".into(),
            ima_count: "/sys/kernel/security/ima/runtime_measurements_count".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            // systemd-stub leaves it in the initramfs, systemd copies it for the real root (systemd-stub(7)).
            pcr_signatures: vec![
                "/.extra/tpm2-pcr-signature.json".into(),
                "/run/systemd/tpm2-pcr-signature.json".into(),
            ],
        }
    }
}

impl KernelFiles {
    /// The label of this boot.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold a boot id.
    pub fn boot_id(&self) -> io::Result<BootId> {
        std::fs::read_to_string(&self.boot_id)?
            .trim()
            .parse()
            .map_err(io::Error::other)
    }

    /// The boot event log; `None` when the firmware left none.
    ///
    /// # Errors
    /// When it cannot be read or is over the limit.
    pub fn event_log(&self) -> io::Result<Option<Vec<u8>>> {
        match read_range(&self.event_log, 0, MAX_EVENT_LOG + 1) {
            Ok(log) if log.len() > MAX_EVENT_LOG => {
                Err(io::Error::other("the boot event log is over its limit"))
            }
            Ok(log) => Ok(Some(log)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The signatures of PCR 11 that came with the kernel; `None` when there are none.
    ///
    /// # Errors
    /// When they cannot be read or are over the limit.
    pub fn pcr_signatures(&self) -> io::Result<Option<Vec<u8>>> {
        for path in &self.pcr_signatures {
            match read_range(path, 0, MAX_PCR_SIGNATURES + 1) {
                Ok(text) if text.len() > MAX_PCR_SIGNATURES => {
                    let what = format!("{} is over its limit", path.display());
                    return Err(io::Error::other(what));
                }
                Ok(text) => return Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The binary IMA list from byte `offset` on, at most one slice; empty when the kernel keeps no list.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ima_from(&self, offset: u64) -> io::Result<Vec<u8>> {
        match read_range(&self.ima, offset, MAX_IMA_SLICE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    /// Opens the entry counter for polling.
    ///
    /// # Errors
    /// When the kernel keeps no list.
    pub fn ima_counter(&self) -> io::Result<ImaCounter> {
        Ok(ImaCounter(File::open(&self.ima_count)?))
    }
}

/// securityfs files have no size and seek badly: read through, keep the range.
fn read_range(path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    io::copy(&mut file.by_ref().take(offset), &mut io::sink())?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The open counter of the IMA list: one `pread` for each look.
#[derive(Debug)]
pub struct ImaCounter(File);

impl ImaCounter {
    /// Entries now.
    ///
    /// # Errors
    /// When the kernel does not give a number.
    pub fn read(&self) -> io::Result<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 24];
        let length = self.0.read_at(&mut text, 0)?;
        std::str::from_utf8(text.get(..length).unwrap_or_default())
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| io::Error::other("the IMA count is not a number"))
    }
}

/// CLOCK_BOOTTIME in milliseconds; 0 when the kernel has none.
#[must_use]
pub fn boot_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|time| {
            let seconds = u64::try_from(time.tv_sec()).ok()?;
            let nanos = u64::try_from(time.tv_nsec()).ok()?;
            Some(seconds * 1000 + nanos / 1_000_000)
        })
        .unwrap_or(0)
}

/// Addresses that reach beyond their link, of all interfaces but loopback, as `INTERFACE ADDRESS`.
#[must_use]
pub fn network_addresses() -> Vec<String> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| a.ip());
            let v6 = address.as_sockaddr_in6().map(|a| a.ip());
            let v4 = v4.filter(|ip| !ip.is_loopback() && !ip.is_link_local());
            let v6 = v6.filter(|ip| !ip.is_loopback() && ip.segments()[0] & 0xffc0 != 0xfe80);
            let ip = v4.map(IpAddr::from).or(v6.map(IpAddr::from))?;
            Some(format!("{} {ip}", interface.interface_name))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_out_of_the_list() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        assert_eq!(read_range(file.path(), 3, 4).unwrap(), b"3456");
        assert_eq!(read_range(file.path(), 20, 4).unwrap(), b"");
    }

    #[test]
    fn the_first_signatures_that_are_there_count_and_not_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let files = KernelFiles {
            pcr_signatures: ["a", "b"].map(|name| folder.path().join(name)).to_vec(),
            ..KernelFiles::default()
        };
        assert_eq!(files.pcr_signatures().unwrap(), None);
        std::fs::write(folder.path().join("b"), "{}").unwrap();
        assert_eq!(files.pcr_signatures().unwrap(), Some(b"{}".to_vec()));
        std::fs::write(folder.path().join("a"), vec![b' '; MAX_PCR_SIGNATURES]).unwrap();
        let first = files.pcr_signatures().unwrap();
        assert_eq!(first.map(|text| text.len()), Some(MAX_PCR_SIGNATURES));
        std::fs::write(folder.path().join("a"), vec![b' '; MAX_PCR_SIGNATURES + 1]).unwrap();
        assert!(files.pcr_signatures().is_err());
    }

    #[test]
    fn the_counter_reads_again_and_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12\n").unwrap();
        let files = KernelFiles {
            ima_count: file.path().into(),
            ..KernelFiles::default()
        };
        let counter = files.ima_counter().unwrap();
        assert_eq!(counter.read().unwrap(), 12);
        std::fs::write(file.path(), "13\n").unwrap();
        assert_eq!(counter.read().unwrap(), 13);
        std::fs::write(file.path(), "x\n").unwrap();
        assert!(counter.read().is_err());
    }

    #[test]
    fn this_machine_has_a_boot_id_and_a_clock() {
        assert!(KernelFiles::default().boot_id().is_ok());
        assert!(boot_ms() > 0);
    }
}
