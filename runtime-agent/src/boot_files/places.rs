//! Where distributions put the files of a boot.

use std::{
    cmp::Reverse,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bootkeep_protocol::boot_files::{BootFileRole, MAX_BOOT_FILES};

use super::{at, under, BootFilesError};

/// Entries of one folder that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Where the ESP and the extended boot partition are mounted.
const PARTITIONS: [&str; 3] = ["/boot", "/boot/efi", "/efi"];

/// A folder, and how the names in it begin and end.
struct Place {
    role: BootFileRole,
    folder: String,
    begins: &'static str,
    ends: &'static str,
}

fn place(
    role: BootFileRole,
    folder: impl Into<String>,
    begins: &'static str,
    ends: &'static str,
) -> Place {
    Place {
        role,
        folder: folder.into(),
        begins,
        ends,
    }
}

/// Kernels and initramfs of the version, or of all when none is named; loaders and their configuration in any case.
/// When there are more than a report holds the newest are taken.
pub(super) fn usual(
    root: &Path,
    version: Option<&str>,
) -> Result<Vec<(BootFileRole, PathBuf)>, BootFilesError> {
    let mut found = Vec::new();
    for place in places(root)? {
        for path in matching(root, &place)? {
            if of_version(place.role, &path, version) {
                found.push((changed(root, &path), place.role, path));
            }
        }
    }
    for config in ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"] {
        if under(root, Path::new(config)).is_file() {
            let path = PathBuf::from(config);
            found.push((changed(root, &path), BootFileRole::Config, path));
        }
    }
    if found.len() > MAX_BOOT_FILES {
        tracing::warn!(
            found = found.len(),
            taken = MAX_BOOT_FILES,
            "more boot files than a report holds: the newest are taken; --version names one kernel"
        );
        found.sort_by_key(|(changed, ..)| Reverse(*changed));
        found.truncate(MAX_BOOT_FILES);
    }
    let mut files: Vec<_> = found
        .into_iter()
        .map(|(_, role, path)| (role, path))
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn places(root: &Path) -> Result<Vec<Place>, BootFilesError> {
    use BootFileRole::{Config, Initrd, Kernel, Loader, Uki};
    let mut places = vec![
        place(Kernel, "/boot", "vmlinuz-", ""),
        place(Initrd, "/boot", "initrd.img-", ""),
        place(Initrd, "/boot", "initramfs-", ".img"),
    ];
    for partition in PARTITIONS {
        places.push(place(Uki, format!("{partition}/EFI/Linux"), "", ".efi"));
        places.push(place(
            Config,
            format!("{partition}/loader/entries"),
            "",
            ".conf",
        ));
        places.push(place(
            Config,
            format!("{partition}/loader"),
            "loader",
            ".conf",
        ));
        for vendor in folders(&under(root, Path::new(&format!("{partition}/EFI"))))? {
            if vendor.eq_ignore_ascii_case("Linux") {
                continue;
            }
            let folder = format!("{partition}/EFI/{vendor}");
            places.push(place(Loader, folder.clone(), "", ".efi"));
            places.push(place(Config, folder, "grub", ".cfg"));
        }
    }
    Ok(places)
}

/// Names of the folders in a folder; none when it is not there.
fn folders(folder: &Path) -> Result<Vec<String>, BootFilesError> {
    let is_folder = |name: &String| folder.join(name).is_dir();
    Ok(names(folder)?.into_iter().filter(is_folder).collect())
}

fn names(folder: &Path) -> Result<Vec<String>, BootFilesError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(at(folder))?,
    };
    let names = entries.take(MAX_ENTRIES).flatten();
    Ok(names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

fn matching(root: &Path, place: &Place) -> Result<Vec<PathBuf>, BootFilesError> {
    let folder = Path::new(&place.folder);
    let fits = |name: &String| {
        let lower = name.to_ascii_lowercase();
        lower.starts_with(place.begins)
            && lower.ends_with(place.ends)
            && under(root, &folder.join(name)).is_file()
    };
    let names = names(&under(root, folder))?.into_iter().filter(fits);
    Ok(names.map(|name| folder.join(name)).collect())
}

fn of_version(role: BootFileRole, path: &Path, version: Option<&str>) -> bool {
    let versioned = matches!(
        role,
        BootFileRole::Kernel | BootFileRole::Initrd | BootFileRole::Uki
    );
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match version {
        Some(version) if versioned => name.contains(version),
        _ => true,
    }
}

fn changed(root: &Path, path: &Path) -> SystemTime {
    fs::metadata(under(root, path))
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn touch(root: &Path, path: &str) {
        let path = under(root, Path::new(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    fn found(root: &Path, version: Option<&str>) -> Vec<String> {
        let files = usual(root, version).unwrap();
        let show = |(role, path): (BootFileRole, PathBuf)| format!("{role:?} {}", path.display());
        files.into_iter().map(show).collect()
    }

    #[test]
    fn debian_with_grub() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "/boot/vmlinuz-6.1.0-30-amd64",
            "/boot/vmlinuz-6.1.0-31-amd64",
            "/boot/initrd.img-6.1.0-31-amd64",
            "/boot/config-6.1.0-31-amd64",
            "/boot/grub/grub.cfg",
            "/boot/efi/EFI/debian/shimx64.efi",
            "/boot/efi/EFI/debian/grub.cfg",
            "/boot/efi/EFI/BOOT/BOOTX64.EFI",
        ] {
            touch(root.path(), path);
        }
        let of = found(root.path(), Some("6.1.0-31-amd64"));
        assert_eq!(
            of,
            [
                "Loader /boot/efi/EFI/BOOT/BOOTX64.EFI",
                "Loader /boot/efi/EFI/debian/shimx64.efi",
                "Kernel /boot/vmlinuz-6.1.0-31-amd64",
                "Initrd /boot/initrd.img-6.1.0-31-amd64",
                "Config /boot/efi/EFI/debian/grub.cfg",
                "Config /boot/grub/grub.cfg",
            ]
        );
        assert_eq!(found(root.path(), None).len(), of.len() + 1);
    }

    #[test]
    fn unified_kernel_images_and_the_newest_when_there_are_many() {
        let root = tempfile::tempdir().unwrap();
        assert!(found(root.path(), None).is_empty());
        touch(root.path(), "/efi/EFI/Linux/fedora-6.12.efi");
        touch(root.path(), "/efi/loader/entries/a.conf");
        let of = found(root.path(), None);
        assert_eq!(
            of,
            [
                "Uki /efi/EFI/Linux/fedora-6.12.efi",
                "Config /efi/loader/entries/a.conf"
            ]
        );
        for number in 0..2 * MAX_BOOT_FILES {
            touch(root.path(), &format!("/boot/vmlinuz-{number}"));
        }
        assert_eq!(found(root.path(), None).len(), MAX_BOOT_FILES);
    }
}
