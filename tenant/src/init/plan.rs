//! The files that are to be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bootkeep_pki::identity::ServiceIdentity;

use zeroize::Zeroizing;

use crate::{
    files::{self, PRIVATE, PUBLIC},
    Error,
};

/// Largest certificate file that is copied (bytes).
const MAX_ROOT: u64 = 1024 * 1024;

/// One file to be.
pub(super) struct Planned {
    pub(super) path: PathBuf,
    pub(super) contents: Zeroizing<Vec<u8>>,
    pub(super) mode: u32,
}

/// All of them.
#[derive(Default)]
pub(super) struct Plan(pub(super) Vec<Planned>);

impl Plan {
    pub(super) fn add(&mut self, path: &str, contents: &[u8], mode: u32) {
        self.0.push(Planned {
            path: path.into(),
            contents: Zeroizing::new(contents.to_vec()),
            mode,
        });
    }

    pub(super) fn public(&mut self, path: &str, text: &str) {
        self.add(path, text.as_bytes(), PUBLIC);
    }

    pub(super) fn private(&mut self, path: &str, contents: &[u8]) {
        self.add(path, contents, PRIVATE);
    }

    pub(super) fn identity(&mut self, stem: &str, identity: &ServiceIdentity) {
        self.public(&format!("{stem}.pem"), &identity.certificate_pem);
        self.private(&format!("{stem}.key"), identity.key_pem.as_bytes());
    }

    /// The roots are needed twice: the registrar checks EK certificates, and the tenant does not take its word for it.
    pub(super) fn ek_roots(&mut self, source: Option<&Path>) -> Result<(), Error> {
        let roots = source.map_or(Ok(Vec::new()), read_roots)?;
        for folder in ["ek-roots", "registrar/ek-roots"] {
            self.public(
                &format!("{folder}/README"),
                super::templates::EK_ROOTS_README,
            );
            for (name, contents) in &roots {
                self.add(&format!("{folder}/{name}"), contents, PUBLIC);
            }
        }
        Ok(())
    }
}

fn read_roots(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let in_folder = |source| Error::File {
        path: folder.into(),
        source,
    };
    let mut roots = Vec::new();
    for entry in fs::read_dir(folder).map_err(in_folder)? {
        let path = entry.map_err(in_folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && is_certificate(&name) {
            roots.push((name.into_owned(), files::read(&path, MAX_ROOT)?.to_vec()));
        }
    }
    Ok(roots)
}

fn is_certificate(name: &str) -> bool {
    [".pem", ".crt", ".cer", ".der"]
        .iter()
        .any(|ending| name.to_ascii_lowercase().ends_with(ending))
}
