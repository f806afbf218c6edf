//! Templates: which fields an entry has (`security/integrity/ima/ima_template.c`).

use std::fmt;

use crate::reader::Reader;

/// Length of the name in the old template `ima`, zero-padded.
pub(super) const OLD_NAME_LEN: usize = 256;
/// Length of the digest in the old template `ima`.
pub(super) const OLD_DIGEST_LEN: usize = 20;

/// Digest of a file's contents.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileDigest {
    /// As the kernel names it: `sha256`, `sha1`, `verity:sha256` …
    pub algorithm: String,
    /// The digest.
    pub bytes: Vec<u8>,
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, hex::encode(&self.bytes))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Default)]
pub(super) struct Fields {
    pub(super) path: String,
    pub(super) digest: Option<FileDigest>,
    pub(super) signature: Vec<u8>,
    pub(super) buffer: Option<Vec<u8>>,
}

/// Field identifiers of a template; `None` when it is not known.
pub(super) fn fields_of(template: &str) -> Option<Vec<&str>> {
    let format = match template {
        "ima-ng" => "d-ng|n-ng",
        "ima-sig" => "d-ng|n-ng|sig",
        "ima-buf" => "d-ng|n-ng|buf",
        "ima-modsig" => "d-ng|n-ng|sig|d-modsig|modsig",
        "ima-ngv2" => "d-ngv2|n-ng",
        "ima-sigv2" => "d-ngv2|n-ng|sig",
        "evm-sig" => "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
        // A custom format (ima_template_fmt=) is its own name.
        other => return custom_fields(other),
    };
    Some(format.split('|').collect())
}

/// Fields of a custom format. PCR 10 covers the fields but not the template's name, so a node may call an entry what
/// it likes: only a format of the kernel's own fields, with one digest and one name, is read.
fn custom_fields(format: &str) -> Option<Vec<&str>> {
    const OTHERS: [&str; 11] = [
        "sig",
        "buf",
        "d-modsig",
        "modsig",
        "evmsig",
        "xattrnames",
        "xattrlengths",
        "xattrvalues",
        "iuid",
        "igid",
        "imode",
    ];
    let fields: Vec<&str> = format.split('|').collect();
    let count = |wanted: &[&str]| {
        let found = fields.iter().filter(|field| wanted.contains(field));
        found.count()
    };
    let readable = count(&["d-ng", "d-ngv2"]) == 1
        && count(&["n-ng"]) == 1
        && count(&OTHERS) + 2 == fields.len()
        && ["sig", "buf"].iter().all(|field| count(&[field]) <= 1);
    readable.then_some(fields)
}

/// Reads the fields. An unknown template gives none: the entry still replays, and no policy will accept it.
pub(super) fn read(template: &str, data: &[u8]) -> Result<Fields, &'static str> {
    if template == "ima" {
        return read_old(data);
    }
    let Some(names) = fields_of(template) else {
        return Ok(Fields::default());
    };
    let mut reader = Reader::new(data);
    let mut fields = Fields::default();
    for name in names {
        let value = reader
            .counted_le()
            .map_err(|_| "the template data is cut short")?;
        match name {
            "d-ng" | "d-ngv2" => fields.digest = Some(digest(value)?),
            "n-ng" => fields.path = path(value)?,
            "sig" => fields.signature = value.to_vec(),
            "buf" => fields.buffer = Some(value.to_vec()),
            _ => {}
        }
    }
    if reader.is_empty() {
        Ok(fields)
    } else {
        Err("the template data is longer than its fields")
    }
}

fn read_old(data: &[u8]) -> Result<Fields, &'static str> {
    let (digest, name) = data
        .split_at_checked(OLD_DIGEST_LEN)
        .filter(|(_, name)| name.len() == OLD_NAME_LEN)
        .ok_or("the template data of an ima entry has another length")?;
    let end = name.split(|&byte| byte == 0).next();
    Ok(Fields {
        path: path_text(end.unwrap_or_default())?,
        digest: Some(FileDigest {
            algorithm: "sha1".into(),
            bytes: digest.to_vec(),
        }),
        ..Fields::default()
    })
}

/// `algorithm:\0digest` (d-ng) or `type:algorithm:\0digest` (d-ngv2, type `ima` or `verity`).
fn digest(value: &[u8]) -> Result<FileDigest, &'static str> {
    let bad = "the digest field is not algorithm, colon, NUL, digest";
    let mut parts = value.splitn(2, |&byte| byte == 0);
    let (name, digest) = parts.next().zip(parts.next()).ok_or(bad)?;
    let name = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.strip_suffix(':'))
        .ok_or(bad)?;
    let name = name.strip_prefix("ima:").unwrap_or(name);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
    if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
        return Err(bad);
    }
    Ok(FileDigest {
        algorithm: name.to_owned(),
        bytes: digest.to_vec(),
    })
}

fn path(value: &[u8]) -> Result<String, &'static str> {
    let name = value
        .strip_suffix(&[0])
        .ok_or("the name field does not end with NUL")?;
    path_text(name)
}

fn path_text(name: &[u8]) -> Result<String, &'static str> {
    if name.contains(&0) {
        return Err("the name holds a NUL");
    }
    // Paths are bytes; what is not UTF-8 is shown with replacement characters and will match no policy entry.
    Ok(String::from_utf8_lossy(name).into_owned())
}
