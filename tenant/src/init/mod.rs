//! `bootkeep init`: an owner's PKI and the configuration of everything, in one folder.

mod add;
mod hosts;
mod keys;
mod plan;
mod templates;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bootkeep_pki::identity::Authority;
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::Role;
use serde::Serialize;

use crate::{cli, files, output::Show, Error, Home};

use hosts::Hosts;
use plan::{Plan, Planned};

/// What was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The home.
    pub home: PathBuf,
    /// Every file, relative to the home.
    pub files: Vec<PathBuf>,
    /// Files that were there and have new lines, relative to the home.
    pub changed: Vec<PathBuf>,
    /// Where nodes dial.
    pub node_urls: Vec<String>,
}

impl Show for Made {
    fn human(&self) -> String {
        if self.node_urls.is_empty() {
            return added(self);
        }
        format!(
            "Made {files} files in {home}\n\n\
             {home}/registrar, verifier, ca  one folder for each service; start it with --config FOLDER/NAME.yaml\n\
             {home}/node                     for nodes: install into /etc/bootkeep, then run dracut -f\n\
             {home}/ek-roots                 certificates of TPM makers that you believe in; see the README there\n\
             {home}/policy.key               signs policies; nobody but you needs it\n\
             {home}/authorize.key            signs the boots in which nodes may boot alone; nobody but you needs it\n\
             {home}/authority.key            makes every identity: keep it offline once all services run\n\n\
             Use it with:  export {variable}={home}\n",
            files = self.files.len(),
            home = self.home.display(),
            variable = crate::home::HOME_VARIABLE,
        )
    }
}

/// What `--add` did.
fn added(made: &Made) -> String {
    let list = |what: &str, paths: &[PathBuf]| -> String {
        let line = |path: &PathBuf| format!("{what} {}\n", path.display());
        paths.iter().map(line).collect()
    };
    if made.files.is_empty() && made.changed.is_empty() {
        return format!("{} lacks nothing\n", made.home.display());
    }
    list("made   ", &made.files)
        + &list("changed", &made.changed)
        + "Copy the services' folders to where they run and restart them; install node/ into /etc/bootkeep of every \
           node (no dracut -f is needed for it).\n"
}

/// Makes everything, or nothing: files that exist are named and left alone.
///
/// # Errors
/// [`Error::Failed`] naming what exists, [`Error::Usage`] for a name that is none, [`Error::File`].
pub fn init(options: &cli::Init, home: &Home) -> Result<Made, Error> {
    if options.add {
        return add::add(home);
    }
    let hosts = Hosts::from_options(options)?;
    let folder = absolute(home.folder())?;
    let plan = plan(options, &hosts, &folder)?;
    refuse_existing(&folder, &plan)?;
    write_all(&folder, &plan)?;
    Ok(Made {
        home: folder,
        files: plan.into_iter().map(|file| file.path).collect(),
        changed: Vec::new(),
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
    for key in keys::KEYS {
        key.plan(&mut plan)?;
    }
    plan.ek_roots(options.ek_roots.as_deref())?;
    Ok(plan.0)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
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
