//! Archives that systemd-stub adds to the initramfs (`src/boot/efi/cpio.c`): the bytes count, the kernel measures them.

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// One entry in the `newc` form. Names and contents end on multiples of four.
fn entry(archive: &mut Vec<u8>, inode: u32, mode: u32, name: &str, contents: &[u8]) {
    let header = [
        inode,
        mode,
        0,
        0,
        1,
        0,
        contents.len() as u32,
        0,
        0,
        0,
        0,
        name.len() as u32 + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for word in header {
        archive.extend_from_slice(format!("{word:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(contents);
    pad(archive);
}

pub(super) fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// An archive with `/.extra/NAME`.
pub(super) fn extra_file(name: &str, contents: &[u8]) -> Vec<u8> {
    const TRAILER: &[u8] = b"0707010000000000000000000000000000000000000001000000000000000000000000000000000000000000000000\
                             0000000B00000000TRAILER!!!\0\0\0\0";
    let mut archive = Vec::new();
    entry(&mut archive, 1, DIRECTORY | 0o555, ".extra", &[]);
    entry(
        &mut archive,
        2,
        FILE | 0o444,
        &format!(".extra/{name}"),
        contents,
    );
    archive.extend_from_slice(TRAILER);
    archive
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    /// cpio(1) reads it.
    #[test]
    fn the_archive_is_one() {
        let archive = extra_file("tpm2-pcr-signature.json", b"{}x");
        assert_eq!(archive.len() % 4, 0);
        let child = Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return };
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let listed = child.wait_with_output().unwrap();
        assert!(listed.status.success());
        assert_eq!(listed.stdout, b".extra\n.extra/tpm2-pcr-signature.json\n");
    }
}
