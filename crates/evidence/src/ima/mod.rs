//! The IMA measurement list: binary and ASCII form, and its replay into PCR 10.

mod ascii;
mod binary;
mod device_mapper;
mod fault;
mod replay;
mod signature;
mod template;

pub use ascii::parse_ascii;
pub use binary::parse_binary;
pub use device_mapper::{DmDevice, DmEvent, DmEventKind, Fields as DmFields};
pub use fault::Fault;
pub use replay::{boot_aggregate, Replay, ReplayError};
pub use signature::{FileKey, FileSignature, SignatureError};
pub use template::FileDigest;

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Largest template data (bytes): room for an appended module signature or a kernel command line.
const MAX_TEMPLATE_DATA: usize = 1024 * 1024;
/// Longest template name (bytes).
const MAX_TEMPLATE_NAME: usize = 256;
/// Most entries one call parses; the rest is left unconsumed.
pub const MAX_ENTRIES: usize = 100_000;

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IMA entry {entry}: {problem}")]
pub struct ImaError {
    /// Counts from 0 in the bytes given.
    pub entry: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Always 10.
    pub pcr: u8,
    /// Name of the template, e.g. `ima-ng`.
    pub template: String,
    /// What the kernel hashed: the fields as they were measured.
    template_data: Vec<u8>,
    /// The list's SHA-1 of the fields, or of nothing for a violation. PCR 10 of the SHA-256 bank does not cover it.
    pub list_digest: [u8; 20],
    /// The kernel recorded a violation (open writers, ToMToU): all zeros in the list, all ones in the PCR.
    pub violation: bool,
    /// What was measured: a path or the name of a buffer. The kernel writes `_` for a space.
    pub path: String,
    /// Digest of the contents; `None` when the template is unknown.
    pub digest: Option<FileDigest>,
    /// Signature (`ima-sig`, `ima-modsig`, `ima-sigv2`), with its header byte.
    pub signature: Vec<u8>,
    /// Contents of a measured buffer (`ima-buf`); `None` when the template has no field for it.
    pub buffer: Option<Vec<u8>>,
}

impl Entry {
    fn new(
        template: &str,
        template_data: Vec<u8>,
        list_digest: [u8; 20],
    ) -> Result<Self, &'static str> {
        let fields = template::read(template, &template_data)?;
        Ok(Self {
            pcr: replay::IMA_PCR,
            template: template.to_owned(),
            template_data,
            list_digest,
            violation: list_digest == [0; 20],
            path: fields.path,
            digest: fields.digest,
            signature: fields.signature,
            buffer: fields.buffer,
        })
    }

    /// Whether the list's SHA-1 is that of the fields. Only a list that was written to later says otherwise.
    #[must_use]
    pub fn list_digest_fits(&self) -> bool {
        self.violation || Sha1::digest(&self.template_data).as_slice() == self.list_digest
    }

    /// Whether the digest is that of the buffer: what a policy reads in one is then what was measured. `true` for an
    /// entry without buffer, `false` for a digest of another kind than SHA-1, SHA-256, SHA-384 or SHA-512.
    #[must_use]
    pub fn digest_covers_buffer(&self) -> bool {
        let Some(buffer) = &self.buffer else {
            return true;
        };
        self.digest.as_ref().is_some_and(|digest| {
            let expected = match digest.algorithm.as_str() {
                "sha1" => Sha1::digest(buffer).to_vec(),
                "sha256" => Sha256::digest(buffer).to_vec(),
                "sha384" => Sha384::digest(buffer).to_vec(),
                "sha512" => Sha512::digest(buffer).to_vec(),
                _ => return false,
            };
            digest.bytes == expected
        })
    }

    /// How many bytes the entry takes in the binary list.
    #[must_use]
    pub fn list_len(&self) -> usize {
        const HEAD: usize = 4 + 20 + 4;
        let data = if self.template == "ima" {
            let name = self.template_data.get(template::OLD_DIGEST_LEN..);
            let name = name.unwrap_or_default().iter();
            template::OLD_DIGEST_LEN + name.take_while(|&&byte| byte != 0).count()
        } else {
            self.template_data.len()
        };
        HEAD + self.template.len() + 4 + data
    }

    /// What PCR 10 of the SHA-256 bank was extended with.
    #[must_use]
    pub fn extended_digest(&self) -> [u8; 32] {
        if self.violation {
            return [0xff; 32];
        }
        Sha256::digest(&self.template_data).into()
    }
}
