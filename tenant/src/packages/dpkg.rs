//! Which installed package owns a file of a root file system: dpkg's own lists.

use std::{collections::HashMap, fs, path::Path};

use super::{Index, Package};
use crate::{files, unpack::member_path, Error};

/// Largest status file or list (bytes).
const MAX_STATUS: u64 = 256 * 1024 * 1024;

/// Adds the owners that a root file system knows of; nothing when dpkg did not make it.
pub(crate) fn owners(root: &Path, index: &mut Index) -> Result<(), Error> {
    let folder = root.join("var/lib/dpkg");
    let status = match files::read_text(&folder.join("status"), MAX_STATUS) {
        Err(Error::NotFound(_)) => return Ok(()),
        other => other?,
    };
    let mut packages: HashMap<String, Package> = status
        .split("\n\n")
        .filter_map(package)
        .map(|package| (package.name.clone(), package))
        .collect();
    let lists = fs::read_dir(folder.join("info")).into_iter().flatten();
    for path in lists.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".list") else {
            continue;
        };
        let name = name.split(':').next().unwrap_or_default();
        if let Some(package) = packages.remove(name) {
            let place = index.package(package);
            let text = files::read_text(&path, MAX_STATUS)?;
            own(index, place, &text);
        }
    }
    Ok(())
}

/// Folders are in the lists too; they do no harm.
fn own(index: &mut Index, place: usize, list: &str) {
    for path in list.lines().filter_map(|line| member_path(line.as_bytes())) {
        index.own(&path, place);
        if !path.starts_with("/usr/") {
            index.own(&format!("/usr{path}"), place);
        }
    }
}

fn package(paragraph: &str) -> Option<Package> {
    let field = |name: &str| {
        let value = paragraph
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map(|value| value.trim().to_owned())
    };
    Some(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
    })
}
