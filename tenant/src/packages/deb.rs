//! Debian packages: an `ar` archive with the files in `data.tar`, packed (deb(5)).

use std::{
    collections::HashMap,
    io::{BufReader, Read},
};

use crate::unpack::{bad, member_path, sha256, unpacked, Found, Unpack};

/// Most files of one package.
const MAX_FILES: usize = 1_000_000;

/// Tells of each regular file of a package.
pub(super) fn files(package: impl Read, found: &mut Found<'_>) -> Result<(), Unpack> {
    let mut archive = ar::Archive::new(package);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        if member.header().identifier().starts_with(b"data.tar") {
            let data = unpacked(BufReader::new(member))?;
            return tar_files(data, found);
        }
    }
    Err(bad("it has no data.tar: not a Debian package").into())
}

fn tar_files(data: impl Read, found: &mut Found<'_>) -> Result<(), Unpack> {
    let mut archive = tar::Archive::new(data);
    let mut known: HashMap<String, [u8; 32]> = HashMap::new();
    for (number, entry) in archive.entries()?.enumerate() {
        if number >= MAX_FILES {
            return Err(bad(format!("more than {MAX_FILES} files")).into());
        }
        let mut entry = entry?;
        let Some(path) = member_path(&entry.path_bytes()) else {
            continue;
        };
        let kind = entry.header().entry_type();
        let digest = if kind.is_file() || kind.is_contiguous() {
            sha256(&mut entry)?
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().and_then(|name| member_path(&name));
            let target = target.and_then(|target| known.get(&target));
            *target.ok_or_else(|| bad(format!("{path} is a link to a file that did not come")))?
        } else {
            continue;
        };
        found(&path, digest).map_err(Unpack::Taken)?;
        known.insert(path, digest);
    }
    Ok(())
}
