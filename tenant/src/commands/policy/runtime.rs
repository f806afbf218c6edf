//! `bootkeep policy create runtime`.

use std::path::Path;

use bootkeep_evidence::ima::{parse_ascii, parse_binary, Entry};
use bootkeep_policy::{MemfdRule, RuntimePolicy, Tree, ViolationRule};

use super::{from_node, not_made};
use crate::{cli::CreateRuntime, files, policies::runtime_policy, Error, Home};

/// Largest measurement list that is read (bytes).
const MAX_LIST: u64 = 64 * 1024 * 1024;

pub(super) async fn create(home: &Home, options: &CreateRuntime) -> Result<RuntimePolicy, Error> {
    if let Some(image) = options.initramfs.iter().find(|path| path.is_file()) {
        return Err(Error::Usage(format!(
            "{} is not a folder; unpack the image first (lsinitrd --unpack, unmkinitramfs)",
            image.display()
        )));
    }
    let folders = options.rootfs.iter().chain(&options.initramfs);
    let trees: Vec<Tree> = folders.map(|path| Tree::root(path)).collect();
    let mut policy = RuntimePolicy::from_trees(&trees).map_err(not_made)?;
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
    Ok(policy)
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
