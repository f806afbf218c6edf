//! `boot-files`: what it writes, and what it refuses.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use bootkeep_protocol::boot_files::{BootFileRole, BootFiles};
use bootkeep_runtime_agent::boot_files::{run, BootFilesError, REPORT};
use sha2::{Digest, Sha256};

fn put(root: &Path, path: &str, contents: &[u8]) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn report(root: &Path) -> BootFiles {
    let text = fs::read(root.join(REPORT.trim_start_matches('/'))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The smallest PE32+ image with one section.
fn pe() -> Vec<u8> {
    let mut image = vec![0_u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x46, &1_u16.to_le_bytes());
    put(0x54, &240_u16.to_le_bytes());
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 60, &0x200_u32.to_le_bytes());
    put(0x58 + 108, &16_u32.to_le_bytes());
    put(0x148, b".text");
    put(0x148 + 8, &0x200_u32.to_le_bytes());
    put(0x148 + 16, &0x200_u32.to_le_bytes());
    put(0x148 + 20, &0x200_u32.to_le_bytes());
    image
}

#[test]
fn digests_of_the_usual_files_are_written() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/boot/vmlinuz-6.1", &pe());
    put(root.path(), "/boot/initrd.img-6.1", b"an initramfs");
    put(root.path(), "/boot/vmlinuz-5.10", b"another version");
    run(&["--version", "6.1"], root.path()).unwrap();
    let report = report(root.path());
    assert_eq!(report.version.as_deref(), Some("6.1"));
    let [kernel, initrd] = report.files.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(
        (kernel.role, initrd.role),
        (BootFileRole::Kernel, BootFileRole::Initrd)
    );
    assert_eq!(kernel.path, "/boot/vmlinuz-6.1");
    assert_eq!(kernel.sha256, hex::encode(Sha256::digest(pe())));
    let authenticode = kernel.authenticode.clone().unwrap();
    assert_ne!(authenticode, kernel.sha256);
    assert_eq!(initrd.sha256, hex::encode(Sha256::digest(b"an initramfs")));
    assert_eq!((initrd.size, &initrd.authenticode), (12, &None));

    // The checksum is no part of what the firmware measures.
    let mut other = pe();
    other[0x58 + 64] = 1;
    put(root.path(), "/boot/vmlinuz-6.1", &other);
    run(&["--file", "kernel=/boot/vmlinuz-6.1"], root.path()).unwrap();
    let again = self::report(root.path());
    assert_ne!(again.files[0].sha256, kernel.sha256);
    assert_eq!(again.files[0].authenticode, Some(authenticode));
}

#[test]
fn what_is_missing_or_not_what_it_is_said_to_be_is_named_and_the_report_stays() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(
        run(&[], root.path()),
        Err(BootFilesError::Nothing)
    ));
    put(root.path(), "/boot/vmlinuz-6.1", b"k");
    run(&[], root.path()).unwrap();
    let before = report(root.path());
    put(root.path(), "/x.efi", b"MZ but nothing else");
    fs::create_dir(root.path().join("folder")).unwrap();
    for (file, named) in [
        ("kernel=/missing", "/missing"),
        ("uki=/x.efi", "not a PE image"),
        ("initrd=/folder", "not a regular file"),
    ] {
        let error = run(&["--file", file], root.path()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    assert_eq!(report(root.path()), before);
}
