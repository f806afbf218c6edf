//! The next boot is foretold from the last one and the files that change. Images are made with binutils, what must come
//! out was computed by systemd-measure and sbsign (`data/boot/make.sh`); logs are captures and made ones.
#![allow(clippy::unwrap_used)]

mod boot_log;

use std::collections::BTreeSet;

use boot_log::{
    images::{authenticode, uki_boot, KERNEL_50, KERNEL_56, UKI_50, UKI_56},
    sha256, wide, Boot, GrubFiles, COMMAND_LINE,
};
use bootkeep_evidence::{eventlog::EventLog, PcrValues};
use bootkeep_policy::{
    as_qemu_hands_over, initramfs_values, kernel_version, predict, NewConfig, NewKernel, NewLoader,
    NewUki, NextBoot, PredictError, Predicted, Rename, UkiError, Why,
};
use proptest::prelude::*;

const SIGNED: &[u8] = include_bytes!("data/boot/signed.efi");
const PCR11: [&str; 2] = [
    include_str!("data/boot/uki-50.pcr11"),
    include_str!("data/boot/uki-56.pcr11"),
];
/// A kernel that QEMU gave to OVMF.
const OVMF: &[u8] = include_bytes!("../../../fuzz/corpus/event_log/debian12-ovmf.bin");

/// PCRs in which two boots differ.
fn changed(old: &EventLog, new: &EventLog) -> Vec<u8> {
    let (old, new) = (old.replay(), new.replay());
    (0..24)
        .filter(|pcr| old.get(*pcr) != new.get(*pcr))
        .collect()
}

fn foretold(boot: &Boot, next: &NextBoot) -> Predicted {
    predict(&boot.log(), next).unwrap()
}

/// The first name and why it is open.
fn open(predicted: &Predicted) -> Vec<(u8, &Why)> {
    let all = predicted.open.iter();
    all.map(|open| (open.pcr, &open.why)).collect()
}

fn new_uki(bytes: &[u8]) -> NextBoot {
    NextBoot {
        uki: Some(NewUki::read(bytes).unwrap()),
        ..NextBoot::default()
    }
}

#[test]
fn authenticode_is_what_sbsign_signed() {
    let digest = authenticode(SIGNED);
    assert_eq!(
        digest,
        authenticode(UKI_50),
        "the signature is not digested"
    );
    assert!(SIGNED.windows(32).any(|window| window == digest));
    assert_ne!(digest, authenticode(UKI_56));
    let mut other = SIGNED.to_vec();
    other[0x600] ^= 1;
    assert_ne!(digest, authenticode(&other));
}

#[test]
fn pcr_11_is_what_systemd_measure_says() {
    for (image, expected) in [UKI_50, UKI_56].into_iter().zip(PCR11) {
        let boot = uki_boot(UKI_50, KERNEL_50, "50");
        let predicted = foretold(&boot, &new_uki(image));
        let values: Vec<String> = predicted
            .pcrs_in_initramfs()
            .iter()
            .map(|values| format!("11:sha256={}\n", hex::encode(values.get(11).unwrap())))
            .collect();
        assert_eq!(values.concat(), expected);
    }
}

#[test]
fn a_unified_kernel_image_is_foretold() {
    let old = uki_boot(UKI_50, KERNEL_50, "50");
    let new = uki_boot(UKI_56, KERNEL_56, "56");
    let predicted = foretold(&old, &new_uki(UKI_56));
    assert_eq!(open(&predicted), []);
    assert_eq!(predicted.log, new.log());
    assert_eq!(changed(&old.log(), &predicted.log), [4, 9, 11]);
    assert_eq!(
        predicted.load_options.as_deref(),
        Some("root=/dev/mapper/cryptroot ro quiet v56")
    );
    let same = foretold(&old, &new_uki(UKI_50));
    assert_eq!(same.log, old.log());
}

#[test]
fn without_the_image_its_contents_are_open() {
    let digest = NewUki {
        authenticode: authenticode(UKI_56).into(),
        contents: None,
    };
    let next = NextBoot {
        uki: Some(digest),
        ..NextBoot::default()
    };
    let predicted = foretold(&uki_boot(UKI_50, KERNEL_50, "50"), &next);
    let pcrs: BTreeSet<u8> = [4, 9, 11].into();
    assert_eq!(predicted.open_pcrs(), pcrs);
    assert!(open(&predicted)
        .iter()
        .all(|(_, why)| **why == Why::Contents));
}

#[test]
fn a_boot_loader_is_found_by_its_name() {
    let boot = uki_boot(UKI_50, KERNEL_50, "50");
    let loader = |name: &str| NextBoot {
        loaders: vec![NewLoader::read(name, KERNEL_56).unwrap()],
        ..NextBoot::default()
    };
    // The only one: whatever it is called.
    for name in ["systemd-bootx64.efi", "BOOTX64.EFI"] {
        let predicted = foretold(&boot, &loader(name));
        assert_eq!(changed(&boot.log(), &predicted.log), [4]);
    }
    let grub = Boot::shim_grub();
    let mut expected = grub.clone();
    expected.at("grubx64").digest = authenticode(KERNEL_56);
    let predicted = foretold(&grub, &loader("grubx64.efi.signed"));
    assert_eq!(predicted.log, expected.log());
    let refused = predict(&grub.log(), &loader("systemd-bootx64.efi")).unwrap_err();
    assert!(
        matches!(&refused, PredictError::Loader { found, .. } if found == "shimx64.efi, grubx64.efi"),
        "{refused}"
    );
}

fn grub_files(version: &str, kernel: &[u8]) -> GrubFiles {
    let entry = format!("{{\n\tlinux /vmlinuz-{version} ro\n}}");
    GrubFiles {
        version: version.into(),
        kernel: kernel.to_vec(),
        authenticode: authenticode(kernel),
        initrd: format!("initramfs {version}").into_bytes(),
        config: format!(
            "set default=0\nmenuentry 'Debian GNU/Linux' $menuentry_id_option 'simple' {entry}\n"
        )
        .into_bytes(),
        menu: format!("menuentry Debian GNU/Linux --id simple {entry}"),
        parameters: format!("root=/dev/mapper/cryptroot ro v={version}"),
    }
}

fn new_grub_files(files: &GrubFiles) -> NextBoot {
    NextBoot {
        rename: Some(Rename {
            from: "6.1.0-50-amd64".into(),
            to: files.version.clone(),
        }),
        kernel: Some(NewKernel::read(&files.kernel)),
        initrd: Some(sha256(&files.initrd).into()),
        config: Some(NewConfig::read(&files.config)),
        ..NextBoot::default()
    }
}

#[test]
fn grub_with_another_kernel_is_foretold() {
    let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
    let files = grub_files("6.1.0-56-amd64", KERNEL_56);
    let new = Boot::of_grub(&files);
    assert_eq!(
        kernel_version(&old.log()).as_deref(),
        Some("6.1.0-50-amd64")
    );
    let predicted = foretold(&old, &new_grub_files(&files));
    assert_eq!(open(&predicted), []);
    assert_eq!(predicted.log, new.log());
    assert_eq!(changed(&old.log(), &predicted.log), [4, 8, 9]);
}

#[test]
fn another_command_line_goes_wherever_it_is_measured() {
    let mut files = grub_files("6.1.0-50-amd64", KERNEL_50);
    let old = Boot::of_grub(&files);
    files.parameters = "root=/dev/mapper/cryptroot ro mitigations=auto".into();
    let next = NextBoot {
        command_line: Some(files.parameters.clone()),
        ..NextBoot::default()
    };
    let predicted = foretold(&old, &next);
    assert_eq!(predicted.log, Boot::of_grub(&files).log());
    let text = format!("BOOT_IMAGE=/vmlinuz-6.1.0-50-amd64 {}", files.parameters);
    assert_eq!(predicted.load_options, Some(text));
}

#[test]
fn what_is_not_named_is_open() {
    let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
    let all = new_grub_files(&grub_files("6.1.0-56-amd64", KERNEL_56));
    let version = || "6.1.0-50-amd64".to_owned();
    type Without = fn(&mut NextBoot);
    let cases: [(Without, Vec<(u8, Why)>); 4] = [
        (
            |next| next.config = None,
            vec![(9, Why::Config), (8, Why::Menu)],
        ),
        (
            |next| next.kernel = None,
            vec![
                (9, Why::OldVersion(version())),
                (4, Why::OldVersion(version())),
            ],
        ),
        (
            |next| next.initrd = None,
            vec![
                (9, Why::OldVersion(version())),
                (9, Why::OldVersion(version())),
            ],
        ),
        (
            |next| next.config.as_mut().unwrap().text = None,
            vec![(8, Why::Menu)],
        ),
    ];
    for (without, expected) in cases {
        let mut next = all.clone();
        without(&mut next);
        let predicted = foretold(&old, &next);
        let found: Vec<(u8, Why)> = open(&predicted)
            .into_iter()
            .map(|(pcr, why)| (pcr, why.clone()))
            .collect();
        assert_eq!(found, expected);
        for open in &predicted.open {
            assert!(
                open.to_string().contains(&format!("PCR {}", open.pcr)),
                "{open}"
            );
        }
    }
    let mut other = all;
    other.config.as_mut().unwrap().text = Some("menuentry 'Another' {\n}\n".into());
    assert_eq!(open(&foretold(&old, &other)), [(8, &Why::MenuEntry)]);
}

#[test]
fn a_file_without_a_place_is_refused() {
    let grub = Boot::shim_grub().log();
    let uki = uki_boot(UKI_50, KERNEL_50, "50").log();
    let kernel = || NextBoot {
        kernel: Some(NewKernel::read(KERNEL_56)),
        ..NextBoot::default()
    };
    let initrd = || NextBoot {
        initrd: Some([7; 32].into()),
        ..NextBoot::default()
    };
    let config = NextBoot {
        config: Some(NewConfig::read(b"x")),
        ..NextBoot::default()
    };
    for (log, next) in [
        (&grub, new_uki(UKI_56)),
        (&uki, kernel()),
        (&uki, initrd()),
        (&uki, config),
        (&EventLog::default(), kernel()),
        (&EventLog::default(), initrd()),
    ] {
        let refused = predict(log, &next);
        assert!(
            matches!(refused, Err(PredictError::NoPlace(..))),
            "{refused:?}"
        );
    }
    let long = NextBoot {
        command_line: Some("x".repeat(5000)),
        ..NextBoot::default()
    };
    assert!(matches!(
        predict(&grub, &long),
        Err(PredictError::TooLong(..))
    ));
    let mut liar = Boot::shim_grub();
    liar.at("SecureBoot").data[53 - 1] ^= 1;
    assert!(matches!(
        predict(&liar.log(), &kernel()),
        Err(PredictError::Log { .. })
    ));
}

/// A kernel's header as QEMU leaves it: found to be what OVMF measured of Debian's kernel and of 28662830 bytes of
/// initramfs on a machine with 1 GiB.
#[test]
fn qemu_writes_into_the_kernel_it_is_given() {
    let mut kernel = vec![0; 0x300];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    kernel[0x211] = 1;
    let loaded = as_qemu_hands_over(&kernel, 28_662_830, 1024).unwrap();
    let field = |at: usize| u32::from_le_bytes(loaded[at..at + 4].try_into().unwrap());
    assert_eq!((loaded[0x210], loaded[0x211]), (0xb0, 0x81));
    assert_eq!(field(0x218), (0x4000_0000 - 0x28001 - 28_662_830) & !0xfff);
    assert_eq!(field(0x21c), 28_662_830);
    assert_eq!((field(0x224), field(0x228)), (0xfe00, 0x20000));
    let more = as_qemu_hands_over(&kernel, 4096, 8192).unwrap();
    assert_eq!(
        more[0x218..0x21c],
        (0x8000_0000_u32 - 0x28000 - 0x2000).to_le_bytes()
    );
    for (kernel, initrd, memory) in [
        (&kernel[..100], 1, 1024),
        (&[0; 0x300], 1, 1024),
        (&kernel, 2 << 20, 1),
        (&kernel, 0, 0),
    ] {
        assert!(as_qemu_hands_over(kernel, initrd, memory).is_err());
    }
}

#[test]
fn a_kernel_from_qemu_needs_to_be_known_as_qemu_gives_it() {
    let log = EventLog::parse(OVMF).unwrap();
    let next = NextBoot {
        kernel: Some(NewKernel::read(KERNEL_56)),
        initrd: Some([9; 32].into()),
        command_line: Some("root=/dev/mapper/cryptroot".into()),
        ..NextBoot::default()
    };
    let predicted = predict(&log, &next).unwrap();
    assert_eq!(open(&predicted), [(4, &Why::Qemu)]);
    let mut next = next;
    next.kernel.as_mut().unwrap().from_qemu = Some([5; 32].into());
    let predicted = predict(&log, &next).unwrap();
    assert_eq!(open(&predicted), []);
    assert_eq!(changed(&log, &predicted.log), [4, 9]);
    let text = "root=/dev/mapper/cryptroot initrd=initrd";
    assert_eq!(predicted.load_options.as_deref(), Some(text));
    let line = &predicted.log.events()[20];
    assert_eq!(line.digest, sha256(&wide(&format!("{text}\0"))));
    let only = NextBoot {
        initrd: Some([9; 32].into()),
        ..NextBoot::default()
    };
    assert_eq!(open(&predict(&log, &only).unwrap()), [(4, &Why::Qemu)]);
}

#[test]
fn images_that_cannot_be_foretold_are_refused() {
    assert_eq!(NewUki::read(KERNEL_50), Err(UkiError::Stub));
    assert!(matches!(NewUki::read(b"MZ"), Err(UkiError::Pe(_))));
    assert!(matches!(NewUki::read(b"ELF"), Err(UkiError::Pe(_))));
    let renamed = |from: &[u8], to: &[u8]| {
        let mut image = UKI_50.to_vec();
        let at = image.windows(8).position(|window| window == from).unwrap();
        image[at..at + 8].copy_from_slice(to);
        NewUki::read(&image)
    };
    assert_eq!(renamed(b".linux\0\0", b".linus\0\0"), Err(UkiError::Linux));
    assert_eq!(
        renamed(b".osrel\0\0", b".initrd\0"),
        Err(UkiError::Twice(".initrd"))
    );
}

/// `.uname` is younger than systemd-stub 252.
#[test]
fn a_stub_measures_only_sections_it_knows() {
    let mut image = UKI_50.to_vec();
    let at = image
        .windows(8)
        .position(|window| window == b".osrel\0\0")
        .unwrap();
    image[at..at + 8].copy_from_slice(b".uname\0\0");
    let names = |image: &[u8]| -> Vec<String> {
        let contents = NewUki::read(image).unwrap().contents.unwrap();
        contents
            .sections
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(names(&image), [".linux", ".cmdline", ".initrd", ".pcrpkey"]);
    // A stub that has the name among its data does.
    let at = image
        .windows(8)
        .position(|window| window == b".splash\0")
        .unwrap();
    image[at..at + 8].copy_from_slice(b".uname\0\0");
    assert_eq!(
        names(&image),
        [".linux", ".cmdline", ".initrd", ".uname", ".pcrpkey"]
    );
}

#[test]
fn only_systemd_stub_brings_phases() {
    let none: PcrValues = Boot::shim_grub().pcrs();
    assert_eq!(initramfs_values(&none), std::slice::from_ref(&none));
    assert_eq!(
        initramfs_values(&uki_boot(UKI_50, KERNEL_50, "50").pcrs()).len(),
        2
    );
}

/// Every boot there is.
fn boots() -> Vec<EventLog> {
    vec![
        Boot::shim_grub().log(),
        Boot::uki().log(),
        uki_boot(UKI_50, KERNEL_50, "50").log(),
        EventLog::parse(OVMF).unwrap(),
        EventLog::default(),
    ]
}

proptest! {
    #[test]
    fn no_change_changes_nothing(which in 0..5_usize) {
        let log = &boots()[which];
        let predicted = predict(log, &NextBoot::default()).unwrap();
        prop_assert_eq!(&predicted.log, log);
        prop_assert!(predicted.open.is_empty());
    }

    /// Whatever the new file is, only the PCRs change that it is measured in.
    #[test]
    fn one_file_changes_its_own_pcrs(seed: [u8; 32], which in 0..5_usize) {
        let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
        let mut next = NextBoot::default();
        let digest = seed.into();
        let expected: &[u8] = match which {
            0 => {
                next.kernel = Some(NewKernel { sha256: digest, authenticode: Some(digest), from_qemu: None });
                &[4, 9]
            }
            1 => { next.initrd = Some(digest); &[9] }
            2 => {
                next.loaders = vec![NewLoader { name: "shimx64.efi".into(), authenticode: digest }];
                &[4]
            }
            3 => { next.command_line = Some(hex::encode(seed)); &[8, 9] }
            _ => {
                let text = String::from_utf8(grub_files("6.1.0-50-amd64", KERNEL_50).config).ok();
                next.config = Some(NewConfig { sha256: digest, text });
                &[9]
            }
        };
        let predicted = foretold(&old, &next);
        prop_assert_eq!(changed(&old.log(), &predicted.log), expected);
        prop_assert!(predicted.open.is_empty());
        prop_assert_eq!(predicted.log.events().len(), old.events.len());
    }

    #[test]
    fn any_bytes_may_be_given_as_an_image(bytes: Vec<u8>, at in 0..UKI_50.len(), value: u8) {
        let _ = NewUki::read(&bytes);
        let mut image = UKI_50.to_vec();
        image[at] = value;
        let _ = NewUki::read(&image);
        let _ = NewUki::read(&image[..at]);
    }

    #[test]
    fn any_config_may_be_given(text in "\\PC*(menuentry '[a-z{}'\"$]*' \\{[a-z\n{}'\"]*\\}?\n){0,3}") {
        let old = Boot::of_grub(&grub_files("6.1.0-50-amd64", KERNEL_50));
        let next = NextBoot { config: Some(NewConfig::read(text.as_bytes())), ..NextBoot::default() };
        let _ = foretold(&old, &next);
    }
}

#[test]
fn the_constant_line_is_that_of_the_made_boot() {
    let boot = Boot::shim_grub();
    assert!(boot
        .events
        .iter()
        .any(|event| event.digest == sha256(COMMAND_LINE.as_bytes())));
}
