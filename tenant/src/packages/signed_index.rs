//! A signed index of a repository: what its signature covers, by `gpgv`.

use std::{path::Path, process::Command};

use crate::{files, Error};

/// Largest index (bytes).
const MAX_INDEX: u64 = 64 * 1024 * 1024;

/// The text of an index. With a keyring its signature is verified first, and only the text it covers is given:
/// `InRelease` holds its own, others have it beside them (`Release.gpg`, `repomd.xml.asc`).
///
/// # Errors
/// [`Error::Untrusted`] when no key of the keyring has signed it; errors of files.
pub(crate) fn text(path: &Path, keyring: Option<&Path>) -> Result<String, Error> {
    let Some(keyring) = keyring else {
        return files::read_text(path, MAX_INDEX).map(|text| text.to_string());
    };
    // What is verified is what is used, whatever happens to the file meanwhile.
    let contents = files::read(path, MAX_INDEX)?;
    let folder = tempfile::tempdir().map_err(|error| Error::Failed(error.to_string()))?;
    let copy = folder.path().join("index");
    files::write_new(&copy, &contents, files::PRIVATE)?;
    let out = folder.path().join("text");
    let signature = detached(path);
    let mut gpgv = Command::new("gpgv");
    let keyring = std::path::absolute(keyring).map_err(|error| Error::Failed(error.to_string()))?;
    gpgv.arg("--keyring").arg(keyring);
    match &signature {
        Some(signature) => gpgv.arg("--").arg(signature).arg(&copy),
        None => gpgv.arg("--output").arg(&out).arg("--").arg(&copy),
    };
    let verdict = gpgv.output().map_err(|error| {
        Error::Failed(format!(
            "gpgv: {error}; it verifies signatures of repositories"
        ))
    })?;
    if !verdict.status.success() {
        let said = String::from_utf8_lossy(&verdict.stderr);
        return Err(Error::untrusted(
            crate::Party::OwnAppraisal,
            "repository-signature",
            format!("{}: {}", path.display(), said.trim().replace('\n', "; ")),
        ));
    }
    let signed = if signature.is_some() { &copy } else { &out };
    files::read_text(signed, MAX_INDEX).map(|text| text.to_string())
}

fn detached(path: &Path) -> Option<std::path::PathBuf> {
    ["gpg", "asc"].into_iter().find_map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        let path = std::path::PathBuf::from(name);
        path.is_file().then_some(path)
    })
}
