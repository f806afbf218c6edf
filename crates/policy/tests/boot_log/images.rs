//! Images of `data/boot`, made with binutils, and boots of them.

use bootkeep_evidence::{eventlog::Guid, pe::PeImage};

use super::{db_signatures, sha256, wide, Boot};

pub const KERNEL_50: &[u8] = include_bytes!("../data/boot/kernel-50.efi");
pub const KERNEL_56: &[u8] = include_bytes!("../data/boot/kernel-56.efi");
pub const UKI_50: &[u8] = include_bytes!("../data/boot/uki-50.efi");
pub const UKI_56: &[u8] = include_bytes!("../data/boot/uki-56.efi");

pub fn authenticode(bytes: &[u8]) -> [u8; 32] {
    PeImage::parse(bytes).unwrap().authenticode()
}

/// A boot of a made image: what systemd-boot, systemd-stub 252 and Linux 6.1 measure.
pub fn uki_boot(image: &[u8], kernel: &[u8], version: &str) -> Boot {
    let contents = |name: &str| {
        let image = PeImage::parse(image).unwrap();
        image.section(name).unwrap().contents().into_owned()
    };
    let mut boot = Boot::firmware(true);
    boot.authority(Guid::SECURITY_DATABASE, "db", db_signatures()[1])
        .image(
            sha256(b"systemd-boot"),
            "\\EFI\\systemd\\systemd-bootx64.efi",
        )
        .image(authenticode(image), "\\EFI\\Linux\\debian.efi");
    for name in [".linux", ".osrel", ".cmdline", ".initrd", ".pcrpkey"] {
        boot.section(name, &contents(name));
    }
    boot.image(authenticode(kernel), "kernel in the image");
    let line = format!("root=/dev/mapper/cryptroot ro quiet v{version}\0");
    let mut initrd = contents(".initrd");
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    for (name, section) in [
        ("tpm2-pcr-signature.json", ".pcrsig"),
        ("tpm2-pcr-public-key.pem", ".pcrpkey"),
    ] {
        initrd.extend(cpio(name, &contents(section)));
    }
    boot.kernel_stub(&wide(&line), &initrd).left_firmware();
    boot
}

/// The archive as cpio(5) describes it, written out once more.
fn cpio(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let path = format!(".extra/{name}");
    for (head, name, contents) in [
        ("000000010000416d", ".extra", &[][..]),
        ("0000000200008124", path.as_str(), contents),
    ] {
        all.extend(format!("070701{head}{:016x}{:08x}{:08x}", 0, 1, 0).bytes());
        all.extend(
            format!(
                "{:08x}{:032x}{:08x}{:08x}",
                contents.len(),
                0,
                name.len() + 1,
                0
            )
            .bytes(),
        );
        all.extend(name.bytes());
        all.push(0);
        all.resize(all.len().next_multiple_of(4), 0);
        all.extend(contents);
        all.resize(all.len().next_multiple_of(4), 0);
    }
    all.extend(
        format!(
            "070701{:032x}{:08x}{:048x}0000000B{:08x}TRAILER!!!\0\0\0\0",
            0, 1, 0, 0
        )
        .bytes(),
    );
    all
}
