//! `bootkeep init`: an owner's PKI and the configuration of everything, in one folder.

mod hosts;
mod templates;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bootkeep_pki::identity::{Authority, ServiceIdentity};
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::Role;
use serde::Serialize;

use crate::{
    cli,
    files::{self, PRIVATE, PUBLIC},
    output::Show,
    Error, Home,
};

use hosts::Hosts;

/// Largest certificate file that is copied (bytes).
const MAX_ROOT: u64 = 1024 * 1024;

/// What was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The home.
    pub home: PathBuf,
    /// Every file, relative to the home.
    pub files: Vec<PathBuf>,
    /// Where nodes dial.
    pub node_urls: Vec<String>,
}

impl Show for Made {
    fn human(&self) -> String {
        format!(
            "Made {files} files in {home}\n\n\
             {home}/registrar, verifier, ca  one folder for each service; start it with --config FOLDER/NAME.yaml\n\
             {home}/node                     for nodes: install into /etc/bootkeep, then run dracut -f\n\
             {home}/ek-roots                 certificates of TPM makers that you believe in; see the README there\n\
             {home}/authority.key            makes every identity: keep it offline once all services run\n\n\
             Use it with:  export {variable}={home}\n",
            files = self.files.len(),
            home = self.home.display(),
            variable = crate::home::HOME_VARIABLE,
        )
    }
}

/// One file to be.
struct Planned {
    path: PathBuf,
    contents: Vec<u8>,
    mode: u32,
}

/// Makes everything, or nothing: files that exist are named and left alone.
///
/// # Errors
/// [`Error::Failed`] naming what exists, [`Error::Usage`] for a name that is none, [`Error::File`].
pub fn init(options: &cli::Init, home: &Home) -> Result<Made, Error> {
    let hosts = Hosts::from_options(options)?;
    let folder = absolute(home.folder())?;
    let plan = plan(options, &hosts, &folder)?;
    refuse_existing(&folder, &plan)?;
    write_all(&folder, &plan)?;
    Ok(Made {
        home: folder,
        files: plan.into_iter().map(|file| file.path).collect(),
        node_urls: hosts.node_urls(options.verifier_port),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })
}

fn plan(options: &cli::Init, hosts: &Hosts, folder: &Path) -> Result<Vec<Planned>, Error> {
    let authority = Authority::generate("Bootkeep service authority").map_err(failed)?;
    let ca = authority.certificate_pem();
    let mut plan = Plan::default();
    plan.public("ca.pem", ca);
    plan.private("authority.key", authority.key_pem().as_bytes());
    plan.identity(
        "tenant",
        &authority.issue_service(Role::Tenant, &[]).map_err(failed)?,
    );
    plan.public("tenant.yaml", &templates::tenant(options, hosts));
    for (role, name) in [
        (Role::Registrar, "registrar"),
        (Role::Verifier, "verifier"),
        (Role::Ca, "ca-service"),
    ] {
        let identity = authority
            .issue_service(role, hosts.names())
            .map_err(failed)?;
        plan.identity(&format!("{role}/{name}"), &identity);
        plan.public(&format!("{role}/ca.pem"), ca);
        let yaml = templates::service(role, options, hosts, folder);
        plan.public(&format!("{role}/{role}.yaml"), &yaml);
    }
    for role in [Role::Verifier, Role::Ca] {
        plan.private(
            &format!("{role}/state.key"),
            &StateKey::generate().map_err(failed)?,
        );
    }
    plan.public("node/ca.pem", ca);
    plan.public("node/agent.yaml", &templates::agent(options, hosts));
    plan.ek_roots(options.ek_roots.as_deref())?;
    Ok(plan.0)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}

#[derive(Default)]
struct Plan(Vec<Planned>);

impl Plan {
    fn add(&mut self, path: &str, contents: &[u8], mode: u32) {
        self.0.push(Planned {
            path: path.into(),
            contents: contents.to_vec(),
            mode,
        });
    }

    fn public(&mut self, path: &str, text: &str) {
        self.add(path, text.as_bytes(), PUBLIC);
    }

    fn private(&mut self, path: &str, contents: &[u8]) {
        self.add(path, contents, PRIVATE);
    }

    fn identity(&mut self, stem: &str, identity: &ServiceIdentity) {
        self.public(&format!("{stem}.pem"), &identity.certificate_pem);
        self.private(&format!("{stem}.key"), identity.key_pem.as_bytes());
    }

    /// The roots are needed twice: the registrar checks EK certificates, and the tenant does not take its word for it.
    fn ek_roots(&mut self, source: Option<&Path>) -> Result<(), Error> {
        let roots = source.map_or(Ok(Vec::new()), read_roots)?;
        for folder in ["ek-roots", "registrar/ek-roots"] {
            self.public(&format!("{folder}/README"), templates::EK_ROOTS_README);
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

fn refuse_existing(folder: &Path, plan: &[Planned]) -> Result<(), Error> {
    let existing: Vec<String> = plan
        .iter()
        .map(|file| folder.join(&file.path))
        .filter(|path| fs::symlink_metadata(path).is_ok())
        .map(|path| format!("\n  {}", path.display()))
        .collect();
    if existing.is_empty() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "nothing was changed, because this exists already:{}\nmove it away, or choose another folder",
        existing.concat()
    )))
}

fn write_all(folder: &Path, plan: &[Planned]) -> Result<(), Error> {
    files::private_folder(folder)?;
    files::private_folder(&folder.join("nodes"))?;
    let mut written = Vec::new();
    for file in plan {
        let path = folder.join(&file.path);
        if let Err(error) = write_one(&path, file) {
            // A half-made owner is of no use, and would stand in the way of the next try.
            for path in written {
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
        written.push(path);
    }
    Ok(())
}

fn write_one(path: &Path, file: &Planned) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        files::private_folder(parent)?;
    }
    files::write_new(path, &file.contents, file.mode)
}
