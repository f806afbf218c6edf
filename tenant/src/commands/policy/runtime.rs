//! `bootkeep policy create runtime`.

use std::path::{Path, PathBuf};

use bootkeep_evidence::ima::{parse_ascii, parse_binary, Entry};
use bootkeep_policy::{MemfdRule, RuntimePolicy, Tree, ViolationRule};

use super::{finish, from_node, not_made};
use crate::{
    cli::{CreateRuntime, Form},
    files,
    packages::{
        self,
        apt::{self, Releases},
        collect::Collector,
        dpkg, repodata,
        selection::Selection,
        Index,
    },
    policies::{runtime_policy, AnyPolicy},
    unpack::initramfs,
    Error, Home,
};

/// Largest measurement list that is read (bytes).
const MAX_LIST: u64 = 64 * 1024 * 1024;

/// A policy, who owns its files, and what a person should know of how it was made.
pub(super) struct Created {
    pub(super) policy: RuntimePolicy,
    pub(super) index: Index,
    pub(super) notes: Vec<String>,
}

/// Makes the policy and writes it, with the index of owners beside it.
pub(super) async fn create(form: Form, home: &Home, options: &CreateRuntime) -> Result<(), Error> {
    let created = make(home, options).await?;
    let out = options.out.as_deref();
    if let (Some(out), false) = (out, created.index.is_empty()) {
        created.index.write(&packages::beside(out))?;
    }
    finish(
        form,
        AnyPolicy::Runtime(Box::new(created.policy)),
        out,
        created.notes,
    )
}

async fn make(home: &Home, options: &CreateRuntime) -> Result<Created, Error> {
    let (images, unpacked): (Vec<&PathBuf>, Vec<&PathBuf>) =
        options.initramfs.iter().partition(|path| path.is_file());
    let folders = options.rootfs.iter().chain(unpacked);
    let trees: Vec<Tree> = folders.map(|path| Tree::root(path)).collect();
    let mut policy = RuntimePolicy::from_trees(&trees).map_err(not_made)?;
    for image in images {
        initramfs(image, &mut |path, digest| {
            policy.accept_file(path, digest).map_err(not_made)
        })?;
    }
    let mut index = Index::default();
    for root in &options.rootfs {
        dpkg::owners(root, &mut index)?;
    }
    let notes = repositories(options, &mut policy, &mut index)?;
    for path in &options.ima_list {
        add_list(&mut policy, &read_list(path)?)?;
    }
    if let Some(name) = &options.node {
        add_list(&mut policy, &from_node(home, name).await?.ima)?;
    }
    for path in &options.also {
        policy.merge(&runtime_policy(path)?.0).map_err(not_made)?;
    }
    set_rules(&mut policy, options)?;
    Ok(Created {
        policy,
        index,
        notes,
    })
}

/// The packages of the repositories that are named.
fn repositories(
    options: &CreateRuntime,
    policy: &mut RuntimePolicy,
    index: &mut Index,
) -> Result<Vec<String>, Error> {
    let keyring = options.keyring.as_deref();
    let releases = Releases::read(&options.release, keyring)?;
    let mut selection = Selection::read(&options.package, options.package_list.as_deref())?;
    let mut into = Collector::new(policy, index);
    let mut notes = Vec::new();
    let mut note = |repository: &Path, (taken, missing): (usize, usize)| {
        let mut text = format!("{}: {taken} packages", repository.display());
        if missing > 0 {
            text.push_str(&format!(", {missing} more are listed but not there"));
        }
        notes.push(text);
    };
    for repository in &options.apt {
        let counts = apt::collect(repository, &releases, &mut selection, &mut into)?;
        note(repository, counts);
    }
    for repository in &options.rpm {
        let counts = repodata::collect(repository, keyring, &mut selection, &mut into)?;
        note(repository, counts);
    }
    selection.check_found()?;
    if !options.apt.is_empty() && options.release.is_empty() {
        notes.push(
            "no --release: nothing says that the Packages files are the distribution's".into(),
        );
    }
    if keyring.is_none() && !(options.apt.is_empty() && options.rpm.is_empty()) {
        notes.push("no --keyring: no signature of a repository was verified".into());
    }
    Ok(notes)
}

fn set_rules(policy: &mut RuntimePolicy, options: &CreateRuntime) -> Result<(), Error> {
    policy
        .exclude(&options.exclude)
        .map_err(|error| Error::Usage(error.to_string()))?;
    if options.accept_violations {
        policy.set_violations(ViolationRule::Accept);
    }
    if options.accept_memfd {
        policy.set_memfd(MemfdRule::Accept);
    }
    Ok(())
}

fn add_list(policy: &mut RuntimePolicy, entries: &[Entry]) -> Result<(), Error> {
    let listed = RuntimePolicy::from_list(entries).map_err(not_made)?;
    policy.merge(&listed).map_err(not_made)
}

/// A list as the kernel gives it: ASCII begins with the PCR's number, binary does not.
fn read_list(path: &Path) -> Result<Vec<Entry>, Error> {
    let bytes = files::read(path, MAX_LIST)?;
    let unusable = |error: String| Error::Usage(format!("{}: {error}", path.display()));
    if bytes
        .first()
        .is_some_and(|byte| byte.is_ascii_digit() || *byte == b' ')
    {
        let text = std::str::from_utf8(&bytes).map_err(|error| unusable(error.to_string()))?;
        return parse_ascii(text).map_err(|error| unusable(error.to_string()));
    }
    let (entries, consumed) = parse_binary(&bytes).map_err(|error| unusable(error.to_string()))?;
    if consumed != bytes.len() {
        return Err(unusable("ends inside an entry".into()));
    }
    Ok(entries)
}
