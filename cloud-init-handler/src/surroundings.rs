//! What the platform attaches to a machine to bring configuration of its own: disks, firmware strings, the command line.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use nix::sys::statfs::{statfs, TMPFS_MAGIC};

use crate::Places;

/// Largest text that is looked at (bytes).
const MAX_TEXT: u64 = 64 * 1024;

/// Secrets would lie on something that is not memory.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a tmpfs; secrets are only kept in memory")]
pub struct NotTmpfs(PathBuf);

/// Refuses to go on where secrets could reach a disk or IMA's list.
///
/// # Errors
/// [`NotTmpfs`].
pub fn ensure_tmpfs(path: &Path) -> Result<(), NotTmpfs> {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == TMPFS_MAGIC => Ok(()),
        _ => Err(NotTmpfs(path.into())),
    }
}

/// Configuration that the kernel's command line would give cloud-init behind the guard's back.
pub(crate) fn kernel_config(cmdline: &str) -> Option<String> {
    let url = |token: &&str| token.starts_with("cloud-config-url=") || token.starts_with("url=");
    if let Some(token) = cmdline.split_whitespace().find(url) {
        return Some(format!(
            "the kernel command line brings configuration: {token}"
        ));
    }
    cmdline
        .match_indices("cc:")
        .map(|(index, _)| &cmdline[index + 3..])
        .find(|rest| !is_hardware_address(rest))
        .map(|rest| format!("the kernel command line brings configuration: cc:{rest}"))
}

/// `aa:bb:cc:dd:ee:ff` has `cc:` in it; cloud-init would read what follows as one harmless word, unless lines are hidden.
fn is_hardware_address(rest: &str) -> bool {
    let word = rest.split_whitespace().next().unwrap_or_default();
    let hides_lines = rest.contains("\\n") || rest.contains("%0");
    !rest.starts_with(char::is_whitespace)
        && !word.is_empty()
        && !hides_lines
        && word.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
}

/// Places other than the envelope that name a seed for cloud-init.
pub(crate) fn other_seeds(places: &Places) -> Vec<String> {
    let named = ["ds=", "ci.ds=", "ci.datasource=", "network-config="];
    let on_cmdline = read(&places.cmdline)
        .split_whitespace()
        .filter(|token| named.iter().any(|name| token.starts_with(name)))
        .map(|token| format!("the kernel command line names a seed: {token}"))
        .collect::<Vec<_>>();
    let by_firmware = Some(read(&places.serial))
        .filter(|serial| serial.contains("ds=nocloud"))
        .map(|serial| format!("the firmware names a seed: {}", serial.trim()));
    let drives = labelled(&places.labels, &["config-2"])
        .into_iter()
        .map(|label| format!("a configuration drive is attached ({label})"));
    on_cmdline
        .into_iter()
        .chain(by_firmware)
        .chain(drives)
        .collect()
}

/// Attached file systems labelled as NoCloud's seed.
pub(crate) fn seed_disks(places: &Places) -> Vec<String> {
    labelled(&places.labels, &["cidata"])
}

/// The kernel's command line.
pub(crate) fn cmdline(places: &Places) -> String {
    read(&places.cmdline)
}

fn labelled(folder: &Path, wanted: &[&str]) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| wanted.iter().any(|label| name.eq_ignore_ascii_case(label)))
        .collect()
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let taken: io::Result<usize> =
        File::open(path).and_then(|file| file.take(MAX_TEXT).read_to_end(&mut bytes));
    taken.map_or_else(
        |_| String::new(),
        |_| String::from_utf8_lossy(&bytes).into(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn configuration_on_the_command_line_is_found() {
        for cmdline in [
            "root=/dev/x cc: runcmd: [[id]] end_cc",
            "root=/dev/x cc:runcmd:%20[[id]]",
            "cc:{runcmd: [[id]]}",
            "x=acc: runcmd: [[id]]",
            "cloud-config-url=http://evil/",
            "root=/dev/x url=http://evil/",
            "x=cc:aa\\nruncmd:[id]",
            "ip=00:cc:dd y=1\\nruncmd:[id]",
            "ip=00:cc:dd y=1%0aruncmd:[id]",
            "x=cc:",
        ] {
            assert!(kernel_config(cmdline).is_some(), "{cmdline}");
        }
        for cmdline in [
            "",
            "root=/dev/mapper/cryptroot ro ima_policy=tcb console=ttyS0",
            "ifname=eth0:52:54:cc:dd:ee:ff ro",
            "ds=nocloud",
            "ro curl=1",
        ] {
            assert_eq!(kernel_config(cmdline), None, "{cmdline}");
        }
    }

    #[test]
    fn other_seeds_are_named() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::under(root.path());
        for folder in ["proc", "sys/class/dmi/id", "dev/disk/by-label"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        assert!(other_seeds(&places).is_empty() && seed_disks(&places).is_empty());
        fs::write(&places.cmdline, "ro ds=nocloud;s=http://a/ root=x\n").unwrap();
        fs::write(&places.serial, "ds=nocloud-net;s=http://b/\n").unwrap();
        for label in ["CONFIG-2", "CIDATA", "cryptroot"] {
            fs::write(places.labels.join(label), "").unwrap();
        }
        let found = other_seeds(&places).join("\n");
        for part in ["http://a/", "http://b/", "CONFIG-2"] {
            assert!(found.contains(part), "{found}");
        }
        assert_eq!(seed_disks(&places), ["CIDATA"]);
    }

    #[test]
    fn only_a_tmpfs_is_a_tmpfs() {
        assert!(ensure_tmpfs(Path::new("/proc")).is_err());
        assert!(ensure_tmpfs(Path::new("/nowhere")).is_err());
    }
}
