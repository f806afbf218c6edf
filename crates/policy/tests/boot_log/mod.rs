//! Boots with Secure Boot made by code, to the byte as the TCG PC Client Platform Firmware Profile, shim, GRUB, the Linux
//! EFI stub and systemd-stub write them. The key databases in them are real ones: Debian's OVMF with Microsoft's keys.
#![allow(dead_code, unreachable_pub)]

pub mod images;

use bootkeep_evidence::{
    eventlog::{kind, EventLog, Guid},
    pcr::extend,
    ClockInfo, PcrValues,
};
use bootkeep_policy::{BootPolicy, KnownGood, Live, Refusal};
use sha2::{Digest, Sha256};

pub const PK: &[u8] = include_bytes!("../../../evidence/tests/data/efi-pk.bin");
pub const KEK: &[u8] = include_bytes!("../../../evidence/tests/data/efi-kek.bin");
pub const DB: &[u8] = include_bytes!("../../../evidence/tests/data/efi-db.bin");
pub const DBX: &[u8] = include_bytes!("../../../evidence/tests/data/efi-dbx.bin");
pub const SBAT: &[u8] = b"sbat,1,2022052400\nshim,2\ngrub,2\n";
pub const COMMAND_LINE: &str =
    "/vmlinuz-6.1.0-50-amd64 root=/dev/mapper/cryptroot ro ima_policy=tcb quiet";

#[derive(Clone)]
pub struct Logged {
    pub pcr: u8,
    pub kind: u32,
    pub digest: [u8; 32],
    pub data: Vec<u8>,
}

/// A boot: what was measured, in order, and what systemd extended later.
#[derive(Clone, Default)]
pub struct Boot {
    pub events: Vec<Logged>,
    pub phases: Vec<&'static str>,
    pub latched: bool,
    /// PCR values as they were before the log was tampered with.
    frozen: Option<PcrValues>,
}

/// What a boot through GRUB reads.
#[derive(Clone)]
pub struct GrubFiles {
    pub version: String,
    pub kernel: Vec<u8>,
    pub authenticode: [u8; 32],
    pub initrd: Vec<u8>,
    pub config: Vec<u8>,
    /// The command that defines the menu.
    pub menu: String,
    pub parameters: String,
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub fn variable(vendor: Guid, name: &str, data: &[u8]) -> Vec<u8> {
    [
        &vendor.0[..],
        &(name.len() as u64).to_le_bytes(),
        &(data.len() as u64).to_le_bytes(),
        &wide(name),
        data,
    ]
    .concat()
}

/// The signatures of `db` in the order of its lists, each with its owner.
pub fn db_signatures() -> Vec<&'static [u8]> {
    let mut rest = DB;
    let mut all = Vec::new();
    while let Some(length) = rest.get(16..20) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        all.push(&rest[28..length]);
        rest = &rest[length..];
    }
    all
}

/// The certificate in `PK`: stands for the one built into shim.
pub fn vendor_certificate() -> &'static [u8] {
    &PK[44..]
}

/// `UEFI_IMAGE_LOAD_EVENT` with one file path.
pub fn image(path: &str) -> Vec<u8> {
    let name = wide(&format!("{path}\0"));
    let node = [&[4, 4][..], &(name.len() as u16 + 4).to_le_bytes(), &name].concat();
    let path = [&node[..], &[0x7f, 0xff, 4, 0]].concat();
    [&[0; 24][..], &(path.len() as u64).to_le_bytes(), &path].concat()
}

impl Boot {
    pub fn event(&mut self, pcr: u8, kind: u32, digested: &[u8], data: &[u8]) -> &mut Self {
        self.events.push(Logged {
            pcr,
            kind,
            digest: sha256(digested),
            data: data.to_vec(),
        });
        self
    }

    pub fn covered(&mut self, pcr: u8, kind: u32, data: &[u8]) -> &mut Self {
        self.event(pcr, kind, data, data)
    }

    pub fn variable(&mut self, vendor: Guid, name: &str, data: &[u8]) -> &mut Self {
        let data = variable(vendor, name, data);
        self.covered(7, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, &data)
    }

    pub fn authority(&mut self, vendor: Guid, name: &str, data: &[u8]) -> &mut Self {
        let data = variable(vendor, name, data);
        self.covered(7, kind::EV_EFI_VARIABLE_AUTHORITY, &data)
    }

    pub fn started(&mut self, contents: &[u8], path: &str) -> &mut Self {
        self.event(
            4,
            kind::EV_EFI_BOOT_SERVICES_APPLICATION,
            contents,
            &image(path),
        )
    }

    /// An image whose Authenticode digest is known.
    pub fn image(&mut self, digest: [u8; 32], path: &str) -> &mut Self {
        self.started(b"", path);
        if let Some(event) = self.events.last_mut() {
            event.digest = digest;
        }
        self
    }

    pub fn grub(&mut self, label: &str, text: &str) -> &mut Self {
        let data = format!("{label}: {text}\0");
        self.event(8, kind::EV_IPL, text.as_bytes(), data.as_bytes())
    }

    pub fn grub_file(&mut self, path: &str, contents: &[u8]) -> &mut Self {
        self.event(9, kind::EV_IPL, contents, format!("{path}\0").as_bytes())
    }

    /// The kernel's EFI stub measures command line and initramfs.
    pub fn kernel_stub(&mut self, options: &[u8], initrd: &[u8]) -> &mut Self {
        let tag = |id: u32, name: &[u8]| {
            [
                &id.to_le_bytes()[..],
                &(name.len() as u32).to_le_bytes(),
                name,
            ]
            .concat()
        };
        let load_options = tag(0x8f3b_22ed, b"LOADED_IMAGE::LoadOptions\0");
        self.event(9, kind::EV_EVENT_TAG, options, &load_options);
        let name = tag(0x8f3b_22ec, b"Linux initrd\0");
        self.event(9, kind::EV_EVENT_TAG, initrd, &name)
    }

    pub fn section(&mut self, name: &str, contents: &[u8]) -> &mut Self {
        let text = wide(&format!("{name}\0"));
        self.event(11, kind::EV_IPL, format!("{name}\0").as_bytes(), &text);
        self.event(11, kind::EV_IPL, contents, &text)
    }

    /// Firmware with Secure Boot, up to the point where it hands over.
    pub fn firmware(secure: bool) -> Self {
        let mut boot = Self::default();
        boot.covered(0, kind::EV_S_CRTM_VERSION, &wide("Example 1.2\0"))
            .event(
                0,
                kind::EV_EFI_PLATFORM_FIRMWARE_BLOB,
                b"firmware volume",
                &[7; 16],
            )
            .variable(Guid::GLOBAL, "SecureBoot", &[u8::from(secure)])
            .variable(Guid::GLOBAL, "PK", PK)
            .variable(Guid::GLOBAL, "KEK", KEK)
            .variable(Guid::SECURITY_DATABASE, "db", DB)
            .variable(Guid::SECURITY_DATABASE, "dbx", DBX)
            .covered(7, kind::EV_SEPARATOR, &[0; 4])
            .event(
                1,
                kind::EV_EFI_VARIABLE_BOOT,
                &[0, 0],
                &variable(Guid::GLOBAL, "BootOrder", &[0, 0]),
            )
            .covered(
                4,
                kind::EV_EFI_ACTION,
                b"Calling EFI Application from Boot Option",
            );
        for pcr in 0..=6 {
            boot.covered(pcr, kind::EV_SEPARATOR, &[0; 4]);
        }
        boot
    }

    /// shim, GRUB and a kernel, as Debian boots.
    pub fn shim_grub() -> Self {
        let files = GrubFiles {
            version: "6.1.0-50-amd64".into(),
            kernel: b"kernel 6.1.0-50".to_vec(),
            authenticode: sha256(b"kernel 6.1.0-50"),
            initrd: b"initramfs 50".to_vec(),
            config: b"menuentry Debian {}".to_vec(),
            menu: "menuentry Debian".into(),
            parameters: "root=/dev/mapper/cryptroot ro ima_policy=tcb quiet".into(),
        };
        Self::of_grub(&files)
    }

    /// The same of other files.
    pub fn of_grub(files: &GrubFiles) -> Self {
        let GrubFiles {
            version,
            parameters,
            ..
        } = files;
        let (kernel, initrd) = (
            format!("/vmlinuz-{version}"),
            format!("/initrd.img-{version}"),
        );
        let line = format!("{kernel} {parameters}");
        let mut boot = Self::firmware(true);
        boot.authority(Guid::SECURITY_DATABASE, "db", db_signatures()[1])
            .started(b"shim 15.8", "\\EFI\\debian\\shimx64.efi")
            .event(14, kind::EV_IPL, b"", b"MokList\0")
            .authority(Guid::SHIM, "SbatLevel", SBAT)
            .authority(Guid::SHIM, "MokListTrusted", &[1])
            .authority(Guid::SHIM, "Shim", vendor_certificate())
            .started(b"grub 2.06", "\\EFI\\debian\\grubx64.efi")
            .grub("grub_cmd", "search.fs_uuid 1234 root")
            .grub_file("/grub/grub.cfg", &files.config)
            .grub("grub_cmd", &files.menu)
            .grub("grub_cmd", &format!("linux {line}"))
            .grub_file(&kernel, &files.kernel)
            .grub("kernel_cmdline", &line)
            .grub("grub_cmd", &format!("initrd {initrd}"))
            .grub_file(&initrd, &files.initrd)
            .image(files.authenticode, "vmlinuz");
        let options = wide(&format!("BOOT_IMAGE={line}\0"));
        boot.kernel_stub(&options, &files.initrd).left_firmware();
        boot
    }

    /// A unified kernel image that the firmware starts.
    pub fn uki() -> Self {
        let mut boot = Self::firmware(true);
        let data = |name: &str| {
            std::fs::read(format!(
                "{}/tests/data/uki/{name}",
                env!("CARGO_MANIFEST_DIR")
            ))
            .unwrap()
        };
        boot.authority(Guid::SECURITY_DATABASE, "db", db_signatures()[1])
            .started(b"uki", "\\EFI\\Linux\\debian.efi")
            .section(".linux", b"kernel")
            .section(".osrel", b"ID=debian\n")
            .section(".cmdline", b"root=/dev/mapper/cryptroot ro quiet")
            .section(".initrd", b"initramfs")
            .section(".pcrpkey", &data("pub.pem"))
            .started(b"kernel", "kernel in the image");
        boot.left_firmware();
        boot
    }

    pub fn left_firmware(&mut self) {
        self.covered(5, kind::EV_EFI_ACTION, b"Exit Boot Services Invocation")
            .covered(
                5,
                kind::EV_EFI_ACTION,
                b"Exit Boot Services Returned with Success",
            );
    }

    /// What the node quotes.
    pub fn pcrs(&self) -> PcrValues {
        if let Some(frozen) = &self.frozen {
            return frozen.clone();
        }
        let mut values = [[0; 32]; 16];
        for event in self
            .events
            .iter()
            .filter(|event| event.kind != kind::EV_NO_ACTION)
        {
            let value = &mut values[usize::from(event.pcr)];
            *value = extend(value, &event.digest);
        }
        for word in &self.phases {
            values[11] = extend(&values[11], &sha256(word.as_bytes()));
        }
        values[15] = [u8::from(self.latched); 32];
        (0..16).zip(values).collect()
    }

    /// What follows changes only the log the node shows, not its PCRs.
    pub fn lie(&mut self) -> &mut Self {
        self.frozen = Some(self.pcrs());
        self
    }

    /// `binary_bios_measurements`.
    pub fn bytes(&self) -> Vec<u8> {
        let counted = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
        let spec = [
            b"Spec ID Event03\0".as_slice(),
            &[0, 0, 0, 0, 0, 2, 0, 2],
            &1u32.to_le_bytes(),
            &[0x0b, 0, 32, 0],
            &[0],
        ]
        .concat();
        let mut bytes = [&[0, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20], &counted(&spec)].concat();
        for event in &self.events {
            bytes.extend_from_slice(&u32::from(event.pcr).to_le_bytes());
            bytes.extend_from_slice(&event.kind.to_le_bytes());
            bytes.extend_from_slice(&1u32.to_le_bytes());
            bytes.extend_from_slice(&[0x0b, 0]);
            bytes.extend_from_slice(&event.digest);
            bytes.extend_from_slice(&counted(&event.data));
        }
        bytes
    }

    pub fn log(&self) -> EventLog {
        EventLog::parse(&self.bytes()).unwrap()
    }

    pub fn good(&self) -> KnownGood {
        KnownGood {
            pcrs: self.pcrs(),
            event_log: Some(self.log()),
            pcr_signatures: None,
            ima: Vec::new(),
            clock: ClockInfo {
                clock: 1,
                reset_count: 1,
                restart_count: 0,
                safe: true,
            },
        }
    }

    /// What a policy says about it.
    pub fn held_against(&self, policy: &BootPolicy) -> Result<(), Refusal> {
        Live::from(policy).dry_run(&self.pcrs(), Some(&self.log()), None)
    }

    /// The first event whose data holds `needle` (as text, narrow or wide), or is an image with it.
    pub fn find(&self, needle: &str) -> usize {
        let holds = |data: &[u8], part: &[u8]| data.windows(part.len()).any(|found| found == part);
        self.events
            .iter()
            .position(|event| {
                holds(&event.data, needle.as_bytes()) || holds(&event.data, &wide(needle))
            })
            .unwrap_or_else(|| panic!("no event with {needle}"))
    }

    pub fn at(&mut self, needle: &str) -> &mut Logged {
        let index = self.find(needle);
        &mut self.events[index]
    }

    /// Puts an event right before the one with `needle`.
    pub fn before(&mut self, needle: &str, make: impl FnOnce(&mut Self)) {
        let at = self.find(needle);
        let mut other = Self::default();
        make(&mut other);
        self.events.splice(at..at, other.events);
    }
}
