//! A TPM manufacturer's CA: makes TPMs and their EK certificates.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{folder::Folder, run::run};

/// Root and issuing certificate, as `swtpm_localca` names them.
const CERTIFICATES: [&str; 2] = ["swtpm-localca-rootca-cert.pem", "issuercert.pem"];
const OPTIONS: &str = "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version 2\n\
    --platform-manufacturer Bootkeep\n--platform-version 1\n--platform-model test\n";
/// NV index of the P-256 EK's certificate.
const P256_CERTIFICATE_INDEX: &str = "0x01c0000a";

/// A TPM manufacturer with a root and an issuing CA of its own.
#[derive(Debug)]
pub struct Manufacturer(Folder);

impl Manufacturer {
    /// A new manufacturer. Its certificates exist once it has made a TPM.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub fn new() -> io::Result<Self> {
        Self::in_folder(Folder::new("manufacturer")?)
    }

    /// The manufacturer that lives in this folder, which stays; made when it is missing.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn at(directory: &Path) -> io::Result<Self> {
        Self::in_folder(Folder::kept(directory)?)
    }

    fn in_folder(folder: Folder) -> io::Result<Self> {
        let maker = Self(folder);
        fs::create_dir_all(maker.roots())?;
        let home = maker.0.path().display();
        maker.write("localca.options", OPTIONS)?;
        maker.write(
            "localca.conf",
            &format!(
                "statedir = {home}\nsigningkey = {home}/signkey.pem\n\
                 issuercert = {home}/issuercert.pem\ncertserial = {home}/certserial\n"
            ),
        )?;
        maker.write(
            "setup.conf",
            &format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {home}/localca.conf\n\
                 create_certs_tool_options = {home}/localca.options\nactive_pcr_banks = sha256\n"
            ),
        )?;
        Ok(maker)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.file(name), text)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Folder with its root and issuing certificates (PEM).
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.file("roots")
    }

    /// Makes a TPM's state in the empty folder `state`; `swtpm` can then be started on it.
    ///
    /// # Errors
    /// When `swtpm_setup` fails.
    pub fn make_tpm(&self, state: &Path) -> io::Result<()> {
        let mut setup = Command::new("swtpm_setup");
        setup
            .args(["--tpm2", "--createek", "--create-ek-cert"])
            .args(["--pcr-banks", "sha256", "--config"])
            .arg(self.file("setup.conf"))
            .arg("--tpmstate")
            .arg(state);
        run(&mut setup)?;
        for name in CERTIFICATES {
            fs::copy(self.file(name), self.roots().join(name))?;
        }
        Ok(())
    }

    /// Certifies the P-256 EK of a running TPM and stores the certificate in its NV.
    pub(crate) fn certify_p256(&self, tcti: &str) -> io::Result<()> {
        let work = Folder::new("certify")?;
        let (public, certificate) = (work.path().join("ek"), work.path().join("ek.der"));
        let tool = |name: &str| {
            let mut command = Command::new(name);
            command.env("TPM2TOOLS_TCTI", tcti);
            command
        };
        let context = work.path().join("ek.ctx");
        let mut create = tool("tpm2_createek");
        create.args(["-G", "ecc", "-f", "tpmt", "-c"]).arg(&context);
        run(create.arg("-u").arg(&public))?;
        run(tool("tpm2_flushcontext").arg("-t"))?;
        self.sign_p256(&fs::read(&public)?, &certificate)?;
        let size = format!("-s{}", fs::metadata(&certificate)?.len());
        let attributes = "-aownerread|ownerwrite|authread|no_da";
        run(tool("tpm2_nvdefine").args([P256_CERTIFICATE_INDEX, "-Co", &size, attributes]))?;
        let mut write = tool("tpm2_nvwrite");
        run(write
            .args([P256_CERTIFICATE_INDEX, "-Co", "-i"])
            .arg(&certificate))
    }

    /// An EK certificate for a marshalled P-256 `TPMT_PUBLIC`, which ends with its two coordinates.
    fn sign_p256(&self, public: &[u8], certificate: &Path) -> io::Result<()> {
        let coordinates = public
            .len()
            .checked_sub(2 * 34)
            .and_then(|start| public.get(start..))
            .filter(|end| end[..2] == [0, 32] && end[34..36] == [0, 32])
            .ok_or_else(|| io::Error::other("tpm2_createek made no P-256 key"))?;
        let mut sign = Command::new("swtpm_cert");
        sign.args(["--type", "ek", "--tpm2", "--days", "3650"])
            .args(["--serial", "256", "--subject", "CN=P-256 EK"])
            .args(["--tpm-spec-family", "2.0", "--tpm-spec-revision", "164"])
            .args(["--tpm-spec-level", "0", "--tpm-manufacturer", "id:00001014"])
            .args(["--tpm-model", "swtpm", "--tpm-version", "id:2"])
            .args(["--ecc-curveid", "secp256r1"])
            .args(["--ecc-x", &hex(&coordinates[2..34])])
            .args(["--ecc-y", &hex(&coordinates[36..])])
            .arg("--signkey")
            .arg(self.file("signkey.pem"))
            .arg("--issuercert")
            .arg(self.file("issuercert.pem"))
            .arg("--out-cert")
            .arg(certificate);
        run(&mut sign)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
