//! Debian packages: an `ar` archive with the files in `data.tar` and the maintainer's scripts in `control.tar`, packed (deb(5)).

use std::{
    collections::HashMap,
    io::{BufReader, Read},
};

use crate::unpack::{bad, member_path, sha256, unpacked, Found, Unpack};

/// Most files of one package.
const MAX_FILES: usize = 1_000_000;

/// Largest `control` file (bytes).
const MAX_CONTROL: u64 = 1024 * 1024;
/// Scripts that dpkg runs; an upgrade on a node that is attested runs them too.
const SCRIPTS: [&str; 4] = ["/preinst", "/postinst", "/prerm", "/postrm"];
/// Where dpkg keeps the scripts of installed packages, and those of the one it is unpacking.
const INFO: &str = "/var/lib/dpkg/info";
const UNPACKING: &str = "/var/lib/dpkg/tmp.ci";

/// Tells of each regular file of a package, and of its scripts at the places dpkg runs them from.
pub(super) fn files(package: impl Read, found: &mut Found<'_>) -> Result<(), Unpack> {
    let mut archive = ar::Archive::new(package);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        if member.header().identifier().starts_with(b"control.tar") {
            scripts(unpacked(BufReader::new(member))?, found)?;
        } else if member.header().identifier().starts_with(b"data.tar") {
            let data = unpacked(BufReader::new(member))?;
            return tar_files(data, found);
        }
    }
    Err(bad("it has no data.tar: not a Debian package").into())
}

fn scripts(control: impl Read, found: &mut Found<'_>) -> Result<(), Unpack> {
    let mut archive = tar::Archive::new(control);
    let (mut name, mut scripts) = (None, Vec::new());
    for (number, entry) in archive.entries()?.enumerate() {
        if number >= MAX_FILES {
            return Err(bad(format!("more than {MAX_FILES} control files")).into());
        }
        let mut entry = entry?;
        let Some(path) = member_path(&entry.path_bytes()) else {
            continue;
        };
        if path == "/control" {
            let mut text = String::new();
            entry.take(MAX_CONTROL).read_to_string(&mut text)?;
            name = installed_name(&text);
        } else if SCRIPTS.contains(&path.as_str()) {
            scripts.push((path, sha256(&mut entry)?));
        }
    }
    let name = name.ok_or_else(|| bad("its control file names no package"))?;
    for (script, digest) in scripts {
        let kept = format!("{INFO}/{name}.{}", script.trim_start_matches('/'));
        for path in [kept, format!("{UNPACKING}{script}")] {
            found(&path, digest).map_err(Unpack::Taken)?;
        }
    }
    Ok(())
}

/// How dpkg names the files it keeps of a package: with its architecture when several may be installed side by side.
fn installed_name(control: &str) -> Option<String> {
    let field = |wanted: &str| {
        control.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let name = field("Package").filter(|name| !name.is_empty() && !name.contains('/'))?;
    Some(match (field("Multi-Arch"), field("Architecture")) {
        (Some("same"), Some(architecture)) => format!("{name}:{architecture}"),
        _ => name.to_owned(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_kept_under_the_name_dpkg_gives_them() {
        for (control, name) in [
            ("Package: tool\nArchitecture: amd64\n", Some("tool")),
            (
                "Package: libx\nArchitecture: amd64\nMulti-Arch: same\n",
                Some("libx:amd64"),
            ),
            (
                "Package: x\nArchitecture: all\nMulti-Arch: foreign\n",
                Some("x"),
            ),
            ("Package: a/../b\n", None),
            ("Package:\n", None),
            ("", None),
        ] {
            assert_eq!(installed_name(control).as_deref(), name, "{control}");
        }
    }
}
