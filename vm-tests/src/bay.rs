//! Where a machine stands: its TPM, what it finds at the host, its logs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    command,
    guest::Guest,
    http::Server,
    image::Image,
    qemu,
    swtpm::{Manufacturer, SoftTpm},
};

/// Copies a disk that no machine uses, without its holes.
///
/// # Errors
/// When it cannot be copied.
pub fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    command::output(
        Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([from, to]),
    )
    .map(drop)
}

/// One machine's place. Several machines run at the same time in bays of different numbers.
#[derive(Debug)]
pub struct Bay {
    /// Counted from 0.
    pub number: u8,
    /// Logs and state.
    pub directory: PathBuf,
    /// The machine's TPM.
    pub tpm: SoftTpm,
    /// The machine's view of the host.
    pub guest: Guest,
    /// Serves that view, where the bay has one of its own.
    _server: Option<Server>,
}

impl Bay {
    /// The first bay of a stage, with a new TPM.
    ///
    /// # Errors
    /// When the TPM cannot be made.
    pub(crate) fn first(directory: &Path, maker: &Manufacturer, guest: &Guest) -> Result<Self> {
        Ok(Self {
            number: 0,
            directory: directory.into(),
            tpm: SoftTpm::made_by(maker, &directory.join("tpm"))?,
            guest: guest.clone(),
            _server: None,
        })
    }

    /// One more bay, in a folder of its own.
    ///
    /// # Errors
    /// When the TPM cannot be made or the port of its number is taken.
    pub(crate) fn further(number: u8, directory: PathBuf, maker: &Manufacturer) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        let (guest, server) = Guest::serve(number)?;
        Ok(Self {
            number,
            tpm: SoftTpm::made_by(maker, &directory.join("tpm"))?,
            directory,
            guest,
            _server: Some(server),
        })
    }

    /// A disk that keeps what is written to it, as the image's is now.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn own_disk(&self, image: &Image) -> Result<PathBuf> {
        let disk = self.directory.join("disk.img");
        copy_disk(&image.disk(), &disk)?;
        Ok(disk)
    }

    /// The machine's address on the wire to the other machines.
    #[must_use]
    pub fn address(&self) -> String {
        format!("10.77.0.{}", self.number + 1)
    }

    /// What gives its interface to the other machines that address, for systemd-networkd.
    #[must_use]
    pub fn wire_network(&self) -> String {
        format!(
            "[Match]\nMACAddress={}\n\n[Network]\nAddress={}/24\nIPv6AcceptRA=no\n",
            qemu::wire_address(self.number),
            self.address()
        )
    }

    /// The serial number of the node's certificate, in hex, as the certificate has it.
    ///
    /// # Errors
    /// When the node has none.
    pub fn serial(&self) -> Result<String> {
        // Certificate, TBSCertificate, version; then an INTEGER.
        const READ: &str = "import ssl; d = ssl.PEM_cert_to_DER_cert(open(\"/etc/bootkeep/identity/certificate.pem\").read()); i = d.index(b\"\\xa0\\x03\\x02\\x01\\x02\\x02\") + 6; print(d[i + 1:i + 1 + d[i]].hex())";
        let serial = self.guest.ok(&format!("python3 -c '{READ}'"))?;
        Ok(serial.trim().to_owned())
    }
}
